package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// chunk is a range of heap blocks, [from, to), of a part of a table.
type chunk struct {
	t        *table
	part     *part
	node     uint32 // the file in which the part's rows were when it was cut
	n        int
	from, to uint32
}

// copying is a snapshot under way.
type copying struct {
	m        *mirror
	join     *join
	snapshot string // exported with the slot; "" when it is lost, and workers take their own
	limit    int    // bytes of a batch
	began    time.Time
	rows     atomic.Int64
	bytes    atomic.Int64
	chunks   atomic.Int64 // that were to be read, and
	done     atomic.Int64 // those that were

	mu        sync.Mutex
	rewritten []*table
	locked    []*table // by somebody else: they come after the others
	told      map[*table]time.Time
}

// rounds is how often a snapshot is tried anew because tables were rewritten
// under it.
const rounds = 5

// snapshot copies tables, several chunks at once.
//
// With the snapshot of the slot, rows are written without a marker. An attempt
// that finds chunks missing reads them under new snapshots: what an UPDATE has
// moved since would then be read twice, so that those rows, like all later ones,
// are upserts; the stream, which begins at the slot's consistent point, brings
// whatever was read too late or not at all. A table that was rewritten (VACUUM
// FULL, CLUSTER) has its rows in other blocks and is cut and read anew.
func (j *join) snapshot(ctx context.Context, exported string, todo []*table) error {
	if len(todo) == 0 {
		return nil
	}
	m := j.m
	c := &copying{m: m, join: j, snapshot: exported, limit: int(m.cfg.Budget) / (2 * m.cfg.Workers), began: time.Now(), told: map[*table]time.Time{}}
	if err := landing.WritePartnerEvents(ctx, m.cfg.Landing, "PostgreSQL"); err != nil {
		return err
	}
	m.emit(Event{Kind: SnapshotStarted, Tables: len(todo)})
	for left, round := todo, 1; len(left) > 0; round++ {
		if round > rounds {
			return fmt.Errorf("table %s was rewritten %d times while it was read", left[0], rounds)
		}
		if err := c.copyPatiently(ctx, left); err != nil {
			return err
		}
		left, c.snapshot = c.rewritten, ""
		c.rewritten = nil
	}
	m.emit(Event{Kind: SnapshotDone, Tables: len(todo), Rows: c.rows.Load(), Bytes: c.bytes.Load(), Took: time.Since(c.began)})
	return nil
}

// lockPatience is how long tables are waited for that somebody holds locked, while
// nothing of them can be read. The snapshot is held all the while, and the slot.
const lockPatience = 30 * time.Minute

// copyPatiently copies tables, those that somebody holds locked after the others. When
// others in turn wait for this to end, the locked ones leave the join after a dozen
// tries: another one waits for them.
func (c *copying) copyPatiently(ctx context.Context, tables []*table) error {
	for since := time.Now(); ; {
		done := c.done.Load()
		if err := c.copyTables(ctx, tables); err != nil {
			return err
		}
		tables, c.locked = c.locked, nil
		if c.done.Load() > done {
			since = time.Now()
		}
		waited := time.Since(since)
		switch {
		case len(tables) == 0:
			return nil
		case waited > c.m.cfg.lockPatience:
			return c.join.leave(ctx, tables, fmt.Sprintf("somebody holds it locked, and for %s none of it could be read", c.m.cfg.lockPatience))
		case waited > 12*c.m.cfg.lock && (len(c.rewritten) > 0 || c.join.waits(tables)):
			return c.join.leave(ctx, tables, "")
		}
	}
}

func (c *copying) copyTables(ctx context.Context, tables []*table) error {
	chunks, err := c.plan(ctx, tables)
	if err != nil {
		return err
	}
	c.chunks.Store(c.done.Load() + int64(len(chunks)))
	return c.copyAll(ctx, chunks)
}

