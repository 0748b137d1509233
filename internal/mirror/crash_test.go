package mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/store"
)

func runChild(dir string) {
	var url [5]string
	copy(url[:], strings.Split(os.Getenv("MIRROR_TEST_SOURCE"), " "))
	s, err := store.OpenDir(dir)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var port int
	fmt.Sscan(url[1], &port)
	b := &bench{db: url[2]}
	b.cluster = newClusterAt(url[0], port)
	cfg := b.config(s)
	cfg.Budget = 1 << 20
	last := EventKind(os.Getenv("MIRROR_TEST_LAST"))
	cfg.Events = func(e Event) {
		fmt.Println(e.Kind)
		if e.Kind == last {
			select {} // until it is killed
		}
	}
	if err := Run(context.Background(), cfg); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The mirror is killed again and again while commits come back to back, at
// random after one of its steps, and ends equal to the source.
func TestKill(t *testing.T) {
	kills := 30
	if testing.Short() {
		kills = 12
	}
	b := newBench(t, append(tables, `INSERT INTO plain SELECT i, repeat('n', 200), 1 FROM generate_series(1000000, 1060000) i`)...)
	halt := b.traffic(2)
	defer halt()
	r := rand.New(rand.NewPCG(3, 3))
	steps := []EventKind{"", SnapshotStarted, Published, TableCopied, Streaming, Published, Published, Confirmed, Confirmed, Confirmed}
	died := map[EventKind]int{}
	for n := range kills {
		step, patience := steps[r.IntN(len(steps))], 2*time.Second
		if n > kills/3 && (step == Streaming || step == Published || step == Confirmed) {
			patience = time.Minute // the snapshot was cut often enough: now its end is waited for
		}
		then := time.Duration(r.IntN(30)) * time.Millisecond
		if step == Streaming || n%3 == 0 {
			then = 0 // the next step comes at once
		}
		died[b.killAfter(step, 1+r.IntN(4), then, patience)]++
	}
	t.Logf("killed %d times, after: %v", kills, died)
	for _, k := range []EventKind{Streaming, Published, Confirmed} {
		if died[k] == 0 && !testing.Short() {
			t.Errorf("no kill came after the step %q", k)
		}
	}
	halt()
	b.finish(b.run(b.landing, nil))
}

// killAfter runs a mirror and kills it some time after an event of a kind that is the
// nth at least, at the latest when its patience ends. With no time between them nothing
// happens after the first event of the kind. It returns the last event that was heard.
func (b *bench) killAfter(kind EventKind, n int, then, patience time.Duration) EventKind {
	b.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MIRROR_TEST_DIR="+b.dir, fmt.Sprintf("MIRROR_TEST_SOURCE=%s %d %s", b.cluster.Host, b.cluster.Port, b.db))
	if then == 0 {
		cmd.Env = append(cmd.Env, "MIRROR_TEST_LAST="+string(kind))
		n = 1
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	deadline := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer deadline.Stop()
	last := EventKind("start")
	heard := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = EventKind(lines.Text())
		if strings.HasPrefix(lines.Text(), "error") {
			b.t.Fatalf("the mirror ended by itself: %s", lines.Text())
		}
		if heard++; last == kind && heard >= n || kind == "" {
			deadline.Reset(then)
		}
	}
	_ = cmd.Wait() // killed
	return last
}

// finish lets the mirror catch up with a source that is quiet, and compares.
func (b *bench) finish(stop func() error) {
	b.t.Helper()
	b.caughtUp()
	if err := stop(); err != nil {
		b.t.Fatal(err)
	}
	b.same()
}

// faulty fails every write from the nth on, before or after it took effect.
type faulty struct {
	store.Store
	mu    sync.Mutex
	left  int
	after bool
	cut   bool // a write was cut
}

var errCut = errors.New("the store is gone")

func (f *faulty) do(write func() error) error {
	f.mu.Lock()
	f.left--
	dead, last := f.left < 0, f.left == 0
	f.cut = f.cut || dead || last
	f.mu.Unlock()
	switch {
	case dead, last && !f.after:
		return errCut
	case last:
		if err := write(); err != nil {
			return err
		}
		return errCut
	}
	return write()
}

func (f *faulty) Put(ctx context.Context, name string, body []byte, c store.Cond) (i store.Info, err error) {
	err = f.do(func() error { i, err = f.Store.Put(ctx, name, body, c); return err })
	return i, err
}

func (f *faulty) Rename(ctx context.Context, from, to string) error {
	return f.do(func() error { return f.Store.Rename(ctx, from, to) })
}

func (f *faulty) Remove(ctx context.Context, name string) error {
	return f.do(func() error { return f.Store.Remove(ctx, name) })
}

// The mirror dies before and after every write to the store there is; the next
// run ends at the same rows, with no file left over.
func TestCutEveryWrite(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			reached := false
			t.Run(fmt.Sprintf("write %d, after %t", n, after), func(t *testing.T) { reached = cutAt(t, n, after) })
			if !reached || t.Failed() {
				t.Logf("after=%t: %d writes cut", after, n-1)
				break
			}
		}
	}
}

