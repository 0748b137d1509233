package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// reader reads the stream and gathers changes. It alone touches what it holds;
// what it hands to the flusher it has no more.
type reader struct {
	m      *mirror
	stream *postgres.Stream
	limit  int // bytes of changes that may wait

	tx      transaction
	waiting *pending
	work    chan *pending // to the flusher
	done    chan *pending // from it, once a pending is durable and confirmed
	busy    bool          // the flusher has one
	given   landing.LSN   // the end of what the flusher was given last
	spares  []*table      // with changes that may be filled again
	flushed landing.LSN   // what the stream has before it is published; the flusher's
	late    attachments   // the flusher's

	hold  bool // tables are being joined: the slot has to keep what they will need
	held  bool // a change came that may be one of theirs: the slot is told no more
	alarm *alarm
}

// transaction is the one that is being read.
type transaction struct {
	open    bool
	overdue bool        // what waits was due while it was open
	final   landing.LSN // of its commit record
	xid     uint32
	time    time.Time
	touched []*table
}

// pending is what goes to the flusher together: whole transactions, but for one
// that was too large and is cut.
type pending struct {
	tables  []*table   // those with changes, in the order in which they came
	files   []*changes // one a table, once taken
	parks   []parking
	end     landing.LSN // what may be confirmed when all of it is durable; 0: nothing yet
	reached landing.LSN // how far the stream was read
	bytes   int
	since   time.Time // when the first of it came; zero: it is empty
}

// empty says that nothing waits but, perhaps, an end to be confirmed.
func (p *pending) empty() bool { return len(p.tables)+len(p.parks) == 0 }

// parking is a table that can't be followed as it is.
type parking struct {
	t       *table
	reason  string
	rebuild bool // it is built anew, else it stays parked
}

// stream follows the slot until ctx ends or something fails. With hold the slot
// is told nothing beyond the first change of a table that isn't followed.
func (m *mirror) stream(ctx context.Context, hold bool) error {
	s, err := postgres.StartStream(ctx, m.cfg.Source, postgres.StreamOptions{
		SystemID: m.system.id, Timeline: m.system.timeline, Slot: m.cfg.Slot, Publications: m.publications(), Start: postgres.LSN(m.state.value.Acked), Binary: m.binary(), Spill: m.spill()})
	if err != nil {
		return err
	}
	if len(m.relations) > 0 || !hold {
		m.emit(Event{Kind: Streaming, LSN: m.state.value.Acked})
	}
	g, gctx := errgroup.WithContext(ctx)
	r := &reader{m: m, stream: s, hold: hold, limit: int(m.cfg.Budget) / 3, given: m.state.value.Acked, flushed: m.state.value.Acked, late: m.attachments(), waiting: &pending{}, work: make(chan *pending), done: make(chan *pending, 1), alarm: newAlarm(gctx)}
	g.Go(func() error { return r.read(gctx) })
	g.Go(func() error { return r.flushAll(gctx) })
	err = g.Wait()
	if errors.Is(err, postgres.ErrSpillFull) {
		m.emit(Event{Kind: SpillFull, Reason: err.Error()})
		m.guard.spillFull, err = true, errAgain
	}
	r.alarm.stop()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = s.Close(closing) // what is confirmed is confirmed; the first error is the one to tell
	return err
}

// spill is where large transactions are kept until they commit, unless one did
// not fit: then the server keeps them.
func (m *mirror) spill() *postgres.Spill {
	if m.guard.spillFull {
		return nil
	}
	return m.cfg.Spill
}

// binary says whether the stream may send values in binary: when every table's
// decoder is proved equal to the types' output functions.
func (m *mirror) binary() bool {
	for _, t := range m.tables {
		if t.followed && slices.ContainsFunc(t.parts, func(p part) bool { return !p.dec.Binary() }) {
			return false
		}
	}
	return true
}

// read takes events until ctx ends. The alarm interrupts the wait when changes
// have waited long enough or the flusher is free again.
func (r *reader) read(ctx context.Context) error {
	for {
		event, err := r.stream.Next(r.alarm.ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.Canceled):
			r.alarm.reset()
			if err := r.handOver(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		case event.Kind == postgres.EventKeepalive:
			r.keepalive(landing.LSN(event.WALEnd))
		default:
			if err := r.message(ctx, event.Msg); err != nil {
				return err
			}
		}
	}
}

// keepalive notes that the server has nothing for us before end: everything up
// to there may be confirmed once what we hold is durable.
func (r *reader) keepalive(end landing.LSN) {
	if !r.tx.open && end > max(r.waiting.end, r.given) {
		r.ends(end)
	}
}

