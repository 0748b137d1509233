package emulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pgmirror/pgmirror/internal/replicator"
	"github.com/pgmirror/pgmirror/internal/store"
)

// mirrors runs the mirrored databases: a replicator for each, and for a native
// one also what fills its landing zone.
type mirrors struct {
	state *stateFile
	db    *cluster
	login func(cn *connectionState, reached bool) (login, *fault)
	o     Options
	tasks *tasks
	log   *slog.Logger
	now   func() time.Time

	mu   sync.Mutex
	runs map[string]*run // by item; a run that ended stays for its status
	bell chan struct{}   // closed at an edge
}

// run is one mirrored database between its start and its stop.
type run struct {
	cancel context.CancelFunc
	done   chan struct{}
	repl   *replicator.Replicator
	files  store.Store // the item's

	mu         sync.Mutex
	ends       bool // it was stopped, so that what it keeps at the source goes too
	decided    []tableState
	definition string // by which decided was made
	reached    bool   // the service has signed in to the source once: from then on the source pushes
}

func newMirrors(m *mirrors) *mirrors {
	m.runs, m.bell = map[string]*run{}, make(chan struct{})
	return m
}

// edge tells the mirrors that something they depend on changed: a parameter, a
// role, a definition, a connection.
func (m *mirrors) edge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.bell)
	m.bell = make(chan struct{})
}

func (m *mirrors) nextEdge() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bell
}

// resume starts what ran when the emulator ended.
func (m *mirrors) resume() error {
	var ids []string
	m.state.look(func(s *state) {
		for _, it := range s.Items {
			if it.Mirroring == running {
				ids = append(ids, it.ID)
			}
		}
	})
	for _, id := range ids {
		if err := m.start(id); err != nil {
			return err
		}
	}
	return nil
}

