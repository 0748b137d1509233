package replicator

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// clockStore has its files be as old as a clock says that is not the machine's.
type clockStore struct {
	*store.Dir
	now func() time.Time
}

func (c clockStore) Put(ctx context.Context, name string, body []byte, cond store.Cond) (store.Info, error) {
	i, err := c.Dir.Put(ctx, name, body, cond)
	if err == nil {
		err = os.Chtimes(c.Path(name), c.now(), c.now())
	}
	return i, err
}

// hour is a mirror of small changes to several tables, each second, whose time
// passes as fast as the work is done.
type hour struct {
	*testing.B
	zone, lake store.Store
	r          *Replicator
	now        time.Time
	dirs       []string // of the tables
	live       [][]int64
	next       int64
	n          int64 // last file of every table
	random     *rand.Rand
}

const (
	hourTables  = 8
	hourRows    = 20_000 // a table
	hourChanges = 500    // a second, over all tables: a third each of inserts, updates and deletes
)

func newHour(b *testing.B) *hour {
	dir, err := os.MkdirTemp(fast(), "hour")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	h := &hour{B: b, now: time.Now(), live: make([][]int64, hourTables), random: rand.New(rand.NewPCG(1, 2))}
	clock := func() time.Time { return h.now }
	open := func(name string) store.Store {
		s, err := store.OpenDir(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		return clockStore{s, clock}
	}
	h.zone, h.lake = open("landing"), open("lake")
	h.r = New(Config{Landing: h.zone, Tables: h.lake, AppID: "bench", KeyCache: filepath.Join(dir, "keys"), Upkeep: Upkeep{Retention: time.Hour}})
	h.r.now = clock
	for i := range hourTables {
		h.dirs = append(h.dirs, fmt.Sprintf("public/t%d", i))
		h.put(fmt.Sprintf("public.schema/t%d/%s", i, landing.MetadataFile), []byte(`{"keyColumns":["id"]}`))
	}
	h.publish(hourRows, 0)
	h.round()
	h.tidy()
	return h
}

func (h *hour) put(name string, body []byte) {
	if _, err := h.zone.Put(h.Context(), name, body, store.Cond{}); err != nil {
		h.Fatal(err)
	}
}

// publish gives every table a file of that many inserts, and as many updates and
// deletes as it has changes.
func (h *hour) publish(inserts, changes int) {
	h.n++
	s := &batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "n", Type: batch.Type{Kind: batch.Int64}},
		{Name: "text", Type: batch.Type{Kind: batch.String}}}}
	for i := range hourTables {
		rows := batch.New(s, true)
		row := func(marker int32, id int64) {
			rows.Cols[0].AppendInt64(id)
			rows.Cols[1].AppendInt64(h.n)
			rows.Cols[2].AppendBytes(strconv.AppendInt([]byte("a row's text "), id, 10))
			rows.EndMarkedRow(marker)
		}
		for range inserts {
			id := int64(mix(uint64(h.next)) >> 1)
			h.next++
			h.live[i] = append(h.live[i], id)
			row(batch.Insert, id)
		}
		for range changes {
			row(batch.Upsert, h.live[i][h.random.IntN(len(h.live[i]))])
			k, last := h.random.IntN(len(h.live[i])), len(h.live[i])-1
			row(batch.Delete, h.live[i][k])
			h.live[i][k] = h.live[i][last]
			h.live[i] = h.live[i][:last]
		}
		var w bytes.Buffer
		if err := parquet.Write(&w, rows, nil); err != nil {
			h.Fatal(err)
		}
		h.put(fmt.Sprintf("public.schema/t%d/%s", i, landing.FileName(h.n)), w.Bytes())
	}
}

// round applies what was published, without upkeep.
func (h *hour) round() time.Duration {
	start := time.Now()
	var wg sync.WaitGroup
	err := h.r.scan(h.Context(), &wg)
	wg.Wait()
	took := time.Since(start)
	for _, s := range h.r.Status() {
		if s.Error != "" || s.LastFile != h.n {
			h.Fatalf("got %+v, want file %d", s, h.n)
		}
	}
	if err != nil {
		h.Fatal(err)
	}
	return took
}

