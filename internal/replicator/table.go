package replicator

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// table keeps one Delta table up to date with one folder. What it holds of the
// table is a cache: forget drops it, load reads it again.
type table struct {
	r            *Replicator
	schema, name string
	land, lake   store.Store // the two folders
	busy         sync.Mutex  // held by the one goroutine that works on it

	etag     string // of the folder that the rest is about
	latched  bool   // failed until the folder is made anew
	snap     *delta.Snapshot
	progress progress // what the newest commit of ours told
	meta     keptMetadata
	text     *delimited // of files that are no Parquet
	byTime   bool       // its files are found by their times
	key      []string   // the key columns; nil until a commit names them
	waiting  int64      // the newest file when nothing could be applied, as a transaction is not complete

	shown   atomic.Pointer[view]       // for upkeep, which takes it
	ready   atomic.Pointer[compaction] // made by upkeep, to be committed
	checked int64                      // version of the newest checkpoint
	cleaned time.Time                  // of the last vacuum
	life    atomic.Int64               // of the table: counts the times that it was dropped
	tending sync.Mutex                 // held by upkeep while it works on the table
	stop    context.CancelFunc         // ends that work; under r.mu

	status TableStatus // under r.mu
}

func newTable(r *Replicator, f landing.Folder) *table {
	return &table{r: r, schema: f.Schema, name: f.Table, land: store.Sub(r.Landing, f.Dir), lake: store.Sub(r.Tables, lakeDir(f.Schema, f.Table)),
		status: TableStatus{Schema: f.Schema, Table: f.Table, State: Initialized, Version: -1}}
}

func lakeDir(schema, name string) string { return path.Join(schema, name) }

// appID names the table and the life of its folder in the Delta log.
func (t *table) appID() string { return t.r.AppID + "/" + t.schema + "." + t.name + "/" + t.etag }

func (t *table) forget() {
	t.snap, t.progress, t.key, t.waiting = nil, progress{}, nil, 0
	t.shown.Store(nil)
}

// sync applies all that the folder holds now.
func (t *table) sync(ctx context.Context, f landing.Folder) {
	if f.ETag != t.etag {
		t.forget()
		t.set(func(s *TableStatus) {
			*s = TableStatus{Schema: t.schema, Table: t.name, State: Initialized, Version: -1, Generation: f.ETag}
		})
		var err error
		if t.latched, err = t.latchedBefore(ctx, f.ETag); err != nil {
			t.report(ctx, err)
			return
		}
		t.etag = f.ETag
	}
	lost := 0
	for more := !t.latched; more; {
		var err error
		if more, err = t.step(ctx); errors.Is(err, delta.ErrConflict) && lost < conflictsMost {
			lost++
			more = true
			t.forget() // and do it again on top of what the other wrote
		} else if err != nil {
			t.forget()
			if ctx.Err() == nil {
				t.report(ctx, err)
			}
			return
		}
	}
}

// conflictsMost is how often in a row a commit is made again because somebody
// else (who optimizes the table, say) committed first.
const conflictsMost = 5

// step applies the next files in one commit, and tells whether there may be
// more. Files are moved only after the commit that records them, so that a crash
// before leaves them to be moved by the next step.
func (t *table) step(ctx context.Context) (more bool, err error) {
	if err := t.load(ctx); err != nil {
		return false, err
	}
	if c := t.ready.Swap(nil); c != nil {
		if err := t.install(ctx, c); err != nil {
			return false, fmt.Errorf("compact: %w", err)
		}
	}
	list, err := t.land.List(ctx, "")
	if err != nil {
		return false, err
	}
	meta, told := t.metadata(ctx, list)
	if told != nil && meta.isText() {
		return false, told // which files are meant isn't known
	}
	pending, err := t.inbox(ctx, list, meta)
	if err != nil {
		return false, err
	}
	if len(pending) == 0 || pending[len(pending)-1].Number == t.waiting {
		t.healthy()
		if t.snap != nil && t.r.now().Sub(t.cleaned) >= t.r.Upkeep.VacuumEvery {
			t.show() // what grew old while nothing came is cleaned away as well
		}
		return false, nil
	}
	if errors.Is(told, store.ErrNotExist) {
		return false, nil // the publisher arms the folder with it
	} else if told != nil {
		return false, told
	}
	return t.work(ctx, pending, meta)
}

