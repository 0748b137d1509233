package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/pgmirror/pgmirror/internal/delta"
)

// compaction is files of the table written anew: small ones together, or one
// without its deleted rows. It is made beside the commits and becomes one
// itself, when rows that were deleted meanwhile are deleted in the new files too.
type compaction struct {
	change *change // of the version that it was made from; it wrote the new files
	inputs []merged
	starts []int64 // of each new file: how many rows came before it
}

// merged is a file that goes.
type merged struct {
	file  delta.File
	dead  *roaring64.Bitmap // rows that were left out; may be nil
	live  []int32           // rows that were carried over
	start int64             // how many rows came before its first
}

// prepare makes a compaction of what is worth it, if anything.
func (t *table) prepare(ctx context.Context, v *view, rest func(context.Context, time.Duration)) error {
	if t.ready.Load() != nil || v.snap.Version <= 0 {
		return nil
	}
	files := t.worthwhile(v.snap)
	if len(files) == 0 {
		return nil
	}
	schema, err := keyed(v.snap.Schema, v.key)
	if err != nil {
		return err
	}
	// Of the table that commits work on, this takes only what doesn't change.
	c := &compaction{change: (&table{r: t.r, schema: t.schema, name: t.name, lake: t.lake, snap: v.snap, key: v.key}).newChange(schema)}
	c.change.rows = nil
	if err := c.write(ctx, files, rest); err != nil {
		return errors.Join(err, c.discard(ctx))
	}
	t.ready.Store(c)
	return nil
}

// worthwhile picks files: those of about one size when there are several, so
// that a row is rewritten a number of times that grows with the logarithm of the
// table; else one with many deleted rows.
func (t *table) worthwhile(s *delta.Snapshot) []*delta.File {
	sizes := map[int][]*delta.File{}
	var worn *delta.File
	for i := range s.Files {
		f := &s.Files[i]
		if d := f.DeletionVector; d != nil && worn == nil && d.Cardinality*100 > f.Rows*t.r.Upkeep.DeletedPercent {
			worn = f
		}
		if size := memory(f); size < t.r.FileBytes/2 {
			class := bits.Len64(uint64(size)) / 2
			sizes[class] = append(sizes[class], f)
		}
	}
	for _, class := range slices.Sorted(maps.Keys(sizes)) {
		files, total := sizes[class], int64(0)
		if len(files) < t.r.Upkeep.SmallFiles {
			continue
		}
		for n, f := range files {
			if total += memory(f); total > 2*t.r.FileBytes && n > 1 {
				return files[:n]
			}
		}
		return files
	}
	if worn != nil {
		return []*delta.File{worn}
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

func (c *compaction) write(ctx context.Context, files []*delta.File, rest func(context.Context, time.Duration)) error {
	rows := int64(0)
	for _, f := range files {
		start := time.Now()
		if err := ctx.Err(); err != nil {
			return err
		}
		dead, err := c.change.snap.Deleted(ctx, f)
		if err != nil {
			return err
		}
		live := delta.Live(int(f.Rows), dead, nil)
		c.inputs = append(c.inputs, merged{file: *f, dead: dead, live: live, start: rows})
		rows += int64(len(live))
		if err := c.change.rewrite(ctx, f, dead); err != nil {
			return err
		}
		rest(ctx, time.Since(start))
	}
	if err := c.change.flush(ctx); err != nil {
		return err
	}
	c.change.outs = slices.DeleteFunc(c.change.outs, func(name string) bool { return c.change.fresh[name] == nil }) // without rows
	before := int64(0)
	for _, name := range c.change.outs {
		n, err := delta.RowCount(c.change.fresh[name].Stats)
		if err != nil {
			return err
		}
		c.starts = append(c.starts, before)
		before += n
	}
	if before != rows {
		return fmt.Errorf("%d rows were carried over, want %d", before, rows)
	}
	return nil
}

// discard removes the new files: no version holds them.
func (c *compaction) discard(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	for name, a := range c.change.fresh {
		if err := c.change.lake.Remove(ctx, name); err != nil {
			return fmt.Errorf("remove %s, which no version holds: %w", name, err)
		}
		c.change.keys.cache.remove(c.change.keys.table, c.change.keys.digest(name, a.Size))
	}
	return nil
}

// install commits a compaction on top of the newest version, or drops it when a
// file of it is gone. The caller is the one that works on the table.
func (t *table) install(ctx context.Context, c *compaction) error {
	gone := map[string]*roaring64.Bitmap{}
	var actions []delta.Action
	if t.snap == nil || t.snap.Metadata.ID != c.change.snap.Metadata.ID {
		return c.discard(ctx)
	}
	now := t.r.now().UnixMilli()
	for _, in := range c.inputs {
		f, ok := t.find(in.file.Path)
		if !ok {
			return c.discard(ctx)
		}
		dead, err := t.snap.Deleted(ctx, f)
		if err != nil {
			return err
		}
		if dead != nil {
			c.carryOver(in, dead, gone)
		}
		a := f.Removal(now)
		a.Remove.DataChange = false
		actions = append(actions, a)
	}
	adds, err := t.addMerged(ctx, c, gone)
	if err != nil || adds == nil && len(c.change.outs) > 0 {
		return errors.Join(err, c.discard(ctx))
	}
	actions = append([]delta.Action{{CommitInfo: t.progress.info("OPTIMIZE", t.r.now())}}, append(actions, adds...)...)
	if err := t.commit(ctx, actions); err != nil {
		return err
	}
	for _, in := range c.inputs {
		c.change.keys.cache.remove(c.change.keys.table, c.change.keys.digest(in.file.Name, in.file.Size))
	}
	t.set(func(s *TableStatus) { s.Version = t.snap.Version })
	return nil
}

// carryOver finds the rows of the new files that stand for rows deleted since.
func (c *compaction) carryOver(in merged, dead *roaring64.Bitmap, gone map[string]*roaring64.Bitmap) {
	for it := dead.Iterator(); it.HasNext(); {
		row := it.Next()
		if in.dead != nil && in.dead.Contains(row) {
			continue
		}
		k, ok := slices.BinarySearch(in.live, int32(row))
		if !ok {
			continue
		}
		at := in.start + int64(k)
		n := sort.Search(len(c.starts), func(i int) bool { return c.starts[i] > at }) - 1
		name := c.change.outs[n]
		if gone[name] == nil {
			gone[name] = roaring64.New()
		}
		gone[name].Add(uint64(at - c.starts[n]))
	}
}

// addMerged is the actions that add the new files; nil when rows of them are
// gone and the table has no deletion vectors.
func (t *table) addMerged(ctx context.Context, c *compaction, gone map[string]*roaring64.Bitmap) (adds []delta.Action, err error) {
	var vectors delta.Vectors
	if len(gone) > 0 && (t.r.CopyOnWrite || !t.snap.Protocol.Covers(delta.ProtocolFor(t.snap.Schema, true))) {
		return nil, nil
	}
	for _, name := range c.change.outs {
		a := *c.change.fresh[name]
		a.DataChange = false
		if dead := gone[name]; dead != nil {
			if a.DeletionVector, err = vectors.Add(dead); err == nil {
				a.Stats, err = delta.Loosen(a.Stats)
			}
			if err != nil {
				return nil, err
			}
		}
		adds = append(adds, delta.Action{Add: &a})
	}
	if err := vectors.Write(ctx, t.lake); err != nil {
		return nil, fmt.Errorf("write deletion vectors: %w", err)
	}
	return adds, nil
}