func (h *hour) tidy() time.Duration {
	start := time.Now()
	h.r.upkeepOnce(h.Context())
	return time.Since(start)
}

// look is what the tables are like at one time, on average.
type look struct {
	files, live, log, checkpoint int64
	heap                         uint64
	apply, upkeep                time.Duration
}

func (h *hour) look(apply, upkeep []time.Duration) look {
	l := look{apply: median(apply)}
	for _, d := range upkeep {
		l.upkeep += d / time.Duration(len(upkeep))
	}
	for _, dir := range h.dirs {
		table := store.Sub(h.lake, dir)
		s, err := delta.Open(h.Context(), table, -1)
		if err != nil {
			h.Fatal(err)
		}
		data, err := table.List(h.Context(), "")
		if err != nil {
			h.Fatal(err)
		}
		log, err := table.List(h.Context(), "_delta_log")
		if err != nil {
			h.Fatal(err)
		}
		l.files, l.live, l.log = l.files+int64(len(data)), l.live+int64(len(s.Files)), l.log+int64(len(log))
		last := int64(0)
		for _, i := range log {
			if strings.HasSuffix(i.Name, ".checkpoint.parquet") {
				last = i.Size
			}
		}
		l.checkpoint += last
	}
	for _, v := range []*int64{&l.files, &l.live, &l.log, &l.checkpoint} {
		*v /= hourTables
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	l.heap = m.HeapAlloc
	return l
}

func (l look) String() string {
	return fmt.Sprintf("apply %5.1f ms, upkeep %5.1f ms a round; a table: %d live files, %d files, %d in the log, checkpoint %.1f KiB; heap %.1f MiB",
		l.apply.Seconds()*1000, l.upkeep.Seconds()*1000, l.live, l.files, l.log, float64(l.checkpoint)/1024, float64(l.heap)/(1<<20))
}

// BenchmarkHour has 500 changes a second on 8 tables, published every second,
// pass as fast as they can be applied, for an hour after the hour of retention
// in which history gathers. It tells what the tables are like at the beginning
// and at the end of that hour; "ratio" metrics are end by beginning. Minutes in
// PGMIRROR_BENCH_MINUTES make it shorter or longer.
func BenchmarkHour(b *testing.B) {
	minutes := 130
	if n, err := strconv.Atoi(os.Getenv("PGMIRROR_BENCH_MINUTES")); err == nil {
		minutes = n
	}
	h := newHour(b)
	var looks []look
	var apply, upkeep []time.Duration
	for m := range minutes {
		for range 60 {
			h.now = h.now.Add(time.Second)
			h.publish(hourChanges/hourTables/3, hourChanges/hourTables/3)
			apply, upkeep = append(apply, h.round()), append(upkeep, h.tidy())
		}
		if m%10 == 9 {
			looks = append(looks, h.look(apply, upkeep))
			b.Logf("minute %3d: %v", m+1, looks[len(looks)-1])
			apply, upkeep = nil, nil
		}
	}
	first, last := looks[max(0, len(looks)-7)], looks[len(looks)-1]
	b.ReportMetric(last.apply.Seconds()/first.apply.Seconds(), "apply-ratio")
	b.ReportMetric(float64(last.live)/float64(first.live), "live-ratio")
	b.ReportMetric(float64(last.files+last.log)/float64(first.files+first.log), "files-ratio")
	b.ReportMetric(float64(last.checkpoint)/float64(first.checkpoint), "checkpoint-ratio")
	b.ReportMetric(float64(last.heap)/float64(first.heap), "heap-ratio")
	for i, dir := range h.dirs {
		want := slices.Sorted(slices.Values(h.live[i]))
		if got := h.ids(dir); !slices.Equal(got, want) {
			b.Errorf("%s: %d rows, want %d, or they differ", dir, len(got), len(want))
		}
	}
}

func (h *hour) ids(dir string) []int64 {
	s, err := delta.Open(h.Context(), store.Sub(h.lake, dir), -1)
	if err != nil {
		h.Fatal(err)
	}
	var out []int64
	err = s.Scan(h.Context(), []string{"id"}, func(_ delta.File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			out = append(out, b.Cols[0].I64[i])
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	slices.Sort(out)
	return out
}