// work applies as many of the files as make one commit.
func (t *table) work(ctx context.Context, pending []landing.File, meta tableMetadata) (more bool, err error) {
	start := time.Now()
	if t.applied() == 0 {
		t.set(func(s *TableStatus) { s.State = Snapshotting })
	}
	weight := t.weight(pending)
	if err := t.r.memory.Acquire(ctx, weight); err != nil {
		return false, err
	}
	defer t.r.memory.Release(weight)
	g, err := t.gather(ctx, pending)
	if err != nil {
		return false, err
	}
	if len(g.files) == 0 {
		t.waiting = pending[len(pending)-1].Number
		t.healthy()
		return false, nil
	}
	if err := t.shapeUp(ctx, g.shape); err != nil {
		return false, err
	}
	if err := t.apply(ctx, g, meta); err != nil {
		return false, err
	}
	t.landed(g, start)
	return true, nil
}

// weight is roughly the memory that a commit needs: the files at hand, the rows
// being written, and a data file being rewritten.
func (t *table) weight(pending []landing.File) int64 {
	most := int64(0)
	for _, f := range pending {
		most = max(most, f.Size)
	}
	if t.snap != nil && t.r.CopyOnWrite {
		for i := range t.snap.Files {
			most = max(most, t.snap.Files[i].Size)
		}
	}
	return min(t.r.applyBudget(), 2*t.r.FileBytes+6*most)
}

// applied is the number of the last file in the table.
func (t *table) applied() int64 {
	if t.snap == nil {
		return 0
	}
	return t.snap.Txns[t.appID()]
}

// load opens the table, or clears the place for a new one. A table that stands
// for an earlier life of the folder is dropped; one that isn't ours is a fault.
func (t *table) load(ctx context.Context) error {
	if t.snap != nil {
		return nil
	}
	if err := finishDrop(ctx, t.lake); err != nil {
		return err
	}
	s, err := delta.Open(ctx, t.lake, -1)
	if errors.Is(err, store.ErrNotExist) {
		return clearLeftovers(ctx, t.lake)
	} else if err != nil {
		return fmt.Errorf("open the Delta table: %w", err)
	}
	if _, ok := s.Txns[t.appID()]; ok {
		return t.adopt(ctx, s)
	}
	if !t.r.owns(s) {
		return &fault{text: fmt.Sprintf("%s holds a Delta table that this mirror did not write", lakeDir(t.schema, t.name))}
	}
	resume, err := t.abandon(ctx)
	defer resume()
	if err != nil {
		return err
	}
	t.r.keys.drop(tableFolder(s.Metadata.ID))
	if err := drop(ctx, t.lake); err != nil {
		return fmt.Errorf("drop the table of a former folder: %w", err)
	}
	t.r.Events(Event{Schema: t.schema, Table: t.name, Version: -1, Dropped: true})
	return nil
}

func (t *table) adopt(ctx context.Context, s *delta.Snapshot) error {
	if err := s.CheckWritable(); err != nil {
		return err
	}
	p, err := t.recall(ctx, s)
	if err != nil {
		return err
	}
	t.snap, t.progress, t.checked = s, p, s.Checkpointed
	t.set(func(st *TableStatus) {
		st.Version, st.LastFile, st.ProcessedRows, st.ProcessedBytes = s.Version, t.applied(), p.ProcessedRows, p.ProcessedBytes
		if st.LastFile > 0 {
			st.State, st.LastSync = Replicating, time.UnixMilli(s.Info.Timestamp)
		}
	})
	t.show()
	return nil
}

// healthy clears an error that has passed.
func (t *table) healthy() {
	t.set(func(s *TableStatus) {
		s.Error = ""
		if s.State == Failed || s.State == Snapshotting {
			if s.State = Initialized; s.LastFile > 0 {
				s.State = Replicating
			}
		}
	})
}

// landed tells of a commit.
func (t *table) landed(g *group, start time.Time) {
	now := t.r.now()
	at := g.last().Modified
	if !g.progress.CommitTime.IsZero() {
		at = g.progress.CommitTime
	}
	t.set(func(s *TableStatus) {
		s.State, s.Error, s.Version, s.LastFile = Replicating, "", t.snap.Version, g.last().Number
		s.ProcessedRows, s.ProcessedBytes = g.progress.ProcessedRows, g.progress.ProcessedBytes
		s.LastSync, s.LatencySeconds = now, max(0, int(now.Sub(at).Seconds()))
	})
	t.r.Events(Event{Schema: t.schema, Table: t.name, Version: t.snap.Version, First: g.files[0].Number, Last: g.last().Number, Rows: g.rows,
		CommitLSN: g.progress.CommitLSN, CommitTime: g.progress.CommitTime, Took: time.Since(start)})
}
