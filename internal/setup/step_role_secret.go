package setup

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
)

// roleSecretStep makes sure that a durable store knows the role's password before
// any role has it.
type roleSecretStep struct{ *Clients }

func (roleSecretStep) Name() string { return "role-secret" }

func (s roleSecretStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.rolePassword, f.recovering = "", false
	if s.Config.Role.SignIn == "entra" {
		return asWanted("not needed: the role signs in by Entra"), nil
	}
	if s.Vault == nil {
		return s.fromEnvironment(ctx, f)
	}
	name := s.Config.Role.Secret
	value, ok, err := s.Vault.Secret(ctx, name)
	if _, closed := s.vaultDoor(ctx, err); closed {
		return after("admin-login"), nil
	}
	if err != nil {
		return s.vaultFault(err)
	}
	if ok {
		f.rolePassword = secret(value)
		return asWanted("in the vault as " + name), nil
	}
	if deleted, err := s.Vault.Deleted(ctx, name); err == nil && deleted { // who may not ask can't recover it either
		f.recovering = true
		return Finding{Action: Create, Reason: "SecretDeleted", Have: "deleted, and can be recovered", Want: name}, nil
	}
	if !f.Admin {
		return after("admin-login"), nil
	}
	return s.missing(ctx, f)
}

// missing may make a password only for a role that isn't there: another one's
// password is in use somewhere.
func (s roleSecretStep) missing(ctx context.Context, f *Facts) (Finding, error) {
	name := s.Config.Role.Secret
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	_, exists, err := session.Role(ctx, s.Config.Role.Name)
	if err != nil {
		return Finding{}, err
	}
	found := Finding{Action: Create, Reason: "SecretMissing", Have: "none", Want: name}
	if !exists {
		return found, nil
	}
	if s.Config.Allows(config.ResetPassword) {
		found.Code, found.Consent, found.Allowed = "RoleSecretMissing", config.ResetPassword, true
		return found, nil
	}
	return blocked("RoleSecretMissing", "role "+s.Config.Role.Name+" exists, and the vault has no secret "+name,
		s.setSecret(name)), nil
}

func (s roleSecretStep) fromEnvironment(ctx context.Context, f *Facts) (Finding, error) {
	if s.Config.Role.Password == "" {
		return blocked("NoSecretStore", "no vault, and POSTGRES_MIRROR_CONNECTION_PASSWORD isn't set", "read -rs POSTGRES_MIRROR_CONNECTION_PASSWORD && export POSTGRES_MIRROR_CONNECTION_PASSWORD"), nil
	}
	value, found, err := s.resolve(ctx, s.Config.Role.Password)
	if err != nil || found.Action == Blocked {
		return found, err
	}
	f.rolePassword = secret(value)
	return asWanted("in the environment"), nil
}

// Apply recovers a deleted secret, or writes a new password. A crash after it
// leaves a secret that no role uses yet: the next run uses it.
func (s roleSecretStep) Apply(ctx context.Context, _ *Facts) error {
	name := s.Config.Role.Secret
	if deleted, err := s.Vault.Deleted(ctx, name); err == nil && deleted {
		return s.Vault.Recover(ctx, name)
	}
	return s.Vault.MakeSecret(ctx, name, newPassword())
}

// newPassword has 200 random bits, and a character of every class that a policy
// may ask for.
func newPassword() string { return rand.Text() + strings.ToLower(rand.Text()[:14]) + "-9" }
