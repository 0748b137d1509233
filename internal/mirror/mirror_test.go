package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

func TestSnapshotAndStream(t *testing.T) {
	b := newBench(t, tables...)
	stop := b.run(b.landing, nil)
	halt := b.traffic(1)
	eventually(t, "changes are published", func() bool {
		s, err := Status(t.Context(), b.landing)
		if err != nil || len(s.Tables) < 5 {
			return false
		}
		for _, x := range s.Tables {
			if x.Name != "empty" && x.Files < 10 {
				return false
			}
		}
		return true
	})
	halt()
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.same()
	if _, err := Status(t.Context(), store.Sub(b.landing, "nothing")); !errors.Is(err, ErrNoMirror) {
		t.Errorf("status of nothing: %v", err)
	}
}

// A transaction that is larger than the budget is cut into files, and its last
// file says that it is complete, also in a table of which it brings no more.
func TestLargeTransaction(t *testing.T) {
	b := newBench(t, tables...)
	cfg := b.config(b.landing)
	cfg.Budget = 300 << 10
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	b.exec(`BEGIN;
		INSERT INTO moving SELECT i, 'x' FROM generate_series(1000, 1010) i;
		INSERT INTO plain SELECT i, repeat('x', 100), 1 FROM generate_series(100000, 110000) i;
		UPDATE plain SET note = 'again' WHERE id BETWEEN 100000 AND 101000;
		COMMIT`)
	b.caughtUp()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.same()
	s, err := Status(t.Context(), b.landing)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.Tables {
		if x.Name == "plain" && x.Files < 5 {
			t.Errorf("plain has %d files; the transaction was not cut", x.Files)
		}
	}
}

// A second run takes over; the first one notices at its next write and stops.
func TestTakeOver(t *testing.T) {
	b := newBench(t, tables...)
	first := make(chan error, 1)
	streaming := make(chan bool, 1)
	cfg := b.config(b.landing)
	cfg.Events = func(e Event) {
		if e.Kind == Streaming {
			streaming <- true
		}
	}
	go func() { first <- Run(t.Context(), cfg) }()
	<-streaming
	var fault *Fault
	eventually(t, "the second one takes over", func() bool {
		st, err := load[mirrorState](t.Context(), b.landing, mirrorFile)
		if err == nil {
			err = st.change(t.Context(), func(s *mirrorState) { s.Run = "another" })
		}
		if err != nil && !errors.As(err, &fault) { // a Fault: the first one has confirmed something meanwhile
			t.Fatal(err)
		}
		return err == nil
	})
	b.exec("INSERT INTO plain VALUES (-1, 'x', 1)")
	err := <-first
	if !errors.As(err, &fault) || fault.Code != "Fenced" {
		t.Fatalf("got %v, want a Fault with code Fenced", err)
	}
}

// A value that its type can't hold parks one table, durably; the others go on.
func TestParked(t *testing.T) {
	b := newBench(t, append(tables, `CREATE TABLE num (id int PRIMARY KEY, v numeric(5,2))`)...)
	stop := b.run(b.landing, nil)
	b.caughtUp()
	b.exec("INSERT INTO num VALUES (1, 'NaN')", "INSERT INTO plain VALUES (-5, 'x', 1)")
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, err := Status(t.Context(), b.landing)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"num": "NaN"}
	for _, x := range s.Tables {
		w, parked := want[x.Name]
		if parked != (x.Phase == "parked") || !strings.Contains(x.Reason, w) {
			t.Errorf("%s: phase %s, reason %q, want parked=%t %q", x.Name, x.Phase, x.Reason, parked, w)
		}
	}
	if b.target("plain")["-5"] == "" {
		t.Error("a table that isn't parked was not followed")
	}
}

