package mirror

import (
	"context"
	"fmt"

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

// fillFromTable appends the rows that lack values, with those of the table, read
// in a snapshot that sees every transaction that left one of them so. Values that
// were changed later come too early, which their own change, still to come, makes
// good. A key that is not in the table any more is left out: its delete, or the
// change of its key, is still to come. (Before the snapshot saw those transactions
// "no row" could also mean "not visible yet", and the row would be lost. To see
// the last of them is not enough: commits become visible in any order, above all
// when only some wait for a standby.)
func (c *changes) fillFromTable(ctx context.Context, b *batch.Batch, lacking []int32) (int64, error) {
	dec, err := postgres.NewDecoder(&c.src) // the stream's one is in use
	if err != nil {
		return 0, err
	}
	keys := c.rows.Select(lacking)
	found := batch.New(c.schema, false)
	if c.seen, err = c.t.m.readRows(ctx, &c.src, dec, keys, c.lacking, found); err != nil {
		return 0, err
	}
	at := map[string]int{}
	for i := range found.Rows() {
		at[string(found.AppendKey(nil, i))] = i
	}
	filled := int64(0)
	for _, row := range lacking {
		i, ok := at[string(c.rows.AppendKey(nil, int(row)))]
		if !ok {
			continue
		}
		for k := range b.Cols {
			if c.rows.Cols[k].Def[row] == batch.Unchanged {
				b.Cols[k].AppendFrom(&found.Cols[k], i)
			} else {
				b.Cols[k].AppendFrom(&c.rows.Cols[k], int(row))
			}
		}
		b.EndMarkedRow(c.rows.Marker[row])
		filled++
	}
	return filled, nil
}

// readRows asks over the one connection that is kept for questions. asOf is a
// position behind all that the rows show.
func (m *mirror) readRows(ctx context.Context, src *postgres.Table, dec *postgres.Decoder, keys *batch.Batch, sees []uint32, found *batch.Batch) (asOf landing.LSN, err error) {
	err = m.ask(ctx, func(conn *pgx.Conn) error {
		at, err := postgres.ReadRows(ctx, conn, src, dec, keys, sees, found)
		asOf = landing.LSN(at)
		return err
	})
	return asOf, err
}

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
