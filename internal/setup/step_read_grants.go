package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// readGrantsStep lets the role read the tables, for open mode.
type readGrantsStep struct{ *Clients }

func (readGrantsStep) Name() string { return "read-grants" }

func (s readGrantsStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
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

func (s readGrantsStep) Apply(ctx context.Context, f *Facts) error {
	missing, _, err := s.missing(ctx, f)
	if err != nil {
		return err
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	return session.Run(ctx, missing...)
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
	for i := range f.Picked {
		t := &f.Picked[i]
		more, err := session.SelectOn(ctx, t.Schema, t.Name, t.Owner, s.Config.Role.Name)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, more...)
	}
	more, notes, err := s.defaultRights(ctx, session, f, "SELECT")
	return append(out, more...), notes, err
}