// Tables that are truncated, altered, dropped and made again, or published later
// are built anew while the others go on, and everything ends equal, also when the
// mirror is killed in between.
func TestRebuild(t *testing.T) {
	b := newBench(t, tables...)
	halt := b.traffic(5)
	defer halt()
	r := rand.New(rand.NewPCG(9, 9))
	kill := func() {
		b.killAfter([]EventKind{Rebuilding, SnapshotStarted, TableCopied, Streaming}[r.IntN(4)], 1+r.IntN(2), time.Duration(r.IntN(60))*time.Millisecond, 2*time.Second)
	}
	b.settle()
	for _, change := range []string{
		`TRUNCATE moving; INSERT INTO moving SELECT i, 'again' FROM generate_series(1, 40) i`,
		`ALTER TABLE plain ADD COLUMN extra text DEFAULT 'old rows have it'`,
		`CREATE TABLE late (id int PRIMARY KEY, v text); INSERT INTO late SELECT i, 'late' FROM generate_series(1, 3000) i; ALTER PUBLICATION p ADD TABLE late`,
		`DROP TABLE empty; CREATE TABLE empty (id int PRIMARY KEY); INSERT INTO empty VALUES (1); ALTER PUBLICATION p ADD TABLE empty`,
		`ALTER TABLE pair ALTER v TYPE varchar(9); INSERT INTO pair VALUES (99, 'x', 'y')`,
		`VACUUM FULL plain`,
	} {
		b.exec(change)
		kill()
		b.exec(`INSERT INTO plain VALUES (-` + fmt.Sprint(1+r.IntN(1000000)) + `, 'x', 1)`)
		kill()
		b.settle()
	}
	halt()
	b.settle()
	b.compare([][3]string{{"plain", "id, note, n, extra", "id"}, {"pair", "a, b, v", "a, b"}, {"toast", "id, small, big", "id"}, {"moving", "k, v", "k"}, {"empty", "id", "id"}, {"late", "id, v", "id"}})
}

// settle runs a mirror until it has caught up.
func (b *bench) settle() {
	b.t.Helper()
	stop := b.run(b.landing, nil)
	b.caughtUp()
	if err := stop(); err != nil {
		b.t.Fatal(err)
	}
}

