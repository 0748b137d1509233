package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/store"
)

// A comparison stays within its memory, however many rows the table has and
// however many of them lie in ranges that differ.
func TestMemory(t *testing.T) {
	const rows, every, memory, slack = 300_000, 300, 2 << 20, 4 << 20
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, fmt.Sprintf("INSERT INTO items SELECT i, 'x', i FROM generate_series(1, %d) i", rows), "ANALYZE items")
	m := manyFiles{reads: map[string]int{}}
	name := "x"
	var file []item
	for i := range rows {
		row := item{int64(i + 1), &name, int64(i+1) * 100}
		if i%every == 0 {
			row.price++
		}
		if file = append(file, row); len(file) == 10_000 {
			m.add(file)
			file = nil
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	peak, stop := watchHeap()
	got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: time.Millisecond, Workers: 1, Memory: memory, open: m.open}).Tables[0]
	stop()
	if got.Differing != rows/every || got.Truncated || got.State != Differs {
		t.Errorf("got %s, %d rows differ, truncated %t, want %d", got.State, got.Differing, got.Truncated, rows/every)
	}
	if p := peak.Load(); p > memory+slack {
		t.Errorf("it took %d MiB, want at most %d", p>>20, (memory+slack)>>20)
	} else {
		t.Logf("%d rows, %d of them different, in %.1f MiB", rows, got.Differing, float64(p)/(1<<20))
	}
}

// Of a table with more differences than are followed, the others cost no reading.
func TestFewPasses(t *testing.T) {
	const rows, wrong, candidates, most = 200_000, 900, 100, 6 // in half of the ranges; the last look is one
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, fmt.Sprintf("INSERT INTO items SELECT i, '', 1 FROM generate_series(1, %d) i", rows), "ANALYZE items")
	m := manyFiles{reads: map[string]int{}}
	m.add(wrongItems(rows, wrong))
	got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: time.Millisecond, Workers: 1, Memory: 1, open: m.open}).Tables[0]
	if got.State != Differs || got.Differing != candidates || !got.Truncated || m.reads["all"] > most {
		t.Errorf("got %s, %d differ, truncated %t, after %d passes; want %d in at most %d", got.State, got.Differing, got.Truncated, m.reads["all"], candidates, most)
	}
}

// wrongItems are items of price 1 in the mirror, the first of which have another.
func wrongItems(rows, wrong int) []item {
	all := make([]item, rows)
	for i := range all {
		all[i] = item{int64(i + 1), new(string), 100}
		if i < wrong {
			all[i].price++
		}
	}
	return all
}

// A large row is copied a few times only.
func TestLargeRow(t *testing.T) {
	const size, most = 32 << 20, 6 // in two looks
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, fmt.Sprintf("INSERT INTO items VALUES (1, repeat('x', %d), 1)", size))
	var m fakeMirror
	m.publish(itemBatch([]item{{id: 1, name: new(string), price: 100}}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: time.Millisecond, open: m.open}).Tables[0]
	runtime.ReadMemStats(&after)
	if n := float64(after.TotalAlloc-before.TotalAlloc) / size; got.State != Differs || n > most {
		t.Errorf("got %s, and %.1f times the row was allocated, want at most %d", got.State, n, most)
	} else {
		t.Logf("%.1f times the row was allocated", n)
	}
}

// watchHeap finds how far the heap grows until stop returns.
func watchHeap() (peak *atomic.Int64, stop func()) {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak = new(atomic.Int64)
	quit, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				peak.Store(max(peak.Load(), int64(now.HeapAlloc)-int64(before.HeapAlloc)))
			}
		}
	}()
	return peak, func() { close(quit); <-done }
}

func TestLimits(t *testing.T) {
	for _, memory := range []int64{8 << 20, 64 << 20, 128 << 20, 1 << 30} {
		l := limitsFor(memory, 50, 100)
		used := int64(l.buckets)*bucketBytes + l.rows*(rowBytes+100) + int64(l.candidates)*(rowBytes+100+50*sideBytes)
		if used > memory || l.buckets > maxBuckets || l.candidates > maxCandidates || l.rows < 1000 {
			t.Errorf("%d bytes: got %+v, which take %d", memory, l, used)
		}
	}
}

