package setup

import (
	"context"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// grantsStep gives the role its rights for native mirroring.
type grantsStep struct{ *Clients }

func (grantsStep) Name() string { return "grants" }

func (s grantsStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	if !f.RoleExists || !f.Enabled {
		return Finding{Action: Create, Reason: "GrantsMissing", Want: "azure_cdc_admin, CREATE on the database, the schemas' rights", After: f.waitsFor("enable", "role")}, nil
	}
	missing, notes, err := s.missing(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	if len(missing) == 0 {
		found := asWanted("all rights")
		found.Notes = notes
		return found, nil
	}
	return Finding{Action: Update, Reason: "GrantsMissing", Have: "some rights are missing", Want: whats(missing), Notes: notes, After: f.waitsFor("enable", "role")}, nil
}

func (s grantsStep) Apply(ctx context.Context, f *Facts) error { return s.runScript(ctx, f, s) }

// Script is what Apply runs.
func (s grantsStep) Script(ctx context.Context, f *Facts) ([]admin.Statement, error) {
	out, _, err := s.missing(ctx, f)
	return out, err
}

func (s grantsStep) missing(ctx context.Context, f *Facts) ([]admin.Statement, []Note, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	role := s.Config.Role.Name
	out, err := session.Member(ctx, "azure_cdc_admin", role)
	if err != nil {
		return nil, nil, err
	}
	more, err := session.CreateOnDatabase(ctx, role)
	if err != nil {
		return nil, nil, err
	}
	out = append(out, more...)
	for _, schema := range s.schemas(f) {
		if more, err = session.OnSchema(ctx, schema, role, "USAGE", "CREATE"); err != nil {
			return nil, nil, err
		}
		out = append(out, more...)
	}
	if s.Config.Role.Profile == "minimal" {
		return out, nil, nil
	}
	more, notes, err := s.defaultRights(ctx, session, f, "ALL")
	return append(out, more...), notes, err
}

// defaultRights are for the tables that the schemas' owners of tables, and the
// administrator, will make later.
func (c *Clients) defaultRights(ctx context.Context, session *admin.Session, f *Facts, rights string) ([]admin.Statement, []Note, error) {
	var out []admin.Statement
	var notes []Note
	for _, schema := range c.schemas(f) {
		for _, owner := range c.makers(f, schema) {
			more, ok, err := session.DefaultRights(ctx, owner, schema, c.Config.Role.Name, rights)
			if err != nil {
				return nil, nil, err
			}
			if !ok {
				notes = append(notes, Note{"NoDefaultRights", schema, "tables that " + owner + " makes later get no rights for " + c.Config.Role.Name + ": the administrator can't act for it"})
			}
			out = append(out, more...)
		}
	}
	return out, notes, nil
}

// makers are who makes tables in a schema, the administrator first. Of an open mirror
// that has begun they are its tables' owners: a table that isn't in it leaves nothing to
// do, whose ever it is.
func (c *Clients) makers(f *Facts, schema string) []string {
	out := []string{c.Config.Admin.User}
	seen := map[string]bool{out[0]: true, c.Config.Role.Name: true}
	tables := WithLeaves(f.Tables)
	if f.begun {
		tables = f.Joined
	}
	for _, t := range tables {
		if t.Schema == schema && !seen[t.Owner] {
			seen[t.Owner] = true
			out = append(out, t.Owner)
		}
	}
	return out
}

func whats(statements []admin.Statement) string {
	out := make([]string, len(statements))
	for i, s := range statements {
		out[i] = s.What
	}
	return strings.Join(out, "; ")
}
