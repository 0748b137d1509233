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
	if s.Config.Role.SignIn == "entra" {
		return s.checkEntra(ctx, f, session)
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
		if f.pending["role-secret"] && !f.recovering {
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
	if s.Config.Role.SignIn == "entra" {
		return s.applyEntra(ctx, f)
	}
	if f.rolePassword == "" {
		return errors.New("the role's password isn't known")
	}
	verifier, err := s.verifier(f)
	if err != nil {
		return err
	}
	todo, err := s.statements(ctx, f, admin.Verified(verifier))
	if err != nil {
		return err
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	return session.Run(ctx, todo...)
}

// Script is what Apply would run, with the password as a variable of psql.
func (s roleStep) Script(ctx context.Context, f *Facts) ([]admin.Statement, error) {
	return s.statements(ctx, f, admin.PasswordVariable)
}

func (s roleStep) statements(ctx context.Context, f *Facts, password admin.Password) ([]admin.Statement, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, err
	}
	if s.Config.Role.SignIn == "entra" {
		return s.entraStatements(ctx, session)
	}
	want := s.wanted()
	have, exists, err := session.Role(ctx, want.Name)
	switch missing := have.Missing(want); {
	case err != nil:
		return nil, err
	case !exists:
		return []admin.Statement{admin.CreateRole(want, password), admin.MarkRole(want.Name)}, nil
	case len(missing) > 0:
		return []admin.Statement{admin.AddAttributes(want.Name, missing)}, nil
	}
	return []admin.Statement{admin.SetPassword(want.Name, password)}, nil
}

// verifier is what the server keeps of the password: SCRAM unless md5 is asked
// for.
func (s roleStep) verifier(f *Facts) (string, error) {
	if s.Config.Role.SignIn == "md5" {
		return admin.MD5(string(f.rolePassword), s.Config.Role.Name), nil
	}
	return admin.Verifier(string(f.rolePassword))
}

// wanted is the role as the mode and the profile ask for it. Today's users have
// CREATEDB and CREATEROLE; the server's checker asks for neither.
func (s roleStep) wanted() admin.Role {
	full := s.Config.Mode == config.Native && s.Config.Role.Profile == "full"
	return admin.Role{Name: s.Config.Role.Name, Login: true, Replication: true, CreateDB: full, CreateRole: full}
}
