package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// finish is the rows of the file: one a key, and with every value. Rows that
// needed values from the table come last; filled is how many.
func (c *changes) finish(ctx context.Context) (b *batch.Batch, filled int64, err error) {
	sent := c.rows.Whole()
	if sent && c.alive == c.rows.Rows() {
		return c.rows, 0, nil
	}
	var whole, lacking []int32
	for i, dead := range c.dead {
		switch {
		case dead:
		case !sent && c.rows.HasUnchanged(i):
			lacking = append(lacking, int32(i))
		default:
			whole = append(whole, int32(i))
		}
	}
	b = c.rows.Select(whole)
	if len(lacking) > 0 {
		if filled, err = c.fillFromTable(ctx, b, lacking); err != nil {
			return nil, 0, fmt.Errorf("table %s: read values that the stream left out: %w", c.t, err)
		}
	}
	return b, filled, nil
}

// fillKeys is how many rows are asked for in one transaction.
const fillKeys = 20_000

// fillFromTable appends the rows that lack values, with those of the table, read
// in snapshots that see every transaction that left one of them so. Values that
// were changed later come too early, which their own change, still to come, makes
// good. A key that is not in the table any more is left out: its delete, or the
// change of its key, is still to come. (Before a snapshot saw those transactions
// "no row" could also mean "not visible yet", and the row would be lost. To see
// the last of them is not enough: commits become visible in any order, above all
// when only some wait for a standby.)
//
// The values may be any number of times what the stream brought. So what b has
// grown to is published before it takes more.
func (c *changes) fillFromTable(ctx context.Context, b *batch.Batch, lacking []int32) (filled int64, err error) {
	dec, err := postgres.NewDecoder(&c.src) // the stream's one is in use
	if err != nil {
		return 0, err
	}
	share := c.t.m.share()
	take := func(asOf postgres.LSN, found *batch.Batch) error {
		c.seen = max(c.seen, landing.LSN(asOf))
		if b.Bytes() > share {
			if err := c.publishPiece(ctx, b, filled); err != nil {
				return err
			}
			filled = 0
		}
		filled += c.fillFrom(found, b)
		found.Truncate(0)
		return nil
	}
	found := batch.New(c.schema, false)
	within := postgres.Bounds{Batch: share / 4, Row: c.t.m.cfg.maxRow, Full: take}
	for some := range slices.Chunk(lacking, fillKeys) {
		err := c.t.m.ask(ctx, func(conn *pgx.Conn) error {
			asOf, err := postgres.ReadRows(ctx, conn, &c.src, dec, c.rows.Select(some), c.lacking, found, within)
			if err != nil {
				return err
			}
			return take(asOf, found)
		})
		if err != nil {
			return 0, err
		}
	}
	return filled, nil
}

// fillFrom appends the rows that were found to b, once each, and says how many.
func (c *changes) fillFrom(found, b *batch.Batch) (filled int64) {
	for i := range found.Rows() {
		c.key = found.AppendKey(c.key[:0], i)
		row, ok := c.index.find(c.key, c)
		if !ok || c.dead[row] || !c.rows.HasUnchanged(row) {
			continue // equal for PostgreSQL alone, as of another case
		}
		c.dead[row] = true
		for k := range b.Cols {
			if c.rows.Cols[k].Def[row] == batch.Unchanged {
				b.Cols[k].AppendFrom(&found.Cols[k], i)
			} else {
				b.Cols[k].AppendFrom(&c.rows.Cols[k], row)
			}
		}
		b.EndMarkedRow(c.rows.Marker[row])
		filled++
	}
	return filled
}

// publishPiece publishes rows of the file before the others, and empties b. The
// table's position stays: without the others all its changes are taken again, which
// upserts and deletes bear. The piece leaves a transaction open, so that nobody
// shows it before the others are there.
func (c *changes) publishPiece(ctx context.Context, b *batch.Batch, filled int64) error {
	at := c.t.snapshot().Position
	meta := landing.Meta{Position: landing.Position{CommitLSN: at.CommitLSN, N: at.N}, EndLSN: at.CommitLSN, CommitTime: c.time, Filled: filled}
	err := c.t.publish(ctx, b, meta, func(s *tableState) {
		s.Position = at
		s.Seen = max(s.Seen, c.seen)
		s.adopt(columnsOf(c.src))
	})
	b.Truncate(0)
	c.mustFile = true // which ends it
	return err
}

// share is how many bytes each of those that publish may gather of what is read
// from tables while they hold changes.
func (m *mirror) share() int { return int(m.cfg.Budget) / (4 * m.cfg.Workers) }

// ask asks over the one connection that is kept for questions.
func (m *mirror) ask(ctx context.Context, question func(*pgx.Conn) error) error {
	m.sqlMu.Lock()
	defer m.sqlMu.Unlock()
	if m.sql == nil || m.sql.IsClosed() { // as by the end of a context in which something was asked
		conn, err := m.cfg.Source.Connect(ctx)
		if err != nil {
			return err
		}
		m.sql = conn
	}
	return question(m.sql)
}

func (m *mirror) closeSQL(ctx context.Context) {
	m.sqlMu.Lock()
	defer m.sqlMu.Unlock()
	if m.sql != nil {
		_ = m.sql.Close(ctx) // it only read
		m.sql = nil
	}
}
