package verify

import (
	"context"
	"fmt"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// readMirror calls fn with the rows of a version of the mirror, each valid until
// the next. One data file is in memory at a time, a
// part of it decoded.
func (c *comparison) readMirror(ctx context.Context, m mirrorTable, fn func(*row) error) error {
	for i := range m.files() {
		if err := c.plan.readFile(ctx, m, i, fn); err != nil {
			return err
		}
	}
	return nil
}

// readFile calls fn with the rows of one file of the mirror.
func (p *plan) readFile(ctx context.Context, m mirrorTable, i int, fn func(*row) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &mirrorRows{plan: p, fn: fn}
	if err := m.read(ctx, i, p.fields, r.batch); err != nil {
		return fmt.Errorf("read the mirror: %w", err)
	}
	return nil
}

type mirrorRows struct {
	plan  *plan
	fn    func(*row) error
	row   row
	canon []byte
}

func (m *mirrorRows) batch(b *batch.Batch, live []int32) error {
	for _, i := range live {
		m.row.reset()
		for _, col := range m.plan.columns {
			m.value(col, b, int(i))
		}
		if err := m.fn(&m.row); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirrorRows) value(col *column, b *batch.Batch, i int) {
	if col.at < 0 || b.Cols[col.at].Def[i] != batch.Present {
		m.row.addNull()
		return
	}
	c := &b.Cols[col.at]
	if col.rule.source == nil && c.Type.Kind == batch.String { // as it is, on both sides
		m.row.add(c.Value(i))
		return
	}
	m.canon = col.rule.mirror(m.canon[:0], c, i)
	m.row.add(m.canon)
}