// start runs a mirrored database. One that was stopped begins again from
// nothing. A running one is left alone; one that is still stopping is refused.
func (m *mirrors) start(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil && !r.over() {
		if r.ending() {
			return faultf(http.StatusBadRequest, "InvalidItemState", "Mirroring is still stopping. Try again later.")
		}
		return nil
	}
	err := m.state.change(func(s *state) error {
		it := s.item(id)
		if it == nil {
			return faultf(http.StatusNotFound, "ItemNotFound", "The requested item '%s' was not found.", id)
		}
		switch {
		case s.World.CapacityPaused:
			return capacityPaused()
		case it.Mirroring == paused:
			return faultf(http.StatusBadRequest, "InvalidItemState", "Mirroring was stopped with the capacity. Stop it, then start it.")
		}
		if it.Mirroring == stopped {
			it.Reseed = true
			it.Generation++
		}
		it.Mirroring, it.Begins = running, m.now().Add(m.o.StartDelay)
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(m.tasks.ctx)
	r := &run{cancel: cancel, done: make(chan struct{})}
	if err := m.prepare(ctx, id, r); err != nil {
		cancel()
		return err
	}
	m.runs[id] = r
	if !m.tasks.run(func(context.Context) { m.run(ctx, id, r) }) {
		cancel()
		return errors.New("the emulator is closing")
	}
	return nil
}

// stop ends a mirror; alive tells when it has ended.
func (m *mirrors) stop(id string) error {
	var wasPaused bool
	err := m.state.change(func(s *state) error {
		it := s.item(id)
		if it == nil {
			return nil
		}
		if wasPaused = it.Mirroring == paused; wasPaused || it.Mirroring == running {
			it.Mirroring = stopped
		}
		return nil
	})
	if err != nil {
		return err
	}
	if it := m.copyItem(id); wasPaused && it.parsed().Properties.Source.Type == nativeSource {
		m.forget(m.tasks.ctx, &it)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil {
		r.end()
	}
	return nil
}

// pauseAll ends every mirror because the capacity is paused. What they keep at
// their sources stays there, and they don't begin again by themselves.
func (m *mirrors) pauseAll() error {
	var ids []string
	err := m.state.change(func(s *state) error {
		for _, it := range s.Items {
			if it.Mirroring == running {
				it.Mirroring = paused
				ids = append(ids, it.ID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		m.mu.Lock()
		r := m.runs[id]
		m.mu.Unlock()
		if r != nil {
			r.cancel()
			<-r.done
		}
	}
	return nil
}

// drop ends the mirror of an item that was deleted and removes its files.
func (m *mirrors) drop(it *itemState) error {
	m.mu.Lock()
	r := m.runs[it.ID]
	delete(m.runs, it.ID)
	m.mu.Unlock()
	if r != nil {
		r.end()
		<-r.done
	}
	if err := os.RemoveAll(m.folder(it)); err != nil {
		return fmt.Errorf("remove the files of an item: %w", err)
	}
	return nil
}

// abandon ends the mirror of an item whose workspace was deleted. What it keeps
// at its source stays.
func (m *mirrors) abandon(it *itemState) error {
	m.mu.Lock()
	r := m.runs[it.ID]
	delete(m.runs, it.ID)
	m.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
	if err := os.RemoveAll(m.folder(it)); err != nil {
		return fmt.Errorf("remove the files of an item: %w", err)
	}
	return nil
}

func (m *mirrors) alive(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.runs[id]
	return r != nil && !r.over()
}

func (s *state) item(id string) *itemState {
	for _, it := range s.Items {
		if it.ID == id {
			return it
		}
	}
	return nil
}

// folder is where OneLake keeps an item.
func (m *mirrors) folder(it *itemState) string {
	return filepath.Join(m.o.Dir, "onelake", it.Workspace, it.ID)
}

// The two folders that every mirrored database has, and the landing zone.
const (
	landingZone = "Files/LandingZone"
	tablesDir   = "Tables"
)

// makeFolders makes the managed folders of a new item. An open mirror's landing
// zone is there from the start.
func (m *mirrors) makeFolders(it *itemState) error {
	for _, dir := range []string{landingZone, tablesDir} {
		if err := os.MkdirAll(filepath.Join(m.folder(it), filepath.FromSlash(dir)), 0o755); err != nil {
			return fmt.Errorf("make the folders of an item: %w", err)
		}
	}
	return nil
}

func (r *run) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (r *run) ending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ends
}

func (r *run) end() {
	r.mu.Lock()
	r.ends = true
	r.mu.Unlock()
	r.cancel()
}

// copyItem is what a run works from.
func (m *mirrors) copyItem(id string) (it itemState) {
	m.state.look(func(s *state) {
		if found := s.item(id); found != nil {
			it = *found
		}
	})
	return it
}

// prepare clears a mirror that begins again, and makes its replicator.
func (m *mirrors) prepare(ctx context.Context, id string, r *run) error {
	it := m.copyItem(id)
	root, err := store.OpenDir(m.folder(&it))
	if err != nil {
		return fmt.Errorf("open the item's folder: %w", err)
	}
	r.files = root
	if it.Reseed {
		if err := m.clear(ctx, root, &it); err != nil {
			return err
		}
	}
	r.repl = replicator.New(replicator.Config{
		Landing: store.Sub(root, landingZone), Tables: store.Sub(root, tablesDir),
		DefaultSchema: it.parsed().Properties.Target.TypeProperties.DefaultSchema,
		AppID:         fmt.Sprintf("%s/%d", it.ID, it.Generation),
		ScanInterval:  m.o.ScanInterval,
		TableLimit:    m.o.TableLimit,
		CopyOnWrite:   m.o.CopyOnWrite,
		Check:         true,
		Upkeep:        replicator.Upkeep{Retention: it.retention()},
		Events:        func(e replicator.Event) { m.tell(id, e) },
		Now:           m.now,
	})
	return nil
}

// clear drops the Delta tables of a mirror that was stopped, and, of a native
// one, its landing zone: it is seeded again. An open mirror keeps the files that
// its publisher wrote and that were not processed yet.
func (m *mirrors) clear(ctx context.Context, root store.Store, it *itemState) error {
	dirs := []string{tablesDir}
	if it.parsed().Properties.Source.Type == nativeSource {
		dirs = append(dirs, landingZone)
		m.forget(ctx, it) // again: the emulator may have died before it was done
	}
	for _, dir := range dirs {
		list, err := root.List(ctx, dir)
		if err != nil {
			return fmt.Errorf("drop the tables of a stopped mirror: %w", err)
		}
		for _, e := range list {
			if err := root.Remove(ctx, e.Name); err != nil {
				return fmt.Errorf("drop the tables of a stopped mirror: %w", err)
			}
		}
	}
	return m.state.change(func(s *state) error {
		if found := s.item(it.ID); found != nil {
			found.Reseed = false
		}
		return nil
	})
}

func (m *mirrors) tell(id string, e replicator.Event) {
	if e.Err != nil {
		m.log.Warn("replicator", "item", id, "schema", e.Schema, "table", e.Table, "error", e.Err)
		return
	}
	m.log.Debug("replicator", "item", id, "schema", e.Schema, "table", e.Table, "version", e.Version, "rows", e.Rows)
}

// run keeps one mirror going until it is stopped or the emulator closes.
func (m *mirrors) run(ctx context.Context, id string, r *run) {
	defer close(r.done)
	defer r.cancel()
	it := m.copyItem(id)
	_ = await(ctx, m.now, it.Begins) // when ctx has ended, so do the next
	var wg sync.WaitGroup
	wg.Go(func() { m.replicate(ctx, id, r) })
	wg.Go(func() { m.monitor(ctx, id, r) })
	if it.parsed().Properties.Source.Type == nativeSource {
		wg.Go(func() { m.native(ctx, id, r) })
	}
	wg.Wait()
	m.monitorOnce(context.WithoutCancel(ctx), id, r, map[string][]byte{})
	m.keepStatus(id, r)
	if r.ending() && it.parsed().Properties.Source.Type == nativeSource {
		m.forget(context.WithoutCancel(ctx), &it)
	}
}

// retryLeast and retryMost bound the wait after an error.
const (
	retryLeast = time.Second
	retryMost  = 30 * time.Second
)

func (m *mirrors) replicate(ctx context.Context, id string, r *run) {
	for pause := retryLeast; ctx.Err() == nil; pause = min(2*pause, retryMost) {
		err := r.repl.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("replicator stopped", "item", id, "error", err)
		if wait(ctx, pause) != nil {
			return
		}
	}
}
