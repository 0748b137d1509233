// Package replicator turns a landing zone into Delta tables, as Fabric does.
//
// A table's files are applied in the order of their numbers, several in one
// commit, and the commit records the last number: a table is always the result
// of a whole number of files, also after a crash between any two writes.
package replicator

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// Config says what to replicate. Landing, Tables and AppID are needed.
type Config struct {
	Landing       store.Store   // the landing zone's root
	Tables        store.Store   // gets <schema>/<table> folders, each a Delta table
	DefaultSchema string        // of table folders that lie in no schema folder; "dbo" by default
	AppID         string        // tells this mirror's tables from others'; keep it over restarts
	ScanInterval  time.Duration // 15 s by default
	CopyOnWrite   bool          // rewrite the files that changed rows lie in; else mark them deleted, which some readers don't know
	Check         bool          // read a file whole before the table takes it as it is: its publisher isn't trusted
	TableLimit    int           // tables beyond it fail; 1000 by default
	Events        func(Event)   // is called from several goroutines; may be nil

	Now func() time.Time // the time; time.Now by default

	Workers   int    // tables worked on at once; one a processor by default
	Budget    int64  // bytes in memory for all of them, roughly; 512 MiB by default
	FileBytes int64  // bytes of rows, in memory, of a data file that is full; 32 MiB by default
	KeyCache  string // folder of this machine for the tables' key files; "": they are kept in memory, 20 bytes a row

	Upkeep Upkeep
}

// Upkeep says how the tables are kept in shape, in the background.
type Upkeep struct {
	Share           float64       // of one processor's time, up to 1; 0.25 by default
	SmallFiles      int           // files of about one size that are made one; 4 by default
	DeletedPercent  int64         // of a file's rows: with more of them deleted it is rewritten; 30 by default
	CheckpointEvery int64         // commits; 20 by default
	VacuumEvery     time.Duration // 1 h by default
	Retention       time.Duration // how long what a version needs stays once it is superseded; 24 h by default
	LogRetention    time.Duration // how long superseded commits stay; Retention by default
}

func (c Config) withDefaults() Config {
	set(&c.DefaultSchema, "dbo")
	set(&c.ScanInterval, 15*time.Second)
	set(&c.TableLimit, 1000)
	set(&c.Workers, max(2, runtime.GOMAXPROCS(0)))
	set(&c.Budget, 512<<20)
	set(&c.FileBytes, 32<<20)
	set(&c.Upkeep.Share, 0.25)
	set(&c.Upkeep.SmallFiles, 4)
	set(&c.Upkeep.DeletedPercent, 30)
	set(&c.Upkeep.CheckpointEvery, 20)
	set(&c.Upkeep.VacuumEvery, time.Hour)
	set(&c.Upkeep.Retention, 24*time.Hour)
	set(&c.Upkeep.LogRetention, c.Upkeep.Retention)
	if c.Events == nil {
		c.Events = func(Event) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Event tells of a commit to a table, or of its failure.
type Event struct {
	Schema, Table string
	Version       int64 // of the Delta table; -1 when it failed
	First, Last   int64 // numbers of the files that the commit applied
	Rows          int64 // rows in them
	CommitLSN     string
	CommitTime    time.Time     // of the last source transaction applied, where the files tell
	Took          time.Duration // from the first file's read to the commit
	Dropped       bool          // the table was removed
	Err           error
}

// Replicator keeps Delta tables up to date with a landing zone. Only one may
// work on the same Tables.
type Replicator struct {
	Config
	workers chan struct{}
	memory  *semaphore.Weighted // what upkeep needs is left out
	keys    keyCache
	stirred chan struct{} // a table was shown to upkeep
	now     func() time.Time

	mu      sync.Mutex
	tables  map[string]*table // by folder
	cleared bool              // tables of a former life whose folders are gone were dropped
}

// applyBudget is the part of the budget that commits share; the rest is for
// upkeep, which holds up none of them.
func (c Config) applyBudget() int64 { return c.Budget - c.Budget/4 }

// New makes a Replicator. It touches nothing.
func New(c Config) *Replicator {
	c = c.withDefaults()
	return &Replicator{Config: c, workers: make(chan struct{}, c.Workers), memory: semaphore.NewWeighted(c.applyBudget()),
		keys: keyCache{dir: c.KeyCache, mem: map[string]map[digest][]byte{}}, stirred: make(chan struct{}, 1), now: c.Now, tables: map[string]*table{}}
}

// Run scans and applies until ctx ends, and returns nil then. It fails when the
// landing zone as a whole can't be read; a fault of one table is in Status. A
// table with much to do holds up no other, and upkeep holds up none.
func (r *Replicator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { r.upkeep(ctx) })
	tick := time.NewTicker(r.ScanInterval)
	defer tick.Stop()
	for {
		if err := r.scan(ctx, &wg); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Once does one round: all that the landing zone holds now is applied, and the
// tables are in shape, when it returns. Its errors are those of Run.
func (r *Replicator) Once(ctx context.Context) error {
	var wg sync.WaitGroup
	err := r.scan(ctx, &wg)
	wg.Wait()
	r.upkeepOnce(ctx)
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// scan looks at all table folders and starts work on those that nobody works on.
func (r *Replicator) scan(ctx context.Context, wg *sync.WaitGroup) error {
	folders, err := landing.Folders(ctx, r.Landing, r.DefaultSchema)
	if err != nil {
		return fmt.Errorf("scan the landing zone: %w", err)
	}
	if err := r.dropGone(ctx, folders); err != nil {
		return err
	}
	taken := map[string]string{}
	for i, f := range folders {
		t := r.table(f)
		name := f.Schema + "/" + f.Table
		if other, ok := taken[name]; ok {
			t.report(ctx, &fault{text: fmt.Sprintf("folder %s is the same table as folder %s", f.Dir, other)})
			continue
		}
		taken[name] = f.Dir
		if i >= r.TableLimit {
			t.report(ctx, &fault{text: fmt.Sprintf("The tables count might exceed the limit of %d.", r.TableLimit)})
			continue
		}
		r.start(ctx, wg, t, f)
	}
	return nil
}

func (r *Replicator) start(ctx context.Context, wg *sync.WaitGroup, t *table, f landing.Folder) {
	if !t.busy.TryLock() {
		return
	}
	wg.Go(func() {
		defer t.busy.Unlock()
		select {
		case r.workers <- struct{}{}:
			defer func() { <-r.workers }()
		case <-ctx.Done():
			return
		}
		t.sync(ctx, f)
	})
}

func (r *Replicator) table(f landing.Folder) *table {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tables[f.Dir]
	if t == nil {
		t = newTable(r, f)
		r.tables[f.Dir] = t
	}
	return t
}