// ends notes how far the waiting changes reach. When there are none, the slot is
// told in a while.
func (r *reader) ends(end landing.LSN) {
	r.waiting.reached = max(r.waiting.reached, end)
	if !r.held {
		r.waiting.end = max(r.waiting.end, end)
	}
	if r.waiting.since.IsZero() {
		r.begin(r.m.cfg.idle)
	}
}

// begin sets the alarm for what waits from now on.
func (r *reader) begin(after time.Duration) {
	r.waiting.since = time.Now()
	r.alarm.set(after)
}

func (r *reader) message(ctx context.Context, m *pgoutput.Message) error {
	switch m.Kind {
	case pgoutput.Begin:
		r.tx = transaction{open: true, final: landing.LSN(m.FinalLSN), xid: m.XID, time: pgTime(m.CommitTime), touched: r.tx.touched[:0]}
	case pgoutput.Commit:
		return r.commit(ctx, landing.LSN(m.EndLSN))
	case pgoutput.RelationKind:
		if t := r.table(m.RelationID); t != nil && !r.early(t, m.RelationID) {
			delete(t.others, m.RelationID)
			if t.part(m.RelationID).src.Difference(m.Relation) != "" {
				t.others[m.RelationID] = m.Relation // it matters with the part's first change that isn't published yet
			}
		}
	case pgoutput.Truncate:
		for _, oid := range m.Truncated {
			if t := r.table(oid); t == nil {
				r.keep(oid)
			} else if !r.early(t, oid) {
				if _, all := t.position.Skip(r.tx.final); !all {
					r.leave(t, "it was truncated", true)
				}
			}
		}
	case pgoutput.Insert, pgoutput.Update, pgoutput.Delete:
		return r.change(ctx, m)
	}
	return nil
}

// pgTime converts µs since 2000-01-01.
func pgTime(us int64) time.Time {
	return time.Unix(946684800, 0).UTC().Add(time.Duration(us) * time.Microsecond)
}

// table finds a table whose changes are taken.
func (r *reader) table(oid uint32) *table {
	t := r.m.relations[oid]
	if t == nil || !t.followed {
		return nil
	}
	return t
}

// keep has the slot told no more, because of a change of a relation that isn't
// followed, unless nobody will need it: a parked table begins anew later.
func (r *reader) keep(oid uint32) { r.held = r.held || r.hold && !r.m.parked[oid] }

// early says that what the stream has of a partition is in its rows, as they were
// or will be read.
func (r *reader) early(t *table, oid uint32) bool { return r.tx.final < t.from[oid] }

// change takes one change of a row, unless an earlier attempt has published it:
// it is known by its transaction's commit record and its number in it.
func (r *reader) change(ctx context.Context, m *pgoutput.Message) error {
	t := r.table(m.RelationID)
	if t == nil {
		r.keep(m.RelationID)
		return nil
	}
	if r.early(t, m.RelationID) {
		return nil
	}
	if t.seen != r.tx.final {
		t.seen, t.n = r.tx.final, 0
		r.tx.touched = append(r.tx.touched, t)
	}
	t.n++
	if skip, all := t.position.Skip(r.tx.final); all || t.n <= skip {
		return nil
	}
	if relation := t.others[m.RelationID]; relation != nil {
		if err := r.evolve(ctx, t, relation); err != nil || !t.followed {
			return err
		}
	}
	large := m.New.Size() + m.Old.Size()
	if most := r.m.cfg.maxRow; large > most {
		r.leave(t, fmt.Sprintf("a row of %d bytes is larger than the %d that a row may have", large, most), false)
		return nil
	}
	if large > int(r.m.cfg.Budget)/4 && !r.waiting.empty() { // it goes alone
		if err := r.force(ctx); err != nil {
			return err
		}
	}
	c := r.changes(t)
	if err := c.apply(m, r.tx.xid); err != nil {
		var value *postgres.ValueError
		if errors.As(err, &value) {
			r.leave(t, value.Error(), false)
			return nil
		}
		return err
	}
	c.last, c.n = r.tx.final, t.n
	size := c.rows.Bytes()
	r.waiting.bytes += size - c.size
	c.size = size
	if r.waiting.bytes >= r.limit || c.rows.Rows() >= r.m.cfg.fileRows {
		return r.force(ctx) // in the middle of a transaction: it is cut
	}
	return nil
}

// fileRows is how many changes a file holds at most: beyond 900,000 Fabric's lag
// grows steeply.
const fileRows = 800_000

// changes is where a table's changes are gathered.
func (r *reader) changes(t *table) *changes {
	if t.changes == nil {
		if r.waiting.empty() {
			r.begin(r.m.freshness())
		}
		t.changes = r.emptyChanges(t)
		r.waiting.tables = append(r.waiting.tables, t)
	}
	return t.changes
}

