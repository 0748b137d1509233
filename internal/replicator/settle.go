package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/pgmirror/pgmirror/internal/delta"
)

// settle turns what the files of the group did into the actions of the commit:
// every file that lost rows is rewritten without them, or gets a deletion
// vector.
func (c *change) settle(ctx context.Context) error {
	if err := c.look(ctx); err != nil {
		return err
	}
	c.rows = nil // no row changes any more
	now := c.r.now().UnixMilli()
	var vectors delta.Vectors
	for _, name := range slices.Sorted(maps.Keys(c.dead)) {
		if name == c.out.name {
			continue // flush leaves those out
		}
		if err := c.settleFile(ctx, name, c.dead[name], &vectors, now); err != nil {
			return err
		}
	}
	if err := c.flush(ctx); err != nil {
		return err
	}
	if err := vectors.Write(ctx, c.lake); err != nil {
		return fmt.Errorf("write deletion vectors: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.fresh)) {
		c.add = append(c.add, delta.Action{Add: c.fresh[name]})
	}
	return nil
}

func (c *change) settleFile(ctx context.Context, name string, dead *roaring64.Bitmap, vectors *delta.Vectors, now int64) error {
	if a := c.fresh[name]; a != nil {
		return c.settleFresh(ctx, name, a, dead, vectors)
	}
	f, ok := c.find(delta.EncodePath(name))
	if !ok {
		return fmt.Errorf("rows of %s change, which version %d does not hold", name, c.snap.Version)
	}
	before, err := c.snap.Deleted(ctx, f)
	if err != nil {
		return err
	}
	if before != nil { // a key file also tells of rows that are deleted already
		if dead.Or(before); dead.GetCardinality() == before.GetCardinality() {
			return nil
		}
	}
	c.remove = append(c.remove, f.Removal(now))
	switch gone := int64(dead.GetCardinality()); {
	case gone == f.Rows:
		return nil
	case c.withVectors():
		return c.mark(f, dead, vectors)
	}
	return c.rewrite(ctx, f, dead)
}

// settleFresh is settleFile for a file that this commit wrote.
func (c *change) settleFresh(ctx context.Context, name string, a *delta.Add, dead *roaring64.Bitmap, vectors *delta.Vectors) error {
	if !c.withVectors() { // no version will hold it
		delete(c.fresh, name)
		c.junk = append(c.junk, name)
		return c.rewrite(ctx, &delta.File{Add: *a, Name: name, Rows: -1}, dead)
	}
	var err error
	if a.DeletionVector, err = vectors.Add(dead); err != nil {
		return err
	}
	a.Stats, err = delta.Loosen(a.Stats)
	return err
}

func (c *change) withVectors() bool {
	return !c.r.CopyOnWrite && c.snap.Protocol.Covers(delta.ProtocolFor(c.schema, true))
}

// mark keeps a file and gives it a deletion vector.
func (c *change) mark(f *delta.File, dead *roaring64.Bitmap, vectors *delta.Vectors) error {
	a := f.Add
	a.DataChange = true
	var err error
	if a.DeletionVector, err = vectors.Add(dead); err != nil {
		return err
	}
	if a.Stats, err = delta.Loosen(a.Stats); err != nil {
		return err
	}
	c.add = append(c.add, delta.Action{Add: &a})
	return nil
}

// rewrite carries the rows of a file that are alive over to new files.
func (c *change) rewrite(ctx context.Context, f *delta.File, dead *roaring64.Bitmap) error {
	b, err := c.snap.ReadFile(ctx, f, nil)
	if err != nil {
		return err
	}
	b.Schema = c.schema
	var key []byte
	for _, i := range delta.Live(b.Rows(), dead, nil) {
		var h hash
		if c.keyed() {
			key = b.AppendKey(key[:0], int(i))
			h = hashOf(key)
		}
		if err := c.put(ctx, b, int(i), h); err != nil {
			return err
		}
	}
	return nil
}

// find looks a file of the table up by its path in the log.
func (t *table) find(path string) (*delta.File, bool) {
	i, ok := slices.BinarySearchFunc(t.snap.Files, path, func(f delta.File, p string) int {
		switch {
		case f.Path < p:
			return -1
		case f.Path > p:
			return 1
		}
		return 0
	})
	if !ok {
		return nil, false
	}
	return &t.snap.Files[i], true
}