// A table without a key is mirrored as what it is: rows that are added, each
// exactly once, also when the mirror is killed again and again. What can't be
// told of it is counted.
func TestKeyless(t *testing.T) {
	b := newBench(t, append(tables, `CREATE TABLE log (v int)`, `ALTER TABLE log REPLICA IDENTITY FULL`, `INSERT INTO log SELECT i % 50 FROM generate_series(1, 5000) i`)...)
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 12 {
		b.exec(fmt.Sprintf("INSERT INTO log SELECT %d FROM generate_series(1, 10)", i), "INSERT INTO log VALUES (7)")
		b.killAfter([]EventKind{SnapshotStarted, Published, Streaming, Published}[r.IntN(4)], 1+r.IntN(3), time.Duration(r.IntN(20))*time.Millisecond, 2*time.Second)
	}
	b.settle()
	if got, want := b.multiset("log"), b.sourceMultiset("log"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.exec("UPDATE log SET v = -1 WHERE v = 3", "INSERT INTO plain VALUES (-9, 'x', 1)")
	b.settle()
	s, err := Status(t.Context(), b.landing)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.Tables {
		if x.Name == "log" && x.Ignored < 100 {
			t.Errorf("ignored: got %d, want the updates counted", x.Ignored)
		}
	}
}

// A table without a key that has missed changes is copied anew once its copy is
// as old as Heal says, and no earlier.
func TestHeal(t *testing.T) {
	b := newBench(t, append(tables, `CREATE TABLE log (v int)`, `ALTER TABLE log REPLICA IDENTITY FULL`, `INSERT INTO log SELECT i % 50 FROM generate_series(1, 500) i`)...)
	var h heard
	cfg := b.config(b.landing)
	cfg.Heal, cfg.Events = time.Hour, h.hear
	stop := b.start(cfg)
	b.caughtUp()
	b.exec("UPDATE log SET v = -1 WHERE v = 3", "DELETE FROM log WHERE v = 4")
	eventually(t, "the missed changes are counted", func() bool { return b.tableState("log").value.Ignored == 20 })
	h.looked(t)
	if s := b.tableState("log").value; s.Generation != 1 || s.Phase != phaseReplicating {
		t.Errorf("it is %s in generation %d within the hour", s.Phase, s.Generation)
	}
	stop()
	cfg.Heal = time.Millisecond
	stop = b.start(cfg)
	b.reaches("log", phaseReplicating, 2)
	b.exec("INSERT INTO log VALUES (99)")
	b.caughtUp()
	h.looked(t) // it has missed nothing since, and stays
	stop()
	if got, want := b.multiset("log"), b.sourceMultiset("log"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s := b.tableState("log").value; s.Ignored != 0 || s.Generation != 2 {
		t.Errorf("it has missed %d changes after it was copied anew, in generation %d", s.Ignored, s.Generation)
	}
	if e, _ := h.last(Rebuilding); e.Table != "public.log" || !strings.Contains(e.Reason, "20 updates and deletes") {
		t.Errorf("told %+v", e)
	}
}

// Columns that are added without a value for older rows, or dropped, are followed
// in place, while others change the table as well and across restarts; a column
// that was dropped and added again is not the same, so that table is built anew.
func TestEvolve(t *testing.T) {
	b := newBench(t, append(tables, `ALTER TABLE plain ADD COLUMN unused text`)...)
	halt := b.traffic(6)
	defer halt()
	generation := func() int64 {
		s, err := Status(t.Context(), b.landing)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(s.Tables, func(x TableState) bool { return x.Name == "plain" })
		return s.Tables[i].Generation
	}
	stop := b.run(b.landing, nil)
	b.caughtUp()
	for i, c := range []struct {
		sql        string
		generation int64
	}{
		{`ALTER TABLE plain ADD COLUMN extra text`, 1},
		{`ALTER TABLE plain ADD COLUMN more int, DROP COLUMN unused`, 1},
		{`ALTER TABLE plain ADD COLUMN unused text`, 2}, // the name is taken in the mirror
		{`ALTER TABLE plain ADD COLUMN filled int DEFAULT 7`, 3},
	} {
		b.exec(c.sql, fmt.Sprintf(`UPDATE plain SET extra = 'e%d' WHERE id %% 10 = %d`, i, i))
		if i == 1 { // what was written under the old definition has to be published by then
			b.caughtUp()
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			stop = b.run(b.landing, nil)
		}
		eventually(t, "the table is replicating", func() bool { return generation() >= c.generation })
		b.caughtUp()
		if got := generation(); got != c.generation {
			t.Errorf("%s: generation %d, want %d", c.sql, got, c.generation)
		}
	}
	halt()
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.compare([][3]string{{"plain", "id, note, n, extra, more, unused, filled", "id"}, {"toast", "id, small, big", "id"}})
}

// A partitioned table is one table in the mirror, whatever its partitions look
// like; rows that move between them, and partitions that come and go, end equal.
func TestPartitions(t *testing.T) {
	b := newBench(t, append(tables,
		`CREATE TABLE parted (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)`,
		`CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (100)`,
		`CREATE TABLE parted_1 (v text, gone int, at int NOT NULL, id int NOT NULL, PRIMARY KEY (id, at))`,
		`ALTER TABLE parted_1 DROP COLUMN gone`, `ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES FROM (100) TO (200)`,
		`CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (200) TO (400) PARTITION BY LIST (id)`,
		`CREATE TABLE parted_2_d PARTITION OF parted_2 DEFAULT`,
		`INSERT INTO parted SELECT i, i % 400, 'v' || i FROM generate_series(1, 3000) i`)...)
	b.exec(`ALTER PUBLICATION p SET TABLE plain, pair, toast, moving, empty, parted`)
	same := func() {
		t.Helper()
		eventually(t, "the table is as in the source", func() bool {
			b.caughtUp()
			return maps.Equal(b.target("parted"), b.source("parted", "id, at, v", "id, at"))
		})
	}
	stop := b.run(b.landing, nil)
	same()
	b.exec(`UPDATE parted SET at = (at + 100) % 400 WHERE id % 3 = 0`, `DELETE FROM parted WHERE id % 7 = 0`, `INSERT INTO parted SELECT i, i % 400, 'n' FROM generate_series(5000, 5500) i`)
	same()
	b.exec(`CREATE TABLE parted_3 (id int NOT NULL, at int NOT NULL, v text, PRIMARY KEY (id, at)); INSERT INTO parted_3 VALUES (1, 450, 'there before');
		ALTER TABLE parted ATTACH PARTITION parted_3 FOR VALUES FROM (400) TO (500); INSERT INTO parted VALUES (2, 450, 'after')`)
	same()
	b.exec(`ALTER TABLE parted DETACH PARTITION parted_0`, `TRUNCATE parted_1`, `INSERT INTO parted VALUES (7, 150, 'x')`)
	same()
	b.finish(stop)
}

// Large transactions are kept on our disk until they commit; when there is no
// room for one, the server keeps it.
func TestSpill(t *testing.T) {
	b := newBench(t, tables...)
	cfg := b.config(b.landing)
	cfg.Spill = &postgres.Spill{Dir: t.TempDir(), MemoryBytes: 64 << 10, MaxBytes: 1 << 20}
	full := make(chan bool, 10)
	cfg.Events = func(e Event) {
		if e.Kind == SpillFull {
			full <- true
		}
	}
	b.exec(`ALTER SYSTEM SET logical_decoding_work_mem = '64kB'`, `SELECT pg_reload_conf()`)
	defer b.exec(`ALTER SYSTEM RESET logical_decoding_work_mem`, `SELECT pg_reload_conf()`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	b.caughtUp()
	b.exec(`BEGIN; INSERT INTO plain SELECT i, 'fits', 1 FROM generate_series(100000, 103000) i; SAVEPOINT s; INSERT INTO plain SELECT i, 'gone', 1 FROM generate_series(200000, 203000) i; ROLLBACK TO s; COMMIT`)
	b.caughtUp()
	b.exec(`INSERT INTO plain SELECT i, repeat('x', 100), 1 FROM generate_series(300000, 340000) i`)
	<-full
	b.caughtUp()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.same()
}

// A table that we build anew has fewer rows in Fabric afterwards, and is not taken for
// one that Fabric has begun anew.
func TestFabricCountsAnew(t *testing.T) {
	b := newBench(t, tables...)
	cfg := b.config(b.landing)
	cfg.Watch = 30 * time.Millisecond
	var looks atomic.Int64
	cfg.Fabric = func(context.Context) ([]FabricTable, error) {
		looks.Add(1)
		if s := b.tableState("plain").value; s.Phase == phaseReplicating {
			return []FabricTable{{Schema: "public", Table: "plain", Rows: 2000 / s.Generation}}, nil
		}
		return nil, nil
	}
	stop := b.start(cfg)
	b.reaches("plain", phaseReplicating, 1)
	seen := func() {
		t.Helper()
		before := looks.Load()
		eventually(t, "Fabric is looked at", func() bool { return looks.Load() >= before+5 })
	}
	seen()
	if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "plain"}); err != nil {
		t.Fatal(err)
	}
	b.reaches("plain", phaseReplicating, 2)
	seen()
	if s := b.tableState("plain").value; s.Generation != 2 || s.Phase != phaseReplicating {
		t.Errorf("it is %s, in generation %d: %s", s.Phase, s.Generation, s.Reason)
	}
	stop()
}

// What Fabric has lost, begun anew or given up is built anew.
func TestFabricLosesTables(t *testing.T) {
	b := newBench(t, tables...)
	var mu sync.Mutex
	says := []FabricTable{{Schema: "public", Table: "plain", Rows: 2000}, {Schema: "public", Table: "pair", Rows: 500}, {Schema: "public", Table: "toast", Rows: 60}, {Schema: "public", Table: "moving", Rows: 50}}
	looks := 0
	cfg := b.config(b.landing)
	cfg.Watch = 30 * time.Millisecond
	cfg.Fabric = func(context.Context) ([]FabricTable, error) {
		mu.Lock()
		defer mu.Unlock()
		looks++
		return slices.Clone(says), nil
	}
	why := map[string]string{}
	cfg.Events = func(e Event) {
		if e.Kind == Rebuilding {
			mu.Lock()
			defer mu.Unlock()
			why[e.Table] = e.Reason
			says = slices.DeleteFunc(says, func(f FabricTable) bool { return "public."+f.Table == e.Table }) // Fabric drops it
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	b.caughtUp() // a table that is being copied isn't looked for
	mu.Lock()
	before := looks
	mu.Unlock()
	eventually(t, "Fabric is looked at", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return looks >= before+2 // what the first has shown is noted
	})
	mu.Lock()
	says = []FabricTable{{Schema: "public", Table: "plain", Rows: 10}, {Schema: "public", Table: "pair", Rows: 501}, {Schema: "public", Table: "toast", Rows: 60, Failed: "SchemaMergeFailure"}}
	mu.Unlock()
	eventually(t, "the lost tables are built anew", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(why) >= 3
	})
	b.caughtUp()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]string{"public.plain": "begun it anew", "public.toast": "SchemaMergeFailure", "public.moving": "no longer has it"} {
		if !strings.Contains(why[table], want) {
			t.Errorf("%s: got %q, want %q", table, why[table], want)
		}
	}
	if why["public.empty"] != "" {
		t.Errorf("a table that Fabric never had was built anew: %s", why["public.empty"])
	}
	b.same()
}

