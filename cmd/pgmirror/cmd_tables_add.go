package main

import (
	"context"
	"slices"

	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
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
		if wanted, _ := m.cfg.Mirror.Wants(t.Schema, t.Name); !wanted {
			m.s.say("  mirror.tables doesn't list it: list it there too, so that the plan knows it")
		}
	}
	if made {
		m.s.say("The publication of tables without a key is new: a running pgmirror run reads it only after it was started again.")
	}
	return m.wait(ctx, o.wait, joined, o.names, before)
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
		if t.Obstacle != "" {
			return nil, nil, false, fail(exitPrecondition, "TableRefused", "pgmirror plan", "table %s can't be mirrored: %s", t, t.Obstacle)
		}
		rights, err := m.readRights(ctx, a, t)
		if err != nil {
			return nil, nil, false, setupFailure(err)
		}
		todo = append(todo, rights...)
		keyless := len(t.Key) == 0 || t.ReplicaIdentity == 'n'
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
	return todo, added, made, nil
}

// published is the publication of ours that has a table; "" when none has.
func (m *openMirror) published(ctx context.Context, a *admin.Session, t *postgres.Table) (string, error) {
	for _, name := range []string{m.cfg.Publication(), m.cfg.InsertOnlyPublication()} {
		p, ok, err := a.Publication(ctx, name)
		if err != nil {
			return "", setupFailure(err)
		}
		if ok && p.AllTables {
			return "", fail(exitPrecondition, "PublicationForAll", "pgmirror explain PublicationForAll", "publication %s publishes all tables", name)
		}
		if ok && slices.Contains(p.Tables, t.String()) {
			return name, nil
		}
	}
	return "", nil
}

func (m *openMirror) readRights(ctx context.Context, a *admin.Session, t *postgres.Table) ([]admin.Statement, error) {
	schema, err := a.OnSchema(ctx, t.Schema, m.cfg.Role.Name, "USAGE")
	if err != nil {
		return nil, err
	}
	table, err := a.SelectOn(ctx, t, m.cfg.Role.Name)
	return append(schema, table...), err
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
