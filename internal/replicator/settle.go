package replicator

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/pgmirror/pgmirror/internal/delta"
)

const (
	fanout    = 4  // small files of one size that are made one
	deadShare = 30 // per cent of a file's rows: with more of them deleted it is rewritten
)

// settle turns what the files of the group did into the actions of the commit:
// every file that lost rows is rewritten without them, or gets a deletion
// vector.
func (c *change) settle(ctx context.Context) error {
	now := time.Now().UnixMilli()
	var vectors delta.Vectors
	for _, id := range slices.Sorted(maps.Keys(c.dead)) {
		if id == c.out.id {
			continue // flush leaves those out
		}
		if err := c.settleFile(ctx, c.ids.name[id], c.dead[id], &vectors, now); err != nil {
			return err
		}
	}
	if err := c.coalesce(ctx, now); err != nil {
		return err
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
	if a := c.fresh[name]; a != nil { // written by this commit: no version will hold it
		delete(c.fresh, name)
		c.junk = append(c.junk, name)
		return c.rewrite(ctx, &delta.File{Add: *a, Name: name, Rows: -1}, dead)
	}
	f, ok := c.find(name)
	if !ok {
		return fmt.Errorf("the index names %s, which version %d does not hold", name, c.snap.Version)
	}
	before, err := c.snap.Deleted(ctx, f)
	if err != nil {
		return err
	}
	if before != nil {
		dead = roaring64.Or(before, dead)
	}
	c.remove = append(c.remove, f.Removal(now))
	gone := int64(dead.GetCardinality())
	switch {
	case gone == f.Rows:
		return nil
	case c.withVectors() && gone*100 <= f.Rows*deadShare:
		return c.mark(f, dead, vectors)
	}
	return c.rewrite(ctx, f, dead)
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
	id := c.ids.of(f.Name)
	var key []byte
	for _, i := range delta.Live(b.Rows(), dead, nil) {
		var h hash
		if c.index != nil {
			key = b.AppendKey(key[:0], int(i))
			h = c.index.hash(key)
		}
		if err := c.carry(ctx, b, int(i), h, loc{id, uint32(i)}); err != nil {
			return err
		}
	}
	return nil
}

// coalesce rewrites small files into larger ones: those of about one size, when
// there are several, so that a row is rewritten a number of times that grows
// with the logarithm of the table.
func (c *change) coalesce(ctx context.Context, now int64) error {
	sizes := map[int][]*delta.File{}
	for i := range c.snap.Files {
		f := &c.snap.Files[i]
		size := memory(f)
		if size >= c.r.FileBytes/2 || c.touched(f.Name) {
			continue
		}
		class := bits.Len64(uint64(size)) / 2
		sizes[class] = append(sizes[class], f)
	}
	for _, class := range slices.Sorted(maps.Keys(sizes)) {
		files := sizes[class]
		if len(files) < fanout {
			continue
		}
		for _, f := range files[:min(len(files), 2*fanout)] {
			dead, err := c.snap.Deleted(ctx, f)
			if err == nil {
				err = c.rewrite(ctx, f, dead)
			}
			if err != nil {
				return err
			}
			c.remove = append(c.remove, f.Removal(now))
		}
	}
	return nil
}

// memory is roughly the memory that a file's rows take.
func memory(f *delta.File) int64 {
	if n, err := strconv.ParseInt(f.Tags[bytesTag], 10, 64); err == nil {
		return n
	}
	return 4 * f.Size
}

func (c *change) touched(name string) bool {
	id, ok := c.ids.id[name]
	return ok && c.dead[id] != nil
}

// find looks a file of the table up.
func (c *change) find(name string) (*delta.File, bool) {
	path := delta.EncodePath(name)
	i, ok := slices.BinarySearchFunc(c.snap.Files, path, func(f delta.File, p string) int {
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
	return &c.snap.Files[i], true
}
