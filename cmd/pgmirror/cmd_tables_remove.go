package main

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// removeTables takes tables out of their publication before it asks the
// mirror to forget them: in the other order it would join them again.
func removeTables(ctx context.Context, m *openMirror, a *admin.Session, o tablesOptions) error {
	before, err := m.states(ctx)
	if err != nil {
		return err
	}
	todo, err := m.takingOut(ctx, a, o.names, before)
	if err != nil {
		return err
	}
	if err := m.change(ctx, o, "tables remove", a, todo); err != nil || o.dryRun {
		return err
	}
	for _, name := range o.names {
		schema, table := qualified(m.cfg, name)
		err := m.ask(ctx, mirror.Request{Kind: mirror.Forget, Schema: schema, Table: table})
		switch {
		case errors.Is(err, mirror.ErrNoTable):
			m.s.say("%s is out of the publication; the mirror had nothing of it", name)
		case err != nil:
			return err
		default:
			m.s.say("asked: %s %s.%s", mirror.Forget, schema, table)
		}
		switch wanted, _ := m.cfg.Mirror.Wants(schema, table); {
		case m.facts.Within[schema+"."+table] != "": // its table has its rows
		case wanted && len(m.cfg.Mirror.Tables) == 0:
			m.s.say("  without mirror.tables every table is asked for, also %s.%s: list those that are wanted, or the next apply on a fresh mirror takes it in", schema, table)
		case wanted:
			m.s.say("  mirror.tables still asks for %s.%s: take it out there too, or the next apply on a fresh mirror takes it in", schema, table)
		}
	}
	return m.wait(ctx, o.wait, mirror.Forget, o.names, before)
}

// takingOut are the statements that take tables out of the publications. A table
// that was dropped in PostgreSQL has left them already.
func (m *openMirror) takingOut(ctx context.Context, a *admin.Session, tables []string, states map[string]mirror.TableState) ([]admin.Statement, error) {
	var todo []admin.Statement
	for _, name := range tables {
		schema, table := qualified(m.cfg, name)
		name = schema + "." + table
		found := false
		for _, pub := range []string{m.cfg.Publication(), m.cfg.InsertOnlyPublication()} {
			p, ok, err := a.Publication(ctx, pub)
			if err != nil {
				return nil, setupFailure(err)
			}
			if ok && slices.Contains(p.Tables, name) {
				found = true
				todo = append(todo, leaving(pub, schema, table))
			}
		}
		if _, mirrored := states[name]; !found && !mirrored {
			return nil, fail(exitPrecondition, "TableNotMirrored", "pgmirror tables list", "the mirror doesn't have table %s", name)
		}
	}
	return todo, nil
}

// leaving takes a table out of a publication.
func leaving(publication, schema, table string) admin.Statement {
	return admin.Statement{What: "take " + schema + "." + table + " out of publication " + publication,
		SQL: "ALTER PUBLICATION " + pgx.Identifier{publication}.Sanitize() + " DROP TABLE " + pgx.Identifier{schema, table}.Sanitize()}
}
