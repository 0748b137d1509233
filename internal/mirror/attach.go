package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// lateLeaf is a partition that came to a table while that was followed, which goes
// on. From is a position in the log behind its attachment. What committed before
// From is in the partition's rows when they are read, and what the stream brings of
// that is left out: it may be from a time when the partition was a table of its own.
// What commits later is followed.
//
// The flusher reads the rows, when everything before From is published: a row that
// has moved into the partition is deleted where it was, and that must not come
// after it was read. As with a repair the flusher publishes nothing meanwhile, and
// the snapshot sees every transaction that was published; what comes later for the
// partition comes in order over the rows. Nothing has to be deleted: what isn't in
// the partition then was never published of it, or its deletion is published or
// still to come.
//
// The state says so before anything of the partition is published, so that one that
// is gone again before it is read has the table built anew. A crash before the last
// file has its number has the rows read once more, which are upserts. Until the slot
// has confirmed From the stream may begin before it again: the note is kept for as
// long.
type lateLeaf struct {
	OID  uint32      `json:"oid"`
	From landing.LSN `json:"from"`
	Read bool        `json:"read,omitempty"` // its rows are published
}

// attachBytes is how large a partition may be to be read while all tables wait,
// which takes some ten seconds. With a larger one its table is built anew, beside
// the others.
const attachBytes = 1 << 30

// grows says that a table has got partitions and lost none.
func (s *tableState) grows(src postgres.Table) bool {
	now := leavesOf(src)
	return len(now) > len(s.Leaves) && !slices.ContainsFunc(s.Leaves, func(oid uint32) bool { return !slices.Contains(now, oid) })
}

// attach notes the partitions that are now, of which those that are new are
// followed from at on.
func (s *tableState) attach(now []uint32, at, acked landing.LSN) {
	late := slices.DeleteFunc(slices.Clone(s.Late), func(l lateLeaf) bool { return l.Read && l.From <= acked })
	for _, oid := range now {
		if !slices.Contains(s.Leaves, oid) {
			late = append(late, lateLeaf{OID: oid, From: at})
			s.Seen = max(s.Seen, at) // its files agree with no moment before
		}
	}
	s.Leaves, s.Late = now, late
}

// readLate notes that a partition's rows are published.
func (s *tableState) readLate(oid uint32) {
	s.Late = slices.Clone(s.Late)
	for i := range s.Late {
		s.Late[i].Read = s.Late[i].Read || s.Late[i].OID == oid
	}
}

// written is a position behind everything that is in the log now.
func (m *mirror) written(ctx context.Context) (at landing.LSN, err error) {
	err = m.ask(ctx, func(conn *pgx.Conn) error {
		lsn, err := postgres.WrittenUpTo(ctx, conn)
		at = landing.LSN(lsn)
		return err
	})
	return at, err
}

// attachPatience is how long the flusher waits at the first try for a snapshot that
// sees everything. After each that fails both this and the time until the next one
// double: where transactions are always open for long it has to wait for as long, and
// meanwhile all tables wait a tenth of the time at most.
const attachPatience = time.Second

// attachments is what the flusher has to read.
type attachments struct {
	unread []unread
	tries  int       // that failed since one succeeded
	after  time.Time // when the next try is due
}

type unread struct {
	t    *table
	leaf lateLeaf
}

func (m *mirror) attachments() (a attachments) {
	for _, t := range m.inPhase(phaseReplicating) {
		if t.join != nil {
			continue
		}
		for _, l := range t.snapshot().Late {
			if !l.Read {
				a.unread = append(a.unread, unread{t, l})
			}
		}
	}
	return a
}

// attach reads one partition if its turn has come. again tells when to look for
// the next one; it is nil when there is none, or when something has to be
// published first.
func (r *reader) attach(ctx context.Context) (again <-chan time.Time, err error) {
	a := &r.late
	i := slices.IndexFunc(a.unread, func(u unread) bool { return u.leaf.From <= r.flushed })
	if i < 0 {
		return nil, nil
	}
	if wait := time.Until(a.after); wait > 0 {
		return time.After(wait), nil
	}
	u := a.unread[i]
	a.unread = slices.Delete(a.unread, i, i+1)
	try := min(a.tries, 5)
	err = u.t.readLeaf(ctx, u.leaf.OID, attachPatience<<try)
	switch {
	case errors.Is(err, postgres.ErrNotVisible) || errors.Is(err, postgres.ErrRewritten) || postgres.IsLockTimeout(err):
		wait := r.m.cfg.Watch << try
		a.unread, a.tries, a.after = append(a.unread, u), a.tries+1, time.Now().Add(wait)
		r.m.emit(Event{Kind: Waiting, Table: u.t.String(), Reason: "a partition that can't be read yet: " + err.Error(), Wait: wait})
		return time.After(wait), nil
	case tableFault(err):
		return time.After(0), u.t.park(ctx, err.Error())
	case definitionGone(err):
		return nil, errAgain
	case err != nil:
		return nil, fmt.Errorf("table %s: read a partition: %w", u.t, err)
	}
	a.tries = 0
	return time.After(0), nil
}