// A table that has to be built anew again and again is parked.
func TestRebuildGuard(t *testing.T) {
	b := newBench(t, tables...)
	stop := b.run(b.landing, nil)
	b.caughtUp()
	moving := func() TableState {
		s, err := Status(t.Context(), b.landing)
		if err != nil {
			t.Fatal(err)
		}
		return s.Tables[slices.IndexFunc(s.Tables, func(x TableState) bool { return x.Name == "moving" })]
	}
	for i := range guardTimes + 1 {
		b.exec(fmt.Sprintf("TRUNCATE moving; INSERT INTO moving VALUES (%d, 'x')", i))
		eventually(t, "it is built anew", func() bool {
			x := moving()
			return x.Phase == "parked" || x.Phase == "replicating" && x.Generation > int64(i+1)
		})
		if x := moving(); (x.Phase == "parked") != (i == guardTimes) {
			t.Fatalf("after %d times: phase %s, reason %q", i+1, x.Phase, x.Reason)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// A table that can't be joined doesn't keep the others from going on.
func TestJoinFails(t *testing.T) {
	b := newBench(t, tables...)
	f := &noFolder{Store: b.landing, dir: landing.TableDir("public", "late")}
	stop := b.run(f, nil)
	b.caughtUp()
	b.exec("CREATE TABLE late (id int PRIMARY KEY); ALTER PUBLICATION p ADD TABLE late", "INSERT INTO plain VALUES (-7, 'x', 1)")
	eventually(t, "the new table is parked", func() bool {
		s, err := Status(t.Context(), b.landing)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(s.Tables, func(x TableState) bool {
			return x.Name == "late" && x.Phase == "parked" && strings.Contains(x.Reason, "could not be joined")
		})
	})
	b.finish(stop)
	if b.target("plain")["-7"] == "" {
		t.Error("another table was not followed")
	}
}

// noFolder can't remove one folder.
type noFolder struct {
	store.Store
	dir string
}

func (n *noFolder) Remove(ctx context.Context, name string) error {
	if name == n.dir {
		return errCut
	}
	return n.Store.Remove(ctx, name)
}

// Requests are answered by a mirror that runs and by the next one that starts.
func TestRequests(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	ask := func(kind RequestKind, table string) {
		t.Helper()
		if err := Ask(t.Context(), b.landing, Request{Kind: kind, Schema: "public", Table: table}); err != nil {
			t.Fatal(err)
		}
	}
	phase := func(table, want string, generation int64) {
		t.Helper()
		eventually(t, table+" is "+want, func() bool {
			s, err := Status(t.Context(), b.landing)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range s.Tables {
				if x.Name == table {
					return x.Phase == want && x.Generation >= generation
				}
			}
			return want == "gone"
		})
	}
	ask(Resync, "pair") // while nobody runs
	stop := b.run(b.landing, nil)
	phase("pair", "replicating", 2)
	ask(Pause, "moving")
	phase("moving", "parked", 1)
	b.exec("UPDATE moving SET v = 'while paused'")
	ask(Resume, "moving")
	phase("moving", "replicating", 2)
	b.finish(stop)
	b.exec("ALTER PUBLICATION p DROP TABLE toast")
	ask(Forget, "toast")
	stop = b.run(b.landing, nil)
	phase("toast", "gone", 0)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if l, err := b.landing.List(t.Context(), landing.TableDir("public", "toast")); err != nil || len(l) != 0 {
		t.Errorf("the folder of a forgotten table: %v, %v", l, err)
	}
	if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "none"}); !errors.Is(err, ErrNoTable) {
		t.Errorf("got %v, want %v", err, ErrNoTable)
	}
}
