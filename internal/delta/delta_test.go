package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

var people = &batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "name", Type: batch.Type{Kind: batch.String}}}}

func rows(from, to int) *batch.Batch {
	b := batch.New(people, false)
	for i := from; i < to; i++ {
		b.Cols[0].AppendInt64(int64(i))
		if i%5 == 0 {
			b.Cols[1].AppendNull()
		} else {
			b.Cols[1].AppendBytes(fmt.Appendf(nil, "n%d", i))
		}
		b.EndRow()
	}
	return b
}

// table is a Delta table in a temporary directory.
type table struct {
	*testing.T
	s   store.Store
	dir string
	v   int64
}

func newTable(t *testing.T) *table {
	dir := t.TempDir()
	s, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &table{T: t, s: s, dir: dir, v: -1}
}

func (t *table) file(name string, b *batch.Batch) Action {
	t.Helper()
	var w bytes.Buffer
	if err := parquet.Write(&w, b, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := t.s.Put(t.Context(), name, w.Bytes(), store.Cond{Absent: true}); err != nil {
		t.Fatal(err)
	}
	return Action{Add: &Add{Path: EncodePath(name), PartitionValues: map[string]string{}, Size: int64(w.Len()), ModificationTime: 1, DataChange: true, Stats: Stats(b)}}
}

func (t *table) commit(actions ...Action) {
	t.Helper()
	v, err := Commit(t.Context(), t.s, t.v, append([]Action{{CommitInfo: &CommitInfo{Operation: "WRITE"}}}, actions...))
	if err != nil {
		t.Fatal(err)
	}
	t.v = v
}

func (t *table) create() {
	t.Helper()
	p := ProtocolFor(people, false)
	t.commit(Action{Protocol: &p}, Action{Metadata: NewMetadata(SchemaString(people), nil)})
}

func (t *table) open(version int64) *Snapshot {
	t.Helper()
	s, err := Open(t.Context(), t.s, version)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (t *table) ids(version int64) []int64 {
	t.Helper()
	out := []int64{}
	err := t.open(version).Scan(t.Context(), []string{"id"}, func(_ File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			out = append(out, b.Cols[0].I64[i])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func span(from, to int64) []int64 {
	out := []int64{}
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func TestEveryVersionStaysReadable(t *testing.T) {
	d := newTable(t)
	if _, err := Open(t.Context(), d.s, -1); !errors.Is(err, store.ErrNotExist) {
		t.Fatalf("no table: got %v, want ErrNotExist", err)
	}
	d.create()
	d.commit(d.file("part a%b+ü.parquet", rows(0, 10)), Action{Txn: &Txn{AppID: "x", Version: 1}})
	d.commit(d.file("b.parquet", rows(10, 20)), Action{Txn: &Txn{AppID: "x", Version: 2}})
	first := d.open(1)
	d.commit(first.Files[0].Removal(time.Now().UnixMilli()))

	for v, want := range [][]int64{{}, span(0, 10), span(0, 20), span(10, 20)} {
		got := d.ids(int64(v))
		if v == 2 { // files come in the order of their encoded names
			want = append(span(10, 20), span(0, 10)...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", v, diff)
		}
	}
	if got := d.open(-1).Txns["x"]; got != 2 {
		t.Errorf("txn: got %d, want 2", got)
	}
	if _, err := Open(t.Context(), d.s, 9); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("version 9: got %v, want ErrNotExist", err)
	}
}

func TestCommitsDontOverwrite(t *testing.T) {
	d := newTable(t)
	d.create()
	_, err := Commit(t.Context(), d.s, -1, []Action{{CommitInfo: &CommitInfo{}}})
	if !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

// overwriting is a store that takes no notice of conditions.
type overwriting struct{ store.Store }

func (o overwriting) Put(ctx context.Context, name string, body []byte, _ store.Cond) (store.Info, error) {
	return o.Store.Put(ctx, name, body, store.Cond{})
}

// flat is a store without folders: only names with slashes.
type flat struct{ store.Store }

func (f flat) Stat(ctx context.Context, name string) (store.Info, error) {
	i, err := f.Store.Stat(ctx, name)
	if list, listErr := f.List(ctx, name); i.Dir && listErr == nil && len(list) == 0 {
		return store.Info{}, store.ErrNotExist
	}
	return i, err
}

func TestProve(t *testing.T) {
	d := newTable(t)
	if err := Prove(t.Context(), d.s); err != nil {
		t.Error(err)
	}
	if err := Prove(t.Context(), overwriting{d.s}); err == nil {
		t.Error("a store that overwrites was taken")
	}
	if err := Prove(t.Context(), flat{d.s}); err == nil || !strings.Contains(err.Error(), "hierarchical") {
		t.Errorf("a store without folders: got %v, want that it is refused", err)
	}
	if left, err := d.s.List(t.Context(), ""); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v, want nothing", left, err)
	}
}

func TestPathsAreEncoded(t *testing.T) {
	for name, want := range map[string]string{
		"part-1.parquet": "part-1.parquet", "a b/c%d.parquet": "a%20b/c%25d.parquet", "x:y": "x%3Ay", "é?#+": "%C3%A9%3F%23+",
	} {
		got := EncodePath(name)
		if back, err := decodePath(got); got != want || back != name || err != nil {
			t.Errorf("%s: got %s, and back %s, %v, want %s", name, got, back, err, want)
		}
	}
	for _, p := range []string{"/a", "s3://b/a", "file:/a", "a/../b", "a//b", "%2e%2e/b", "%zz", ""} {
		if got, err := decodePath(p); err == nil {
			t.Errorf("%q: got %s, want an error", p, got)
		}
	}
}

// lostAnswer does every Put and says that it doesn't know.
type lostAnswer struct {
	store.Store
	drop bool
}

func (l lostAnswer) Put(ctx context.Context, name string, body []byte, c store.Cond) (store.Info, error) {
	if l.drop {
		return store.Info{}, store.ErrUnknown
	}
	if _, err := l.Store.Put(ctx, name, body, c); err != nil {
		return store.Info{}, store.ErrUnknown
	}
	return store.Info{}, store.ErrUnknown
}

func TestCommitSettlesAnUnknownOutcome(t *testing.T) {
	d := newTable(t)
	d.create()
	info := func() []Action { return []Action{{CommitInfo: &CommitInfo{Operation: "W"}}} }
	if v, err := Commit(t.Context(), lostAnswer{d.s, false}, 0, info()); v != 1 || err != nil {
		t.Errorf("written: got %d, %v, want 1", v, err)
	}
	if _, err := Commit(t.Context(), lostAnswer{d.s, false}, 0, info()); !errors.Is(err, ErrConflict) {
		t.Errorf("another's: got %v, want ErrConflict", err)
	}
	if _, err := Commit(t.Context(), lostAnswer{d.s, true}, 1, info()); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("not written: got %v, want ErrUnknown", err)
	}
}

func TestCheckpointStandsForTheCommitsBefore(t *testing.T) {
	d := newTable(t)
	p := ProtocolFor(people, true)
	meta := NewMetadata(SchemaString(people), map[string]string{"delta.enableDeletionVectors": "true", "a": "b c"})
	meta.Name, meta.Description = "näme", "what it is"
	d.commit(Action{Protocol: &p}, Action{Metadata: meta})
	d.commit(d.file("a.parquet", rows(0, 10)), d.file("b.parquet", rows(10, 20)), Action{Txn: &Txn{AppID: "x", Version: 1 << 60, LastUpdated: 3}})
	d.delete(0, 3, 4)
	d.delete(0, 7)
	d.commit(d.file("c.parquet", rows(20, 30)))
	gone := d.open(-1).Files[2]
	d.commit(gone.Removal(time.Now().UnixMilli()))
	want := d.open(-1)
	if err := want.Checkpoint(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for v := range d.v {
		if err := os.Remove(filepath.Join(d.dir, commitName(v))); err != nil {
			t.Fatal(err)
		}
	}
	got := d.open(-1)
	for i := range want.Files { // a checkpoint says that nothing is new
		want.Files[i].DataChange = false
	}
	for _, r := range want.state.removes {
		r.DataChange = false
	}
	if diff := cmp.Diff(want.Files, got.Files, cmpopts.IgnoreUnexported(File{})); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.state.removes, got.state.removes); diff != "" || len(got.state.removes) != 1 {
		t.Errorf("tombstones (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{want.Protocol, want.Metadata, want.Txns, want.Info}, []any{got.Protocol, got.Metadata, got.Txns, got.Info}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{0, 1, 2, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, d.ids(-1)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if _, err := Open(t.Context(), d.s, 1); err == nil || !strings.Contains(err.Error(), "lacks") {
		t.Errorf("version before the checkpoint: got %v, want that the log lacks it", err)
	}
	if err := got.Checkpoint(t.Context(), time.Now().Add(2*Retention)); err != nil {
		t.Fatal(err)
	}
	if n := len(d.open(-1).state.removes); n != 0 {
		t.Errorf("%d tombstones after their time, want none", n)
	}
}

// TestCheckpointWithParsedStatistics: the rows of a file are read where a writer
// keeps its statistics as columns and not as text, as Spark can be told to; a
// deletion vector means nothing without them.
func TestCheckpointWithParsedStatistics(t *testing.T) {
	text, long := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64
	f := func(name string, kind arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: kind, Nullable: true}
	}
	schema := arrow.NewSchema([]arrow.Field{f("add", arrow.StructOf(f("path", text), f("size", long), f("stats", text),
		f("stats_parsed", arrow.StructOf(f("numRecords", long), f("minValues", arrow.StructOf(f("id", long))))),
		f("deletionVector", arrow.StructOf(f("storageType", text), f("pathOrInlineDv", text), f("cardinality", long)))))}, nil)
	rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer rb.Release()
	const vector = `"deletionVector":{"storageType":"i","pathOrInlineDv":"x","cardinality":4}`
	for _, add := range []string{
		`{"path":"parsed","size":1,"stats_parsed":{"numRecords":10,"minValues":{"id":3}},` + vector + `}`,
		`{"path":"both","size":1,"stats":"{\"numRecords\":20}","stats_parsed":{"numRecords":10},` + vector + `}`,
		`{"path":"neither","size":1}`,
	} {
		if err := rb.UnmarshalJSON([]byte(`{"add":` + add + `}`)); err != nil {
			t.Fatal(err)
		}
	}
	rec := rb.NewRecordBatch()
	defer rec.Release()
	var data bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &data, nil, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	actions, err := decodeCheckpoint(data.Bytes())
	if err != nil || len(actions) != 3 {
		t.Fatalf("%d actions, %v", len(actions), err)
	}
	for i, want := range []int64{10, 20, -1} {
		file, err := newFile(actions[i].Add)
		if err != nil {
			t.Fatal(err)
		}
		if file.Rows != want {
			t.Errorf("%s: got %d rows, want %d", file.Name, file.Rows, want)
		}
	}
}

// A file or a vector that lived briefly leaves no tombstone, unless the vacuum
// needs it for what is older.
func TestBriefLivesLeaveNoTombstone(t *testing.T) {
	const now = 1e12
	small := &DeletionVector{StorageType: "i", PathOrInlineDv: "0", Cardinality: 1}
	large := &DeletionVector{StorageType: "u", PathOrInlineDv: "0", Cardinality: 1}
	for name, c := range map[string]struct {
		written, came int64 // ms ago
		vector        *DeletionVector
		again         bool // the path is added again, with another vector
		want          int  // tombstones
	}{
		"a file, at once":                {10, 10, nil, false, 0},
		"a file, later":                  {70_000, 70_000, nil, false, 1},
		"an old file that came at once":  {70_000, 10, nil, false, 1},
		"a file with a vector":           {10, 10, large, false, 0},
		"an old file with a vector":      {70_000, 10, large, false, 1},
		"a first vector for an old file": {70_000, 70_000, nil, true, 0},
		"a vector instead of a new one":  {70_000, 10, large, true, 0},
		"a vector instead of an old one": {70_000, 70_000, large, true, 1},
		"a vector of the log":            {70_000, 70_000, small, true, 0},
		"a file of the future":           {-10, -10, nil, false, 1},
	} {
		st := newState()
		add := &Add{Path: "a", Stats: `{"numRecords":3}`, ModificationTime: now - c.written, DeletionVector: c.vector}
		f := File{Add: *add}
		second := []Action{{CommitInfo: &CommitInfo{Timestamp: now}}, f.Removal(now)}
		if c.again {
			second = append(second, Action{Add: &Add{Path: "a", Stats: `{"numRecords":3}`, DeletionVector: &DeletionVector{StorageType: "i", PathOrInlineDv: "1"}}})
		}
		err := errors.Join(st.apply([]Action{{Add: add}, {CommitInfo: &CommitInfo{Timestamp: now - c.came}}}), st.apply(second))
		if err != nil || len(st.removes) != c.want {
			t.Errorf("%s: got %d tombstones, %v, want %d", name, len(st.removes), err, c.want)
		}
	}
}

// delete adds rows to the deletion vector of the file at position i.
func (t *table) delete(i int, dead ...uint64) {
	t.Helper()
	s := t.open(-1)
	f := s.Files[i]
	bm, err := s.Deleted(t.Context(), &f)
	if err != nil {
		t.Fatal(err)
	}
	if bm == nil {
		bm = roaring64.New()
	}
	bm.AddMany(dead)
	var v Vectors
	next := f.Add
	if next.DeletionVector, err = v.Add(bm); err == nil {
		next.Stats, err = Loosen(next.Stats)
	}
	if err == nil {
		err = v.Write(t.Context(), t.s)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.commit(f.Removal(time.Now().UnixMilli()), Action{Add: &next})
}

// Checkpoints of other writers have a column for sidecars, mostly an empty one.
func TestSidecars(t *testing.T) {
	for path, refused := range map[string]bool{`null`: false, `{"path":"x.parquet"}`: true} {
		text := arrow.BinaryTypes.String
		schema := arrow.NewSchema([]arrow.Field{{Name: "txn", Nullable: true, Type: arrow.StructOf(arrow.Field{Name: "appId", Type: text, Nullable: true})},
			{Name: "sidecar", Nullable: true, Type: arrow.StructOf(arrow.Field{Name: "path", Type: text, Nullable: true})}}, nil)
		rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		if err := rb.UnmarshalJSON([]byte(`{"txn":{"appId":"a"},"sidecar":` + path + `}`)); err != nil {
			t.Fatal(err)
		}
		var w bytes.Buffer
		fw, err := pqarrow.NewFileWriter(schema, &w, nil, pqarrow.DefaultWriterProps())
		if err == nil {
			err = errors.Join(fw.Write(rb.NewRecordBatch()), fw.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		actions, err := decodeCheckpoint(w.Bytes())
		if errors.Is(err, ErrUnsupported) != refused || !refused && (len(actions) != 1 || actions[0].Txn.AppID != "a") {
			t.Errorf("sidecar %s: got %+v, %v", path, actions, err)
		}
	}
}

func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	ok := `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`
	meta := `{"metaData":{"id":"1","format":{"provider":"parquet"},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}`
	for name, c := range map[string]struct{ protocol, meta, word string }{
		"reader version":  {`{"protocol":{"minReaderVersion":4,"minWriterVersion":7}}`, meta, "reader version 4"},
		"reader feature":  {`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["v2Checkpoint"],"writerFeatures":["v2Checkpoint"]}}`, meta, "v2Checkpoint"},
		"column mapping":  {ok, strings.Replace(meta, `"configuration":{}`, `"configuration":{"delta.columnMapping.mode":"name"}`, 1), "column mapping by name"},
		"partitions":      {ok, strings.Replace(meta, `"partitionColumns":[]`, `"partitionColumns":["d"]`, 1), "partition columns (d)"},
		"data format":     {ok, strings.Replace(meta, `"parquet"`, `"orc"`, 1), `data format "orc"`},
		"nested type":     {ok, strings.Replace(meta, `\"fields\":[]`, `\"fields\":[{\"name\":\"a\",\"type\":{\"type\":\"array\"}}]`, 1), "nested type"},
		"unknown type":    {ok, strings.Replace(meta, `\"fields\":[]`, `\"fields\":[{\"name\":\"a\",\"type\":\"variant\"}]`, 1), "type variant"},
		"writer features": {`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["inCommitTimestamp"]}}`, meta, "inCommitTimestamp"},
		"append only":     {ok, strings.Replace(meta, `"configuration":{}`, `"configuration":{"delta.appendOnly":"true"}`, 1), "appendOnly"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTable(t)
			if _, err := d.s.Put(t.Context(), commitName(0), []byte(c.protocol+"\n"+c.meta+"\n"), store.Cond{}); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), d.s, -1)
			if err == nil {
				err = s.CheckWritable()
			}
			if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.word) {
				t.Errorf("got %v, want ErrUnsupported with %q", err, c.word)
			}
		})
	}
}

func TestProtocolGrowsAndNeverShrinks(t *testing.T) {
	plain, vectors := ProtocolFor(people, false), ProtocolFor(people, true)
	if plain.Covers(vectors) || !vectors.With(plain).Covers(plain) {
		t.Errorf("%+v and %+v", plain, vectors)
	}
	ntz := ProtocolFor(&batch.Schema{Fields: []batch.Field{{Name: "t", Type: batch.Type{Kind: batch.TimestampNTZ}}}}, false)
	want := Protocol{MinReader: 3, MinWriter: 7, ReaderFeatures: []string{"deletionVectors", "timestampNtz"}, WriterFeatures: []string{"appendOnly", "deletionVectors", "invariants", "timestampNtz"}}
	if diff := cmp.Diff(want, plain.With(vectors).With(ntz)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTornFilesAreErrorsWithTheirPath(t *testing.T) {
	build := func(t *testing.T) *table {
		d := newTable(t)
		d.create()
		d.commit(d.file("a.parquet", rows(0, 2000)))
		d.delete(0, 3, 400, 1999)
		if err := d.open(-1).Checkpoint(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		d.commit(d.file("b.parquet", rows(2000, 2100)))
		return d
	}
	want := build(t).ids(-1)
	files, err := filepath.Glob(filepath.Join(build(t).dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	torn := []string{commitName(3), fmt.Sprintf("%s/%020d.checkpoint.parquet", logDir, 2)}
	for _, f := range files {
		torn = append(torn, filepath.Base(f))
	}
	for _, glob := range torn {
		for _, part := range []int64{0, 1, 3, 5, 7, 9} {
			d := build(t)
			if strings.HasPrefix(glob, "deletion_vector") {
				glob = "deletion_vector*"
			}
			match, err := filepath.Glob(filepath.Join(d.dir, glob))
			if err != nil || len(match) == 0 {
				continue
			}
			fi, err := os.Stat(match[0])
			if err != nil || fi.IsDir() {
				continue
			}
			if err := os.Truncate(match[0], fi.Size()*part/10); err != nil {
				t.Fatal(err)
			}
			var got []int64
			s, err := Open(t.Context(), d.s, -1)
			if err == nil {
				err = s.Scan(t.Context(), []string{"id"}, func(_ File, b *batch.Batch, live []int32) error {
					for _, i := range live {
						got = append(got, b.Cols[0].I64[i])
					}
					return nil
				})
			}
			if err == nil {
				t.Errorf("%s cut to %d0 %%: no error, %d rows of %d", glob, part, len(got), len(want))
			} else if !strings.Contains(err.Error(), filepath.Base(match[0])) {
				t.Errorf("%s cut to %d0 %%: %v does not name the file", glob, part, err)
			}
		}
	}
}

func TestColumnsThatAFileLacksAreNull(t *testing.T) {
	d := newTable(t)
	d.create()
	d.commit(d.file("a.parquet", rows(0, 2)))
	wide := &batch.Schema{Fields: append(people.Fields[:2:2], batch.Field{Name: "n", Type: batch.Type{Kind: batch.Decimal, Precision: 30, Scale: 2}})}
	m := d.open(-1).Metadata
	m.SchemaString = SchemaString(wide)
	d.commit(Action{Metadata: &m})
	err := d.open(-1).Scan(t.Context(), []string{"n", "id"}, func(_ File, b *batch.Batch, live []int32) error {
		if diff := cmp.Diff([]int16{0, 0}, b.Cols[0].Def); diff != "" || b.Cols[1].I64[1] != 1 || len(live) != 2 {
			t.Errorf("got %+v", b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.open(-1).Scan(t.Context(), []string{"nix"}, nil); err == nil {
		t.Error("an unknown column was read")
	}
}

// TestCommitInfoOfOthers reads what other engines put there, in other forms.
func TestCommitInfoOfOthers(t *testing.T) {
	actions, err := decode([]byte(`{"commitInfo":{"timestamp":7,"operation":"RESTORE","operationParameters":{"version":3},"userMetadata":{"a":1},"isBlindAppend":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c := actions[0].CommitInfo; c.Timestamp != 7 || c.Operation != "RESTORE" || c.User != "" {
		t.Errorf("got %+v", c)
	}
}

// A large file is read row group by row group, each knowing where it begins.
func TestReadGroups(t *testing.T) {
	tab := newTable(t)
	tab.create()
	n := parquet.RowGroupRows + 3
	b := batch.New(people, false)
	for i := range n {
		b.Cols[0].AppendInt64(int64(i))
		for c := 1; c < len(b.Cols); c++ {
			b.Cols[c].AppendNull()
		}
	}
	b.SetRows(n)
	tab.commit(tab.file("large.parquet", b))
	s := tab.open(-1)
	rows, groups := 0, 0
	err := s.ReadGroups(t.Context(), &s.Files[0], []string{"id"}, func(b *batch.Batch, before int) error {
		for i, id := range b.Cols[0].I64 {
			if id != int64(before+i) {
				t.Fatalf("row %d after %d has id %d", i, before, id)
			}
		}
		rows += b.Rows()
		groups++
		return nil
	})
	if err != nil || rows != n || groups != 2 {
		t.Errorf("got %d rows in %d groups, %v; want %d in 2", rows, groups, err, n)
	}
}

// A file that was written long ago and removed lately stays: versions within the
// retention hold it.
func TestVacuumHoldsWhatWasRemovedLately(t *testing.T) {
	d := newTable(t)
	d.create()
	d.commit(d.file("a.parquet", rows(0, 10)))
	now := time.Now()
	old := now.Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(d.dir, "a.parquet"), old, old); err != nil {
		t.Fatal(err)
	}
	d.commit(d.open(-1).Files[0].Removal(now.Add(-time.Hour).UnixMilli()))
	if n, err := d.open(-1).Vacuum(t.Context(), now); n != 0 || err != nil {
		t.Errorf("within the retention: deleted %d files, %v, want none", n, err)
	}
	if n, err := d.open(-1).Vacuum(t.Context(), now.Add(Retention)); n != 1 || err != nil {
		t.Errorf("beyond the retention: deleted %d files, %v, want 1", n, err)
	}
}
