package replicator

import (
	"context"
	"strconv"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
)

// bytesTag, on a data file, tells how many bytes of memory its rows took when it
// was written: by it small files are known.
const bytesTag = "pgmirror.bytes"

// output is rows on their way to a new data file. The overlay knows them already.
type output struct {
	name   string
	file   uint32 // its place in outs
	rows   *batch.Batch
	hashes []hash // of the rows' keys, when there is a key
}

// open begins a new data file.
func (c *change) open() {
	name := newDataName()
	c.out = output{name: name, file: uint32(len(c.outs)), rows: batch.New(c.schema, false)}
	c.outs = append(c.outs, name)
}

// append adds row i of b, whose key's hash is h.
func (c *change) append(ctx context.Context, b *batch.Batch, i int, h hash) error {
	if c.rows != nil {
		c.rows.add(h, loc{c.out.file, uint32(c.out.rows.Rows())})
	}
	return c.put(ctx, b, i, h)
}

// put adds a row that nothing in this commit will change any more.
func (c *change) put(ctx context.Context, b *batch.Batch, i int, h hash) error {
	c.out.rows.AppendRow(b, i)
	c.out.rows.EndRow()
	if c.keyed() {
		c.out.hashes = append(c.out.hashes, h)
	}
	if int64(c.out.rows.Bytes()) < c.r.FileBytes {
		return nil
	}
	return c.flush(ctx)
}

// flush writes the rows that are still alive, and begins a new file.
func (c *change) flush(ctx context.Context) error {
	o, rows := &c.out, c.out.rows
	if dead := c.dead[o.name]; dead != nil {
		live := delta.Live(rows.Rows(), dead, nil)
		for to, from := range live {
			if c.rows != nil {
				c.rows.move(o.hashes[from], loc{o.file, uint32(from)}, loc{o.file, uint32(to)})
			}
			o.hashes[to] = o.hashes[from]
		}
		rows, o.hashes = rows.Select(live), o.hashes[:len(live)]
		delete(c.dead, o.name)
	}
	if rows.Rows() == 0 {
		c.open()
		return nil
	}
	data, err := encodeFile(rows)
	if err != nil {
		return err
	}
	if err := c.write(ctx, o.name, data, delta.Stats(rows)); err != nil {
		return err
	}
	c.fresh[o.name].Tags = map[string]string{bytesTag: strconv.Itoa(rows.Bytes())}
	if c.keyed() {
		c.keys.enter(o.name, int64(len(data)), o.hashes)
	}
	c.open()
	return nil
}
