package replicator

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"path"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/google/uuid"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

const dataPrefix = "part-"

// shapeUp makes the table, or gives it new columns, in a commit of its own.
func (t *table) shapeUp(ctx context.Context, sh shape) error {
	s := &batch.Schema{Fields: sh.fields}
	need := delta.ProtocolFor(s, !t.r.CopyOnWrite)
	if t.snap == nil {
		config := sh.configuration()
		if !t.r.CopyOnWrite {
			config["delta.enableDeletionVectors"] = "true"
		}
		var p progress
		return t.create(ctx, []delta.Action{{CommitInfo: p.info("CREATE TABLE")}, {Protocol: &need},
			{Metadata: delta.NewMetadata(delta.SchemaString(s), config)}, {Txn: t.txn(0)}})
	}
	if len(s.Fields) == len(t.snap.Schema.Fields) {
		return nil
	}
	var p progress
	if err := p.parse(t.snap.Info); err != nil {
		return err
	}
	m := t.snap.Metadata
	m.SchemaString = delta.SchemaString(s)
	actions := []delta.Action{{CommitInfo: p.info("ADD COLUMNS")}, {Metadata: &m}}
	if need = delta.ProtocolFor(s, false); !t.snap.Protocol.Covers(need) {
		need = t.snap.Protocol.With(need)
		actions = append(actions, delta.Action{Protocol: &need})
	}
	return t.commit(ctx, actions)
}

func (t *table) txn(version int64) *delta.Txn {
	return &delta.Txn{AppID: t.appID(), Version: version, LastUpdated: time.Now().UnixMilli()}
}

func (t *table) create(ctx context.Context, actions []delta.Action) error {
	if _, err := delta.Commit(ctx, t.lake, -1, actions); err != nil {
		return err
	}
	s, err := delta.Open(ctx, t.lake, -1)
	t.snap = s
	return err
}

func (t *table) commit(ctx context.Context, actions []delta.Action) error {
	v, err := delta.Commit(ctx, t.lake, t.snap.Version, actions)
	if err != nil {
		return err
	}
	t.snap, err = t.snap.Advance(v, actions)
	return err
}

// fileIDs gives the table's files the numbers that the index knows them by.
type fileIDs struct {
	name map[uint32]string
	id   map[string]uint32
	next uint32
}

func (f *fileIDs) of(name string) uint32 {
	if f.id == nil {
		f.name, f.id = map[uint32]string{}, map[string]uint32{}
	}
	id, ok := f.id[name]
	if !ok {
		id = f.next
		f.next++
		f.id[name], f.name[id] = id, name
	}
	return id
}

func (f *fileIDs) forget(name string) {
	delete(f.name, f.id[name])
	delete(f.id, name)
}

// change is a commit being made.
type change struct {
	*table
	schema *batch.Schema                // with the key
	dead   map[uint32]*roaring64.Bitmap // rows that this commit takes away, by file
	fresh  map[string]*delta.Add        // files that this commit wrote, by name
	junk   []string                     // files that this commit wrote and doesn't need any more
	out    output
	add    []delta.Action
	remove []delta.Action
}

