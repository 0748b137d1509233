package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// readGrantsStep lets the role read the tables, for open mode: of a partitioned one its
// partitions, too, which are read one by one. Partitions that come later are covered by
// the default rights.
type readGrantsStep struct{ *Clients }

func (readGrantsStep) Name() string { return "read-grants" }

func (s readGrantsStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	if found, ok, err := s.able(ctx, f); err != nil || !ok {
		return found, err
	}
	if !f.RoleExists {
		return Finding{Action: Create, Reason: "GrantsMissing", Want: "SELECT on the tables", After: f.waitsFor("role")}, nil
	}
	missing, notes, err := s.missing(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	found := asWanted("SELECT on all tables")
	if len(missing) > 0 {
		found = Finding{Action: Update, Reason: "GrantsMissing", Have: "some rights are missing", Want: whats(missing), After: f.waitsFor("role")}
	}
	found.Notes = notes
	return found, nil
}

// able asks whether the administrator can grant what is missing.
func (s readGrantsStep) able(ctx context.Context, f *Facts) (Finding, bool, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, false, err
	}
	missing, err := session.Unreadable(ctx, s.Config.Role.Name, WithLeaves(f.Joined))
	if err != nil {
		return Finding{}, false, err
	}
	return s.powerless(ctx, f, session, missing)
}

func (s readGrantsStep) Apply(ctx context.Context, f *Facts) error { return s.runScript(ctx, f, s) }

// Script is what Apply runs.
func (s readGrantsStep) Script(ctx context.Context, f *Facts) ([]admin.Statement, error) {
	out, _, err := s.missing(ctx, f)
	return out, err
}

func (s readGrantsStep) missing(ctx context.Context, f *Facts) ([]admin.Statement, []Note, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	var out []admin.Statement
	for _, schema := range s.schemas(f) {
		more, err := session.OnSchema(ctx, schema, s.Config.Role.Name, "USAGE")
		if err != nil {
			return nil, nil, err
		}
		out = append(out, more...)
	}
	for _, t := range WithLeaves(f.Joined) {
		more, err := session.SelectOn(ctx, &t, s.Config.Role.Name)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, more...)
	}
	more, notes, err := s.defaultRights(ctx, session, f, "SELECT")
	return append(out, more...), notes, err
}
