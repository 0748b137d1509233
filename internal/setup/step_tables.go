package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// tablesStep picks the tables, and tells what of them will be lost. It changes
// nothing.
type tablesStep struct{ *Clients }

func (tablesStep) Name() string { return "tables" }

func (s tablesStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	notes, err := s.pick(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	if missing := s.unmatched(f); len(missing) > 0 {
		return blocked("TableNotFound", strings.Join(missing, ", "), s.psql(f, "\\dt *.*")), nil
	}
	found := asWanted(fmt.Sprintf("%d of %d tables", len(f.Picked), len(f.Tables)))
	if f.Listed && len(f.Picked) == 0 && !s.seedWanted() {
		found = blocked("TableRefused", "none of the listed tables can be mirrored", "pgmirror plan --set mode=open")
	}
	found.Notes = notes
	return found, nil
}

// seedWanted reports whether the list has the seed table, which will be there.
func (s tablesStep) seedWanted() bool {
	wanted, _ := s.Config.Mirror.Wants(s.Config.Mirror.DefaultSchema, s.Config.Seed.Table)
	return wanted && s.Config.Seed.Create && s.Config.Mode == config.Native
}

func (tablesStep) Apply(context.Context, *Facts) error { return nil }

// pick reads the catalog and decides which tables are mirrored.
func (c *Clients) pick(ctx context.Context, f *Facts) ([]Note, error) {
	session, err := c.asAdmin(ctx, f)
	if err != nil {
		return nil, err
	}
	if f.Tables, err = userTables(ctx, session); err != nil {
		return nil, err
	}
	live, err := c.verdicts(ctx, f, session)
	if err != nil {
		return nil, err
	}
	f.Picked, f.Listed = nil, len(c.Config.Mirror.Tables) > 0
	var notes []Note
	if c.Config.Mode == config.Open {
		if err := c.lookPublished(ctx, session, f); err != nil {
			return nil, err
		}
		if err := c.takeWhole(ctx, session, f); err != nil {
			return nil, err
		}
		notes = c.chooseTypes(f)
	}
	for i := range f.Tables {
		t := &f.Tables[i]
		wanted, listed := c.Config.Mirror.Wants(t.Schema, t.Name)
		if !wanted || f.Within[t.String()] != "" {
			continue
		}
		ok, said := c.judge(t, listed, live)
		notes = append(notes, said...)
		if ok {
			f.Picked = append(f.Picked, *t)
		}
	}
	if c.Config.Mode == config.Native && len(f.Picked) > nativeTables {
		notes = append(notes, Note{"TableLimit", "", fmt.Sprintf("%d tables: Fabric documents limits of 500 and 1,000, and cuts by name", len(f.Picked))})
	}
	f.Joined = f.Picked
	if f.begun {
		f.Joined = slices.DeleteFunc(slices.Clone(f.Picked), func(t postgres.Table) bool { return len(f.publishedIn(&t)) == 0 })
	}
	return notes, nil
}

func userTables(ctx context.Context, session *admin.Session) ([]postgres.Table, error) {
	all, err := postgres.Tables(ctx, session)
	if err != nil {
		return nil, err
	}
	ours, err := session.ExtensionTables(ctx)
	if err != nil {
		return nil, err
	}
	var out []postgres.Table
	for _, t := range all {
		if !ours[t.OID] {
			out = append(out, t)
		}
	}
	return out, nil
}

// judge says whether a wanted table is mirrored, and what to know about it.
func (c *Clients) judge(t *postgres.Table, listed bool, live map[string]admin.TableVerdict) (bool, []Note) {
	if c.Config.Mode == config.Open {
		return judgeOpen(t)
	}
	refused, lost := judge(t)
	if v, ok := live[t.String()]; ok { // the server itself outranks our table of types
		refused = refusals(v)
	}
	if len(refused) > 0 {
		return false, refused
	}
	if t.Owner != c.Config.Role.Name && !listed {
		return false, []Note{{"TableNotOwned", t.String(), "belongs to " + t.Owner + " and stays out until it is listed"}}
	}
	return true, lost
}

func judgeOpen(t *postgres.Table) (bool, []Note) {
	if t.Obstacle != "" {
		text := t.Obstacle
		if t.Kind == 'p' {
			text += "; name its partitions in mirror.tables, and not it, to have each mirrored as a table of its own"
		}
		return false, []Note{{"NotMirrored", t.String(), text}}
	}
	var notes []Note
	for i := range t.Columns {
		c := &t.Columns[i]
		note := func(code, text string) { notes = append(notes, Note{code, t.String() + "." + c.Name, text}) }
		if !c.Mirrored() {
			note("ColumnLeftOut", "it is generated, and the stream doesn't carry it")
			continue
		}
		if c.Field != c.Name {
			note("ColumnRenamed", "the mirror has it as "+c.Field)
		}
		if c.Loss != "" {
			note("ColumnLoss", c.Loss)
		}
	}
	return true, notes
}

// verdicts asks azure_cdc as the role, when it is there and the role can sign in:
// its answer depends on who asks.
func (c *Clients) verdicts(ctx context.Context, f *Facts, session *admin.Session) (map[string]admin.TableVerdict, error) {
	if c.Config.Mode != config.Native || f.rolePassword == "" {
		return nil, nil
	}
	installed, err := session.CDCInstalled(ctx)
	if err != nil || !installed {
		return nil, err
	}
	role, err := c.asRole(ctx, f)
	if admin.IsWrongPassword(err) { // the role's own step tells it
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := role.TableVerdicts(ctx)
	if admin.IsForbidden(err) { // not yet a member of azure_cdc_admin
		return nil, nil
	}
	out := map[string]admin.TableVerdict{}
	for _, v := range list {
		out[v.Schema+"."+v.Table] = v
	}
	return out, err
}

// refusals are the errors of a verdict, but for the owner: that we can change.
func refusals(v admin.TableVerdict) []Note {
	var out []Note
	for _, x := range v.Verdicts {
		if x.Status == "ERROR" && x.Code != "NOT_TABLE_OWNER" {
			text := x.Details.Message
			if text == "" {
				text = "the server refuses it: " + x.Code
			}
			out = append(out, Note{x.Code, v.Schema + "." + v.Table, text})
		}
	}
	return out
}

// unmatched are listed names, without wildcards, that no table has.
func (s tablesStep) unmatched(f *Facts) []string {
	var out []string
	for _, name := range s.Config.Mirror.Tables {
		if strings.ContainsAny(name, "*?") || s.Config.Seed.Create && name == s.Config.Mirror.DefaultSchema+"."+s.Config.Seed.Table {
			continue // the seed table will be there
		}
		found := f.Within[name] != ""
		for i := range f.Tables {
			found = found || f.Tables[i].String() == name
		}
		if !found {
			out = append(out, name)
		}
	}
	return out
}

// schemas are those of the mirror's tables, and the default schema.
func (c *Clients) schemas(f *Facts) []string {
	out := []string{c.Config.Mirror.DefaultSchema}
	seen := map[string]bool{out[0]: true}
	for _, t := range f.toRead() {
		if !seen[t.Schema] {
			seen[t.Schema] = true
			out = append(out, t.Schema)
		}
	}
	return out
}
