package setup

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// publicationStep makes the publications that run reads. A table without a key
// sits in one that publishes inserts only: in the other one PostgreSQL would
// refuse the application's updates. A partitioned table is named by itself: its
// partitions, also those that come later, are published through it.
type publicationStep struct{ *Clients }

func (publicationStep) Name() string { return "publications" }

func (s publicationStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	if _, err := s.pick(ctx, f); err != nil {
		return Finding{}, err
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	todo, found, err := s.todo(ctx, f)
	if err == nil && len(todo) > 0 {
		if found, ok, err := s.powerless(ctx, f, session, f.Joined); err != nil || !ok {
			return found, err
		}
	}
	if err != nil || found.Action == Blocked {
		return found, err
	}
	if len(todo) == 0 {
		return found, nil
	}
	notes := found.Notes
	return Finding{Action: Create, Reason: "PublicationsDiffer", Have: "tables are missing", Want: whats(todo), Notes: notes, After: f.waitsFor("parameters", "restart", "replica-identity")}, nil
}

func (s publicationStep) Apply(ctx context.Context, f *Facts) error { return s.runScript(ctx, f, s) }

// Script is what Apply runs.
func (s publicationStep) Script(ctx context.Context, f *Facts) ([]admin.Statement, error) {
	if _, err := s.pick(ctx, f); err != nil { // an Apply that failed may have had its effect
		return nil, err
	}
	out, _, err := s.todo(ctx, f)
	return out, err
}

// todo computes what is missing in both publications. Once the mirror has begun that
// is nothing: a table joins it by tables add, and what tables remove took out stays out.
func (s publicationStep) todo(ctx context.Context, f *Facts) ([]admin.Statement, Finding, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, Finding{}, err
	}
	for _, p := range f.publications {
		if p.AllTables {
			return nil, blocked("PublicationForAll", p.Name, s.dba(f, "DROP PUBLICATION \""+p.Name+"\"")), nil
		}
	}
	found := asWanted(s.Config.Publication())
	s.tell(f, &found)
	var todo []admin.Statement
	for _, insertOnly := range []bool{false, true} {
		more, err := s.one(ctx, f, session, insertOnly)
		if err != nil {
			return nil, found, err
		}
		todo = append(todo, more...)
	}
	return todo, found, nil
}

// one computes what one of the publications lacks.
func (s publicationStep) one(ctx context.Context, f *Facts, session *admin.Session, insertOnly bool) ([]admin.Statement, error) {
	name := s.publicationOf(insertOnly)
	var members []admin.Member
	for i := range f.Joined {
		t := &f.Joined[i]
		if !f.begun && Keyed(t) != insertOnly && !slices.Contains(f.publishedIn(t), name) {
			members = append(members, admin.Member{Schema: t.Schema, Table: t.Name, Owner: t.Owner})
		}
	}
	exists := slices.ContainsFunc(f.publications, func(p admin.Publication) bool { return p.Name == name })
	switch {
	case len(members) == 0 && (exists || insertOnly):
		return nil, nil
	case !exists:
		return session.CreatePublication(ctx, name, insertOnly, members)
	}
	return session.AddTables(ctx, name, members)
}

func (c *Clients) publicationOf(insertOnly bool) string {
	if insertOnly {
		return c.Config.InsertOnlyPublication()
	}
	return c.Config.Publication()
}

// lookPublished reads our publications. A mirror has begun when they have tables, or
// are read; when one of them is gone that was read, nothing tells what it had.
func (c *Clients) lookPublished(ctx context.Context, session *admin.Session, f *Facts) error {
	f.publications = nil
	tables := 0
	for _, insertOnly := range []bool{false, true} {
		p, exists, err := session.Publication(ctx, c.publicationOf(insertOnly))
		if err != nil {
			return err
		}
		if exists {
			f.publications = append(f.publications, p)
			tables += len(p.Tables)
		}
	}
	running, err := session.SlotExists(ctx, c.Config.Slot())
	whole := len(f.publications) > 0 && f.publications[0].Name == c.Config.Publication()
	f.begun, f.unpublished = whole && (tables > 0 || running), running && !whole
	return err
}

