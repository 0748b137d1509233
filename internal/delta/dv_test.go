package delta

import (
	"bytes"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// The inline example of the protocol is in the older layout.
func TestInlineVectorOfTheProtocol(t *testing.T) {
	s := &Snapshot{}
	f := &File{Name: "x", Rows: 30, Add: Add{DeletionVector: &DeletionVector{StorageType: "i",
		PathOrInlineDv: "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", SizeInBytes: 40, Cardinality: 6}}}
	bm, err := s.Deleted(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{3, 4, 7, 11, 18, 29}, bm.ToArray()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.Rows = 29
	if _, err := s.Deleted(t.Context(), f); err == nil {
		t.Error("a vector beyond the file's end was taken")
	}
	f.Rows, f.DeletionVector.Cardinality = 30, 5
	if _, err := s.Deleted(t.Context(), f); err == nil {
		t.Error("a vector of another cardinality was taken")
	}
}

func TestVectorFileNames(t *testing.T) {
	for in, want := range map[string]string{
		"ab^-aqEH.-t@S}K{vb[*k^": "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin", // the protocol's example 1
		"^-aqEH.-t@S}K{vb[*k^":   "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin",
	} {
		if got, err := vectorName(in); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "short", "..^-aqEH.-t@S}K{vb[*k^", "a/b^-aqEH.-t@S}K{vb[*k^", "^-aqEH.-t@S}K{vb[*k\x00"} {
		if got, err := vectorName(bad); err == nil {
			t.Errorf("%q: got %s, want an error", bad, got)
		}
	}
}

func TestVectorsReadBackWhatWasWritten(t *testing.T) {
	d := newTable(t)
	d.create()
	sets := []*roaring64.Bitmap{roaring64.BitmapOf(0), roaring64.BitmapOf(1, 5, 70000, 1<<32+7), roaring64.New(), roaring64.New()}
	for i := range uint64(300000) {
		sets[2].Add(i * i)
		sets[3].Add(3 * i)
	}
	var v Vectors
	var files []File
	for i, bm := range sets {
		dv, err := v.Add(bm)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{true: "i", false: "u"}[i < 2]; dv.StorageType != want {
			t.Errorf("vector %d: got storage type %s, want %s", i, dv.StorageType, want)
		}
		files = append(files, File{Name: "x", Rows: -1, Add: Add{DeletionVector: dv}})
	}
	if err := v.Write(t.Context(), d.s); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		got, err := d.open(-1).Deleted(t.Context(), &files[i])
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equals(sets[i]) {
			t.Errorf("vector %d: got %v, want %v", i, got, sets[i])
		}
	}
}

func TestZ85(t *testing.T) {
	if got := encodeZ85([]byte{0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B}); got != "HelloWorld" {
		t.Errorf("got %s, want HelloWorld", got)
	}
	id := uuid.New()
	if got, err := decodeZ85(encodeZ85(id[:])); !bytes.Equal(got, id[:]) || err != nil {
		t.Errorf("got %x, %v, want %x", got, err, id)
	}
}
