package replicator

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// dropMark, in a table's folder, says that the table is being dropped: whatever
// a crash left of it is no table any more.
const dropMark = "_dropping"

// drop removes a Delta table. The mark comes first and goes last, the log goes
// before the data: at no time is there a log without its files, and what a crash
// leaves is finished by the next start.
func drop(ctx context.Context, lake store.Store) error {
	if _, err := lake.Put(ctx, dropMark, []byte("{}"), store.Cond{}); err != nil {
		return err
	}
	return finishDrop(ctx, lake)
}

func finishDrop(ctx context.Context, lake store.Store) error {
	if _, err := lake.Stat(ctx, dropMark); errors.Is(err, store.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := lake.Remove(ctx, "_delta_log"); err != nil {
		return err
	}
	list, err := lake.List(ctx, "")
	if err != nil {
		return err
	}
	for _, i := range list {
		if path.Base(i.Name) == dropMark {
			continue
		}
		if err := lake.Remove(ctx, i.Name); err != nil {
			return err
		}
	}
	return lake.Remove(ctx, dropMark)
}

// clearLeftovers removes data files that a crash left before the table's first
// commit. Only files named as ours are go.
func clearLeftovers(ctx context.Context, lake store.Store) error {
	list, err := lake.List(ctx, "")
	if err != nil {
		return err
	}
	for _, i := range list {
		if name := path.Base(i.Name); !i.Dir && strings.HasPrefix(name, dataPrefix) && strings.HasSuffix(name, ".parquet") {
			if err := lake.Remove(ctx, i.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// owns reports whether this mirror wrote a table.
func (r *Replicator) owns(s *delta.Snapshot) bool {
	for id := range s.Txns {
		if strings.HasPrefix(id, r.AppID+"/") {
			return true
		}
	}
	return false
}

// dropGone drops the tables whose folders are gone: those we worked on, and at
// first those of a former life of this mirror.
func (r *Replicator) dropGone(ctx context.Context, folders []landing.Folder) error {
	here, there := map[string]bool{}, map[string]bool{}
	for _, f := range folders {
		here[f.Dir] = true
		there[lakeDir(f.Schema, f.Table)] = true
	}
	for dir, t := range r.known() {
		if here[dir] || !t.busy.TryLock() { // a table being worked on is dropped by a later scan
			continue
		}
		err := error(nil)
		if !there[lakeDir(t.schema, t.name)] {
			err = t.dropGone(ctx)
		}
		t.busy.Unlock()
		if err != nil {
			t.report(ctx, err)
			continue
		}
		r.mu.Lock()
		delete(r.tables, dir)
		r.mu.Unlock()
	}
	if r.cleared {
		return nil
	}
	if err := r.dropOrphans(ctx, there); err != nil {
		return err
	}
	r.cleared = true
	return nil
}

func (r *Replicator) known() map[string]*table {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]*table{}
	for dir, t := range r.tables {
		out[dir] = t
	}
	return out
}

func (t *table) dropGone(ctx context.Context) error {
	t.forget()
	resume, err := t.abandon(ctx)
	defer resume()
	if err != nil {
		return err
	}
	dropped, err := t.r.dropOwned(ctx, t.lake)
	if err != nil {
		return fmt.Errorf("drop the table, as its folder is gone: %w", err)
	}
	if !dropped {
		return t.lake.Remove(ctx, faultFile)
	}
	t.r.Events(Event{Schema: t.schema, Table: t.name, Version: -1, Dropped: true})
	return t.r.Tables.Remove(ctx, lakeDir(t.schema, t.name))
}

func (r *Replicator) dropOwned(ctx context.Context, lake store.Store) (bool, error) {
	if err := finishDrop(ctx, lake); err != nil {
		return false, err
	}
	s, err := delta.Open(ctx, lake, -1)
	if errors.Is(err, store.ErrNotExist) {
		return false, clearLeftovers(ctx, lake)
	}
	if err != nil || !r.owns(s) {
		return false, err
	}
	r.keys.drop(tableFolder(s.Metadata.ID))
	return true, drop(ctx, lake)
}

// dropOrphans drops this mirror's tables that no folder stands for.
func (r *Replicator) dropOrphans(ctx context.Context, there map[string]bool) error {
	schemas, err := r.Tables.List(ctx, "")
	if err != nil {
		return fmt.Errorf("list the tables: %w", err)
	}
	for _, s := range schemas {
		if !s.Dir || strings.HasPrefix(path.Base(s.Name), "_") {
			continue
		}
		tables, err := r.Tables.List(ctx, s.Name)
		if err != nil {
			return fmt.Errorf("list the tables: %w", err)
		}
		for _, t := range tables {
			if !t.Dir || there[t.Name] {
				continue
			}
			e := Event{Schema: s.Name, Table: path.Base(t.Name), Version: -1}
			if e.Dropped, e.Err = r.dropOwned(ctx, store.Sub(r.Tables, t.Name)); e.Dropped && e.Err == nil {
				e.Err = r.Tables.Remove(ctx, t.Name)
			}
			if e.Dropped || e.Err != nil { // what can't be dropped stands in nobody's way
				r.Events(e)
			}
		}
	}
	return nil
}
