package replicator

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// benchKeys makes the key of row n, random and spread evenly: the key's order
// says nothing of the row's place.
var benchKeys = map[string]struct {
	kind   batch.Kind
	append func(c *batch.Column, n uint64)
}{
	"bigint": {batch.Int64, func(c *batch.Column, n uint64) { c.AppendInt64(int64(mix(n))) }},
	"uuid": {batch.String, func(c *batch.Column, n uint64) {
		var u uuid.UUID
		binary.BigEndian.PutUint64(u[:], mix(n))
		binary.BigEndian.PutUint64(u[8:], mix(n+1<<40))
		c.AppendBytes([]byte(u.String()))
	}},
}

// mix is splitmix64: a bijection, so that no two rows share a key.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

type benchTable struct {
	landing store.Store
	lake    *countingStore
	r       *Replicator
	key     string
	rows    uint64
	n       int64
}

// newBenchTable makes a table of that many rows, in files of a million, indexed
// and in shape.
func newBenchTable(b *testing.B, key string, rows uint64) *benchTable {
	dir := b.TempDir()
	zone, err := store.OpenDir(filepath.Join(dir, "landing"))
	if err != nil {
		b.Fatal(err)
	}
	lake, err := store.OpenDir(filepath.Join(dir, "lake"))
	if err != nil {
		b.Fatal(err)
	}
	t := &benchTable{landing: zone, lake: &countingStore{Store: lake}, key: key}
	t.r = New(Config{Landing: zone, Tables: t.lake, AppID: "bench", KeyCache: filepath.Join(dir, "keys")})
	if _, err := zone.Put(b.Context(), shop+"/"+landing.MetadataFile, []byte(`{"keyColumns":["id"]}`), store.Cond{}); err != nil {
		b.Fatal(err)
	}
	for t.rows < rows {
		t.publish(b, false, 0, min(1<<20, rows-t.rows))
	}
	t.once(b)
	t.publish(b, true, 1, 1) // the first change makes the key files
	t.once(b)
	t.once(b)
	return t
}

func (t *benchTable) once(b *testing.B) {
	if err := t.r.Once(b.Context()); err != nil {
		b.Fatal(err)
	}
	if s := t.r.Status(); s[0].Error != "" || s[0].LastFile != t.n {
		b.Fatalf("got %+v, want file %d", s, t.n)
	}
}

// publish writes a file of changes to random rows and of new rows.
func (t *benchTable) publish(b *testing.B, marked bool, updates, inserts uint64) {
	k := benchKeys[t.key]
	s := &batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: k.kind}}, {Name: "at", Type: batch.Type{Kind: batch.Timestamp}},
		{Name: "n", Type: batch.Type{Kind: batch.Int64}}, {Name: "text", Type: batch.Type{Kind: batch.String}}}}
	rows := batch.New(s, marked)
	put := func(n uint64) {
		k.append(&rows.Cols[0], n)
		rows.Cols[1].AppendInt64(int64(n) * 1e6)
		rows.Cols[2].AppendInt64(int64(n % 1000))
		rows.Cols[3].AppendBytes(strconv.AppendUint([]byte("a row's text "), n, 10))
		if marked {
			rows.EndMarkedRow(batch.Upsert)
		} else {
			rows.EndRow()
		}
	}
	for range updates {
		put(rand.Uint64N(t.rows))
	}
	for range inserts {
		put(t.rows)
		t.rows++
	}
	var w bytes.Buffer
	if err := parquet.Write(&w, rows, nil); err != nil {
		b.Fatal(err)
	}
	t.n++
	if _, err := t.landing.Put(context.Background(), shop+"/"+landing.FileName(t.n), w.Bytes(), store.Cond{}); err != nil {
		b.Fatal(err)
	}
}

// apply applies a file without the upkeep that Run does beside.
func (t *benchTable) apply(b *testing.B) time.Duration {
	start := time.Now()
	folders, err := landing.Folders(b.Context(), t.landing, "dbo")
	if err != nil {
		b.Fatal(err)
	}
	x := t.r.table(folders[0])
	x.sync(b.Context(), folders[0])
	took := time.Since(start)
	if s := t.r.Status(); s[0].Error != "" || s[0].LastFile != t.n {
		b.Fatalf("got %+v, want file %d", s, t.n)
	}
	return took
}

// BenchmarkChanges applies 100,000 changes, half updates of random rows and half
// inserts, in turn to a table of 100,000 rows and to one of PGMIRROR_BENCH_ROWS
// (10,000,000 by default): "ratio" is the median of the one's times by the
// other's, "data-B" what the large one's commits read of data files.
func BenchmarkChanges(b *testing.B) {
	large := uint64(10_000_000)
	if n, err := strconv.ParseUint(os.Getenv("PGMIRROR_BENCH_ROWS"), 10, 64); err == nil {
		large = n
	}
	for _, key := range []string{"bigint", "uuid"} {
		b.Run(fmt.Sprintf("%s/%d", key, large), func(b *testing.B) {
			tables := []*benchTable{newBenchTable(b, key, 100_000), newBenchTable(b, key, large)}
			var took [2][]time.Duration
			tables[1].lake.data = 0
			b.ResetTimer()
			for range max(b.N, 5) {
				for i, t := range tables {
					b.StopTimer()
					t.publish(b, true, 50_000, 50_000)
					b.StartTimer()
					took[i] = append(took[i], t.apply(b))
				}
			}
			b.StopTimer()
			small, big := median(took[0]), median(took[1])
			b.ReportMetric(small.Seconds()*1000, "small-ms")
			b.ReportMetric(big.Seconds()*1000, "large-ms")
			b.ReportMetric(big.Seconds()/small.Seconds(), "ratio")
			b.ReportMetric(float64(tables[1].lake.data), "data-B")
			b.Logf("small %v, large %v", took[0], took[1])
		})
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
