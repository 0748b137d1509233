package delta

import (
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/pgmirror/pgmirror/internal/batch"
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