func (m *mirror) inPhase(p phase) []*table {
	var out []*table
	for _, t := range m.tables {
		if t.phase() == p {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *table) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// plan cuts the tables into chunks and leaves out those that are published. A
// table whose file was rewritten since it was cut is cut anew.
func (c *copying) plan(ctx context.Context, todo []*table) ([]chunk, error) {
	r, err := c.open(ctx, c.m.cfg.lock)
	if err != nil {
		return nil, err
	}
	defer func() {
		if r != nil {
			_ = r.Close(context.WithoutCancel(ctx)) // it only read
		}
	}()
	var out []chunk
	for _, t := range todo {
		if !t.enter() {
			continue
		}
		chunks, err := t.plan(ctx, r, c.snapshot != "")
		switch {
		case err == nil:
			out = append(out, chunks...)
		case errors.Is(err, postgres.ErrRewritten):
			err = c.rewrite(ctx, t)
		case postgres.IsLockTimeout(err):
			c.later(ctx, t)
			_ = r.Close(context.WithoutCancel(ctx)) // its transaction has failed
			r, err = c.open(ctx, c.m.cfg.lock/50)   // if the next ones are locked, too, that was long enough
		default:
			err = fmt.Errorf("table %s: %w", t, err)
		}
		t.leave()
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *copying) open(ctx context.Context, lock time.Duration) (*postgres.SnapshotReader, error) {
	return postgres.OpenSnapshot(ctx, c.m.cfg.Source, c.snapshot, lock)
}

// plan is the chunks that are missing. exported says that their rows will be without
// a marker.
func (t *table) plan(ctx context.Context, r *postgres.SnapshotReader, exported bool) ([]chunk, error) {
	if t.phase() != phaseSnapshot {
		return nil, nil
	}
	if err := t.cut(ctx, r, exported); err != nil {
		return nil, err
	}
	return t.missing(), t.copied(ctx)
}

// cut plans the table's chunks for the files that its rows are in now, unless
// that was done before. The files' numbers are durable with the plan: each chunk
// makes sure that the rows are still in its file. Without markers nothing is cut a
// second time: what other parts have published would be there twice.
func (t *table) cut(ctx context.Context, r *postgres.SnapshotReader, exported bool) error {
	next := chunkState{Blocks: t.m.cfg.chunk}
	for _, p := range t.parts {
		node, err := filenode(ctx, r, p.src.OID)
		if err != nil {
			return err
		}
		blocks, err := r.Blocks(ctx, p.src)
		if err != nil {
			return err
		}
		n := max(1, int((uint64(blocks)+uint64(next.Blocks)-1)/uint64(next.Blocks)))
		next.Parts = append(next.Parts, partState{p.src.OID, node, n})
		next.Count += n
	}
	s := t.snapshot()
	same := func(a, b partState) bool { return a.OID == b.OID && a.Filenode == b.Filenode }
	if s.Chunks.Count > 0 && slices.EqualFunc(s.Chunks.Parts, next.Parts, same) {
		return nil
	}
	if s.Chunks.Count > 0 && exported {
		return postgres.ErrRewritten
	}
	return t.change(ctx, func(s *tableState) {
		s.Chunks = next // s.Stored stays as it was with the boundary: what was rewritten since holds for the copy alone
	})
}

func filenode(ctx context.Context, r *postgres.SnapshotReader, oid uint32) (node uint32, err error) {
	err = r.Conn().QueryRow(ctx, "SELECT coalesce(pg_catalog.pg_relation_filenode($1::oid), 0)", oid).Scan(&node)
	return node, err
}

// missing is the chunks that aren't published.
func (t *table) missing() []chunk {
	var out []chunk
	s := t.snapshot().Chunks
	n := 0
	for _, p := range s.Parts {
		for i := range p.Count {
			k := chunk{t: t, part: t.part(p.OID), node: p.Filenode, n: n, from: uint32(i) * s.Blocks, to: uint32(i+1) * s.Blocks}
			if i == p.Count-1 {
				k.to = math.MaxUint32 // what the part has grown since belongs to it
			}
			if !s.done(n) {
				out = append(out, k)
			}
			n++
		}
	}
	return out
}

// copyAll has the workers take chunks from one queue.
func (c *copying) copyAll(ctx context.Context, chunks []chunk) error {
	queue := make(chan chunk, len(chunks))
	for _, k := range chunks {
		queue <- k
	}
	close(queue)
	g, ctx := errgroup.WithContext(ctx)
	for range min(c.m.cfg.Workers, len(chunks)) {
		g.Go(func() error { return c.work(ctx, queue) })
	}
	return g.Wait()
}

// work takes chunks until there are no more. Under the slot's snapshot one
// connection serves them all; a snapshot of one's own lasts, with the locks under
// it, for one chunk.
func (c *copying) work(ctx context.Context, queue <-chan chunk) (err error) {
	var r *postgres.SnapshotReader
	drop := func() {
		if r != nil {
			_ = r.Close(context.WithoutCancel(ctx)) // it only read
			r = nil
		}
	}
	defer drop()
	var in room
	defer func() {
		if e := in.settle(); err == nil {
			err = e
		}
	}()
	for k := range queue {
		if err := c.turn(ctx, &in); err != nil {
			return err
		}
		if r == nil || c.snapshot == "" {
			drop()
			if r, err = c.open(ctx, c.m.cfg.lock); err != nil {
				<-c.m.joins.turns
				return err
			}
		}
		whole, err := c.copyOne(ctx, r, k, &in)
		<-c.m.joins.turns
		if err != nil {
			return err
		}
		if !whole {
			drop() // an error ends the connection's usefulness
		}
	}
	return ctx.Err()
}

// turn waits until this worker may read a chunk. Who has to wait gives its room
// back.
func (c *copying) turn(ctx context.Context, in *room) error {
	select {
	case c.m.joins.turns <- struct{}{}:
		return nil
	default:
	}
	if err := in.settle(); err != nil {
		return err
	}
	*in = room{}
	select {
	case c.m.joins.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copyOne copies a chunk, if its table is still in this join's hands; a table that
// can't be copied leaves it. whole says that the reader is as good as before.
func (c *copying) copyOne(ctx context.Context, r *postgres.SnapshotReader, k chunk, in *room) (whole bool, err error) {
	if c.waits(k.t) || !k.t.enter() {
		return true, nil
	}
	defer k.t.leave()
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-k.t.quit:
			cancel()
		case <-reading.Done():
		}
	}()
	err = c.copyChunk(ctx, reading, r, k, in)
	switch {
	case err == nil:
		c.done.Add(1)
		return true, nil
	case k.t.stopped() && reading.Err() != nil && ctx.Err() == nil:
		return false, nil // it was taken out meanwhile
	case errors.Is(err, postgres.ErrRewritten):
		return false, c.rewrite(ctx, k.t)
	case postgres.IsLockTimeout(err):
		c.later(ctx, k.t)
		return false, nil
	case errors.Is(err, errAgain):
		err = nil
	case definitionGone(err):
		if err = k.t.redefined(ctx, err); errors.Is(err, errAgain) {
			err = nil
		}
	case tableFault(err) || k.t.hopeless(err):
		err = k.t.park(ctx, err.Error())
	default:
		return false, fmt.Errorf("table %s, chunk %d: %w", k.t, k.n, err)
	}
	k.t.stop()
	signal(c.m.joins.over)
	return false, err
}

// rewrite has a table copied anew that was rewritten under its copy.
func (c *copying) rewrite(ctx context.Context, t *table) error {
	if t.keyless() {
		if err := t.rebuild(ctx, "it was rewritten while it was copied, and without a key that can't be mended"); err != nil {
			return err
		}
		t.stop()
		signal(c.m.joins.over)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.rewritten, t) {
		c.rewritten = append(c.rewritten, t)
	}
	return nil
}

// later notes that somebody holds a table locked, and says so once a minute.
func (c *copying) later(ctx context.Context, t *table) {
	c.mu.Lock()
	tell := !slices.Contains(c.locked, t) && time.Since(c.told[t]) > time.Minute
	if tell {
		c.told[t] = time.Now()
	}
	if !slices.Contains(c.locked, t) {
		c.locked = append(c.locked, t)
	}
	c.mu.Unlock()
	if tell {
		c.m.tellLocked(ctx, t)
	}
}

// waits says that the rest of the table is copied in another round.
func (c *copying) waits(t *table) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.locked, t)
}

// copyChunk publishes the rows of a chunk, in one file or, if they are too many
// bytes, in several; only the last one finishes the chunk. An empty chunk gets
// no file. The end of reading, which is within ctx, ends what is asked of r.
func (c *copying) copyChunk(ctx, reading context.Context, r *postgres.SnapshotReader, k chunk, in *room) error {
	t := k.t
	if t.phase() != phaseSnapshot {
		return nil
	}
	if err := in.enter(k, c.snapshot == "" && !t.keyless()); err != nil {
		return err
	}
	b := in.rows
	rows := int64(0)
	seen, err := c.asOf(reading, r)
	if err != nil {
		return err
	}
	see := func(s *tableState) { s.Seen = max(s.Seen, seen) }
	r.BatchBytes, r.MaxRow = c.limit, c.m.cfg.maxRow
	err = c.read(reading, r, k, in.dec, b, func(b *batch.Batch) error {
		if err := in.settle(); err != nil {
			return err
		}
		rows += int64(b.Rows())
		err := c.publish(ctx, t, b, see, in.dec.TakeChanges())
		b.Truncate(0)
		return err
	})
	if rows > 0 && c.snapshot != "" && postgres.IsLockTimeout(err) { // on the index of its TOASTed values, as in the middle of a REINDEX
		return fmt.Errorf("%w: a part of it is published that would be read again: %w", postgres.ErrRewritten, err)
	}
	if err != nil {
		return err
	}
	rows += int64(b.Rows())
	finish := func(s *tableState) {
		see(s)
		s.Chunks.finish(k.n)
		s.Rows += rows
	}
	if b.Rows() == 0 {
		if err := t.change(ctx, finish); err != nil {
			return err
		}
		return t.copied(ctx)
	}
	if err := in.settle(); err != nil {
		return err
	}
	t.busy.Add(1)
	changed := in.dec.TakeChanges()
	return in.write(func(b *batch.Batch) error {
		defer t.leave()
		if err := c.publish(ctx, t, b, finish, changed); err != nil {
			return err
		}
		return t.copied(ctx)
	})
}

// asOf is a position behind all that a snapshot of the reader's own shows; what
// the slot's snapshot shows lies before the table's boundary.
func (c *copying) asOf(ctx context.Context, r *postgres.SnapshotReader) (landing.LSN, error) {
	if c.snapshot != "" {
		return 0, nil
	}
	at, err := r.AsOf(ctx)
	return landing.LSN(at), err
}

// room is what a worker reads chunks into: it is used again while the chunks are
// of one table. One chunk is read while the one before is written, so that
// neither the server nor the store waits for the other.
type room struct {
	part  *part
	dec   *postgres.Decoder // a decoder serves one goroutine
	rows  *batch.Batch
	other *batch.Batch // is being written, or was
	wrote chan error   // says how that went; nil: nothing is being written
}

// write has what was read written and doesn't wait for it.
func (in *room) write(publish func(*batch.Batch) error) error {
	if err := in.settle(); err != nil {
		return err
	}
	in.rows, in.other = in.other, in.rows
	done, b := make(chan error, 1), in.other
	in.wrote = done
	go func() { done <- publish(b) }()
	return nil
}

// settle waits until nothing is being written.
func (in *room) settle() error {
	if in.wrote == nil {
		return nil
	}
	err := <-in.wrote
	in.wrote = nil
	return err
}

// enter makes the room one for a chunk, and empties it.
func (in *room) enter(k chunk, marked bool) (err error) {
	if in.part != k.part {
		in.part = nil
		if in.dec, err = k.t.src.LeafDecoder(k.part.src); err != nil {
			return err
		}
		in.part = k.part
	}
	if in.rows == nil || in.rows.Schema != k.t.schema || (in.rows.Marker != nil) != marked {
		in.rows = batch.New(k.t.schema, marked)
	}
	in.rows.Truncate(0)
	return nil
}

func (c *copying) read(ctx context.Context, r *postgres.SnapshotReader, k chunk, dec *postgres.Decoder, b *batch.Batch, full func(*batch.Batch) error) error {
	if c.snapshot == "" {
		if err := k.sameFile(ctx, r, dec); err != nil {
			return err
		}
	}
	return r.CopyChunk(ctx, k.part.src, dec, k.from, k.to, b, full)
}

// sameFile locks the part against being rewritten, inside the reader's own
// transaction, and compares its file with the one that the chunks were cut for.
func (k chunk) sameFile(ctx context.Context, r *postgres.SnapshotReader, dec *postgres.Decoder) error {
	if err := r.Lock(ctx, k.part.src, dec); err != nil {
		return err
	}
	node, err := filenode(ctx, r, k.part.src.OID)
	if err == nil && node != k.node {
		return postgres.ErrRewritten
	}
	return err
}

func (c *copying) publish(ctx context.Context, t *table, b *batch.Batch, note func(*tableState), of []postgres.Changes) error {
	n, size := int64(b.Rows()), int64(b.Bytes())
	// A snapshot file follows the stream no further than the table did before it.
	meta := landing.Meta{Position: t.position, CommitTime: c.began}
	if err := t.publishRead(ctx, b, meta, note, of); err != nil {
		return err
	}
	c.m.emit(Event{Kind: SnapshotProgress, Table: t.String(), Rows: c.rows.Add(n), Bytes: c.bytes.Add(size), Took: time.Since(c.began), Left: c.left()})
	return nil
}

// left is how long the rest takes at the rate so far; 0 while there is none.
func (c *copying) left() time.Duration {
	done, all := c.done.Load(), c.chunks.Load()
	if done == 0 {
		return 0
	}
	return time.Duration(float64(time.Since(c.began)) / float64(done) * float64(max(0, all-done)))
}

func (t *table) phase() phase { return t.snapshot().Phase }

// copied ends a table's snapshot if all of it is published, and with that the join
// of the table. A table without rows gets a file without rows, or it would not be
// there in Fabric.
func (t *table) copied(ctx context.Context) error {
	t.ending.Lock() // two may have published the last two chunks
	defer t.ending.Unlock()
	if s := t.snapshot(); s.Phase != phaseSnapshot || s.Chunks.Next < s.Chunks.Count {
		return nil
	}
	done := func(s *tableState) { s.Phase, s.Reason, s.Built = phaseReplicating, "", time.Now() }
	if t.snapshot().Number == 0 {
		meta := landing.Meta{Position: t.position, CommitTime: time.Now()}
		if err := t.publish(ctx, batch.New(t.schema, false), meta, done); err != nil {
			return err
		}
	} else if err := t.change(ctx, done); err != nil {
		return err
	}
	t.m.emit(Event{Kind: TableCopied, Table: t.String(), Rows: t.snapshot().Rows})
	t.stop()
	signal(t.m.joins.copied)
	return nil
}
