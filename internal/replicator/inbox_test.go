package replicator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/store"
)

// byTimeZone is a zone whose files are found by their times.
func byTimeZone(t *testing.T) *zone {
	z := newZone(t, t.TempDir(), true)
	z.put("_metadata.json", []byte(`{"keyColumns":["id"],"fileDetectionStrategy":"LastUpdateTimeFileDetection","isUpsertDefaultRowMarker":true}`))
	return z
}

// at puts a file of one row with a time, in minutes.
func (z *zone) at(minute int, name string, id int64, value string) {
	z.Helper()
	z.put(name, z.file(false, nil, row{id: id, values: []any{value}}))
	when := time.Now().Add(-time.Hour).Add(time.Duration(minute) * time.Minute)
	if err := os.Chtimes(filepath.Join(z.dir, "landing", shop, name), when, when); err != nil {
		z.Fatal(err)
	}
}

func TestFilesByTime(t *testing.T) {
	z := byTimeZone(t)
	r := New(z.config)
	z.at(2, "a.parquet", 1, "second")
	z.at(1, "z.parquet", 1, "first")
	z.at(3, "_draft.parquet", 1, "draft")
	z.at(3, "note.txt", 1, "no file")
	if s := z.round(r); s.State != Replicating || s.ProcessedRows != 2 {
		t.Fatalf("got %+v, want 2 rows", s)
	}
	if d := cmp.Diff([]string{"1 second"}, z.read(-1)); d != "" {
		t.Error(d)
	}
	// The same name again is another file, and so is an earlier time.
	z.round(r)
	z.at(0, "a.parquet", 1, "third")
	z.at(5, "b.parquet", 2, "b")
	z.round(r)
	z.round(r)
	if d := cmp.Diff([]string{"1 third", "2 b"}, z.read(-1)); d != "" {
		t.Error(d)
	}
	left, err := z.landing.List(context.Background(), shop+"/_ProcessedFiles")
	if err != nil || len(left) != 4 {
		t.Errorf("processed files: got %v %v, want 4", left, err)
	}
}

// stuck is a store in which nothing can be renamed: a crash comes first.
type stuck struct{ store.Store }

func (s stuck) Rename(context.Context, string, string) error { return fmt.Errorf("crash") }

// TestFilesByTimeOnce: what a commit applied and a crash left is not applied again.
func TestFilesByTimeOnce(t *testing.T) {
	z := byTimeZone(t)
	z.put("_metadata.json", []byte(`{"fileDetectionStrategy":"LastUpdateTimeFileDetection"}`))
	z.at(1, "a.parquet", 1, "once")
	c := z.config
	c.Landing = stuck{z.landing}
	if err := New(c).Once(context.Background()); err != nil {
		t.Fatal(err)
	}
	z.at(0, "b.parquet", 2, "later")
	for range 3 {
		z.round(New(z.config))
	}
	if d := cmp.Diff([]string{"1 once", "2 later"}, z.read(-1)); d != "" {
		t.Error(d)
	}
}
