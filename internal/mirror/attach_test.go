package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/store"
)

// parted is a partitioned table.
var parted = []string{
	`CREATE TABLE parted (id int, at int, v text, big text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)`,
	`CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (100)`,
	`ALTER TABLE parted_0 ALTER big SET STORAGE EXTERNAL`,
	`INSERT INTO parted SELECT i, i % 100, 'v' || i, repeat(md5(i::text), 90) FROM generate_series(1, 300) i`,
}

// newParted is a bench with the partitioned table, and a mirror that has copied it.
func newParted(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, parted...)
	b.exec(`ALTER PUBLICATION p SET TABLE parted`)
	b.settle()
	return b
}

// filled makes a table with rows that can be attached for 100 ≤ at < 200, n of
// them from an id on, and attaches it.
func filled(name string, from, n int) []string {
	return []string{
		fmt.Sprintf(`CREATE TABLE %s (big text, id int NOT NULL, v text, at int NOT NULL, PRIMARY KEY (id, at))`, name),
		fmt.Sprintf(`ALTER TABLE %s ALTER big SET STORAGE EXTERNAL`, name),
		fmt.Sprintf(`INSERT INTO %s (id, at, v, big) SELECT i, 100 + i %% 100, 'there before', repeat(md5(i::text), 90) FROM generate_series(%d, %d) i`, name, from, from+n-1),
		fmt.Sprintf(`ALTER TABLE parted ATTACH PARTITION %s FOR VALUES FROM (100) TO (200)`, name),
	}
}

// hear runs a mirror until stop is called.
func (b *bench) hear(s store.Store, h *heard) (stop func()) {
	cfg := b.config(s)
	cfg.Events = h.hear
	return b.start(cfg)
}

// ends stops the mirror when the table is as in the source, and says how often it
// was copied.
func (b *bench) ends(stop func(), generation int64) {
	b.t.Helper()
	defer stop()
	source := b.source("parted", "id, at, v, big", "id, at")
	b.caughtUp()
	if !soon(func() bool { return b.read(0) && maps.Equal(b.target("parted"), source) }) {
		b.compare([][3]string{{"parted", "id, at, v, big", "id, at"}})
		b.t.Error("it doesn't become as in the source")
	}
	stop()
	if s := b.tableState("parted").value; s.Generation != generation {
		b.t.Errorf("it was copied %d times, want %d", s.Generation, generation)
	}
	if k := b.staged("parted"); k != 0 {
		b.t.Errorf("%d staged files are left over", k)
	}
}

// read says that the table has that many partitions, or more, and that none of them
// waits to be read.
func (b *bench) read(leaves int) bool {
	s := b.tableState("parted").value // both of one state: a partition is noted at any time
	return len(s.Leaves) >= leaves && !slices.ContainsFunc(s.Late, func(l lateLeaf) bool { return !l.Read })
}

// The rows of partitions that are attached are read, in batches, and those of others
// aren't read again.
func TestAttach(t *testing.T) {
	b := newParted(t)
	var h heard
	cfg := b.config(b.landing)
	cfg.Events, cfg.Budget = h.hear, 256<<10
	stop := b.start(cfg)
	defer stop()
	b.exec(`CREATE TABLE parted_fresh PARTITION OF parted FOR VALUES FROM (200) TO (300)`)
	if e := h.await(t, Attached, 1); e.Rows != 0 {
		t.Errorf("got %+v of a fresh partition", e)
	}
	b.exec(filled("parted_1", 1000, 2000)...)
	if e := h.await(t, Attached, 2); e.Rows != 2000 || e.Table != "public.parted" || !strings.Contains(e.Reason, "parted_1") {
		t.Errorf("got %+v", e)
	}
	b.exec(`CREATE TABLE parted_deep PARTITION OF parted FOR VALUES FROM (300) TO (400) PARTITION BY LIST (id)`,
		`CREATE TABLE parted_deep_d PARTITION OF parted_deep DEFAULT`, `INSERT INTO parted VALUES (5, 350, 'deep')`)
	h.await(t, Attached, 3)
	b.exec(`UPDATE parted SET at = at + 50, v = 'moved' WHERE id % 3 = 0`, `UPDATE parted SET v = 'x' WHERE id % 5 = 0`, `DELETE FROM parted WHERE id % 7 = 0`)
	b.ends(stop, 1)
	if _, n := h.last(Rebuilding); n > 0 {
		t.Errorf("%d times a table was built anew", n)
	}
	defer b.start(b.config(b.landing))()
	eventually(t, "nothing of them is noted any more", func() bool { s := b.tableState("parted").value; return len(s.Late) == 0 && len(s.Leaves) == 4 })
}

