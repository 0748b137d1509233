package verify

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// pair is a table of the source and its mirror; one of them may be missing.
type pair struct {
	schema, name string
	source       *postgres.Table
	mirror       store.Store // the Delta table's folder
}

func (p pair) title() string { return p.schema + "." + p.name }

// result is a result that nothing was found for yet.
func (p pair) result(started time.Time) TableResult {
	return TableResult{Schema: p.schema, Name: p.name, Started: started.UTC(), SourceOID: p.oid(), DeltaVersion: -1}
}

// oid is the source's table; 0 when there is none.
func (p pair) oid() uint32 {
	if p.source == nil {
		return 0
	}
	return p.source.OID
}

// bytes is about the size of the table at the source.
func (p pair) bytes() int64 {
	if p.source == nil {
		return 0
	}
	return p.source.Bytes
}

// pairTables lists what is to be compared, ordered by schema and name.
func pairTables(ctx context.Context, conn *pgx.Conn, cfg Config) ([]pair, error) {
	tables, err := postgres.Tables(ctx, conn)
	if err != nil {
		return nil, err
	}
	mirrors, err := listMirror(ctx, cfg.Tables)
	if err != nil {
		return nil, fmt.Errorf("list the mirror's tables: %w", err)
	}
	byOID := map[uint32]*postgres.Table{}
	for i := range tables {
		byOID[tables[i].OID] = &tables[i]
	}
	mirrored := takeMirrors(tables, mirrors, cfg.Called)
	var pairs []pair
	for i := range tables {
		t := &tables[i]
		m := mirrored[t.OID]
		if m == nil && (t.Kind == 'p' || rootMirrored(t, byOID, mirrored)) {
			continue // its rows are in its partitions, or in its root
		}
		pairs = append(pairs, pair{t.Schema, t.Name, t, m})
	}
	for name, m := range mirrors {
		pairs = append(pairs, pair{path.Dir(name), path.Base(name), nil, m})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Or(cmp.Compare(a.schema, b.schema), cmp.Compare(a.name, b.name)) })
	return pairs, nil
}

// takeMirrors gives every table its mirror, by its OID, and leaves the mirrors of
// no table. What a mirror calls a table comes before the table's own name: the
// escaped name of one may be another's own.
func takeMirrors(tables []postgres.Table, mirrors map[string]store.Store, called func(schema, table string) (string, string)) map[uint32]store.Store {
	taken := map[uint32]store.Store{}
	own := func(schema, table string) (string, string) { return schema, table }
	for _, name := range []func(schema, table string) (string, string){called, own} {
		for _, t := range tables {
			at := path.Join(name(t.Schema, t.Name))
			if m := mirrors[at]; m != nil && taken[t.OID] == nil {
				taken[t.OID] = m
				delete(mirrors, at)
			}
		}
	}
	return taken
}

func rootMirrored(t *postgres.Table, byOID map[uint32]*postgres.Table, mirrored map[uint32]store.Store) bool {
	for p := byOID[t.Parent]; p != nil; p = byOID[p.Parent] {
		if mirrored[p.OID] != nil {
			return true
		}
	}
	return false
}

// listMirror finds the Delta tables of a Tables folder.
func listMirror(ctx context.Context, tables store.Store) (map[string]store.Store, error) {
	found := map[string]store.Store{}
	schemas, err := tables.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, s := range schemas {
		if !s.Dir {
			continue
		}
		inside, err := tables.List(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range inside {
			if !t.Dir {
				continue
			}
			log, err := tables.List(ctx, t.Name+"/_delta_log")
			if err != nil {
				return nil, err
			}
			if len(log) > 0 {
				found[t.Name] = store.Sub(tables, t.Name)
			}
		}
	}
	return found, nil
}

// only keeps the pairs that are asked for, and refuses a name that is neither in
// the source nor in the mirror.
func only(pairs []pair, names []string) ([]pair, error) {
	if len(names) == 0 {
		return pairs, nil
	}
	var kept []pair
	for _, n := range names {
		found := false
		for _, p := range pairs {
			if n == p.name || n == p.title() {
				found = true
				if !slices.Contains(kept, p) {
					kept = append(kept, p)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("neither the source nor the mirror has a table %s", n)
		}
	}
	return kept, nil
}
