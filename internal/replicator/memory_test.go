package replicator

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// TestMemoryIsBounded applies large change files to several tables at once: what
// is held at any moment stays within the budget, whatever there is to do.
func TestMemoryIsBounded(t *testing.T) {
	const tables, budget = 6, 24 << 20
	dir := t.TempDir()
	c := Config{AppID: "memory", Workers: tables, Budget: budget, FileBytes: 1 << 20, KeyCache: filepath.Join(dir, "keys")}
	for name, s := range map[string]*store.Store{"landing": &c.Landing, "lake": &c.Tables} {
		d, err := store.OpenDir(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		*s = d
	}
	first, second := largeFile(t, false), largeFile(t, true)
	put := func(number int64, body []byte) {
		for i := range tables {
			folder := fmt.Sprintf("public.schema/t%d/", i)
			for name, b := range map[string][]byte{landing.MetadataFile: []byte(`{"keyColumns":["id"]}`), landing.FileName(number): body} {
				if _, err := c.Landing.Put(t.Context(), folder+name, b, store.Cond{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	r := New(c)
	put(1, first)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(2, second)
	peak := peakHeap(t, func() {
		if err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	for _, s := range r.Status() {
		if s.Error != "" || s.LastFile != 2 {
			t.Fatalf("got %+v, want file 2 applied", s)
		}
	}
	t.Logf("files of %d KiB, peak %d KiB", len(second)>>10, peak>>10)
	if peak > budget {
		t.Errorf("peak %d KiB, want at most %d", peak>>10, budget>>10)
	}
}

// largeFile has rows that don't compress.
func largeFile(t *testing.T, marked bool) []byte {
	rnd := rand.New(rand.NewPCG(1, 1))
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "v", Type: batch.Type{Kind: batch.String}}}}, marked)
	for id := range int64(12_000) {
		b.Cols[0].AppendInt64(id)
		v := make([]byte, 0, 160)
		for range 20 {
			v = fmt.Appendf(v, "%08x", rnd.Uint32())
		}
		b.Cols[1].AppendBytes(v)
		if marked {
			b.EndMarkedRow(batch.Upsert)
		} else {
			b.EndRow()
		}
	}
	var out bytes.Buffer
	if err := parquet.Write(&out, b, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// peakHeap is how much the heap grows while f runs, with a collector that leaves
// little garbage.
func peakHeap(t *testing.T, f func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	most := before
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				metrics.Read(sample)
				most = max(most, sample[0].Value.Uint64())
			}
		}
	})
	f()
	close(done)
	wg.Wait()
	return int64(most - before)
}