// Before the mirror looks, rows have moved into the partition and out of it, some
// under the same key, and it was a table of its own, with keys of others. All that
// is still in the stream when the partition is found.
func TestAttachSeenLate(t *testing.T) {
	b := newBench(t, parted...)
	b.exec(`DROP PUBLICATION p`, `CREATE PUBLICATION p FOR ALL TABLES`,
		`CREATE TABLE parted_rest PARTITION OF parted DEFAULT`, `INSERT INTO parted SELECT i, 150, 'by default' FROM generate_series(2000, 2099) i`)
	b.settle()
	b.exec(`UPDATE parted SET v = 'first' WHERE id = 200`, `CREATE TABLE parted_1 (LIKE parted INCLUDING ALL, odd int)`,
		`INSERT INTO parted_1 SELECT id, at, 'another' FROM parted WHERE id < 50`, `UPDATE parted SET v = 'second' WHERE id = 200`, `ALTER TABLE parted_1 DROP odd`, `DELETE FROM parted_1 WHERE id < 40`, `TRUNCATE parted_1`,
		`INSERT INTO parted_1 SELECT i, 100 + i % 100, 'there before' FROM generate_series(1000, 1099) i`,
		`WITH those AS (DELETE FROM parted_rest RETURNING *) INSERT INTO parted_1 SELECT * FROM those`,
		`ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES FROM (100) TO (200)`,
		`UPDATE parted SET at = at + 100 WHERE id BETWEEN 50 AND 99`,
		`UPDATE parted SET at = at - 100, v = 'back' WHERE id BETWEEN 60 AND 69 OR id BETWEEN 1000 AND 1009`,
		`DELETE FROM parted WHERE id BETWEEN 70 AND 75`)
	b.ends(b.start(b.config(b.landing)), 1)
}

// A partition is read while another table is being copied, for which the slot keeps
// what came before; when that comes again it still is left out.
func TestAttachWhileCopying(t *testing.T) {
	b := newBench(t, parted...)
	b.exec(`DROP PUBLICATION p`, `CREATE PUBLICATION p FOR ALL TABLES`)
	b.settle()
	g := newGate(b.landing, "zlast", 0)
	var h heard
	stop := b.hear(g, &h)
	defer stop()
	b.exec(`CREATE TABLE zlast (id int PRIMARY KEY)`, `INSERT INTO zlast VALUES (1)`)
	<-g.held
	b.exec(`INSERT INTO zlast VALUES (2)`)
	b.exec(`CREATE TABLE parted_1 (LIKE parted INCLUDING ALL); INSERT INTO parted_1 SELECT id, at, 'another' FROM parted; DELETE FROM parted_1;
		INSERT INTO parted_1 VALUES (1000, 150, 'there before'); ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES FROM (100) TO (200)`)
	h.await(t, Attached, 1)
	stop()
	b.ends(b.start(b.config(b.landing)), 1)
}