// named are the publications of ours that name a table.
func (f *Facts) named(table string) []string {
	var out []string
	for _, p := range f.publications {
		if _, ok := slices.BinarySearch(p.Tables, table); ok {
			out = append(out, p.Name)
		}
	}
	return out
}

// publishedIn are the publications of ours that have a table, by its own name or as a
// partition.
func (f *Facts) publishedIn(t *postgres.Table) []string {
	out := f.named(t.String())
	for _, above := range f.Above(t) {
		out = append(out, f.named(above.String())...)
	}
	return out
}

// tell tells of what the publications have and isn't asked for, and of what is asked for
// and isn't in the mirror; the hint takes that in.
func (s publicationStep) tell(f *Facts, found *Finding) {
	note := func(code, subject, text string) { found.Notes = append(found.Notes, Note{code, subject, text}) }
	picked := map[string]bool{}
	var out, add []string // not in the mirror; those of them that lose nothing by tables add
	for i := range f.Picked {
		t := &f.Picked[i]
		picked[t.String()] = true
		in, name := f.publishedIn(t), s.publicationOf(!Keyed(t))
		switch {
		case f.begun && len(in) == 0:
			out = append(out, t.String())
			if len(f.updated(t)) == 0 {
				add = append(add, t.String())
			}
		case t.Kind == 'p' && len(t.Key) > 0: // somebody may see to its new partitions' replica identity
		case f.begun && !slices.Contains(in, name):
			note("OtherPublication", t.String(), "is in publication "+in[0]+" and belongs in "+name+": ALTER PUBLICATION … DROP TABLE there, then tables add")
		}
	}
	apart := map[string]bool{} // partitioned tables that aren't in the mirror, and partitions of theirs are
	for _, p := range f.publications {
		for _, table := range p.Tables {
			switch whole := f.Within[table]; {
			case picked[table]:
			case whole == "":
				note("PublishedUnlisted", table, "is in publication "+p.Name+" and isn't asked for; left as it is")
			case len(f.named(whole)) > 0 || !f.begun && picked[whole]:
				note("PublishedUnlisted", table, "is in publication "+p.Name+" besides "+whole+", whose partition it is; detached it would go on as a table of its own")
			default:
				apart[whole] = true
			}
		}
	}
	if f.unpublished {
		note("PublicationGone", s.Config.Publication(), "was there, and is made with every table that is asked for: also with what tables remove took out, unless mirror.tables leaves it out")
	}
	for i := range f.Tables {
		if t := &f.Tables[i]; apart[t.String()] {
			note("PublishedApart", t.String(), "its partitions are published each as a table of its own, and a new one isn't: "+f.uniting(t))
		}
	}
	if len(out) == 0 {
		return
	}
	note("TableNotJoined", strings.Join(out, ", "), "in no publication, so not in the mirror: take in what is wanted with tables add")
	found.Code, found.Have, found.Hint = "TableNotJoined", "asked for, and not in the mirror: "+strings.Join(out, ", "), "pgmirror tables list"
	if len(add) > 0 && len(add) <= 8 {
		found.Hint = ShellLine(append([]string{"pgmirror", "tables", "add"}, add...)...)
	}
}

// uniting is what comes of a partitioned table whose partitions are published apart.
func (f *Facts) uniting(t *postgres.Table) string {
	switch {
	case t.Obstacle != "":
		return "as one table it can't be mirrored, and they go on as they are"
	case len(f.updated(t)) > 0:
		return "as one table it would only be added to, without a primary key, and their updates and deletes are mirrored now; give it a primary key before tables add"
	}
	return "tables add has it be one table, which is copied; what is mirrored of the partitions stays until tables remove"
}

// updated are the partitions of a table without a primary key whose updates and deletes
// are published: as one table it would only be added to.
func (f *Facts) updated(t *postgres.Table) []string {
	var out []string
	for _, p := range f.publications {
		for _, table := range p.Tables {
			if p.Updates && f.Within[table] == t.String() && !Keyed(t) {
				out = append(out, table)
			}
		}
	}
	return out
}