// readLeaf publishes the rows of a partition, as upserts that follow the stream no
// further than the table does, and notes it with the last of them.
func (t *table) readLeaf(ctx context.Context, oid uint32, patience time.Duration) error {
	if t.phase() != phaseReplicating {
		return nil
	}
	err := t.m.ask(ctx, func(conn *pgx.Conn) error { return postgres.AwaitVisible(ctx, conn, patience) })
	if err != nil {
		return err
	}
	r, err := postgres.OpenSnapshot(ctx, t.m.cfg.Source, "", t.m.cfg.lock)
	if err != nil {
		return err
	}
	defer r.Close(context.WithoutCancel(ctx)) // it only read
	src, leaf, err := t.leafIn(ctx, r, oid)
	if err != nil {
		return err
	}
	dec, err := src.LeafDecoder(leaf)
	if err != nil {
		return err
	}
	if err := (chunk{part: &part{src: leaf}, node: leaf.Relfilenode}).sameFile(ctx, r, dec); err != nil {
		return err
	}
	var size int64
	if err := r.Conn().QueryRow(ctx, "SELECT coalesce(pg_catalog.pg_table_size($1::oid), 0)", oid).Scan(&size); err != nil {
		return err
	}
	if size > t.m.cfg.attach {
		if err := t.rebuild(ctx, fmt.Sprintf("its partition %s, which is new, has %d MiB", leaf, size>>20)); err != nil {
			return err
		}
		return errAgain
	}
	return t.copyLeaf(ctx, r, src, leaf, dec)
}

// leafIn is the table and the partition as a snapshot sees them. When they are no
// longer as they are followed all is looked at anew.
func (t *table) leafIn(ctx context.Context, r *postgres.SnapshotReader, oid uint32) (src, leaf *postgres.Table, err error) {
	published, err := t.m.published(ctx, r.Conn())
	if err != nil {
		return nil, nil, err
	}
	s := t.snapshot()
	for i := range published {
		p := &published[i]
		at := slices.IndexFunc(p.Leaves, func(l postgres.Table) bool { return l.OID == oid })
		if p.OID == s.OID && at >= 0 && p.Obstacle == "" && slices.Equal(columnsOf(*p), s.Columns) && slices.Equal(keyOf(*p), s.Key) {
			return p, &p.Leaves[at], nil
		}
	}
	return nil, nil, errAgain
}

// copyLeaf has as much memory as the flusher, which holds no changes now, has
// else.
func (t *table) copyLeaf(ctx context.Context, r *postgres.SnapshotReader, src, leaf *postgres.Table, dec *postgres.Decoder) error {
	seen, err := r.AsOf(ctx)
	if err != nil {
		return err
	}
	see := func(s *tableState) { s.Seen = max(s.Seen, landing.LSN(seen)) }
	done := func(s *tableState) {
		see(s)
		s.readLate(leaf.OID)
	}
	at, rows := t.snapshot().Position, int64(0)
	publish := func(b *batch.Batch, note func(*tableState)) error {
		rows += int64(b.Rows())
		meta := landing.Meta{Position: at, EndLSN: at.CommitLSN, CommitTime: time.Now(), Filled: int64(b.Rows())}
		err := t.publishRead(ctx, b, meta, note, dec.TakeChanges())
		b.Truncate(0)
		return err
	}
	b := batch.New(src.MirrorSchema(), true)
	r.BatchBytes, r.MaxRow = int(t.m.cfg.Budget)/(2*t.m.cfg.Workers), t.m.cfg.maxRow
	err = r.CopyChunk(ctx, leaf, dec, 0, math.MaxUint32, b, func(b *batch.Batch) error { return publish(b, see) })
	switch {
	case err != nil:
	case b.Rows() > 0:
		err = publish(b, done)
	default:
		err = t.change(ctx, done)
	}
	if err != nil {
		return err
	}
	t.m.emit(Event{Kind: Attached, Table: t.String(), Rows: rows, Reason: "partition " + leaf.String()})
	return nil
}
