package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// ErrNotVisible says that a commit which the stream has shown did not become
// visible to others in time, as happens while it waits for a standby. Possibly
// wrapped.
var ErrNotVisible = errors.New("a streamed commit is not visible yet")

// How long ReadRows waits for a commit to become visible, and how many keys it
// asks for at once.
const (
	visibleWithin = 30 * time.Second
	keysAtOnce    = 2000
)

// Bounds keep what ReadRows holds small. The zero value is none.
type Bounds struct {
	Batch int // bytes of dst beyond which it is given to Full
	Row   int // bytes that a row may have; see ErrRowTooLarge
	// Full has to leave dst empty. asOf is what ReadRows will return.
	Full func(asOf LSN, dst *batch.Batch) error
}

// ReadRows reads rows by key from the table as it is at or after the commits of
// the transactions sees, and appends those that exist to dst, none of them ended with
// a marker other than Upsert. A key that isn't found was deleted or changed by a
// later transaction, whose changes the stream will bring. sees are 32-bit
// numbers in Begin; none asks for no particular commit. asOf is a position in the log
// behind everything that was seen: only a state beyond it is consistent. What is in
// dst at the end is the caller's.
//
// keys and dst are batches of t.MirrorSchema. A partitioned table is read through
// all its partitions, with its own decoder; one leaf with its LeafDecoder, keys and
// dst then being of the partitioned table's schema. The connection must not be in a
// transaction. ReadRows blocks, up to 30 seconds of them for the commits to become
// visible (ErrNotVisible).
func ReadRows(ctx context.Context, conn *pgx.Conn, t *Table, d *Decoder, keys *batch.Batch, sees []uint32, dst *batch.Batch, within Bounds) (asOf LSN, err error) {
	if err := beginSeeing(ctx, conn, sees); err != nil {
		return 0, fmt.Errorf("read rows of %s: %w", t, err)
	}
	asOf, err = readRows(ctx, conn, t, d, keys, dst, within)
	if !conn.IsClosed() {
		_, endErr := conn.Exec(ctx, "ROLLBACK")
		err = errors.Join(err, endErr)
	}
	if err != nil {
		return 0, fmt.Errorf("read rows of %s: %w", t, err)
	}
	return asOf, nil
}

