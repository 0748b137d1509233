package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
	"github.com/pgmirror/pgmirror/internal/setup"
)

func addTables(ctx context.Context, m *openMirror, a *admin.Session, o tablesOptions) error {
	todo, added, made, err := m.joining(ctx, a, o.names)
	if err != nil {
		return err
	}
	before, err := m.states(ctx)
	if err != nil {
		return err
	}
	if err := m.change(ctx, o, "tables add", a, todo); err != nil || o.dryRun {
		return err
	}
	if len(added) == 0 {
		m.s.say("Nothing was written: the publications have %s already.", plural(len(o.names), "table"))
		return nil
	}
	for _, t := range added {
		m.s.say("published: %s", t)
		if alone := m.alone(t, before); len(alone) > 0 {
			m.s.say("  its partitions were mirrored each as a table of its own, and are now parked: %s", m.s.next(setup.ShellLine(append([]string{"pgmirror", "tables", "remove"}, alone...)...)))
		}
		if wanted, _ := m.cfg.Mirror.Wants(t.Schema, t.Name); !wanted {
			m.s.say("  mirror.tables doesn't list it: list it there too, so that the plan knows it")
		}
	}
	if made {
		m.s.say("The publication of tables without a key is new: a running pgmirror run reads it only after it was started again.")
	}
	return m.wait(ctx, o.wait, joined, o.names, before)
}

// alone are the partitions of a table that the mirror has as tables of their own.
func (m *openMirror) alone(t *postgres.Table, states map[string]mirror.TableState) []string {
	var out []string
	for _, part := range slices.Sorted(maps.Keys(states)) {
		if m.within(part, t) {
			out = append(out, part)
		}
	}
	return out
}

// joining are the statements that take tables in, the tables that weren't
// published, and whether the publication of the keyless ones is made for them.
// Every table is judged before anything is written.
func (m *openMirror) joining(ctx context.Context, a *admin.Session, tables []string) (todo []admin.Statement, added []*postgres.Table, made bool, err error) {
	member := map[bool][]admin.Member{} // by: is it without a key?
	for _, name := range tables {
		t, err := m.table(name)
		if err != nil {
			return nil, nil, false, err
		}
		published, err := m.published(ctx, a, t)
		if err != nil {
			return nil, nil, false, err
		}
		if published != "" || slices.Contains(added, t) {
			continue
		}
		if err := m.whole(ctx, a, t); err != nil {
			return nil, nil, false, err
		}
		if t.Obstacle != "" {
			return nil, nil, false, fail(exitPrecondition, "TableRefused", "pgmirror plan", "table %s can't be mirrored: %s", t, t.Obstacle)
		}
		if err := m.keepsUpdates(ctx, a, t); err != nil {
			return nil, nil, false, err
		}
		rights, err := m.readRights(ctx, a, t)
		if err != nil {
			return nil, nil, false, setupFailure(err)
		}
		todo = append(todo, rights...)
		keyless := !setup.Keyed(t)
		member[keyless] = append(member[keyless], admin.Member{Schema: t.Schema, Table: t.Name, Owner: t.Owner})
		added = append(added, t)
	}
	for _, keyless := range []bool{false, true} {
		if len(member[keyless]) == 0 {
			continue
		}
		more, isNew, err := m.publish(ctx, a, keyless, member[keyless])
		if err != nil {
			return nil, nil, false, setupFailure(err)
		}
		todo, made = append(todo, more...), made || isNew && keyless
	}
	for _, t := range added {
		more, err := m.uniting(ctx, a, t)
		if err != nil {
			return nil, nil, false, err
		}
		todo = append(todo, more...)
	}
	return todo, added, made, nil
}

// whole gives a partitioned table that nobody asked for until now its partitions.
func (m *openMirror) whole(ctx context.Context, a *admin.Session, t *postgres.Table) error {
	if wanted, _ := m.cfg.Mirror.Wants(t.Schema, t.Name); t.Kind != 'p' || wanted {
		return nil
	}
	one, err := postgres.GroupLeaves(ctx, a, []postgres.Table{*t})
	if err == nil && len(one) == 1 {
		*t = one[0]
	}
	return setupFailure(err)
}