// What an interrupted verification found equal isn't read again; what it found
// otherwise is.
func TestResume(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, "CREATE TABLE more (LIKE items INCLUDING ALL)")
	var m fakeMirror
	m.publish(itemBatch(nil))
	var compared []string
	cfg := Config{Source: endpoint(c), Tables: folder(t, "public/items", "public/more"), Settle: time.Millisecond, open: m.open,
		Events: func(e Event) {
			if e.Type == "comparing" {
				compared = append(compared, e.Table)
			}
		}}
	first := mustRun(t, cfg)
	run := func(change func(*Receipt)) (*Receipt, []string, error) {
		r := *first
		r.Tables = slices.Clone(first.Tables)
		r.Finished = time.Time{}
		change(&r)
		cfg.Resume, compared = &r, nil
		got, err := Run(t.Context(), cfg)
		slices.Sort(compared)
		return got, compared, err
	}
	for name, test := range map[string]struct {
		change func(*Receipt)
		want   []string
	}{
		"all equal":   {func(*Receipt) {}, nil},
		"one differs": {func(r *Receipt) { r.Tables[0].State = Differs }, []string{"items"}},
		"one missing": {func(r *Receipt) { r.Tables = r.Tables[:1] }, []string{"more"}},
		"finished":    {func(r *Receipt) { r.Finished = first.Finished }, []string{"items", "more"}},
		// Under the names of the receipt there are other tables now.
		"made anew at the source": {func(r *Receipt) { r.Tables[1].SourceOID++ }, []string{"more"}},
		"made anew in the mirror": {func(r *Receipt) { r.Tables[0].DeltaID = "another" }, []string{"items"}},
		"an earlier mirror":       {func(r *Receipt) { r.Tables[0].DeltaVersion++ }, []string{"items"}},
	} {
		got, read, err := run(test.change)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, read); diff != "" {
			t.Errorf("%s: tables compared (-want +got):\n%s", name, diff)
		}
		if len(got.Tables) != 2 || got.Count(Equal) != 2 || got.Finished.IsZero() {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	cfg.Only = []string{"more"}
	got, read, err := run(func(r *Receipt) { r.Tables[1].State = Differs })
	if err != nil || !slices.Equal(read, []string{"more"}) || len(got.Tables) != 2 || got.Count(Equal) != 2 {
		t.Errorf("of one table: compared %v, %v, got %+v, want the other's result as well", read, err, got)
	}
	got, _, err = run(func(r *Receipt) { r.Tables[0].SourceOID++ })
	if err != nil || len(got.Tables) != 1 {
		t.Errorf("of one table: got %+v, %v, want nothing of the other, which was made anew", got, err)
	}
	cfg.Only = nil
	for name, change := range map[string]func(*Receipt){
		"another source":   func(r *Receipt) { r.Source = "elsewhere" },
		"another server":   func(r *Receipt) { r.System = "7" },
		"another timeline": func(r *Receipt) { r.Timeline++ },
		"another database": func(r *Receipt) { r.DatabaseOID++ },
		"another mirror":   func(r *Receipt) { r.Mirror = "elsewhere" },
		"another mode":     func(r *Receipt) { r.Native = true },
		"another format":   func(r *Receipt) { r.Format++ },
	} {
		if _, _, err := run(change); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: got error %v, want ErrReceipt", name, err)
		}
	}
}

// A receipt holds for one timeline, also on a standby, and for one database.
func TestResumeElsewhere(t *testing.T) {
	ctx, up := t.Context(), awaited{line: "ready to accept read-only connections", seen: make(chan bool)}
	c := localpgtest.Start(t, localpg.Options{Log: &up})
	localpgtest.Exec(t, c.URL("", "", "postgres"), "CREATE DATABASE other")
	cfg := Config{Source: endpoint(c), Tables: folder(t)}
	resume := func() error {
		t.Helper()
		_, err := Run(ctx, cfg)
		return err
	}
	begun := func() *Receipt {
		cfg.Resume = nil
		r := mustRun(t, cfg)
		r.Finished = time.Time{}
		return r
	}
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(c.Dir, "data")
	if out, err := exec.Command("cp", "-p", filepath.Join(data, "PG_VERSION"), filepath.Join(data, "standby.signal")).CombinedOutput(); err != nil { // with its owner
		t.Fatalf("%v: %s", err, out)
	}
	promoted := make(chan error, 1)
	go func() { promoted <- c.Resume(ctx) }()
	select {
	case <-up.seen:
	case err := <-promoted:
		t.Fatalf("the standby started as no standby: %v", err)
	}
	standby := begun()
	if cfg.Resume = standby; resume() != nil {
		t.Errorf("on the same timeline: got %v", resume())
	}
	localpgtest.Exec(t, c.URL("", "", "postgres"), "SELECT pg_promote()")
	if err := <-promoted; err != nil {
		t.Fatal(err)
	}
	if err := resume(); !errors.Is(err, ErrReceipt) || standby.Timeline != 1 {
		t.Errorf("after a promotion from timeline %d, got %v, want ErrReceipt and 1", standby.Timeline, err)
	}

	cfg.Source.Database = "other"
	cfg.Resume = begun()
	localpgtest.Exec(t, c.URL("", "", "postgres"), "DROP DATABASE other", "CREATE DATABASE other")
	if err := resume(); !errors.Is(err, ErrReceipt) {
		t.Errorf("of a database that was made anew: got %v, want ErrReceipt", err)
	}
}