// apply applies a group in one commit. After an error the caller forgets the
// table: the index is ahead of it.
func (t *table) apply(ctx context.Context, g *group, meta tableMetadata) error {
	schema, err := keyed(t.snap.Schema, meta.KeyColumns)
	if err != nil {
		return err
	}
	if t.index != nil && !slices.Equal(t.key, meta.KeyColumns) {
		return &fault{text: fmt.Sprintf("keyColumns were changed from %q to %q", t.key, meta.KeyColumns), latch: true}
	}
	t.key = meta.KeyColumns
	c := &change{table: t, schema: schema, dead: map[uint32]*roaring64.Bitmap{}, fresh: map[string]*delta.Add{}}
	c.open()
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
	actions := []delta.Action{{CommitInfo: g.progress.info(operation)}, {Txn: t.txn(g.last().Number)}}
	actions = append(append(actions, c.remove...), c.add...)
	if err := t.commit(ctx, actions); err != nil {
		return err
	}
	t.ids.forget(c.out.name)
	for _, name := range c.junk {
		t.ids.forget(name)
		if err := t.lake.Remove(ctx, name); err != nil {
			return fmt.Errorf("remove %s, which no version holds: %w", name, err)
		}
	}
	for _, a := range c.remove {
		if _, ok := c.find(a.Remove.Path); !ok { // else it only got a deletion vector
			t.ids.forget(a.Remove.Path)
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
	if err := c.need(ctx, b.Marker); err != nil {
		return err
	}
	return c.rows(ctx, b)
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

// need builds the index when a row asks for a key.
func (c *change) need(ctx context.Context, markers []int32) error {
	if c.index != nil || !slices.ContainsFunc(markers, func(m int32) bool { return m != batch.Insert }) {
		return nil
	}
	return c.build(ctx)
}

// rows applies rows in their order.
func (c *change) rows(ctx context.Context, b *batch.Batch) error {
	var key []byte
	for i := range b.Rows() {
		var h hash
		if c.index != nil {
			key = b.AppendKey(key[:0], i)
			h = c.index.hash(key)
			if b.Marker[i] != batch.Insert {
				c.index.take(h, c.kill)
			}
		}
		if b.Marker[i] == batch.Delete {
			continue
		}
		if err := c.append(ctx, b, i, h); err != nil {
			return err
		}
	}
	return nil
}

// kill takes a row away.
func (c *change) kill(l loc) {
	bm := c.dead[l.file]
	if bm == nil {
		bm = roaring64.New()
		c.dead[l.file] = bm
	}
	bm.Add(uint64(l.row))
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
	if c.index == nil {
		return nil
	}
	b, err := pf.Read(c.keyNames(), false)
	if err != nil {
		return &fault{text: err.Error(), err: err}
	}
	c.enter(keysOnly(b), name, nil)
	return nil
}

func newDataName() string { return dataPrefix + uuid.NewString() + ".snappy.parquet" }

// write puts a data file in its place; the commit will name it.
func (c *change) write(ctx context.Context, name string, data []byte, stats string) error {
	if _, err := c.lake.Put(ctx, name, data, store.Cond{Absent: true}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	c.fresh[name] = &delta.Add{Path: delta.EncodePath(name), PartitionValues: map[string]string{}, Size: int64(len(data)),
		ModificationTime: time.Now().UnixMilli(), DataChange: true, Stats: stats}
	return nil
}

func (c *change) keyNames() []string {
	var names []string
	for _, k := range c.schema.Key {
		names = append(names, c.schema.Fields[k].Name)
	}
	return names
}

// keysOnly makes every column of b its key, in order.
func keysOnly(b *batch.Batch) *batch.Batch {
	for i := range b.Schema.Fields {
		b.Schema.Key = append(b.Schema.Key, i)
	}
	return b
}

// build reads the keys of the whole table, and of what this commit wrote.
func (c *change) build(ctx context.Context) error {
	c.index = newIndex()
	err := c.snap.Scan(ctx, c.keyNames(), func(f delta.File, b *batch.Batch, live []int32) error {
		c.enter(keysOnly(&batch.Batch{Schema: &batch.Schema{Fields: b.Schema.Fields}, Cols: b.Cols}), f.Name, live)
		return nil
	})
	if err != nil {
		return fmt.Errorf("index the table: %w", err)
	}
	for name, a := range c.fresh {
		f := delta.File{Add: *a, Name: name, Rows: -1}
		b, err := c.snap.ReadFile(ctx, &f, c.keyNames())
		if err != nil {
			return fmt.Errorf("index the table: %w", err)
		}
		c.enter(keysOnly(b), name, nil)
	}
	c.out.index(c.index)
	return nil
}

// enter puts rows of a file into the index; all of them when live is nil.
func (c *change) enter(b *batch.Batch, name string, live []int32) {
	id := c.ids.of(name)
	var key []byte
	put := func(i int) {
		key = b.AppendKey(key[:0], i)
		c.index.add(c.index.hash(key), loc{id, uint32(i)})
	}
	if live == nil {
		for i := range b.Cols[0].Rows() {
			put(i)
		}
		return
	}
	for _, i := range live {
		put(int(i))
	}
}

func encodeFile(b *batch.Batch) ([]byte, error) {
	var w bytes.Buffer
	err := parquet.Write(&w, b, nil)
	return w.Bytes(), err
}
