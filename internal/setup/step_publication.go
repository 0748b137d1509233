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
// refuse the application's updates.
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
		if found, ok, err := s.powerless(ctx, f, session, f.Picked); err != nil || !ok {
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
	out, _, err := s.todo(ctx, f)
	return out, err
}

// todo computes what is missing in both publications.
func (s publicationStep) todo(ctx context.Context, f *Facts) ([]admin.Statement, Finding, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, Finding{}, err
	}
	var with, without []admin.Member
	for i := range f.Picked {
		t := &f.Picked[i]
		m := admin.Member{Schema: t.Schema, Table: t.Name, Owner: t.Owner}
		if keyed(t) {
			with = append(with, m)
		} else {
			without = append(without, m)
		}
	}
	found := asWanted(s.Config.Publication())
	first, err := s.one(ctx, f, session, &found, s.Config.Publication(), false, with)
	if err != nil {
		return nil, found, err
	}
	second, err := s.one(ctx, f, session, &found, s.Config.InsertOnlyPublication(), true, without)
	return append(first, second...), found, err
}

// keyed reports whether updates of a table can be mirrored.
func keyed(t *postgres.Table) bool { return len(t.Key) > 0 && t.ReplicaIdentity != 'n' }

func (s publicationStep) one(ctx context.Context, f *Facts, session *admin.Session, found *Finding, name string, insertOnly bool, tables []admin.Member) ([]admin.Statement, error) {
	p, exists, err := session.Publication(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case !exists && len(tables) == 0 && insertOnly:
		return nil, nil
	case !exists:
		return session.CreatePublication(ctx, name, insertOnly, tables)
	case p.AllTables:
		*found = blocked("PublicationForAll", name, s.psql(f, "DROP PUBLICATION \""+name+"\""))
		return nil, nil
	}
	missing := slices.DeleteFunc(slices.Clone(tables), func(m admin.Member) bool { return slices.Contains(p.Tables, m.String()) })
	for _, extra := range p.Tables {
		if !slices.ContainsFunc(tables, func(m admin.Member) bool { return m.String() == extra }) {
			found.Notes = append(found.Notes, Note{"PublishedUnlisted", extra, "is in publication " + name + " and isn't asked for; left as it is"})
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return s.add(ctx, session, found, name, missing)
}

// add leaves a running mirror alone: run takes a table in itself, so that no
// change falls between its snapshot and the stream.
func (s publicationStep) add(ctx context.Context, session *admin.Session, found *Finding, name string, missing []admin.Member) ([]admin.Statement, error) {
	running, err := session.SlotExists(ctx, s.Config.Slot())
	if err != nil {
		return nil, err
	}
	if !running {
		return session.AddTables(ctx, name, missing)
	}
	var names []string
	for _, m := range missing {
		names = append(names, m.String())
	}
	found.Notes = append(found.Notes, Note{"TableNotJoined", strings.Join(names, ", "), "isn't in publication " + name + ", and the mirror runs: take it in with pgmirror tables add"})
	return nil, nil
}
