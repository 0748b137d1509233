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
	found, err := s.password(ctx, f)
	if err != nil || found.Action == Blocked {
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

func (adminStep) Apply(context.Context, *Facts) error { return nil }

// password comes from the vault, else from the environment.
func (s adminStep) password(ctx context.Context, f *Facts) (Finding, error) {
	name := s.Config.Admin.Secret
	set := "az keyvault secret set --vault-name " + vaultName(s.Config.Vault) + " --name " + name + " --file PATH"
	if s.Vault == nil {
		f.adminPassword = secret(s.Config.Admin.Password)
		if f.adminPassword == "" {
			return blocked("AdminSecretMissing", "no vault, and POSTGRES_ADMIN_PASSWORD isn't set", "export POSTGRES_ADMIN_PASSWORD"), nil
		}
		return Finding{}, nil
	}
	value, ok, err := s.Vault.Secret(ctx, name)
	if err != nil {
		return vaultFault(err)
	}
	if !ok {
		value = s.Config.Admin.Password
	}
	if value == "" {
		return blocked("AdminSecretMissing", "the vault has no secret "+name, set), nil
	}
	f.adminPassword = secret(value)
	return Finding{}, nil
}

// refused tells why the administrator could not sign in.
func (s adminStep) refused(ctx context.Context, err error, f *Facts) (Finding, error) {
	set := "az keyvault secret set --vault-name " + vaultName(s.Config.Vault) + " --name " + s.Config.Admin.Secret + " --file PATH"
	switch {
	case admin.IsStarting(err) || isUnreachable(err) && passes(f.Server.State):
		return Finding{Action: Wait, Reason: "ServerRestarting", Have: "the server is restarting", passing: true}, s.look(ctx, f)
	case admin.IsWrongPassword(err):
		return blocked("AdminPasswordWrong", "the server refuses "+s.Config.Admin.User, set), nil
	case admin.IsNoDatabase(err):
		return blocked("DatabaseNotFound", s.Config.Server.Database, "az postgres flexible-server db list --server-name "+f.Server.Name), nil
	case isCertificate(err):
		return blocked("ServerCertificate", s.Config.ConnectionServer(), "pgmirror plan --set endpoints.caFile=PATH"), nil
	case isUnreachable(err) || errors.Is(err, context.DeadlineExceeded):
		return blocked("ServerUnreachable", s.Config.ConnectionServer()+" doesn't answer", fmt.Sprintf("pg_isready -h %s -p %d", f.Host, s.Config.Server.Port)), nil
	}
	return Finding{}, err
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
func vaultFault(err error) (Finding, error) {
	if kind := azure.Forbidden(err); kind != azure.NotForbidden {
		return blocked("VaultForbidden", string(kind), "az role assignment create --role 'Key Vault Secrets Officer' --assignee ME --scope VAULT-ID"), nil
	}
	if isUnreachable(err) {
		return blocked("VaultUnreachable", "no answer", "az keyvault show"), nil
	}
	return Finding{}, err
}

func isCertificate(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	return verify || host
}
