package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// ErrRewritten says that the rows which a snapshot sees are no longer where it
// would look: the table was truncated, rewritten or dropped since. Possibly
// wrapped.
var ErrRewritten = errors.New("the table was truncated, rewritten or dropped after the snapshot")

// ErrRowTooLarge says that a row has more than MaxRow bytes; possibly wrapped.
var ErrRowTooLarge = errors.New("a row is larger than a row may be")

// IsLockTimeout says whether a chunk wasn't read because somebody held or waited
// for a lock on the table, or on the index of its TOASTed values, by which some of
// its rows may have been read. It can be tried again, with a snapshot of its own by
// another reader.
func IsLockTimeout(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "55P03"
}

// SnapshotReader reads tables as one snapshot sees them, over a connection of
// its own. It belongs to one goroutine at a time.
type SnapshotReader struct {
	// BatchBytes is how large a batch may grow before CopyChunk hands it over.
	BatchBytes int
	// MaxRow is how many bytes a row may have; see ErrRowTooLarge. 0: as many as
	// PostgreSQL can send.
	MaxRow int

	conn     *pgx.Conn
	snapshot string
}

// OpenSnapshot connects and takes part in an exported snapshot, which has to be
// alive at every call of CopyChunk. The snapshot "" is a new one of its own. Whatever
// is asked of the reader waits as long as lock for a table that somebody holds locked;
// see IsLockTimeout.
func OpenSnapshot(ctx context.Context, e Endpoint, snapshot string, lock time.Duration) (*SnapshotReader, error) {
	// One worker is one server process: parallel plans would take more of them,
	// and would read a range of blocks by a scan of the whole table.
	conn, err := e.Connect(ctx, Setting{"max_parallel_workers_per_gather", "0"}, Setting{"jit", "off"}, Setting{"lock_timeout", fmt.Sprint(lock.Milliseconds())})
	if err != nil {
		return nil, err
	}
	r := &SnapshotReader{BatchBytes: 32 << 20, conn: conn, snapshot: snapshot}
	if snapshot == "" {
		_, err = conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1")
	} else if err = r.begin(ctx); err == nil {
		err = r.end(ctx)
	}
	if err != nil {
		_ = conn.Close(ctx) // the first error is the one to tell
		return nil, fmt.Errorf("open snapshot %q: %w", snapshot, err)
	}
	return r, nil
}

// Close ends the connection.
func (r *SnapshotReader) Close(ctx context.Context) error { return r.conn.Close(ctx) }

// Conn is the connection, for other questions between chunks. With a snapshot of
// its own it is inside the transaction that sees that snapshot.
func (r *SnapshotReader) Conn() *pgx.Conn { return r.conn }

// AsOf is a position in the log behind everything that the reader has seen.
func (r *SnapshotReader) AsOf(ctx context.Context) (LSN, error) {
	at, err := WrittenUpTo(ctx, r.conn)
	if err != nil {
		return 0, fmt.Errorf("read the position of the log: %w", err)
	}
	return at, nil
}

// begin starts a transaction in the exported snapshot. A transaction a chunk
// keeps the lock on its table short: TRUNCATE and DDL wait for one chunk only.
func (r *SnapshotReader) begin(ctx context.Context) error {
	if r.snapshot == "" {
		return nil
	}
	_, err := r.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+quoteLiteral(r.snapshot))
	if err != nil {
		_ = r.end(ctx)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "22023" || pg.Code == "42704") { // invalid_parameter_value; from 17 on undefined_object
		return errors.New("the snapshot is gone with the session that held it: " + pg.Message) // no fault of the table that is read
	}
	return err
}

func (r *SnapshotReader) end(ctx context.Context) error {
	if r.snapshot == "" || r.conn.IsClosed() {
		return nil
	}
	_, err := r.conn.Exec(ctx, "ROLLBACK")
	return err
}

