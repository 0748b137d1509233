package mirror

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgmirror/pgmirror/internal/landing"
)

// FabricTable is what Fabric says of a table of the mirror.
type FabricTable struct {
	Schema, Table string        // as Fabric names them
	Failed        string        // why it has given the table up, or ""
	Rows          int64         // rows of processed files so far; it only grows, unless Fabric begins anew
	Lag           time.Duration // how late its last changes were, as Fabric says; 0: it doesn't say
}

// watched is what was seen and told before: what Fabric said of the tables before, over all attempts of a Run.
type watched struct {
	mu   sync.Mutex
	seen map[string]sighting // by folder
	told map[string]string   // why a table's updates are refused, by table
	lag  time.Duration       // of Fabric
	rows map[string]int64    // by which it is told whether a table is at work, by fabricName
	slot Slot

	looked time.Time    // at the slot
	pace   atomic.Int64 // nanoseconds; 0 before the first look
}

// news says that a table's refusal hasn't been told yet.
func (w *watched) news(table, reason string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.told[table]
	w.told[table] = reason
	return before != reason
}

type sighting struct {
	rows    int64
	known   bool // Fabric had the table
	missing int  // looks in a row without it
	failed  string
}

// missingLooks is in how many looks in a row a table has to be missing. One that
// is new appears in Fabric only after a scan or two.
const missingLooks = 6

// judge compares what Fabric says of a table with what it said before, and
// returns why the table has to be built anew, or "": its processed files are
// gone by then, so that nothing else can bring its rows back.
func (w *watched) judge(dir string, now FabricTable, there bool) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.seen[dir]
	next := sighting{rows: before.rows, known: before.known, failed: now.Failed}
	defer func() { w.seen[dir] = next }()
	if !there {
		next.missing = before.missing + 1
		if before.known && next.missing >= missingLooks {
			next = sighting{}
			return "Fabric no longer has it"
		}
		return ""
	}
	next.known, next.rows = true, now.Rows
	switch {
	case now.Failed != "" && now.Failed != before.failed:
		return "Fabric has given it up: " + now.Failed
	case now.Rows < before.rows:
		return fmt.Sprintf("Fabric has begun it anew: it says %d rows are processed and said %d before", now.Rows, before.rows)
	}
	return ""
}

func (w *watched) lookedWithin(d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.looked) < d
}

// remember is what an earlier run was told of a table: that Fabric had so many rows
// of it.
func (w *watched) remember(dir string, rows int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.seen[dir]; !known && rows > 0 {
		w.seen[dir] = sighting{rows: rows, known: true}
	}
}

// rowsOf is how many rows of a table Fabric has, as it said last.
func (w *watched) rowsOf(dir string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[dir].rows
}

// forget begins anew with a table that is built anew.
func (w *watched) forget(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.seen, dir)
}

// lookAtFabric has the tables built anew that Fabric has lost: one whose mirrored
// database was stopped and started, after its capacity was paused say, drops what
// it had. It reports whether there were any. Not being able to look changes
// nothing.
func (m *mirror) lookAtFabric(ctx context.Context) (bool, error) {
	if m.cfg.Fabric == nil {
		return false, nil
	}
	said, err := m.askFabric(ctx)
	if err != nil {
		if ctx.Err() == nil {
			m.emit(Event{Kind: NoLook, Reason: err.Error()})
		}
		return false, ctx.Err()
	}
	m.watched.noteLag(said)
	again := false
	for _, t := range m.inPhase(phaseReplicating) {
		now, there := said[fabricName(t.w.Dir)]
		why := m.watched.judge(t.w.Dir, now, there)
		if why == "" {
			if there && now.Rows > 0 && t.snapshot().Fabric == 0 { // from now on the next file says it
				if err := t.change(ctx, func(s *tableState) { s.Fabric = now.Rows }); err != nil {
					return again, err
				}
			}
			continue
		}
		if err := t.rebuild(ctx, why); err != nil {
			return again, err
		}
		m.watched.forget(t.w.Dir)
		again = true
	}
	return again, nil
}

// askFabric returns the tables that Fabric has, by fabricName.
func (m *mirror) askFabric(ctx context.Context) (map[string]FabricTable, error) {
	tables, err := m.cfg.Fabric(ctx)
	if err != nil {
		return nil, err
	}
	said := map[string]FabricTable{}
	for _, t := range tables {
		said[landing.Folded(t.Schema, t.Table)] = t
	}
	return said, nil
}

// fabricName is what Fabric calls the table of a folder, to be looked up by.
func fabricName(dir string) string { return landing.Folded(landing.TableName(dir)) }
