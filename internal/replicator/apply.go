package replicator

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/google/uuid"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

const dataPrefix = "part-"

// shapeUp makes the table, or gives it new columns or properties, in a commit of
// its own.
func (t *table) shapeUp(ctx context.Context, sh shape) error {
	s := &batch.Schema{Fields: sh.fields}
	if t.snap == nil {
		need := delta.ProtocolFor(s, !t.r.CopyOnWrite)
		return t.create(ctx, []delta.Action{{CommitInfo: t.progress.info("CREATE TABLE", t.r.now())}, {Protocol: &need},
			{Metadata: delta.NewMetadata(delta.SchemaString(s), t.configuration(sh.configuration()))}, {Txn: t.txn(0)}})
	}
	m, operation := t.snap.Metadata, "SET TBLPROPERTIES"
	if len(s.Fields) != len(t.snap.Schema.Fields) {
		m.SchemaString, operation = delta.SchemaString(s), "ADD COLUMNS"
	}
	m.Configuration = t.configuration(m.Configuration)
	if m.SchemaString == t.snap.Metadata.SchemaString && maps.Equal(m.Configuration, t.snap.Metadata.Configuration) {
		return nil
	}
	actions := []delta.Action{{CommitInfo: t.progress.info(operation, t.r.now())}, {Metadata: &m}}
	if need := delta.ProtocolFor(s, !t.r.CopyOnWrite); !t.snap.Protocol.Covers(need) {
		need = t.snap.Protocol.With(need)
		actions = append(actions, delta.Action{Protocol: &need})
	}
	return t.commit(ctx, actions)
}

// configuration is a table's properties with those that this replicator sets.
func (t *table) configuration(have map[string]string) map[string]string {
	c := maps.Clone(have)
	c[delta.FileRetentionProperty], c[delta.LogRetentionProperty] = delta.Interval(t.r.Upkeep.Retention), delta.Interval(t.r.Upkeep.LogRetention)
	if !t.r.CopyOnWrite {
		c["delta.enableDeletionVectors"] = "true"
	}
	return c
}

func (t *table) txn(version int64) *delta.Txn {
	return &delta.Txn{AppID: t.appID(), Version: version, LastUpdated: t.r.now().UnixMilli()}
}

func (t *table) create(ctx context.Context, actions []delta.Action) error {
	if _, err := delta.Commit(ctx, t.lake, -1, actions); err != nil {
		return err
	}
	s, err := delta.Open(ctx, t.lake, -1)
	if err != nil {
		return err
	}
	t.snap = s
	t.show()
	return nil
}

// commit commits actions and goes on from the version that they make.
func (t *table) commit(ctx context.Context, actions []delta.Action) error {
	v, err := delta.Commit(ctx, t.lake, t.snap.Version, actions)
	if err != nil {
		return err
	}
	s, err := t.snap.Advance(v, actions)
	if err != nil {
		return err
	}
	t.snap = s
	t.show()
	return nil
}

// change is a commit being made.
type change struct {
	*table
	schema *batch.Schema // with the key
	keys   keySpace
	dead   map[string]*roaring64.Bitmap // rows that this commit takes away, by file
	fresh  map[string]*delta.Add        // files that this commit wrote, by name
	sealed []string                     // those of them whose rows are found by their key files
	junk   []string                     // files that this commit wrote and doesn't need any more
	rows   *overlay                     // rows of the files that aren't sealed; nil without a key
	outs   []string                     // the names of the files in rows, and of former ones; the one being filled last
	asked  []hash                       // keys whose former rows go
	out    output
	add    []delta.Action
	remove []delta.Action
}

func (t *table) newChange(schema *batch.Schema) *change {
	c := &change{table: t, schema: schema, keys: newKeySpace(&t.r.keys, t.snap, t.key), dead: map[string]*roaring64.Bitmap{}, fresh: map[string]*delta.Add{}}
	if c.keyed() {
		c.rows = newOverlay()
	}
	c.open()
	return c
}

func (c *change) keyed() bool { return len(c.schema.Key) > 0 }