// awaited is a log that tells when it has a line.
type awaited struct {
	line string
	once sync.Once
	seen chan bool
}

func (a *awaited) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(a.line)) {
		a.once.Do(func() { close(a.seen) })
	}
	return len(p), nil
}

// Names with dots in them are not taken for each other.
func TestResumeDots(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), `CREATE SCHEMA "a.b"`, "CREATE SCHEMA a", `CREATE TABLE "a.b".c (i int PRIMARY KEY)`, `CREATE TABLE a."b.c" (i int PRIMARY KEY)`, `INSERT INTO a."b.c" VALUES (1)`)
	l := newLake(t, endpoint(c))
	l.write("a.b/c", l.read("a.b", "c", nil))
	l.write("a/b.c", l.read("a.b", "c", nil))
	cfg := Config{Source: l.e, Tables: l.s, Settle: time.Millisecond}
	first := mustRun(t, cfg)
	first.Finished, first.Tables = time.Time{}, first.Tables[1:]
	cfg.Resume = first
	if r := mustRun(t, cfg); len(r.Tables) != 2 || r.Tables[0].State != Differs || r.Tables[1].State != Equal {
		t.Errorf("got %+v, want a.\"b.c\" to differ", r.Tables)
	}
}

func TestReadReceipt(t *testing.T) {
	if r, err := ReadReceipt([]byte(`{"format":3,"source":"x","tables":[]}`)); err != nil || r.Source != "x" || !r.Finished.IsZero() {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, bad := range []string{"", "[]", `{"format":2}`, `{"source":"x"}`, `{"format":3,"tables":7}`} {
		if _, err := ReadReceipt([]byte(bad)); !errors.Is(err, ErrReceipt) {
			t.Errorf("%q: got error %v, want ErrReceipt", bad, err)
		}
	}
}

// After every table the receipt can be gone on from; one that can't be saved ends
// the run.
func TestSave(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, "CREATE TABLE more (LIKE items INCLUDING ALL)")
	var m fakeMirror
	m.publish(itemBatch(nil))
	var saved []int
	cfg := Config{Source: endpoint(c), Tables: folder(t, "public/items", "public/more"), open: m.open, Save: func(r *Receipt) error {
		if saved = append(saved, len(r.Tables)); !r.Finished.IsZero() || r.Source == "" {
			t.Errorf("saved %+v", r)
		}
		return nil
	}}
	mustRun(t, cfg)
	if diff := cmp.Diff([]int{1, 2}, saved); diff != "" {
		t.Errorf("tables in the receipts saved (-want +got):\n%s", diff)
	}
	full := errors.New("no space left")
	cfg.Save = func(*Receipt) error { return full }
	if _, err := Run(t.Context(), cfg); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
}

// Several tables are compared at once, and reported in order.
func TestWorkers(t *testing.T) {
	c := start(t)
	var m fakeMirror
	m.publish(itemBatch(nil))
	var folders, want []string
	for i := range 6 {
		name := fmt.Sprintf("t%d", i)
		localpgtest.Exec(t, c.URL("", "", "postgres"), fmt.Sprintf("CREATE TABLE %s (id bigint PRIMARY KEY, name text, price numeric(12,2))", name))
		folders, want = append(folders, "public/"+name), append(want, name)
	}
	// Every table waits until another one is being compared, too.
	var at atomic.Int64
	meet := make(chan bool)
	cfg := Config{Source: endpoint(c), Tables: folder(t, folders...), Workers: 3, open: m.open}
	inner := m.open
	cfg.open = func(ctx context.Context, s store.Store) (mirrorTable, error) {
		if at.Add(1) == 2 {
			close(meet)
		}
		select {
		case <-meet:
			return inner(ctx, s)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var got []string
	for _, tr := range mustRun(t, cfg).Tables {
		if got = append(got, tr.Name); tr.State != Equal {
			t.Errorf("%s is %s %s", tr.Name, tr.State, tr.Reason)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}