// emptyChanges are the ones that the table had before the last, if it is still
// as it was then.
func (r *reader) emptyChanges(t *table) *changes {
	c := t.spare
	t.spare = nil
	if c == nil || c.shape != t.shape {
		return newChanges(t)
	}
	return c.again()
}

// published takes back what the flusher has done with. Each table keeps its
// changes to be filled again; together they may hold as much as may wait, so that
// a table that had many once doesn't keep their room for ever.
func (r *reader) published(p *pending) {
	r.busy = false
	for _, t := range r.spares {
		t.spare = nil
	}
	r.spares = r.spares[:0]
	held := 0
	for _, c := range p.files {
		held += c.capacity()
		if held > r.limit*3/2 {
			break
		}
		c.t.spare = c
		r.spares = append(r.spares, c.t)
	}
}

// leave stops following a table; the flusher parks it or has it built anew.
func (r *reader) leave(t *table, reason string, rebuild bool) {
	if r.waiting.empty() {
		r.begin(r.m.cfg.Freshness)
	}
	t.followed, t.changes = false, nil
	if !rebuild {
		for _, p := range t.parts {
			r.m.parked[p.src.OID] = true
		}
	}
	r.waiting.parks = append(r.waiting.parks, parking{t, reason, rebuild})
}

// commit ends the transaction. A table of which a part was published, by us or
// by an earlier attempt, gets a file that ends it, even one without rows.
func (r *reader) commit(ctx context.Context, end landing.LSN) error {
	for _, t := range r.tx.touched {
		if !t.followed {
			continue
		}
		if p := t.position; !p.Complete && p.CommitLSN == r.tx.final {
			c := r.changes(t)
			c.last, c.n, c.mustFile = r.tx.final, t.n, true
		}
		if t.changes != nil && t.changes.last == r.tx.final {
			t.changes.end, t.changes.time = end, r.tx.time
		}
	}
	r.tx.open = false
	r.ends(end)
	if r.waiting.bytes >= r.limit {
		return r.force(ctx)
	}
	if r.tx.overdue {
		return r.handOver(ctx)
	}
	return nil
}

// left is how long what waits has to wait still.
func (r *reader) left() time.Duration {
	wait := r.m.freshness()
	if r.waiting.empty() {
		wait = r.m.cfg.idle
	}
	return wait - time.Since(r.waiting.since)
}

// handOver gives what waits to the flusher if it is due, the flusher is free and
// no transaction is open; else a later call will: when it rings, or at the commit.
func (r *reader) handOver(ctx context.Context) error {
	r.poll()
	r.tx.overdue = r.tx.open
	if r.busy || r.tx.open || r.waiting.since.IsZero() {
		return nil
	}
	if left := r.left(); left > 0 { // the pace has changed
		r.alarm.set(left)
		return nil
	}
	return r.give(ctx)
}

// force gives what waits to the flusher, and waits for it first if it is busy:
// here the pressure reaches the server, which stops sending.
func (r *reader) force(ctx context.Context) error {
	if r.busy {
		select {
		case p := <-r.done:
			r.published(p)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.give(ctx)
}

func (r *reader) poll() {
	select {
	case p := <-r.done:
		r.published(p)
	default:
	}
}

func (r *reader) give(ctx context.Context) error {
	p := r.waiting
	r.waiting = &pending{}
	for _, t := range p.tables {
		c := t.changes
		if c == nil {
			continue // left since
		}
		c.position = landing.Position{CommitLSN: c.last, N: c.n, Complete: !(r.tx.open && c.last == r.tx.final)}
		t.position, t.changes = c.position, nil
		for _, part := range c.parts {
			c.changed.of = append(c.changed.of, part.dec.TakeChanges()...)
		}
		p.files = append(p.files, c)
	}
	select {
	case r.work <- p:
		r.busy, r.given = true, max(r.given, p.end)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alarm interrupts a wait: its context ends when the time is over or somebody
// rings.
type alarm struct {
	parent context.Context
	ctx    context.Context // the same one until reset; the waiter's own

	mu     sync.Mutex
	cancel context.CancelFunc
	timer  *time.Timer
}

func newAlarm(parent context.Context) *alarm {
	a := &alarm{parent: parent}
	a.ctx, a.cancel = context.WithCancel(parent)
	return a
}

func (a *alarm) ring() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cancel()
}

func (a *alarm) set(after time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer == nil {
		a.timer = time.AfterFunc(after, a.ring)
		return
	}
	a.timer.Reset(after)
}

// reset makes the next context a fresh one; what rang before is forgotten, so
// look at what it rang for after this.
func (a *alarm) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cancel()
	a.ctx, a.cancel = context.WithCancel(a.parent)
}

func (a *alarm) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
	a.cancel()
}
