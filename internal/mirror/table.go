package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// chunkBlocks is how many heap blocks a chunk of a snapshot has: 32 MiB.
const chunkBlocks = 4096

// table is a table that is being mirrored or is parked.
type table struct {
	m          *mirror
	w          landing.Writer
	name       string // as "public.orders"
	generation int64

	uploading sync.RWMutex // held for reading by those who upload files

	mu         sync.Mutex // held while a file gets its number
	state      *file[tableState]
	forgotten  bool   // its state is gone or about to go: it is written no more
	definition string // of the table as it is mirrored; "" when it isn't published

	// How the table is in the hands of a join, if it is.
	join   *join
	hand   sync.Mutex
	out    bool           // taken out of it
	quit   chan struct{}  // closed to interrupt those who read it
	busy   sync.WaitGroup // those who work on it
	ending sync.Mutex     // held while its copy is declared complete

	*shape // while the stream runs the reader alone changes it, under mu; others ask current

	// The reader of the stream alone uses what follows.
	position landing.Position              // how far changes were taken, published or on their way
	seen     landing.LSN                   // the transaction that n counts in
	n        int64                         // changes of this table in it so far
	changes  *changes                      // not yet taken by the flusher, or nil
	spare    *changes                      // published, to be filled again, or nil
	followed bool                          // its changes are taken
	from     map[uint32]landing.LSN        // of a partition that was attached: from where on
	others   map[uint32]*pgoutput.Relation // how the stream described its parts last, where that differs from its shape
}

// shape is a table's definition and what follows from it.
type shape struct {
	src    postgres.Table
	schema *batch.Schema
	parts  []part       // where the rows are
	old    *batch.Batch // room for one old tuple, the reader's
}

// part is a relation that holds rows of a table: the table itself, or each of
// its partitions, whose columns may come in another order.
type part struct {
	src *postgres.Table
	dec *postgres.Decoder // the reader's
}

func newShape(src postgres.Table) (*shape, error) {
	schema := src.MirrorSchema()
	s := &shape{src: src, schema: schema, old: batch.New(schema, false)}
	for _, p := range partsOf(&s.src) {
		dec, err := s.src.LeafDecoder(p)
		if err != nil {
			return nil, err
		}
		s.parts = append(s.parts, part{p, dec})
	}
	return s, nil
}

func partsOf(src *postgres.Table) []*postgres.Table {
	if src.Kind != 'p' {
		return []*postgres.Table{src}
	}
	var out []*postgres.Table
	for i := range src.Leaves {
		out = append(out, &src.Leaves[i])
	}
	return out
}

// part finds a part by its oid.
func (s *shape) part(oid uint32) *part {
	i := slices.IndexFunc(s.parts, func(p part) bool { return p.src.OID == oid })
	if i < 0 {
		return nil
	}
	return &s.parts[i]
}

// String is the table's name, as "public.orders".
func (t *table) String() string { return t.name }

// newTables makes the first state of every published table: its rows are to be
// copied, and its changes count from the slot's consistent point on. One that isn't
// as it was before that is copied once the others are followed. State from an attempt
// that died before the mirror began is overwritten; a table that a reseeded mirror has
// parked stays so.
func (m *mirror) newTables(ctx context.Context, sql *pgx.Conn, point landing.LSN, before map[string]looks) error {
	published, _, err := m.catalog(ctx, sql)
	if err != nil {
		return err
	}
	var names []string
	for _, src := range published {
		names = append(names, tableFile(src.Schema, src.Name))
	}
	files, err := m.loadTables(ctx, names...)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(m.cfg.Workers)
	for i, src := range published {
		f := files[i]
		g.Go(func() error {
			if f.value.Phase == phaseRebuilding || f.value.Phase == phaseParked && m.state.value.SystemID != "" {
				return nil // its folder is to be removed first; it will be joined
			}
			return f.change(ctx, func(s *tableState) {
				*s = firstState(m.run, src, point)
				was := before[src.String()]
				if s.Touched = was.touched; s.Phase != phaseParked && !was.same(src) {
					s.Phase, s.Reason, s.Generation = phaseRebuilding, "its definition changed while the slot was made", 0
				}
			})
		})
	}
	return g.Wait()
}