// Blocks is the number of blocks of the table's heap now; rows that a snapshot
// sees are in them unless the table was rewritten since.
func (r *SnapshotReader) Blocks(ctx context.Context, t *Table) (uint32, error) {
	var blocks int64
	err := r.conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.pg_relation_size($1::oid, 'main') / pg_catalog.current_setting('block_size')::bigint, 0)`, t.OID).
		Scan(&blocks)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", t, err)
	}
	return uint32(min(blocks, math.MaxUint32)), nil
}

// CopyChunk appends the rows in the heap blocks from ≤ block < to, to
// math.MaxUint32 meaning the end, to dst and ends each: as an Upsert when dst
// has markers. When dst has grown beyond BatchBytes it is given to full, which
// has to leave an empty batch of the same kind in its place; what is in dst at
// the end is the caller's. It blocks until all is read. After an error, a wait
// for a lock excepted, the connection can't be used any more.
func (r *SnapshotReader) CopyChunk(ctx context.Context, t *Table, d *Decoder, from, to uint32, dst *batch.Batch, full func(*batch.Batch) error) error {
	if err := r.copyChunk(ctx, t, d, from, to, dst, full); err != nil {
		return fmt.Errorf("copy blocks %d to %d of %s: %w", from, to, t, err)
	}
	return nil
}

func (r *SnapshotReader) copyChunk(ctx context.Context, t *Table, d *Decoder, from, to uint32, dst *batch.Batch, full func(*batch.Batch) error) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	through, err := r.through(ctx, t, d)
	if err == nil {
		err = r.checkFile(ctx, t, d, through)
	}
	var command string
	if err == nil {
		command, err = r.copyCommand(ctx, t, d, through, from, to)
	}
	if err == nil {
		w := &copyWriter{decoder: d, dst: dst, full: full, limit: r.BatchBytes, maxRow: r.MaxRow}
		if to < math.MaxUint32 {
			w.expect = min(r.BatchBytes, int(to-from)*blockBytes)
		}
		if _, err = r.conn.PgConn().CopyTo(ctx, w, command); err == nil {
			err = w.finish()
		}
	}
	return errors.Join(err, r.end(ctx))
}

// checkFile locks the table against being rewritten and compares its file in the
// snapshot with the one that a scan would open.
func (r *SnapshotReader) checkFile(ctx context.Context, t *Table, d *Decoder, through bool) error {
	if r.snapshot == "" {
		return nil // the transaction's first look is now; nothing can lie between
	}
	if err := r.lock(ctx, t, d, through); err != nil {
		return lockError(err)
	}
	named := t
	if through {
		named = d.root
	}
	var same bool
	err := r.conn.QueryRow(ctx, `SELECT coalesce(c.relfilenode = pg_catalog.pg_relation_filenode(c.oid) AND $2::oid = pg_catalog.to_regclass($3), false)
		FROM pg_catalog.pg_class c WHERE c.oid = $1::oid`, t.OID, named.OID, named.SQLName()).Scan(&same)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !same {
		return ErrRewritten
	}
	return err
}

func lockError(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return fmt.Errorf("%w: %w", ErrRewritten, err)
	}
	return err
}

// Lock locks a table against being rewritten, inside the reader's transaction. d is its
// decoder.
func (r *SnapshotReader) Lock(ctx context.Context, t *Table, d *Decoder) error {
	through, err := r.through(ctx, t, d)
	if err != nil {
		return err
	}
	return r.lock(ctx, t, d, through)
}

func (r *SnapshotReader) lock(ctx context.Context, t *Table, d *Decoder, through bool) error {
	what := "ONLY " + t.SQLName()
	if through {
		what = d.root.SQLName() // and with it the partitions, without a right to them
	}
	_, err := r.conn.Exec(ctx, "LOCK TABLE "+what+" IN ACCESS SHARE MODE")
	return err
}

// through says that a partition is read through its partitioned table: the role may
// not read it by itself, as one that was made after the rights were given, or in another
// schema.
func (r *SnapshotReader) through(ctx context.Context, t *Table, d *Decoder) (through bool, err error) {
	if d.root == nil {
		return false, nil
	}
	err = r.conn.QueryRow(ctx, `SELECT NOT coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), true)
		FROM pg_catalog.pg_class c WHERE c.oid = $1::oid`, t.OID).Scan(&through)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // what is asked next says that it is gone
	}
	return through, err
}

// copyCommand reads blocks of a table. Of a partitioned table the partition's bounds
// have the server leave out the other partitions.
func (r *SnapshotReader) copyCommand(ctx context.Context, t *Table, d *Decoder, through bool, from, to uint32) (string, error) {
	var where []string
	source := "ONLY " + t.SQLName()
	if through {
		var bounds string
		err := r.conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.pg_get_partition_constraintdef($1::oid), 'true')", t.OID).Scan(&bounds)
		if err != nil {
			return "", err
		}
		source = d.root.SQLName()
		where = append(where, fmt.Sprintf("t.tableoid = %d", t.OID), "("+bounds+")")
	}
	if from > 0 {
		where = append(where, fmt.Sprintf("t.ctid >= '(%d,0)'::pg_catalog.tid", from))
	}
	if to < math.MaxUint32 {
		where = append(where, fmt.Sprintf("t.ctid < '(%d,0)'::pg_catalog.tid", to))
	}
	sql := "SELECT " + d.selectList() + " FROM " + source + " t"
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	return "COPY (" + sql + ") TO STDOUT (FORMAT binary)", nil
}

// copySignature begins COPY's binary format; flags and an extension follow
// (https://www.postgresql.org/docs/current/sql-copy.html).
var copySignature = []byte("PGCOPY\n\xff\r\n\x00")

const copyHeader = 11 + 4 + 4

// blockBytes is about what the rows of a heap block take in a batch.
const blockBytes = 8 << 10

// checkEvery is after how many rows the size of a batch is looked at.
const checkEvery = 64

// copyWriter decodes COPY's binary format as it comes. The server sends a row a
// message, the header before the first; a message that ends inside a row is kept
// until the next one.
type copyWriter struct {
	decoder *Decoder
	dst     *batch.Batch
	full    func(*batch.Batch) error
	limit   int
	expect  int // bytes that the batch will have, about; 0: not known, or it has room for them
	maxRow  int // 0: none

	header  bool // was read
	trailer bool // was read: nothing may follow
	kept    []byte
	since   int // rows since the size was looked at
	bytes   int // of their messages
}

// Write decodes the rows of one message in place.
func (w *copyWriter) Write(p []byte) (int, error) {
	data := p
	if len(w.kept) > 0 {
		data = append(w.kept, p...)
	}
	rest, err := w.decode(data)
	if err != nil {
		return 0, err
	}
	w.kept = append(w.kept[:0], rest...)
	return len(p), nil
}

func (w *copyWriter) decode(data []byte) (rest []byte, err error) {
	if !w.header {
		if data, err = w.cutHeader(data); err != nil || !w.header {
			return data, err
		}
	}
	for len(data) >= 2 {
		switch {
		case w.trailer:
			return nil, errors.New("COPY data goes on after its end")
		case data[0] == 0xff && data[1] == 0xff:
			w.trailer, data = true, data[2:]
			continue
		}
		rest, err := w.decoder.appendCopyRow(w.dst, data)
		if errors.Is(err, errShortRow) {
			return data, nil
		}
		if err == nil {
			err = w.endRow(len(data) - len(rest))
		}
		if err != nil {
			return nil, err
		}
		data = rest
	}
	return data, nil
}

func (w *copyWriter) cutHeader(data []byte) ([]byte, error) {
	if len(data) < copyHeader {
		return data, nil
	}
	extension := int(int32(binary.BigEndian.Uint32(data[15:])))
	if !bytes.HasPrefix(data, copySignature) || binary.BigEndian.Uint32(data[11:]) != 0 || extension != 0 {
		return nil, errors.New("COPY data begins with an unknown header")
	}
	w.header = true
	return data[copyHeader:], nil
}

func (w *copyWriter) endRow(size int) error {
	if w.dst.Marker != nil {
		w.dst.EndMarkedRow(batch.Upsert)
	} else {
		w.dst.EndRow()
	}
	if w.maxRow > 0 && size > w.maxRow {
		return fmt.Errorf("%w: %d bytes", ErrRowTooLarge, size)
	}
	w.since++
	w.bytes += size
	if w.since < checkEvery && w.bytes < w.limit/16 {
		return nil
	}
	w.since, w.bytes = 0, 0
	n := w.dst.Bytes()
	if w.expect > 0 && n >= w.expect/64 {
		w.dst.Reserve(w.expect)
		w.expect = 0
	}
	if n < w.limit {
		return nil
	}
	return w.full(w.dst)
}

// finish checks that the data came to its end.
func (w *copyWriter) finish() error {
	if !w.trailer || len(w.kept) > 0 {
		return errors.New("COPY data ends early")
	}
	return nil
}
