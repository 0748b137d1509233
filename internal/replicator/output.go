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

// output is rows on their way to a new data file. The index knows them already,
// under the id of that file and their position here.
type output struct {
	name   string
	id     uint32
	rows   *batch.Batch
	hashes []hash // of the rows' keys, when there is an index
}

// open begins a new data file.
func (c *change) open() {
	name := newDataName()
	c.out = output{name: name, id: c.ids.of(name), rows: batch.New(c.schema, false)}
}

// append adds row i of b, whose key's hash is h, as a new row.
func (c *change) append(ctx context.Context, b *batch.Batch, i int, h hash) error {
	if c.index != nil {
		c.index.add(h, c.out.next())
	}
	return c.put(ctx, b, i, h)
}

// carry adds row i of b, which lay at from until now.
func (c *change) carry(ctx context.Context, b *batch.Batch, i int, h hash, from loc) error {
	if c.index != nil {
		c.index.move(h, from, c.out.next())
	}
	return c.put(ctx, b, i, h)
}

func (o *output) next() loc { return loc{o.id, uint32(o.rows.Rows())} }

func (c *change) put(ctx context.Context, b *batch.Batch, i int, h hash) error {
	c.out.rows.AppendRow(b, i)
	c.out.rows.EndRow()
	if c.index != nil {
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
	if dead := c.dead[o.id]; dead != nil {
		live := delta.Live(rows.Rows(), dead, nil)
		for to, from := range live {
			c.index.move(o.hashes[from], loc{o.id, uint32(from)}, loc{o.id, uint32(to)})
		}
		rows = rows.Select(live)
		delete(c.dead, o.id)
	}
	if rows.Rows() == 0 {
		c.ids.forget(o.name)
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
	c.open()
	return nil
}

// index enters the rows that were put in before there was an index.
func (o *output) index(x *index) {
	var key []byte
	for i := range o.rows.Rows() {
		key = o.rows.AppendKey(key[:0], i)
		h := x.hash(key)
		x.add(h, loc{o.id, uint32(i)})
		o.hashes = append(o.hashes, h)
	}
}
