package setup

import (
	"context"
	"errors"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// roleStep makes the mirror's role, with the password that the store has.
type roleStep struct{ *Clients }

func (roleStep) Name() string { return "role" }

func (s roleStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.RoleExists, f.RoleSignsIn = false, false
	if !f.Admin {
		return after("admin-login"), nil
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	want := s.wanted()
	have, exists, err := session.Role(ctx, want.Name)
	if err != nil {
		return Finding{}, err
	}
	f.RoleExists = exists
	missing := have.Missing(want)
	switch {
	case !exists:
		return Finding{Action: Create, Reason: "RoleMissing", Have: "none", Want: want.Name + " " + strings.Join(missing, " "), After: s.beforeSecret(f)}, nil
	case len(missing) > 0:
		return Finding{Action: Update, Reason: "AttributesMissing", Have: want.Name, Want: want.Name + " " + strings.Join(missing, " "), After: s.beforeSecret(f)}, nil
	}
	return s.signIn(ctx, f)
}

// signIn proves that the store's password is the role's.
func (s roleStep) signIn(ctx context.Context, f *Facts) (Finding, error) {
	name := s.Config.Role.Name
	reset := Finding{Action: Update, Reason: "PasswordDiffers", Code: "RolePasswordWrong", Have: "the store's password isn't " + name + "'s", Want: "the store's",
		Consent: config.ResetPassword, Allowed: s.Config.Allows(config.ResetPassword), Hint: "pgmirror apply --allow reset-password", After: s.beforeSecret(f)}
	if f.rolePassword == "" {
		if f.pending["role-secret"] {
			return reset, nil
		}
		return after("role-secret"), nil
	}
	_, err := s.asRole(ctx, f)
	if admin.IsWrongPassword(err) {
		return reset, nil
	}
	if err != nil {
		return Finding{}, err
	}
	f.RoleSignsIn = true
	return asWanted(name + " signs in"), nil
}

// beforeSecret orders the role behind its secret.
func (s roleStep) beforeSecret(f *Facts) string { return f.waitsFor("role-secret") }

// Apply sets the password only where Check found that it has to be: a new role,
// or one whose reset was consented to.
func (s roleStep) Apply(ctx context.Context, f *Facts) error {
	if f.rolePassword == "" {
		return errors.New("the role's password isn't known")
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	want := s.wanted()
	have, exists, err := session.Role(ctx, want.Name)
	if err != nil {
		return err
	}
	verifier, err := admin.Verifier(string(f.rolePassword))
	if err != nil {
		return err
	}
	if !exists {
		return session.Run(ctx, admin.CreateRole(want, verifier))
	}
	if missing := have.Missing(want); len(missing) > 0 {
		return session.Run(ctx, admin.AddAttributes(want.Name, missing))
	}
	return session.Run(ctx, admin.SetPassword(want.Name, verifier))
}

// wanted is the role as the mode and the profile ask for it. Today's users have
// CREATEDB and CREATEROLE; the server's checker asks for neither.
func (s roleStep) wanted() admin.Role {
	full := s.Config.Mode == config.Native && s.Config.Role.Profile == "full"
	return admin.Role{Name: s.Config.Role.Name, Login: true, Replication: true, CreateDB: full, CreateRole: full}
}