// apply applies a group in one commit.
func (t *table) apply(ctx context.Context, g *group, meta tableMetadata) error {
	schema, err := keyed(t.snap.Schema, meta.KeyColumns)
	if err != nil {
		return err
	}
	if len(t.key) > 0 && len(meta.KeyColumns) > 0 && !slices.Equal(t.key, meta.KeyColumns) {
		return &fault{text: fmt.Sprintf("keyColumns were changed from %q to %q", t.key, meta.KeyColumns), latch: true}
	}
	if len(t.key) == 0 && len(meta.KeyColumns) > 0 { // the first commit of this process: what a former one left behind goes
		newKeySpace(&t.r.keys, t.snap, meta.KeyColumns).keep(t.snap)
	}
	t.key = meta.KeyColumns
	c := t.newChange(schema)
	for i := range g.files {
		if err := c.file(ctx, &g.files[i], meta.IsUpsertDefaultRowMarker); err != nil {
			return err
		}
		g.files[i].data = nil
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	operation := "WRITE"
	if len(c.remove) > 0 {
		operation = "MERGE"
	}
	actions := []delta.Action{{CommitInfo: g.progress.info(operation, t.r.now())}, {Txn: t.txn(g.last().Number)}}
	actions = append(append(actions, c.remove...), c.add...)
	if err := t.commit(ctx, actions); err != nil {
		return err
	}
	t.progress = g.progress
	return c.clear(ctx)
}

// clear removes what no version needs.
func (c *change) clear(ctx context.Context) error {
	for _, name := range c.junk {
		if err := c.lake.Remove(ctx, name); err != nil {
			return fmt.Errorf("remove %s, which no version holds: %w", name, err)
		}
	}
	for _, a := range c.remove {
		if _, ok := c.find(a.Remove.Path); !ok { // else it only got a deletion vector
			c.keys.cache.remove(c.keys.table, c.keys.digest(a.Remove.Path, a.Remove.Size))
		}
	}
	return nil
}

// file applies one file of the landing zone.
func (c *change) file(ctx context.Context, in *input, upserts bool) error {
	data, err := c.bytes(ctx, *in)
	if err != nil {
		return err
	}
	wrong := func(err error) error {
		return &fault{text: fmt.Sprintf("%s: %v", path.Base(in.Name), err), err: err}
	}
	pf, err := parquet.Open(data)
	if err != nil {
		return wrong(err)
	}
	_, marked := pf.Leaf(parquet.MarkerColumn)
	if pf.Rows == 0 {
		return nil
	}
	if !marked && !upserts && adoptable(pf) {
		if c.r.Check {
			if _, err := pf.Read(nil, false); err != nil {
				return wrong(err)
			}
		}
		return c.take(ctx, data, pf)
	}
	b, err := pf.Read(nil, true)
	if err != nil {
		return wrong(err)
	}
	b = conform(b, c.schema)
	if b.Marker == nil {
		b.Marker = slices.Repeat([]int32{batch.Insert}, b.Rows())
		if upserts {
			b.Marker = slices.Repeat([]int32{batch.Upsert}, b.Rows())
		}
	}
	if err := c.check(b.Marker); err != nil {
		return wrong(err)
	}
	return c.apply(ctx, b)
}

// check refuses markers that Fabric doesn't know, and changes without a key.
func (c *change) check(markers []int32) error {
	for _, m := range markers {
		switch m {
		case batch.Insert:
		case batch.Update, batch.Delete, batch.Upsert:
			if len(c.schema.Key) == 0 {
				return fmt.Errorf("row marker %d needs keyColumns in _metadata.json", m)
			}
		default:
			return fmt.Errorf("row marker %d is none of 0, 1, 2, 4", m)
		}
	}
	return nil
}

// askedMost is how many keys are looked for at once: 16 bytes each.
const askedMost = 1 << 20

// apply applies rows in their order.
func (c *change) apply(ctx context.Context, b *batch.Batch) error {
	if err := c.outdate(ctx, b); err != nil {
		return err
	}
	full := len(c.outs) - 1
	var key []byte
	for i := range b.Rows() {
		var h hash
		if c.keyed() {
			key = b.AppendKey(key[:0], i)
			h = hashOf(key)
		}
		if b.Marker[i] != batch.Insert {
			c.rows.take(h, func(l loc) { c.kill(c.outs[l.file], l.row) })
			c.asked = append(c.asked, h)
		}
		if b.Marker[i] == batch.Delete {
			continue
		}
		if err := c.append(ctx, b, i, h); err != nil {
			return err
		}
	}
	c.seal(full)
	if len(c.asked) < askedMost {
		return nil
	}
	return c.look(ctx)
}

// seal has the rows of the files that became full, from the n-th on, be found by
// their key files: a transaction may be larger than the memory. Within a batch
// they can't be, as later rows of it would be found too.
func (c *change) seal(n int) {
	if c.rows == nil || n == len(c.outs)-1 {
		return
	}
	for _, name := range c.outs[n : len(c.outs)-1] {
		if c.fresh[name] != nil { // else all its rows had gone
			c.sealed = append(c.sealed, name)
		}
	}
	c.rows = newOverlay()
	dead := c.dead[c.out.name]
	for i, h := range c.out.hashes {
		if dead == nil || !dead.Contains(uint64(i)) {
			c.rows.add(h, loc{c.out.file, uint32(i)})
		}
	}
}

// outdate takes away the rows that b changes in sealed files.
func (c *change) outdate(ctx context.Context, b *batch.Batch) error {
	if len(c.sealed) == 0 {
		return nil
	}
	var asked []hash
	var key []byte
	for i := range b.Rows() {
		if b.Marker[i] != batch.Insert {
			key = b.AppendKey(key[:0], i)
			asked = append(asked, hashOf(key))
		}
	}
	if asked = ascending(asked); len(asked) == 0 {
		return nil
	}
	for _, name := range c.sealed {
		f := delta.File{Add: *c.fresh[name], Name: name, Rows: -1}
		if err := c.keys.find(ctx, c.snap, &f, asked, func(row uint32) { c.kill(name, row) }); err != nil {
			return err
		}
	}
	return nil
}

// look takes away the rows that the table held under the keys asked for.
func (c *change) look(ctx context.Context) error {
	if c.asked = ascending(c.asked); len(c.asked) == 0 {
		return nil
	}
	for i := range c.snap.Files {
		f := &c.snap.Files[i]
		if err := c.keys.find(ctx, c.snap, f, c.asked, func(row uint32) { c.kill(f.Name, row) }); err != nil {
			return err
		}
	}
	c.asked = c.asked[:0]
	return nil
}

// kill takes a row away.
func (c *change) kill(name string, row uint32) {
	bm := c.dead[name]
	if bm == nil {
		bm = roaring64.New()
		c.dead[name] = bm
	}
	bm.Add(uint64(row))
}

// adoptable reports whether a file of the landing zone can be a file of the
// table as it is.
func adoptable(pf *parquet.File) bool {
	return pf.Rows <= math.MaxInt32 && !slices.ContainsFunc(pf.Leaves, func(l parquet.Leaf) bool { return !l.Exact })
}

// take makes a copy of a landing-zone file a file of the table: landing files
// move and vanish.
func (c *change) take(ctx context.Context, data []byte, pf *parquet.File) error {
	name := newDataName()
	if err := c.write(ctx, name, data, delta.RowStats(int64(pf.Rows))); err != nil {
		return err
	}
	c.sealed = append(c.sealed, name)
	return nil
}

func newDataName() string { return dataPrefix + uuid.NewString() + ".snappy.parquet" }

// write puts a data file in its place; the commit will name it.
func (c *change) write(ctx context.Context, name string, data []byte, stats string) error {
	if _, err := c.lake.Put(ctx, name, data, store.Cond{Absent: true}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	c.fresh[name] = &delta.Add{Path: delta.EncodePath(name), PartitionValues: map[string]string{}, Size: int64(len(data)),
		ModificationTime: c.r.now().UnixMilli(), DataChange: true, Stats: stats}
	return nil
}

func encodeFile(b *batch.Batch) ([]byte, error) {
	var w bytes.Buffer
	err := parquet.Write(&w, b, nil)
	return w.Bytes(), err
}