// cutAt reports whether the nth write was reached.
func cutAt(t *testing.T, n int, after bool) bool {
	b := newBench(t, `CREATE TABLE plain (id bigint PRIMARY KEY, note text, n int)`, `INSERT INTO plain SELECT i, 'x', 1 FROM generate_series(1, 30) i`,
		`CREATE TABLE toast (id int PRIMARY KEY, small int, big text)`, `ALTER TABLE toast ALTER big SET STORAGE EXTERNAL`, `INSERT INTO toast SELECT i, 0, repeat(md5(i::text), 200) FROM generate_series(1, 9) i`)
	change := func(i int) {
		b.exec(fmt.Sprintf(`BEGIN; UPDATE plain SET n = n + 1 WHERE id = 1 + %d; DELETE FROM plain WHERE id = 10 + %d; UPDATE toast SET small = 5 WHERE id = 1 + %d; COMMIT`, i, i, i))
	}
	f := &faulty{Store: b.landing, left: n, after: after}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	streaming := make(chan bool, 8)
	confirmed := make(chan bool, 64)
	cfg := b.config(f)
	cfg.Events = func(e Event) {
		switch e.Kind {
		case Streaming:
			streaming <- true
		case Confirmed:
			confirmed <- true
		case Retrying:
			cancel() // one attempt is what is tested
		}
	}
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	ended := false
	select {
	case <-streaming:
		for i := range 3 {
			change(i)
			select {
			case <-confirmed:
			case <-done:
				ended = true
			}
			if ended {
				break
			}
		}
	case err := <-done:
		ended = true
		if !errors.Is(err, errCut) && err != nil {
			t.Fatalf("write %d: got %v, want %v", n, err, errCut)
		}
	}
	if !ended {
		cancel()
		<-done
	}
	for i := range 3 {
		change(i)
	}
	stop := b.run(b.landing, nil)
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatalf("write %d, after=%t: second run: %v", n, after, err)
	}
	for _, c := range []struct{ table, columns, key string }{{"plain", "id, note, n", "id"}, {"toast", "id, small, big", "id"}} {
		want, got := b.source(c.table, c.columns, c.key), b.target(c.table)
		if len(want) != len(got) {
			t.Fatalf("write %d, after=%t: %s has %d rows, want %d", n, after, c.table, len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("write %d, after=%t: %s, key %s: got %.60q, want %.60q", n, after, c.table, k, got[k], v)
			}
		}
		if k := b.staged(c.table); k != 0 {
			t.Fatalf("write %d, after=%t: %s has %d staged files left over", n, after, c.table, k)
		}
	}
	return f.cut
}

// The mirror dies before and after every write to the store while it makes its slot,
// for the first time and anew: where a table's definition changes at that moment, and
// where a table is paused. The next run ends at the same rows. What it writes once it
// copies is TestCutEveryWrite's.
func TestCutSlot(t *testing.T) {
	for what, cut := range map[string]func(t *testing.T, f *faulty){"changed": cutChanged, "reseed": cutReseed} {
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				f := &faulty{left: n, after: after}
				t.Run(fmt.Sprintf("%s, write %d, after %t", what, n, after), func(t *testing.T) { cut(t, f) })
				if !f.cut || t.Failed() {
					if !t.Failed() && n < 8 {
						t.Errorf("%d writes were cut; the slot and two tables take some more", n-1)
					}
					break
				}
			}
		}
	}
}

// once runs one attempt of a mirror, until it copies or f ends it.
func (b *bench) once(f *faulty, cfg Config) {
	b.t.Helper()
	f.Store, cfg.Landing = b.landing, f
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	cfg.Events = func(e Event) {
		if e.Kind == Retrying || e.Kind == SnapshotStarted {
			cancel()
		}
	}
	if err := Run(ctx, cfg); err != nil && !errors.Is(err, errCut) {
		b.t.Fatal(err)
	}
}

func cutChanged(t *testing.T, f *faulty) {
	b := newBench(t, thirty, `CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)`)
	b.exec(`ALTER PUBLICATION p SET TABLE plain, other`)
	cfg := b.config(nil)
	cfg.Changing = func(what string, do func() error) error {
		err := do()
		if what == "create replication slot "+cfg.Slot {
			b.exec(`UPDATE plain SET n = -1 WHERE id = 3`, `ALTER TABLE plain ADD COLUMN IF NOT EXISTS f int DEFAULT 7`, `UPDATE plain SET n = -1 WHERE id = 4`)
		}
		return err
	}
	b.once(f, cfg)
	b.exec(`UPDATE plain SET n = -2 WHERE id = 5`)
	stop := b.start(b.config(b.landing))
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain", "other")
}

// cutReseed: the folder of a paused table has files whose numbers would be given again.
func cutReseed(t *testing.T, f *faulty) {
	b := newBench(t, thirty, `CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)`)
	b.exec(`ALTER PUBLICATION p SET TABLE plain, other`)
	stop := b.start(b.config(b.landing))
	b.caughtUp()
	if err := Ask(t.Context(), b.landing, Request{Kind: Pause, Schema: "public", Table: "other"}); err != nil {
		t.Fatal(err)
	}
	b.reaches("other", phaseParked, 1)
	b.answered("other")
	stop()
	before := b.tableState("other").value
	eventually(t, "the slot is dropped", func() bool { return b.try("SELECT pg_drop_replication_slot('s_"+b.db+"')") == nil })
	b.exec(`UPDATE plain SET n = -1`, `INSERT INTO other VALUES (2)`)
	cfg := b.config(nil)
	cfg.Reseed = true
	b.once(f, cfg)
	b.exec(`UPDATE plain SET n = -2 WHERE id = 5`)
	cfg.Landing = b.landing
	stop = b.start(cfg)
	b.caughtUp()
	if s := b.tableState("other").value; s.Phase != phaseParked || s.Reason != "paused" || s.Number != before.Number {
		t.Errorf("the paused table is %s, %q, with %d files, want %d", s.Phase, s.Reason, s.Number, before.Number)
	}
	if err := Ask(t.Context(), b.landing, Request{Kind: Resume, Schema: "public", Table: "other"}); err != nil {
		t.Fatal(err)
	}
	b.reaches("other", phaseReplicating, before.Generation+1)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain", "other")
}