// Rows move into the partition, within it and out of it while it is read.
func TestAttachUnderLoad(t *testing.T) {
	b := newParted(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	conn, err := pgx.Connect(t.Context(), b.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	halt := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	defer halt()
	b.exec(`CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200)`)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, err := conn.PgConn().Exec(context.Background(), fmt.Sprintf(`SELECT pg_sleep(0.05); BEGIN; UPDATE parted SET at = (at + 50 + %[1]d) %% 200 WHERE id %% 60 = %[1]d %% 60; UPDATE parted SET v = v || '.' WHERE id %% 71 = %[1]d %% 71;
				DELETE FROM parted WHERE id = %[1]d %% 900; INSERT INTO parted SELECT %[1]d %% 900, %[1]d %% 200, 'n', repeat('b', 5000); COMMIT`, i)).ReadAll()
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var h heard
	cfg := b.config(b.landing)
	cfg.Events, cfg.Budget = h.hear, 1<<20
	stop := b.start(cfg)
	defer stop()
	h.await(t, Attached, 1)
	for i := range 3 {
		b.exec(fmt.Sprintf(`CREATE TABLE parted_more%d PARTITION OF parted FOR VALUES FROM (%d) TO (%d)`, i, 300+i, 301+i))
		h.await(t, Attached, 2+i)
	}
	halt()
	b.ends(stop, 1)
}

// What was committed and can't be seen yet is not read as it was before.
func TestAttachSeesWhatIsCommitted(t *testing.T) {
	b := newParted(t)
	b.exec(filled("parted_1", 1000, 50)...)
	free := b.standby()
	defer free()
	done := make(chan error, 1)
	before := b.position("SELECT pg_current_wal_insert_lsn()::text")
	go func() { done <- b.try("UPDATE parted_1 SET v = 'changed' WHERE id < 1010") }()
	eventually(t, "the commit waits for a standby", func() bool {
		return b.holds("EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')") && b.position("SELECT pg_current_wal_insert_lsn()::text") > before
	})
	var h heard
	stop := b.hear(b.landing, &h)
	defer stop()
	h.await(t, Waiting, 1)
	if _, n := h.last(Attached); n > 0 {
		t.Error("a partition was read of which not all could be seen")
	}
	free()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.ends(stop, 1)
}

// blocked has an open transaction keep partitions from being read, until it is
// ended.
func (b *bench) blocked() (end func()) {
	b.t.Helper()
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := conn.Exec(context.Background(), "BEGIN; SELECT pg_current_xact_id()"); err != nil {
		b.t.Fatal(err)
	}
	return func() { conn.Close(context.Background()) }
}

// A partition that changes before it is read, and of which rows are published
// already.
func TestAttachedAndGone(t *testing.T) {
	for _, c := range []struct {
		what, change string
		generation   int64
	}{
		{"detached", `ALTER TABLE parted DETACH PARTITION parted_1`, 2},
		{"dropped", `DROP TABLE parted_1`, 2},
		{"truncated", `TRUNCATE parted_1`, 2},
		{"altered", `ALTER TABLE parted ADD more text`, 2},
		{"rewritten", `VACUUM FULL parted_1`, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newParted(t)
			b.exec(filled("parted_1", 1000, 50)...)
			if c.generation == 1 {
				b.exec(`ALTER PUBLICATION p ADD TABLE parted_1`) // so that it can't have been UNLOGGED
			}
			end := b.blocked()
			defer end()
			var h heard
			stop := b.hear(b.landing, &h)
			defer stop()
			h.await(t, Waiting, 1)
			if s := b.tableState("parted").value; s.Seen < s.Late[0].From {
				t.Errorf("it agrees with one moment beyond %v, and lacks rows of %v", s.Seen, s.Late)
			}
			b.exec(`INSERT INTO parted VALUES (7000, 150, 'followed')`)
			eventually(t, "it is followed", func() bool { return b.target("parted")["7000|150"] != "" })
			b.exec(c.change)
			if c.generation > 1 {
				h.await(t, Rebuilding, 1)
			}
			end()
			b.ends(stop, c.generation)
		})
	}
}

// A transaction that is cut has its changes counted as before, though the partition
// that it fills as well is followed since.
func TestAttachedInCutTransaction(t *testing.T) {
	b := newParted(t)
	f := &faulty{Store: b.landing, left: 1 << 30}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg := b.config(f)
	cfg.Watch, cfg.Budget = time.Hour, 300<<10
	cfg.Events = func(e Event) {
		switch {
		case e.Kind == Streaming:
			b.exec(`BEGIN; CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (100) TO (200);
				INSERT INTO parted SELECT i, (i % 2) * 100, 'one of many', repeat('x', 200) FROM generate_series(1000, 6000) i; COMMIT`)
		case e.Kind == Published && e.Table == "public.parted":
			f.mu.Lock()
			f.left = min(f.left, 5)
			f.mu.Unlock()
		case e.Kind == Retrying:
			cancel()
		}
	}
	if err := Run(ctx, cfg); err != nil && !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if p := b.tableState("parted").value.Position; p.Complete || p.N == 0 {
		t.Fatalf("the transaction is not cut: %+v", p)
	}
	b.ends(b.start(b.config(b.landing)), 1)
}

// A partition that is too large to have all tables wait for it has its own built
// anew.
func TestAttachLarge(t *testing.T) {
	b := newParted(t)
	var h heard
	cfg := b.config(b.landing)
	cfg.Events, cfg.attach = h.hear, 256<<10
	stop := b.start(cfg)
	defer stop()
	b.exec(filled("parted_1", 1000, 500)...)
	if e := h.await(t, Rebuilding, 1); !strings.Contains(e.Reason, "public.parted_1") {
		t.Errorf("got %+v", e)
	}
	b.ends(stop, 2)
}

// The mirror dies before and after every write from the look at the partition on;
// the next run goes on with it.
func TestCutAttach(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			reached := false
			t.Run(fmt.Sprintf("write %d, after %t", n, after), func(t *testing.T) { reached = cutAttach(t, n, after) })
			if !reached || t.Failed() {
				if n < 8 {
					t.Errorf("%d writes were cut; it takes some to note the partition and to publish two files at least", n-1)
				}
				break
			}
		}
	}
}

// cutAttach reports whether the nth write was reached.
func cutAttach(t *testing.T, n int, after bool) bool {
	b := newParted(t)
	b.exec(filled("parted_1", 1000, 15)...)
	b.exec(`UPDATE parted SET at = at + 100 WHERE id < 5`)
	f := &faulty{Store: b.landing, left: 1 << 30, after: after}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg := b.config(f)
	cfg.Budget, cfg.idle = 128<<10, 200*time.Millisecond // the look at the partition may be beyond the last commit
	cfg.Events = func(e Event) {
		switch e.Kind {
		case Streaming:
			f.mu.Lock()
			f.left = n
			f.mu.Unlock()
		case Retrying, Attached:
			cancel() // one attempt is what is tested
		}
	}
	if err := Run(ctx, cfg); err != nil && !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	b.exec(`UPDATE parted SET at = at - 100 WHERE id < 3`, `DELETE FROM parted WHERE id BETWEEN 1000 AND 1005`)
	b.ends(b.start(b.config(b.landing)), 1)
	return f.cut
}
