package delta

import (
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/store"
)

func FuzzLog(f *testing.F) {
	p := ProtocolFor(people, true)
	seed, err := encode([]Action{{CommitInfo: &CommitInfo{Operation: "W"}}, {Protocol: &p}, {Metadata: NewMetadata(SchemaString(people), nil)},
		{Add: &Add{Path: "a", Stats: `{"numRecords":3}`, DeletionVector: &DeletionVector{StorageType: "i", Cardinality: 1}}}, {Remove: &Remove{Path: "b"}}, {Txn: &Txn{AppID: "x"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"add":{"path":"%zz"}}`))
	f.Add([]byte(`{"commitInfo":{"timestamp":"x","operation":7,"operationParameters":{"version":3},"userMetadata":{}}}`))
	f.Add([]byte(`{"add":{"path":"../x","stats":"{"}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		actions, err := decode(data)
		if err != nil {
			return
		}
		st := newState()
		if st.apply(actions) != nil {
			return
		}
		s, err := st.snapshot(nil, 0)
		if err != nil {
			return
		}
		for _, f := range s.Files {
			if f.DeletionVector != nil && f.Live() < 0 {
				t.Fatalf("%d live rows of %d", f.Live(), f.Rows)
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	p := ProtocolFor(people, true)
	seed, err := encodeCheckpoint([]Action{{Protocol: &p}, {Metadata: NewMetadata(SchemaString(people), map[string]string{"a": "b"})},
		{Add: &Add{Path: "a", PartitionValues: map[string]string{}, Stats: Stats(batch.New(people, false))}}, {Txn: &Txn{AppID: "x"}}}, p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		actions, err := decodeCheckpoint(data)
		if err == nil && newState().apply(actions) == nil && len(actions) == 0 {
			t.Fatal("no action, and no error")
		}
	})
}

func FuzzVector(f *testing.F) {
	for _, bm := range []*roaring64.Bitmap{roaring64.New(), roaring64.BitmapOf(1, 2, 1<<40)} {
		b, err := encodeVector(bm)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	old, err := decodeZ85("wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(old)
	f.Fuzz(func(t *testing.T, data []byte) {
		bm, err := decodeVector(data)
		if err != nil {
			return
		}
		again, err := encodeVector(bm)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeVector(again); err != nil || !back.Equals(bm) {
			t.Fatalf("got %v, %v, want %v", back, err, bm)
		}
	})
}

// FuzzDescriptor reads vectors by descriptors that a foreign log may hold, out
// of the log and out of a file.
func FuzzDescriptor(f *testing.F) {
	table, err := store.OpenDir(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	large := roaring64.New()
	for i := range uint64(1000) {
		large.Add(3 * i)
	}
	var v Vectors
	for _, bm := range []*roaring64.Bitmap{roaring64.BitmapOf(3, 4, 7), large} {
		d, err := v.Add(bm)
		if err != nil {
			f.Fatal(err)
		}
		offset := int32(0)
		if d.Offset != nil {
			offset = *d.Offset
		}
		f.Add(d.StorageType, d.PathOrInlineDv, offset, d.SizeInBytes, d.Cardinality)
	}
	if err := v.Write(f.Context(), table); err != nil {
		f.Fatal(err)
	}
	f.Add("p", "/somewhere/else", int32(1), int32(40), int64(6))
	f.Fuzz(func(t *testing.T, storage, path string, offset, size int32, cardinality int64) {
		const rows = 1 << 20
		d := &DeletionVector{StorageType: storage, PathOrInlineDv: path, Offset: &offset, SizeInBytes: size, Cardinality: cardinality}
		s := &Snapshot{table: table}
		bm, err := s.Deleted(t.Context(), &File{Name: "x", Rows: rows, Add: Add{DeletionVector: d}})
		if err == nil && (int64(bm.GetCardinality()) != cardinality || !bm.IsEmpty() && bm.Maximum() >= rows) {
			t.Fatalf("got %d rows up to %d, want %d below %d", bm.GetCardinality(), bm.Maximum(), cardinality, rows)
		}
	})
}
