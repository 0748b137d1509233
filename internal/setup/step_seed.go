package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// seedStep makes a small table of the role's own, so that Fabric always finds
// something to mirror.
type seedStep struct{ *Clients }

func (seedStep) Name() string { return "seed-table" }

func (s seedStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !s.Config.Seed.Create {
		return asWanted("not wanted"), nil
	}
	if !f.Admin {
		return after("admin-login"), nil
	}
	session, err := s.reader(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	seed, err := session.Seed(ctx, s.Config.Mirror.DefaultSchema, s.Config.Seed.Table)
	if err != nil {
		return Finding{}, err
	}
	name := s.Config.Mirror.DefaultSchema + "." + s.Config.Seed.Table
	found := Finding{Action: Update, Want: name + " of " + s.Config.Role.Name + " with one row", After: f.waitsFor("role", "grants")}
	switch {
	case !seed.Exists:
		found.Action, found.Reason, found.Have = Create, "SeedMissing", "none"
	case seed.Owner != s.Config.Role.Name:
		found.Reason, found.Have = "SeedOwner", "belongs to "+seed.Owner
	case !seed.Rows && f.RoleSignsIn:
		found.Reason, found.Have = "SeedEmpty", "no row"
	default:
		return asWanted(name), nil
	}
	return found, nil
}

// applyAsAdmin is for a role that nobody of ours can sign in as. Giving the table
// away takes membership in the role, for a moment.
func (s seedStep) applyAsAdmin(ctx context.Context, f *Facts) error {
	schema, table := s.Config.Mirror.DefaultSchema, s.Config.Seed.Table
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	seed, err := session.Seed(ctx, schema, table)
	if err != nil {
		return err
	}
	if !seed.Exists {
		if err := session.Run(ctx, admin.CreateSeed(schema, table)...); err != nil {
			return err
		}
		seed.Owner = s.Config.Admin.User
	}
	move, err := session.TakeOver(ctx, schema, table, seed.Owner, s.Config.Role.Name)
	if err != nil {
		return err
	}
	return session.Run(ctx, move...)
}

// reader is the role when it can sign in: only it surely may look into the table.
func (s seedStep) reader(ctx context.Context, f *Facts) (*admin.Session, error) {
	if f.RoleSignsIn {
		return s.asRole(ctx, f)
	}
	return s.asAdmin(ctx, f)
}

// Script makes the table as the DBA who runs it, and gives it away.
func (s seedStep) Script(ctx context.Context, f *Facts) ([]admin.Statement, error) {
	schema, table := s.Config.Mirror.DefaultSchema, s.Config.Seed.Table
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, err
	}
	seed, err := session.Seed(ctx, schema, table)
	switch {
	case err != nil:
		return nil, err
	case !seed.Exists:
		return append(admin.CreateSeed(schema, table), admin.GiveSeed(schema, table, s.Config.Role.Name)), nil
	case seed.Owner == s.Config.Role.Name:
		return []admin.Statement{admin.FillSeed(schema, table)}, nil
	}
	return session.TakeOver(ctx, schema, table, seed.Owner, s.Config.Role.Name)
}

func (s seedStep) Apply(ctx context.Context, f *Facts) error {
	schema, table := s.Config.Mirror.DefaultSchema, s.Config.Seed.Table
	if s.Config.Role.SignIn == "entra" {
		return s.applyAsAdmin(ctx, f)
	}
	role, err := s.asRole(ctx, f)
	if err != nil {
		return err
	}
	seed, err := role.Seed(ctx, schema, table)
	switch {
	case err != nil:
		return err
	case !seed.Exists:
		return role.Run(ctx, admin.CreateSeed(schema, table)...)
	case seed.Owner == s.Config.Role.Name:
		return role.Run(ctx, admin.FillSeed(schema, table))
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	move, err := session.TakeOver(ctx, schema, table, seed.Owner, s.Config.Role.Name)
	if err != nil {
		return err
	}
	return session.Run(ctx, move...)
}
