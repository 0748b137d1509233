package verify

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// readSource calls fn with the source's rows that the WHERE clause leaves, each
// valid until the next.
func (c *comparison) readSource(ctx context.Context, where string, fn func(*row) error) error {
	w := &c.writer // with the buffers of the read before
	w.plan, w.fn, w.rest = c.plan, fn, w.rest[:0]
	if _, err := c.conn.PgConn().CopyTo(ctx, w, c.plan.copySQL(where)); err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	if len(w.rest) > 0 {
		return fmt.Errorf("read the source: COPY ended inside a row")
	}
	return nil
}

// copyWriter takes the text format of COPY apart
// (https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2).
type copyWriter struct {
	plan   *plan
	fn     func(*row) error
	rest   []byte // a line that has not ended
	row    row
	text   []byte // scratch
	canon  []byte // scratch
	fields [][]byte
}

func (w *copyWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n') // one inside a value is escaped
		if i < 0 {
			w.rest = append(w.rest, p...)
			return n, nil
		}
		line := p[:i]
		if len(w.rest) > 0 {
			w.rest = append(w.rest, line...)
			line = w.rest
		}
		if err := w.line(line); err != nil {
			return 0, err
		}
		w.rest, p = w.rest[:0], p[i+1:]
	}
}

func (w *copyWriter) line(line []byte) error {
	w.fields = w.fields[:0]
	for rest, more := line, true; more; {
		var f []byte
		f, rest, more = bytes.Cut(rest, []byte{'\t'})
		w.fields = append(w.fields, f)
	}
	if len(w.fields) != len(w.plan.columns)+1 {
		return fmt.Errorf("a row of COPY has %d values, not %d", len(w.fields), len(w.plan.columns)+1)
	}
	w.row.reset()
	w.row.buf = slices.Grow(w.row.buf, len(line)+8*len(w.fields)) // a large row isn't copied again and again
	xmin, err := strconv.ParseUint(string(w.fields[0]), 10, 32)
	if err != nil {
		return fmt.Errorf("xmin: %w", err)
	}
	w.row.xmin = uint32(xmin)
	for i, col := range w.plan.columns {
		if err := w.value(col, w.fields[i+1]); err != nil {
			return fmt.Errorf("column %s: %w", col.name, err)
		}
	}
	return w.fn(&w.row)
}

func (w *copyWriter) value(col *column, field []byte) error {
	if string(field) == `\N` {
		w.row.addNull()
		return nil
	}
	text := field
	if bytes.IndexByte(field, '\\') >= 0 {
		w.text = unescape(slices.Grow(w.text[:0], len(field)), field)
		text = w.text
	}
	if col.rule.source == nil {
		w.row.add(text)
		return nil
	}
	var changed, null bool
	var err error
	w.canon, changed, null, err = col.rule.source(w.canon[:0], text)
	switch {
	case err != nil:
		return err
	case null:
		w.row.addNull()
	default:
		w.row.add(w.canon)
	}
	if changed {
		w.row.lost = append(w.row.lost, col)
	}
	return nil
}

func unescape(dst, field []byte) []byte {
	for i := 0; i < len(field); i++ {
		if field[i] != '\\' || i+1 == len(field) {
			dst = append(dst, field[i])
			continue
		}
		i++
		if at := strings.IndexByte("bfnrtv", field[i]); at >= 0 {
			dst = append(dst, "\b\f\n\r\t\v"[at])
		} else {
			dst = append(dst, field[i])
		}
	}
	return dst
}
