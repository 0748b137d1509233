package setup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// adminStep finds the administrator's password and proves that it signs in. It
// never sets it: that password isn't ours.
type adminStep struct{ *Clients }

func (adminStep) Name() string { return "admin-login" }

func (s adminStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.Admin = false
	if f.Host == "" {
		return after("server"), nil
	}
	if s.Server != nil && f.Server.Name != "" && !f.Server.PasswordSignIn {
		return after("sign-in-modes"), nil
	}
	if f.Server.State == "Restarting" { // it may still let us in, and hang up in the middle of a later step
		return restarting, s.look(ctx, f)
	}
	found, err := s.password(ctx, f)
	if err != nil || found.Action != "" {
		return found, err
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return s.refused(ctx, err, f)
	}
	self, err := session.Self(ctx)
	if err != nil {
		return Finding{}, err
	}
	f.Admin, f.Version = true, self.Version
	return asWanted(fmt.Sprintf("%s signs in to PostgreSQL %d", self.User, self.Version)), nil
}

var restarting = Finding{Action: Wait, Reason: "ServerRestarting", Have: "the server is restarting", passing: true}

// Apply opens the door behind which the password is, or that of the server. One
// may stand behind the other: the next Check tells.
func (s adminStep) Apply(ctx context.Context, f *Facts) error {
	if s.Vault != nil {
		_, _, err := s.Vault.Secret(ctx, s.Config.Admin.Secret)
		if _, closed := s.vaultDoor(ctx, err); closed {
			return s.openVault(ctx, err)
		}
	}
	if _, err := s.asAdmin(ctx, f); keptOut(err) {
		return s.openServer(ctx, f, err)
	}
	return nil // it is open by now: somebody else was faster
}

// password comes from the vault, else from the environment.
func (s adminStep) password(ctx context.Context, f *Facts) (Finding, error) {
	name := s.Config.Admin.Secret
	if s.Vault == nil {
		value, found, err := s.resolve(ctx, s.Config.Admin.Password)
		f.adminPassword = secret(value)
		if err == nil && found.Action == "" && value == "" {
			found = blocked("AdminSecretMissing", "no vault, and POSTGRES_ADMIN_PASSWORD isn't set", "read -rs POSTGRES_ADMIN_PASSWORD && export POSTGRES_ADMIN_PASSWORD")
		}
		return found, err
	}
	value, ok, err := s.Vault.Secret(ctx, name)
	if found, closed := s.vaultDoor(ctx, err); closed {
		return found, nil
	}
	if err != nil {
		return s.vaultFault(err)
	}
	if !ok {
		var found Finding
		if value, found, err = s.resolve(ctx, s.Config.Admin.Password); err != nil || found.Action == Blocked {
			return found, err
		}
	}
	if value == "" {
		return blocked("AdminSecretMissing", "the vault has no secret "+name, s.setSecret(name)), nil
	}
	f.adminPassword = secret(value)
	return Finding{}, nil
}

// refused tells why the administrator could not sign in.
func (s adminStep) refused(ctx context.Context, err error, f *Facts) (Finding, error) {
	set := s.setSecret(s.Config.Admin.Secret)
	if s.Vault == nil {
		set = "read -rs POSTGRES_ADMIN_PASSWORD && export POSTGRES_ADMIN_PASSWORD"
	}
	switch {
	case admin.IsStarting(err) || isUnreachable(err) && passes(f.Server.State):
		return restarting, s.look(ctx, f)
	case keptOut(err):
		if found, closed, doorErr := s.serverDoor(ctx, f, err); closed || doorErr != nil {
			return found, doorErr
		}
		return s.unreachable(f), nil
	case admin.IsWrongPassword(err):
		return blocked("AdminPasswordWrong", "the server refuses "+s.Config.Admin.User, set), nil
	case admin.IsNoDatabase(err):
		return blocked("DatabaseNotFound", s.Config.Server.Database, databases(s.Clients, f)), nil
	case isCertificate(err):
		return blocked("ServerCertificate", s.Config.ConnectionServer(f.Host), "export CA_FILE=ca.pem"), nil
	case isUnreachable(err) || errors.Is(err, context.DeadlineExceeded):
		return s.unreachable(f), nil
	}
	return Finding{}, err
}

func (s adminStep) unreachable(f *Facts) Finding {
	return blocked("ServerUnreachable", s.Config.ConnectionServer(f.Host)+" doesn't answer", fmt.Sprintf("pg_isready -h %s -p %d", f.Host, s.Config.Server.Port))
}

// passes reports whether a server's state ends by itself.
func passes(state string) bool { return state != "" && state != "Ready" && !stopped(state) }

// look reads the server's state again: it decides how the next refusal is read.
func (s adminStep) look(ctx context.Context, f *Facts) error {
	if s.Server == nil {
		return nil
	}
	return s.refresh(ctx, f)
}

// vaultFault makes a finding of what keeps us out of the vault.
func (c *Clients) vaultFault(err error) (Finding, error) {
	show := "az keyvault show --name " + vaultName(c.Config.Vault) + " --query properties.networkAcls"
	switch kind := azure.Forbidden(err); {
	case kind == azure.ByConnection || kind == azure.ByFirewall:
		return blocked("VaultForbidden", string(kind)+": the vault's network rules keep this machine out", show), nil
	case kind != azure.NotForbidden:
		return blocked("VaultForbidden", string(kind), c.vaultRole()), nil
	case isUnreachable(err):
		return blocked("VaultUnreachable", "no answer", show), nil
	}
	return Finding{}, err
}

// databases is how to see those that there are.
func databases(c *Clients, f *Facts) string {
	if c.Server == nil {
		return fmt.Sprintf("psql -h %s -U %s -d postgres -l", f.Host, c.Config.Admin.User)
	}
	return c.az("db list")
}

func isCertificate(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	return verify || host
}