// beginSeeing opens a transaction whose snapshot sees other transactions committed.
// The server ships a commit before it becomes visible, so the first snapshots may
// come too early.
func beginSeeing(ctx context.Context, conn *pgx.Conn, xids []uint32) error {
	ctx, cancel := context.WithTimeoutCause(ctx, visibleWithin, ErrNotVisible)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
			return err
		}
		seen, err := snapshotSees(ctx, conn, xids)
		if err != nil || seen {
			return err
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// snapshotSees asks whether the transaction's snapshot sees all of xids. Of the
// 64-bit numbers that end in one the nearest to the snapshot's xmax is meant: it
// was in progress just now.
func snapshotSees(ctx context.Context, conn *pgx.Conn, xids []uint32) (seen bool, err error) {
	if len(xids) == 0 {
		return true, nil
	}
	_, xmax, err := Running(ctx, conn)
	if err != nil {
		return false, err
	}
	full := make([]string, len(xids))
	for i, xid := range xids {
		full[i] = fmt.Sprint(xmax + uint64(int64(int32(xid-uint32(xmax)))))
	}
	err = conn.QueryRow(ctx, `SELECT bool_and(pg_catalog.pg_visible_in_snapshot(x::pg_catalog.xid8, pg_catalog.pg_current_snapshot()))
		FROM pg_catalog.unnest($1::text[]) x`, full).Scan(&seen)
	return seen, err
}

// AwaitVisible waits until every transaction whose commit is in the log by now can
// be seen, by each snapshot from then on. A transaction that began before and is
// still open has it wait too, for within at most (ErrNotVisible). The connection
// must not be in a transaction.
func AwaitVisible(ctx context.Context, conn *pgx.Conn, within time.Duration) error {
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_is_in_recovery()").Scan(&standby); err != nil || standby {
		return err // a standby shows a commit before its log can be read
	}
	var next uint64 // every transaction until now has a lower number
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_xact_id()::text::bigint").Scan(&next); err != nil {
		return err
	}
	for deadline, wait := time.Now().Add(within), time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		oldest, _, err := Running(ctx, conn)
		if err != nil || oldest >= next {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: a transaction is open since before %d was begun", ErrNotVisible, next)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// ParseKeys has the server read keys, each the values of t's key columns as text,
// and appends them to dst, a batch of t.MirrorSchema without markers; its other
// columns are NULL. d is the decoder of t.
func ParseKeys(ctx context.Context, conn *pgx.Conn, t *Table, d *Decoder, keys [][]string, dst *batch.Batch) error {
	args := make([]any, len(t.Key)+1)
	args[0] = pgx.QueryResultFormats{pgx.BinaryFormatCode}
	from, names := make([]string, len(t.Key)), make([]string, len(t.Key))
	columns := make([]string, 0, len(t.Columns))
	for _, c := range t.mirrored() {
		typ, err := underDomain(ctx, conn, c)
		if err != nil {
			return fmt.Errorf("read keys of %s: %w", t, err)
		}
		columns = append(columns, fmt.Sprintf("NULL::%s AS %s", typ, quoteIdent(c.Name)))
		for k, i := range t.Key {
			if &t.Columns[i] == c {
				columns[len(columns)-1] = fmt.Sprintf("k.k%d::%s AS %s", k, typ, quoteIdent(c.Name))
			}
		}
	}
	for k := range t.Key {
		from[k], names[k] = fmt.Sprintf("pg_catalog.unnest($%d::text[])", k+1), fmt.Sprintf("k%d", k)
		values := make([]string, len(keys))
		for i, key := range keys {
			if len(key) != len(t.Key) {
				return fmt.Errorf("a key of %s has %d values, want %d", t, len(key), len(t.Key))
			}
			values[i] = key[k]
		}
		args[k+1] = values
	}
	sql := fmt.Sprintf("SELECT %s FROM (SELECT %s FROM ROWS FROM (%s) AS k(%s)) t", d.selectList(), strings.Join(columns, ", "), strings.Join(from, ", "), strings.Join(names, ", "))
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("read keys of %s: %w", t, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := d.appendValues(dst, rows.RawValues()); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read keys of %s: %w", t, err)
	}
	return nil
}

// underDomain is the name of the type under a column's domain, which may forbid NULL,
// or by now the key of a row that the mirror has.
func underDomain(ctx context.Context, conn *pgx.Conn, c *Column) (name string, err error) {
	typ, typmod := c.typ.resolve(c.Typmod)
	if typ == c.typ {
		return c.TypeName, nil
	}
	err = conn.QueryRow(ctx, "SELECT pg_catalog.format_type($1, $2)", typ.OID, typmod).Scan(&name)
	return name, err
}

func readRows(ctx context.Context, conn *pgx.Conn, t *Table, d *Decoder, keys, dst *batch.Batch, within Bounds) (asOf LSN, err error) {
	if asOf, err = WrittenUpTo(ctx, conn); err != nil {
		return 0, err
	}
	if _, err := conn.Exec(ctx, "SET LOCAL enable_seqscan = off"); err != nil { // the keys have an index
		return 0, err
	}
	took := func(size int) error {
		switch {
		case within.Row > 0 && size > within.Row:
			return fmt.Errorf("%w: %d bytes", ErrRowTooLarge, size)
		case within.Full != nil && dst.Bytes() > within.Batch:
			return within.Full(asOf, dst)
		}
		return nil
	}
	for from := 0; from < keys.Rows(); from += keysAtOnce {
		if err := readSome(ctx, conn.PgConn(), t, d, keys, from, min(from+keysAtOnce, keys.Rows()), dst, took); err != nil {
			return 0, err
		}
	}
	return asOf, nil
}

// WrittenUpTo is a position in the log behind everything that is visible now.
func WrittenUpTo(ctx context.Context, conn *pgx.Conn) (LSN, error) {
	var at string
	err := conn.QueryRow(ctx, `SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
		ELSE pg_catalog.pg_current_wal_insert_lsn() END::text`).Scan(&at)
	if err != nil {
		return 0, err
	}
	return ParseLSN(at)
}

// Running is the oldest transaction that has an id and has not ended, and the first id
// that was not given yet. They count on beyond 32 bits.
func Running(ctx context.Context, conn *pgx.Conn) (oldest, next uint64, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_snapshot_xmin(s)::text::bigint, pg_catalog.pg_snapshot_xmax(s)::text::bigint
		FROM pg_catalog.pg_current_snapshot() s`).Scan(&oldest, &next)
	return oldest, next, err
}

// readSome reads the rows of keys from ≤ i < to, and says of each how large it is.
func readSome(ctx context.Context, conn *pgconn.PgConn, t *Table, d *Decoder, keys *batch.Batch, from, to int, dst *batch.Batch, took func(size int) error) error {
	if len(t.Key) == 0 {
		return errors.New("the table has no key")
	}
	var on, params []string
	args, oids := make([][]byte, len(t.Key)), make([]uint32, len(t.Key))
	for k, i := range t.Key {
		typ, _ := t.Columns[i].typ.resolve(-1)
		col := &keys.Cols[keys.Schema.Key[k]]
		arg, err := appendSQLArray(nil, typ, col, from, to)
		if err != nil {
			return fmt.Errorf("key column %q: %w", t.Columns[i].Name, err)
		}
		args[k], oids[k] = arg, typ.Array
		params = append(params, fmt.Sprintf("pg_catalog.unnest($%d) AS k%d", k+1, k))
		on = append(on, fmt.Sprintf("t.%s %s k.k%d", quoteIdent(t.Columns[i].Name), typ.Equal, k))
	}
	only := "ONLY "
	if t.Kind == 'p' {
		only = ""
	}
	// In a SELECT list unnest keeps a composite whole; in FROM it would spread it.
	sql := fmt.Sprintf("SELECT %s FROM %s%s t JOIN (SELECT %s) k ON %s",
		d.selectList(), only, t.SQLName(), strings.Join(params, ", "), strings.Join(on, " AND "))
	rows := conn.ExecParams(ctx, sql, args, oids, nil, []int16{1})
	var fault error
	for fault == nil && rows.NextRow() {
		if fault = d.appendValues(dst, rows.Values()); fault == nil {
			fault = took(sizeOf(rows.Values()))
		}
	}
	_, err := rows.Close()
	return errors.Join(fault, err)
}

func sizeOf(values [][]byte) (n int) {
	for _, v := range values {
		n += len(v)
	}
	return n
}

// appendValues appends a row of a query in binary format, and ends it.
func (d *Decoder) appendValues(b *batch.Batch, values [][]byte) error {
	if len(values) != len(d.columns) {
		return fmt.Errorf("a row has %d columns, want %d", len(values), len(d.columns))
	}
	for i, v := range values {
		c := &d.columns[i]
		if err := c.appendCopied(&b.Cols[c.at], v); err != nil {
			b.Truncate(b.Rows())
			return err
		}
	}
	if b.Marker != nil {
		b.EndMarkedRow(batch.Upsert)
	} else {
		b.EndRow()
	}
	return nil
}
