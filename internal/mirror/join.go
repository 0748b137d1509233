package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// joins is what joins tables, over all rounds of an attempt.
type joins struct {
	running []*join
	since   time.Time     // when the first of those that run began
	over    chan struct{} // one has ended, or a table has left it to be opened anew
	copied  chan struct{} // a table can be followed
	turns   chan struct{} // held by whoever reads a chunk: memory and the source are for Config.Workers, however many join
}

func newJoins(workers int) joins {
	return joins{over: make(chan struct{}, 1), copied: make(chan struct{}, 1), turns: make(chan struct{}, workers)}
}

// signal says something that is said once until it is heard.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func unsignal(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// mostJoins is how many run at a time: a long copy and others meanwhile. Each has
// a connection at the server that holds its snapshot.
const mostJoins = 2

// join is tables that are brought together from whatever they are in to
// replicating, under one snapshot.
type join struct {
	m       *mirror
	tables  []*table
	alone   bool // no table was replicating when it began
	cancel  context.CancelFunc
	done    chan struct{}
	copying atomic.Bool // tables can be taken out of it; before, all of it can be ended without loss
}

// join has the tables joined that wait for it. x is the snapshot of a slot that was
// just made, or nothing.
func (m *mirror) join(ctx context.Context, g *errgroup.Group, x *exported) {
	fresh := *x
	*x, m.fresh = exported{}, false
	m.joins.running = slices.DeleteFunc(m.joins.running, func(j *join) bool {
		select {
		case <-j.done:
			return true
		default:
			return false
		}
	})
	j := &join{m: m, alone: len(m.inPhase(phaseReplicating)) == 0, done: make(chan struct{})}
	for _, t := range m.toJoin() {
		if t.join == nil {
			j.tables = append(j.tables, t)
		}
	}
	if len(j.tables) == 0 || len(m.joins.running) == mostJoins {
		fresh.close()
		return
	}
	if len(m.joins.running) == 0 {
		m.joins.since = time.Now()
	}
	m.joins.running = append(m.joins.running, j)
	for _, t := range j.tables {
		t.join, t.quit = j, make(chan struct{})
	}
	own, cancel := context.WithCancel(ctx)
	j.cancel = cancel
	g.Go(func() error {
		defer signal(m.joins.over)
		defer close(j.done)
		defer cancel()
		defer fresh.close()
		err := j.patiently(own, fresh.name)
		for _, t := range j.tables {
			t.stop()
		}
		if own.Err() != nil && ctx.Err() == nil || errors.Is(err, errAgain) {
			return nil // its tables are looked at anew
		}
		return err
	})
}

func (m *mirror) toJoin() []*table {
	return append(append(m.inPhase(phaseRebuilding), m.inPhase(phaseJoining)...), m.inPhase(phaseSnapshot)...)
}

// in is the tables in a phase that are still this join's.
func (j *join) in(p phase) []*table {
	var out []*table
	for _, t := range j.tables {
		if !t.stopped() && t.phase() == p {
			out = append(out, t)
		}
	}
	return out
}

// waits says that tables of the join beside those wait for their turn.
func (j *join) waits(beside []*table) bool {
	for _, p := range []phase{phaseRebuilding, phaseJoining, phaseSnapshot} {
		for _, t := range j.in(p) {
			if !slices.Contains(beside, t) {
				return true
			}
		}
	}
	return false
}

// joinTries bounds how often joining is tried while the others go on, and lockPatience
// how long when it is only that the server takes nobody in. For as long the slot has to
// keep what the tables will need, so that then they are parked: the source's disk comes
// before them.
const joinTries = 8