// keepsUpdates refuses a partitioned table that would only be added to, while partitions
// of it are mirrored with their updates and deletes.
func (m *openMirror) keepsUpdates(ctx context.Context, a *admin.Session, t *postgres.Table) error {
	p, _, err := a.Publication(ctx, m.cfg.Publication())
	if err != nil {
		return setupFailure(err)
	}
	parts := slices.DeleteFunc(p.Tables, func(part string) bool { return !m.within(part, t) })
	if setup.Keyed(t) || len(parts) == 0 {
		return nil
	}
	return fail(exitPrecondition, "UpdatesLost", "pgmirror explain UpdatesLost", "table %s has no primary key, so that as one table only its inserts would be mirrored; updates and deletes of its partitions are mirrored now: %s",
		t, strings.Join(parts, ", "))
}

// uniting takes a table's partitions out of the publications: what is mirrored of one
// by itself ends, and one that is detached doesn't go on as a table of its own.
func (m *openMirror) uniting(ctx context.Context, a *admin.Session, t *postgres.Table) ([]admin.Statement, error) {
	var todo []admin.Statement
	for _, name := range []string{m.cfg.Publication(), m.cfg.InsertOnlyPublication()} {
		p, _, err := a.Publication(ctx, name)
		if err != nil {
			return nil, setupFailure(err)
		}
		for _, part := range p.Tables {
			if m.within(part, t) {
				schema, table := qualified(m.cfg, part)
				todo = append(todo, leaving(name, schema, table))
			}
		}
	}
	return todo, nil
}

// within reports whether a table, by its name, is a partition of another.
func (m *openMirror) within(part string, t *postgres.Table) bool {
	return m.facts.Within[part] == t.String() ||
		slices.ContainsFunc(t.Leaves, func(l postgres.Table) bool { return l.String() == part }) ||
		slices.ContainsFunc(m.facts.Tables, func(o postgres.Table) bool { return o.String() == part && slices.Contains(m.facts.Above(&o), t) })
}

// published is the publication of ours that has a table, by itself or with the
// partitioned table that it is in; "" when none has.
func (m *openMirror) published(ctx context.Context, a *admin.Session, t *postgres.Table) (string, error) {
	for _, name := range []string{m.cfg.Publication(), m.cfg.InsertOnlyPublication()} {
		p, ok, err := a.Publication(ctx, name)
		if err != nil {
			return "", setupFailure(err)
		}
		if ok && p.AllTables {
			return "", fail(exitPrecondition, "PublicationForAll", "pgmirror explain PublicationForAll", "publication %s publishes all tables", name)
		}
		for _, t := range append([]*postgres.Table{t}, m.facts.Above(t)...) {
			if ok && slices.Contains(p.Tables, t.String()) {
				return name, nil
			}
		}
	}
	return "", nil
}

// readRights let the role read a table and its partitions, also those that the same
// owners make later.
func (m *openMirror) readRights(ctx context.Context, a *admin.Session, t *postgres.Table) ([]admin.Statement, error) {
	var todo []admin.Statement
	made := map[[2]string]bool{}
	for _, part := range setup.WithLeaves([]postgres.Table{*t}) {
		table, err := a.SelectOn(ctx, &part, m.cfg.Role.Name)
		if err != nil {
			return nil, err
		}
		todo = append(todo, table...)
		if maker := [2]string{part.Owner, part.Schema}; !made[maker] {
			made[maker] = true
			schema, err := a.OnSchema(ctx, part.Schema, m.cfg.Role.Name, "USAGE")
			if err != nil {
				return nil, err
			}
			later, _, err := a.DefaultRights(ctx, part.Owner, part.Schema, m.cfg.Role.Name, "SELECT") // where we may; the plan tells of the others
			if err != nil {
				return nil, err
			}
			todo = append(append(todo, schema...), later...)
		}
	}
	return todo, nil
}

// publish puts members into the publication for their kind. The one for tables
// without a key publishes inserts only: in the other PostgreSQL would refuse the
// application's updates of them.
func (m *openMirror) publish(ctx context.Context, a *admin.Session, keyless bool, members []admin.Member) (todo []admin.Statement, isNew bool, err error) {
	name := m.cfg.Publication()
	if keyless {
		name = m.cfg.InsertOnlyPublication()
	}
	_, exists, err := a.Publication(ctx, name)
	if err != nil {
		return nil, false, err
	}
	if exists {
		todo, err = a.AddTables(ctx, name, members)
	} else {
		todo, err = a.CreatePublication(ctx, name, keyless, members)
	}
	return todo, !exists, err
}
