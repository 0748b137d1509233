package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// undoSeedStep drops the seed table as long as nobody has put anything of theirs
// into it.
type undoSeedStep struct{ *Clients }

func (undoSeedStep) Name() string { return "seed-table" }

func (s undoSeedStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	schema, table := s.Config.Mirror.DefaultSchema, s.Config.Seed.Table
	name := schema + "." + table
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	seed, err := session.Seed(ctx, schema, table)
	switch {
	case err != nil:
		return Finding{}, err
	case !seed.Exists:
		return gone("table " + name), nil
	case f.usedBy != "":
		return kept(name, f.usedBy+" needs it"), nil
	case seed.Owner != s.Config.Role.Name:
		return kept(name, "it belongs to "+seed.Owner), nil
	}
	plain, err := session.PlainSeed(ctx, schema, table)
	if err != nil {
		return Finding{}, err
	}
	if !plain {
		return blocked("SeedInUse", name+" has other columns than the seed table", s.psql(f, "ALTER TABLE "+name+" OWNER TO \""+s.Config.Admin.User+"\"")), nil
	}
	return Finding{Action: Delete, Reason: "SeedThere", Have: name, Want: "dropped", Items: []string{name}, After: f.waitsFor("mirrored-database")}, nil
}

func (s undoSeedStep) Apply(ctx context.Context, f *Facts) error {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	drop, err := session.AsRole(ctx, s.Config.Role.Name, admin.DropSeed(s.Config.Mirror.DefaultSchema, s.Config.Seed.Table)...)
	if err != nil {
		return err
	}
	return session.Run(ctx, drop...)
}