func firstState(run string, src postgres.Table, point landing.LSN) tableState {
	s := tableState{Run: run, Schema: src.Schema, Name: src.Name, OID: src.OID, Stored: storedOf(src), Generation: 1,
		Phase: phaseSnapshot, Columns: columnsOf(src), Key: keyOf(src), Leaves: leavesOf(src), Members: src.Members, Position: landing.Position{CommitLSN: point - 1, Complete: true}}
	if src.Obstacle != "" {
		s.Phase, s.Reason, s.Absent = phaseParked, src.Obstacle, src.Passing
	}
	return s
}

// keyless says that rows can't be told apart: such a table is only ever added to.
func (s *shape) keyless() bool { return len(s.src.Key) == 0 }

// leavesOf is the oids of the partitions.
func leavesOf(src postgres.Table) []uint32 {
	var out []uint32
	for _, l := range src.Leaves {
		out = append(out, l.OID)
	}
	return out
}

func columnsOf(src postgres.Table) []columnState {
	var out []columnState
	for _, c := range src.Columns {
		if c.Mirrored() {
			out = append(out, columnState{c.Name, c.Attnum, c.TypeName, c.Type.String(), c.Field, c.Attributes})
		}
	}
	return out
}

func keyOf(src postgres.Table) []string {
	var out []string
	s := src.MirrorSchema()
	for _, k := range s.Key {
		out = append(out, s.Fields[k].Name)
	}
	return out
}