// patiently joins the tables. What fails is tried again without disturbing the
// others; when there are none, or another password has to be had, all is tried again.
func (j *join) patiently(ctx context.Context, snapshot string) error {
	var away time.Time // since when the server has taken nobody in
	for try := 0; ; try++ {
		start := time.Now()
		err := j.run(ctx, snapshot)
		snapshot = "" // it is only known to be whole the first time
		var fault *Fault
		switch {
		case err == nil:
			return nil
		case errors.As(err, &fault) && fault.Code == fenced && j.m.stillOurs(ctx) == nil:
			return errAgain // a write of ours happened that seemed to have failed
		case ctx.Err() != nil || j.alone || fault != nil || errors.Is(err, errAgain) || passwordRefused(err):
			return err
		case !unreachable(err):
			away = time.Time{}
		case away.IsZero():
			away = start
		}
		if time.Since(start) > j.m.cfg.comeOn && !errors.Is(err, errFabricMute) {
			try = 0
		}
		if try >= joinTries && (away.IsZero() || time.Since(away) > j.m.cfg.lockPatience) {
			return j.park(ctx, err)
		}
		j.m.emit(Event{Kind: Retrying, Reason: "join tables: " + err.Error(), Wait: j.m.cfg.retry(try)})
		select {
		case <-time.After(j.m.cfg.retry(try)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (j *join) park(ctx context.Context, why error) error {
	for _, p := range []phase{phaseRebuilding, phaseJoining, phaseSnapshot} {
		for _, t := range j.in(p) {
			if err := t.park(ctx, "it could not be joined: "+why.Error()); err != nil {
				return err
			}
		}
	}
	return nil
}

// leave takes tables out of the join, and parks them if it is told why.
func (j *join) leave(ctx context.Context, tables []*table, park string) error {
	if len(tables) == 0 {
		return nil
	}
	defer signal(j.m.joins.over)
	for _, t := range tables {
		if !t.enter() {
			continue // a request has taken it out
		}
		var err error
		if park != "" {
			err = t.park(ctx, park)
		}
		t.stop()
		t.leave()
		if err != nil {
			return err
		}
	}
	return nil
}

// run brings the tables from whatever they are in to replicating. With the
// snapshot of a new slot, those whose boundary is that slot's begin.
func (j *join) run(ctx context.Context, snapshot string) error {
	j.copying.Store(snapshot != "")
	if snapshot != "" {
		if err := j.snapshot(ctx, snapshot, j.in(phaseSnapshot)); err != nil {
			return err
		}
		j.copying.Store(false)
	}
	if err := j.clear(ctx, j.in(phaseRebuilding)); err != nil {
		return err
	}
	for _, t := range j.in(phaseSnapshot) {
		if t.keyless() {
			if err := t.rebuild(ctx, copyInterrupted); err != nil {
				return err
			}
			t.stop() // another join's
		}
	}
	interrupted := j.in(phaseSnapshot)
	if err := j.joinNew(ctx, j.in(phaseJoining)); err != nil {
		return err
	}
	j.copying.Store(true)
	return j.snapshot(ctx, "", interrupted) // begun under a snapshot that is gone
}

// enter says that somebody works on the table for its join until leave, unless it
// was taken out of it.
func (t *table) enter() bool {
	t.hand.Lock()
	defer t.hand.Unlock()
	if !t.out {
		t.busy.Add(1)
	}
	return !t.out
}

func (t *table) leave() { t.busy.Done() }

// stop takes the table out of its join. Who is at work on it ends that.
func (t *table) stop() {
	t.hand.Lock()
	defer t.hand.Unlock()
	t.out = true
}

func (t *table) stopped() bool {
	t.hand.Lock()
	defer t.hand.Unlock()
	return t.out
}

// letGo takes the table out of its join, interrupts those who read it and waits
// until nobody works on it. One goroutine at a time may call it.
func (t *table) letGo() {
	if t.join == nil {
		return
	}
	if !t.stopped() && !t.join.copying.Load() {
		t.join.cancel()
		<-t.join.done
	}
	t.stop()
	select {
	case <-t.quit:
	default:
		close(t.quit)
	}
	t.busy.Wait()
}

// follow streams the tables that are replicating and are in no join's hands, until
// others are to be followed.
//
// While tables are joined the slot is told nothing beyond the first change of
// theirs: the next round is sent everything since, those that were followed skip by
// their positions, and a joined table takes what lies beyond its own boundary. Its
// changes need no room of ours, however long its copy takes.
func (m *mirror) follow(ctx context.Context) error {
	hold := len(m.toJoin()) > 0
	m.relations, m.parked, m.repairs = map[uint32]*table{}, map[uint32]bool{}, make(chan repairing)
	for _, t := range m.inPhase(phaseParked) {
		s := t.snapshot()
		for _, oid := range append([]uint32{s.OID}, s.Leaves...) {
			m.parked[oid] = true
		}
	}
	for _, t := range m.tables {
		if t.phase() != phaseParked { // a parked one may have been what has this name now
			for _, p := range t.current().parts {
				delete(m.parked, p.src.OID)
			}
		}
		hold = hold || t.join != nil
		if t.join != nil || t.phase() != phaseReplicating {
			continue
		}
		t.followed = true
		for _, p := range t.parts {
			m.relations[p.src.OID] = t
		}
	}
	g, round := errgroup.WithContext(ctx)
	g.Go(func() error { return m.stream(round, hold) })
	g.Go(func() error { return m.watch(round) })
	g.Go(func() error { return m.awaitJoins(round) })
	return g.Wait()
}

// awaitJoins ends the round when a join is over. Tables that are copied before
// others of their join wait for half as long as that has taken, since all that the
// slot has kept is sent again.
func (m *mirror) awaitJoins(ctx context.Context) error {
	patience := max(m.cfg.Watch, time.Since(m.joins.since)/2)
	began := time.Now()
	var due <-chan time.Time
	for {
		select {
		case <-m.joins.over:
			return errAgain
		case <-m.joins.copied:
			if due == nil {
				due = time.After(patience - time.Since(began))
			}
		case <-due:
			return errAgain
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// clear removes the folders of tables, waits until Fabric has dropped the tables, and
// begins a new generation of each. Only then may anything be written there again. All
// folders go first: Fabric takes a minute or so, whether for one table or for all. One
// that it keeps is parked, and holds up nobody else for longer.
func (j *join) clear(ctx context.Context, tables []*table) error {
	for _, t := range tables {
		if err := j.m.cfg.Landing.Remove(ctx, t.w.Dir); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	kept, err := j.m.awaitDropped(ctx, tables)
	if err != nil {
		return err
	}
	if err := j.leave(ctx, kept, fmt.Sprintf("Fabric still has it, %s after its folder was removed", j.m.cfg.dropPatience)); err != nil {
		return err
	}
	for _, t := range tables {
		if slices.Contains(kept, t) {
			continue
		}
		if err := t.begin(ctx); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	return nil
}

// begin begins a new generation of a table that is gone.
func (t *table) begin(ctx context.Context) error {
	t.m.watched.forget(t.w.Dir) // its rows are counted anew
	err := t.change(ctx, func(s *tableState) {
		reason := s.Reason
		*s = firstState(t.m.run, t.src, 1)
		s.Phase, s.Reason, s.Generation = phaseJoining, reason, t.generation+1
	})
	t.generation = t.snapshot().Generation
	return err
}

// dropPatience bounds the wait for Fabric to drop tables.
const dropPatience = 15 * time.Minute

var errFabricMute = errors.New("no word from Fabric whether it has dropped the table")

// awaitDropped waits until Fabric has dropped tables, and returns those that it has
// kept nevertheless. That it didn't answer once is no reason to stop.
func (m *mirror) awaitDropped(ctx context.Context, tables []*table) (kept []*table, err error) {
	if m.cfg.Fabric == nil || len(tables) == 0 {
		return nil, nil
	}
	deadline := time.Now().Add(m.cfg.dropPatience)
	asking, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		said, err := m.askFabric(asking)
		if err == nil {
			kept = slices.DeleteFunc(slices.Clone(tables), func(t *table) bool { _, there := said[fabricName(t.w.Dir)]; return !there })
		}
		switch {
		case err == nil && len(kept) == 0:
			return nil, nil
		case time.Now().Add(wait).After(deadline): // no other look
			if err != nil {
				err = fmt.Errorf("%w: %w", errFabricMute, err)
			}
			return kept, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// joinNew gives tables a boundary, that of a temporary slot, and copies them
// under its snapshot. The boundary is durable before the first row. The slot itself
// goes at once: it would keep the log for as long as the copy takes.
func (j *join) joinNew(ctx context.Context, tables []*table) error {
	if len(tables) == 0 {
		return nil
	}
	m := j.m
	var before map[string]looks
	err := m.ask(ctx, func(conn *pgx.Conn) (err error) {
		before, err = m.lookBefore(ctx, conn)
		return err
	})
	if err != nil {
		return err
	}
	repl, err := m.cfg.Source.ConnectReplication(ctx)
	if err != nil {
		return err
	}
	defer repl.Close(context.WithoutCancel(ctx)) // and with it the slot
	created, err := m.createSlot(ctx, repl, temporarySlot(m.cfg.Slot, "join", newRunID()), postgres.CreateTemporarySlot)
	if err != nil {
		return err
	}
	keeper, snapshot, err := postgres.KeepSnapshot(ctx, m.cfg.Source, created.Snapshot)
	if err != nil {
		return err
	}
	defer keeper.Close(context.WithoutCancel(ctx)) // and with it the snapshot
	_ = repl.Close(ctx)                            // what it held is held
	err = m.ask(ctx, func(conn *pgx.Conn) (err error) {
		tables, err = m.lookAgain(ctx, conn, tables, before)
		return err
	})
	if err != nil {
		return err
	}
	point := landing.LSN(created.ConsistentPoint)
	for _, t := range tables {
		err := t.change(ctx, func(s *tableState) {
			generation, reason := s.Generation, s.Reason
			*s = firstState(m.run, t.src, point)
			s.Generation, s.Reason, s.Touched = generation, reason, before[t.String()].touched
		})
		if err != nil {
			return err
		}
		t.position = t.snapshot().Position
	}
	j.copying.Store(true)
	return j.snapshot(ctx, snapshot, tables)
}

// looks is how a table was before its snapshot.
type looks struct {
	definition string
	stored     stored
	touched    *int64 // of a table whose changes are counted by the server's statistics
}

// same says that what a snapshot and the stream bring of the table is as it is now.
func (l looks) same(now postgres.Table) bool {
	return l.definition == definition(now) && l.stored.changed(storedOf(now)) == "" && l.stored.Last == now.Attnums
}

// lookBefore reads how the tables are before a snapshot of them is there.
func (m *mirror) lookBefore(ctx context.Context, sql *pgx.Conn) (map[string]looks, error) {
	published, _, err := m.catalog(ctx, sql)
	if err != nil {
		return nil, err
	}
	out := map[string]looks{}
	for _, src := range published {
		now := looks{definition: definition(src), stored: storedOf(src)}
		if len(src.Key) == 0 && !src.OtherChanges {
			n, err := touched(ctx, sql, &src)
			if err != nil {
				return nil, err
			}
			now.touched = &n
		}
		out[src.String()] = now
	}
	return out, nil
}

// lookAgain reads the definitions of tables as they are now that their snapshot is
// there. What was defined between the look before it and now may hold from before the
// snapshot, and for what the stream brings, or not: such a table leaves the join, as
// one that has gone or can't be mirrored any more, and is looked at anew. It returns
// the others.
func (m *mirror) lookAgain(ctx context.Context, sql *pgx.Conn, tables []*table, before map[string]looks) (same []*table, err error) {
	published, _, err := m.catalog(ctx, sql)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		i := slices.IndexFunc(published, func(p postgres.Table) bool { return p.String() == t.String() })
		var now *shape
		if i >= 0 && published[i].Obstacle == "" && before[t.String()].same(published[i]) {
			now, _ = newShape(published[i]) // why not is told when the table is opened
		}
		if now == nil {
			t.stop()
			signal(m.joins.over)
			continue
		}
		t.mu.Lock()
		t.shape, t.definition = now, definition(now.src)
		t.mu.Unlock()
		same = append(same, t)
	}
	return same, nil
}

// temporarySlot names a temporary slot; names have at most 63 characters.
func temporarySlot(slot, what, id string) string {
	return slot[:min(len(slot), 38)] + "_" + what + "_" + id
}

// watch looks for requests, at the catalog and at Fabric now and then: a table that was
// published, or whose columns changed without a change of its rows, is seen
// nowhere else.
func (m *mirror) watch(ctx context.Context) error {
	for {
		select {
		case <-time.After(m.cfg.Watch):
		case <-ctx.Done():
			return ctx.Err()
		}
		answered, err := m.answer(ctx)
		if err != nil {
			return fmt.Errorf("answer requests: %w", err)
		}
		changed, err := m.catalogChanged(ctx)
		if err != nil {
			return fmt.Errorf("look at the catalog: %w", err)
		}
		lost, err := m.lookAtFabric(ctx)
		if err != nil {
			return fmt.Errorf("look at Fabric: %w", err)
		}
		m.keepPace()
		if changed || answered || lost {
			return errAgain // the next round opens the tables as they are now
		}
	}
}

func (m *mirror) catalogChanged(ctx context.Context) (bool, error) {
	sql, err := m.cfg.Source.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	m.tellSlot(ctx, sql)
	publications, err := postgres.Publications(ctx, sql, m.cfg.Publications)
	if err != nil {
		return false, err
	}
	if again, err := m.renews(ctx, sql, publications); err != nil || again {
		return again, err
	}
	published, plain, err := m.catalog(ctx, sql)
	if err != nil {
		return false, err
	}
	if err := m.tellRefused(ctx, sql); err != nil {
		return false, err
	}
	if again, err := m.lookAtKeyless(ctx, sql); err != nil || again {
		return again, err
	}
	seen := map[string]bool{}
	for _, src := range published {
		seen[src.String()] = true
		t := m.tables[src.String()]
		if t == nil || t.defined() != definition(src) && t.mustReopen(src, plain) {
			return true, nil
		}
		if again, err := t.noteStored(ctx, src); err != nil || again {
			return again, err
		}
	}
	for name, t := range m.tables {
		if t.defined() != "" && !seen[name] {
			return true, nil
		}
	}
	return false, nil
}

// mustReopen says that a changed definition can't be followed in place, or that
// there are other partitions to follow. What else can is left to the stream, which
// says from which change on it holds.
func (t *table) mustReopen(src postgres.Table, plain plainColumns) bool {
	s := t.snapshot()
	return s.Absent || s.Phase == phaseReplicating && (src.OID != s.OID || src.Obstacle != "" || !slices.Equal(leavesOf(src), s.Leaves) || s.evolves(src, plain) != "")
}
