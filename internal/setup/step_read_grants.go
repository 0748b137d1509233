package setup

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// readGrantsStep lets the role read the tables, for open mode: of a partitioned one its
// partitions, too, which are read one by one. Partitions that come later are covered by
// the default rights, and read through their table where they aren't.
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
	return found, s.tellLeaves(ctx, f, &found)
}

// tellLeaves tells, once the mirror has begun, of partitions that the role may not read
// by themselves.
func (s readGrantsStep) tellLeaves(ctx context.Context, f *Facts, found *Finding) error {
	if !f.begun {
		return nil
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	var leaves []postgres.Table
	for _, t := range f.Joined {
		leaves = append(leaves, t.Leaves...)
	}
	var names, sql []string
	schemas := map[string][]admin.Statement{}
	for i := range leaves {
		t := &leaves[i]
		if _, known := schemas[t.Schema]; !known {
			if schemas[t.Schema], err = session.Direct().OnSchema(ctx, t.Schema, s.Config.Role.Name, "USAGE"); err != nil {
				return err
			}
		}
		table, err := session.Direct().SelectOn(ctx, t, s.Config.Role.Name)
		if err != nil {
			return err
		}
		lacks := append(slices.Clone(schemas[t.Schema]), table...)
		if len(lacks) == 0 {
			continue
		}
		names = append(names, t.String())
		found.Notes = append(found.Notes, Note{"PartitionRights", t.String(), "the role may not read it by itself: run reads it through its table, which takes longer"})
		for _, st := range lacks {
			if !slices.Contains(sql, st.SQL) {
				sql = append(sql, st.SQL)
			}
		}
	}
	if len(names) > 0 && found.Action == None {
		found.Code, found.Have, found.Hint = "PartitionRights", "partitions that the role may not read: "+strings.Join(names, ", "), s.dba(f, strings.Join(sql, "; "))
	}
	return nil
}

// able asks whether the administrator can grant what is missing.
func (s readGrantsStep) able(ctx context.Context, f *Facts) (Finding, bool, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, false, err
	}
	missing, err := session.Unreadable(ctx, s.Config.Role.Name, f.toRead())
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
	for _, t := range f.toRead() {
		more, err := session.SelectOn(ctx, &t, s.Config.Role.Name)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, more...)
	}
	more, notes, err := s.defaultRights(ctx, session, f, "SELECT")
	return append(out, more...), notes, err
}