// openTables takes over every table that has state and is in no join's hands: it
// publishes what an earlier attempt had given a number to, and then makes the state
// ours, so that the earlier attempt, should it still live, can write no more.
func (m *mirror) openTables(ctx context.Context) error {
	unsignal(m.joins.over) // what comes after this is for the round that follows
	unsignal(m.joins.copied)
	sql, err := m.cfg.Source.Connect(ctx)
	if err != nil {
		return err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	if err := m.renew(ctx, sql); err != nil {
		return err
	}
	published, plain, err := m.catalog(ctx, sql)
	if err != nil {
		return err
	}
	names, err := tableFiles(ctx, m.cfg.Landing)
	if err != nil {
		return err
	}
	held := m.held(published)
	m.tables = map[string]*table{}
	for _, t := range held {
		m.tables[t.name] = t
	}
	names = slices.DeleteFunc(names, func(name string) bool { return held[name] != nil })
	files, err := m.loadTables(ctx, names...)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(m.cfg.Workers)
	for _, f := range files {
		g.Go(func() error {
			t, err := m.openTable(gctx, f, published, plain)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			m.tables[t.name] = t
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return m.addUnknown(ctx, published)
}

// held is the tables that stay in the hands of their joins, by their state files.
// The others are nobody's when it returns.
func (m *mirror) held(published []postgres.Table) map[string]*table {
	out := map[string]*table{}
	for _, t := range m.tables {
		there := slices.ContainsFunc(published, func(p postgres.Table) bool { return p.String() == t.name })
		if t.join != nil && there && !t.stopped() {
			out[t.state.name] = t
		} else {
			t.letGo()
		}
	}
	return out
}

// loadTables loads the states of tables, to be taken over or replaced. That the
// mirror is still ours is looked at when they are read: a later attempt opens them
// after this one, and what this one writes then is refused.
func (m *mirror) loadTables(ctx context.Context, names ...string) ([]*file[tableState], error) {
	out := make([]*file[tableState], len(names))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(m.cfg.Workers)
	for i, name := range names {
		g.Go(func() (err error) {
			if out[i], err = load[tableState](gctx, m.cfg.Landing, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, m.stillOurs(ctx)
}

func (m *mirror) openTable(ctx context.Context, f *file[tableState], published []postgres.Table, plain plainColumns) (*table, error) {
	for {
		t := &table{m: m, name: f.value.Schema + "." + f.value.Name, state: f, generation: f.value.Generation, shape: &shape{}, from: map[uint32]landing.LSN{}, others: map[uint32]*pgoutput.Relation{}, w: landing.Writer{Store: m.cfg.Landing, Dir: landing.TableDir(f.value.Schema, f.value.Name)}}
		park, err := t.settle(ctx)
		gone := errors.Is(err, landing.ErrFolderGone)
		if err != nil && !gone {
			return nil, err
		}
		rebuild := ""
		if park == "" {
			park, rebuild = t.bind(published, plain)
		}
		if gone && park == "" {
			rebuild = err.Error()
		}
		staged, err := t.w.Staged(ctx)
		if err != nil {
			return nil, err
		}
		var at landing.LSN // behind what an earlier attempt has published, and the look at the catalog
		if f.value.grows(t.src) {
			if at, err = m.written(ctx); err != nil {
				return nil, err
			}
		}
		err = f.change(ctx, func(s *tableState) {
			s.Run, s.Staged = m.run, nil
			switch {
			case rebuild != "":
				s.Phase, s.Reason, s.Absent = phaseRebuilding, rebuild, false
			case s.Phase == phaseParked:
			case park != "":
				s.Phase, s.Reason, s.Absent = phaseParked, park, park == ReasonUnpublished || t.src.Passing
			case s.Phase == phaseReplicating:
				s.Stored = s.Stored.next(t.src) // its chunks are history
				s.attach(leavesOf(t.src), at, m.state.value.Acked)
			}
		})
		var fault *Fault
		if errors.As(err, &fault) && fault.Code == fenced && ctx.Err() == nil {
			again, err := m.loadTables(ctx, f.name)
			if err != nil {
				return nil, err
			}
			f = again[0]
			continue // the earlier attempt wrote once more before it noticed us
		}
		if err != nil {
			return nil, err
		}
		t.position = f.value.Position
		m.watched.remember(t.w.Dir, f.value.Fabric)
		for _, l := range f.value.Late {
			t.from[l.OID] = l.From
		}
		if rebuild != "" {
			m.emit(Event{Kind: Rebuilding, Table: t.name, Reason: rebuild})
		}
		if f.value.Phase == phaseRebuilding {
			return t, nil // its folder goes
		}
		if err := t.w.Discard(ctx, staged); err != nil {
			return nil, err
		}
		if f.value.Phase == phaseParked {
			m.emit(Event{Kind: Parked, Table: t.name, Reason: f.value.Reason})
			return t, nil
		}
		return t, t.arm(ctx)
	}
}

// stillOurs fails when the mirror's own file names another attempt.
func (m *mirror) stillOurs(ctx context.Context) error {
	f, err := load[mirrorState](ctx, m.cfg.Landing, mirrorFile)
	if err == nil && f.value.Run != m.run {
		return takenOver()
	}
	return err
}

// settle publishes the file that the state has given a number to. It returns why
// the table has to be parked, or "".
func (t *table) settle(ctx context.Context) (reason string, err error) {
	s := t.state.value
	if s.Staged == nil || s.Phase == phaseParked {
		return "", nil
	}
	err = t.w.Publish(ctx, *s.Staged, s.Number)
	if errors.Is(err, landing.ErrTaken) {
		return err.Error(), nil
	}
	return "", err
}

const copyInterrupted = "its copy was interrupted, and without a key what was copied can't be told from what wasn't"

// bind finds the table in the catalog and compares it with the state. It returns
// why the table has to be parked, or else why it has to be built anew.
func (t *table) bind(published []postgres.Table, plain plainColumns) (park, rebuild string) {
	s := t.state.value
	i := slices.IndexFunc(published, func(p postgres.Table) bool { return p.Schema == s.Schema && p.Name == s.Name })
	if i < 0 {
		return ReasonUnpublished, ""
	}
	src := published[i]
	t.definition, t.src = definition(src), src
	if src.Obstacle != "" {
		return src.Obstacle, ""
	}
	shape, err := newShape(src)
	if err != nil {
		return err.Error(), ""
	}
	t.shape = shape
	switch {
	case s.Absent:
		return "", "it is published again"
	case s.Phase == phaseParked || s.Phase == phaseRebuilding:
	case src.OID != s.OID:
		return "", "it was dropped and made again"
	case t.keyless() && s.Phase == phaseSnapshot && !t.m.fresh:
		return "", copyInterrupted
	default:
		return "", s.evolves(src, plain)
	}
	return "", ""
}

// definition tells a table's definition from every other one, as far as it
// matters here.
func definition(src postgres.Table) string {
	return fmt.Sprint(src.OID, src.String(), src.Obstacle, columnsOf(src), keyOf(src), src.ReplicaIdentity, leavesOf(src), src.Members)
}

// addUnknown makes the state of the tables that were published since the mirror
// was made; they are joined while the others go on.
func (m *mirror) addUnknown(ctx context.Context, published []postgres.Table) error {
	for _, src := range published {
		if m.tables[src.String()] != nil {
			continue
		}
		files, err := m.loadTables(ctx, tableFile(src.Schema, src.Name))
		if err != nil {
			return err
		}
		f := files[0]
		err = f.change(ctx, func(s *tableState) {
			*s = firstState(m.run, src, 1)
			if s.Phase != phaseParked {
				s.Phase, s.Reason, s.Generation = phaseRebuilding, "it was published after the mirror was made", 0
			}
		})
		if err != nil {
			return err
		}
		t, err := m.openTable(ctx, f, published, nil)
		if err != nil {
			return err
		}
		m.tables[src.String()] = t
	}
	return nil
}

// change replaces the state, durably, unless the table is forgotten.
func (t *table) change(ctx context.Context, edit func(*tableState)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forgotten {
		return nil
	}
	return t.state.change(ctx, edit)
}

// snapshot is a copy of the state, for a look while others write it.
func (t *table) snapshot() tableState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.value
}

// current is the shape, for a look while the reader may change it.
func (t *table) current() *shape {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shape
}

// defined is the definition under which the table is mirrored.
func (t *table) defined() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.definition
}

// park gives a table up, durably. The others go on.
func (t *table) park(ctx context.Context, reason string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.value.Phase == phaseParked {
		return nil
	}
	if err := t.state.change(ctx, func(s *tableState) { s.Phase, s.Reason = phaseParked, reason }); err != nil {
		return err
	}
	t.m.emit(Event{Kind: Parked, Table: t.String(), Reason: reason})
	return nil
}

// rebuild has the table built anew, durably: the next join removes its folder and
// copies it at a new boundary. A table that needs it again and again is
// parked instead: copying it for ever would wear out the source.
func (t *table) rebuild(ctx context.Context, reason string) error {
	if !t.m.guard.allow(t.name, time.Now()) {
		return t.park(ctx, fmt.Sprintf("it was built anew %d times within %s, the last time because %s", guardTimes, guardWindow, reason))
	}
	return t.rebuildNow(ctx, reason)
}

// renew has the table built anew, and asks for the next round.
func (t *table) renew(ctx context.Context, why string) error {
	if err := t.rebuild(ctx, why); err != nil {
		return err
	}
	return errAgain
}

// redefined is renew because the server no longer knows the table as it was.
func (t *table) redefined(ctx context.Context, err error) error {
	return t.renew(ctx, "its definition has changed under way: "+err.Error())
}

// rebuildNow is rebuild, however often that was.
func (t *table) rebuildNow(ctx context.Context, reason string) error {
	return t.buildAnew(ctx, reason, func(p phase) bool { return p != phaseParked })
}

// buildAnew has the table built anew from the phases that are said. Only a person has
// one built anew that is parked.
func (t *table) buildAnew(ctx context.Context, reason string, from func(phase) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forgotten || !from(t.state.value.Phase) {
		return nil
	}
	if err := t.state.change(ctx, func(s *tableState) { s.Phase, s.Reason, s.Staged = phaseRebuilding, reason, nil }); err != nil {
		return err
	}
	t.m.emit(Event{Kind: Rebuilding, Table: t.String(), Reason: reason})
	return nil
}

// guard is what all attempts of a Run share: it counts rebuilds.
type guard struct {
	mu sync.Mutex
	at map[string][]time.Time

	spillFull bool // a transaction did not fit; only between rounds
}

// hopeless says that the server has failed again and again to read the table, for a
// reason that it calls internal: a row that is too large for it, say.
func (t *table) hopeless(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Severity == "ERROR" && pg.Code == "XX000" && !t.m.guard.allow("reading "+t.name, time.Now())
}

const (
	guardTimes  = 5
	guardWindow = 10 * time.Minute
)

// allow counts one more rebuild of a table, unless it has had too many.
func (g *guard) allow(table string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	recent := slices.DeleteFunc(g.at[table], func(t time.Time) bool { return now.Sub(t) > guardWindow })
	if len(recent) >= guardTimes {
		g.at[table] = recent
		return false
	}
	g.at[table] = append(recent, now)
	return true
}
