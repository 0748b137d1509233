package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// listedTable is a table as the database, the publications and the landing zone
// know it.
type listedTable struct {
	Schema      string       `json:"schema"`
	Table       string       `json:"table"`
	Publication string       `json:"publication,omitempty"`
	InsertOnly  bool         `json:"insertOnly,omitempty"` // it has no key
	Phase       string       `json:"phase"`                // of the mirror's, or waiting (published, not yet seen) or none
	Reason      string       `json:"reason,omitempty"`
	Files       int64        `json:"files,omitempty"`
	Chunks      int          `json:"chunks,omitempty"`
	ChunksDone  int          `json:"chunksDone,omitempty"`
	CommitLSN   *landing.LSN `json:"commitLsn,omitempty"`
	Ignored     int64        `json:"ignored,omitempty"`
}

func runTablesList(ctx context.Context, o tablesOptions, s streams) error {
	m, err := openTables(ctx, o.config, s)
	if err != nil {
		return err
	}
	defer m.close(ctx)
	tables, err := m.list(ctx)
	if err != nil {
		return err
	}
	if o.json {
		lines := []any{newHeader("tables list", m.cfg)}
		for _, t := range tables {
			line, err := typed("table", t)
			if err != nil {
				return err
			}
			lines = append(lines, line)
		}
		return writeLines(s.Out, lines...)
	}
	w := tabwriter.NewWriter(s.Out, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TABLE\tPHASE\tFILES\tUP TO\t")
	for _, t := range tables {
		fmt.Fprintf(w, "%s.%s\t%s\t%s\t%s\t%s\n", t.Schema, t.Table, t.phase(), count(t.Files), t.upTo(), t.note())
	}
	return w.Flush()
}

func (t *listedTable) phase() string {
	if t.Phase == "snapshot" {
		return fmt.Sprintf("snapshot %d/%d", t.ChunksDone, t.Chunks)
	}
	return t.Phase
}

func (t *listedTable) upTo() string {
	if t.CommitLSN == nil {
		return "-"
	}
	return t.CommitLSN.String()
}

func (t *listedTable) note() string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Ignored > 0:
		return plural(t.Ignored, "update") + " or deletes ignored: no key"
	case t.InsertOnly:
		return "inserts only: no key"
	}
	return ""
}

// list joins what the database has, what is published and what is mirrored.
func (m *openMirror) list(ctx context.Context) ([]listedTable, error) {
	states, err := m.states(ctx)
	if err != nil {
		return nil, err
	}
	a, done, err := m.asAdmin(ctx, "pgmirror tables")
	if err != nil {
		return nil, err
	}
	defer done()
	all := map[string]*listedTable{}
	for i := range m.facts.Tables {
		t := &m.facts.Tables[i]
		all[t.String()] = &listedTable{Schema: t.Schema, Table: t.Name, Phase: "none", Reason: m.absent(t)}
	}
	for _, name := range []string{m.cfg.Publication(), m.cfg.InsertOnlyPublication()} {
		p, _, err := a.Publication(ctx, name)
		if err != nil {
			return nil, setupFailure(err)
		}
		for _, table := range p.Tables {
			t := all[table]
			if whole := m.facts.Within[table]; t == nil && whole != "" { // as an earlier pgmirror had it
				schema, name := qualified(m.cfg, table)
				t = &listedTable{Schema: schema, Table: name}
				all[table] = t
			}
			if t != nil {
				t.Publication, t.InsertOnly, t.Phase, t.Reason = name, !p.Updates, "waiting", "pgmirror run takes it in"
			}
		}
	}
	for name, st := range states {
		t := all[name]
		if t == nil {
			t = &listedTable{Schema: st.Schema, Table: st.Name}
			all[name] = t
		}
		t.take(st)
	}
	var out []listedTable
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, *all[name])
	}
	return out, nil
}

// absent says why a table isn't mirrored.
func (m *openMirror) absent(t *postgres.Table) string {
	switch wanted, _ := m.cfg.Mirror.Wants(t.Schema, t.Name); {
	case !wanted:
		return "mirror.tables doesn't ask for it"
	case t.Obstacle != "":
		return t.Obstacle
	}
	return "not published: tables add takes it in"
}

func (t *listedTable) take(st mirror.TableState) {
	t.Phase, t.Reason, t.Files, t.Chunks, t.ChunksDone, t.Ignored = st.Phase, st.Reason, st.Files, st.Chunks, st.ChunksDone, st.Ignored
	t.CommitLSN = &st.Position.CommitLSN
}
