package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/store"
)

const thirty = `CREATE TABLE plain (id int PRIMARY KEY, n int); INSERT INTO plain SELECT i, i FROM generate_series(1, 30) i`

// looked waits until the watch has looked at all there is once more.
func (h *heard) looked(t *testing.T) {
	t.Helper()
	_, looks := h.last(SlotHealth)
	h.await(t, SlotHealth, looks+3)
}

// What happens between two looks at the catalog and leaves the same names behind
// still has the table built anew.
func TestBetweenLooks(t *testing.T) {
	parted := `CREATE TABLE plain (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE half (id int NOT NULL, n int) PARTITION BY RANGE (id);
		ALTER TABLE plain ATTACH PARTITION half DEFAULT; CREATE TABLE leaf PARTITION OF half DEFAULT; INSERT INTO plain SELECT i, i FROM generate_series(1, 30) i`
	full := `CREATE TABLE plain (id int NOT NULL, n int); CREATE UNIQUE INDEX u ON plain (id); ALTER TABLE plain REPLICA IDENTITY FULL; INSERT INTO plain SELECT i, i FROM generate_series(1, 30) i`
	for _, c := range []struct{ what, setup, change string }{
		{"a partition of a partition is detached and attached", parted,
			`BEGIN; ALTER TABLE half DETACH PARTITION leaf; UPDATE leaf SET n = -1; ALTER TABLE half ATTACH PARTITION leaf DEFAULT; COMMIT`},
		{"a partitioned partition is detached and attached", parted,
			`BEGIN; ALTER TABLE plain DETACH PARTITION half; UPDATE half SET n = -1; ALTER TABLE plain ATTACH PARTITION half DEFAULT; COMMIT`},
		{"a schema is taken out of the publication and put back", thirty + `; ALTER PUBLICATION p DROP TABLE plain; ALTER PUBLICATION p ADD TABLES IN SCHEMA public`,
			`BEGIN; ALTER PUBLICATION p DROP TABLES IN SCHEMA public; UPDATE plain SET n = -1; ALTER PUBLICATION p ADD TABLES IN SCHEMA public; COMMIT`},
		{"a column is generated no more", `CREATE TABLE plain (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED); INSERT INTO plain SELECT i, i FROM generate_series(1, 30) i`,
			`ALTER TABLE plain ALTER g DROP EXPRESSION; UPDATE plain SET n = -1 WHERE id < 10`},
		{"a table is in another schema", thirty + `; CREATE SCHEMA other; ALTER PUBLICATION p DROP TABLE plain; ALTER PUBLICATION p ADD TABLES IN SCHEMA public`,
			`BEGIN; ALTER TABLE plain SET SCHEMA other; UPDATE other.plain SET n = -1; ALTER TABLE other.plain SET SCHEMA public; COMMIT`},
		{"a table is unlogged", thirty + `; ALTER PUBLICATION p RENAME TO q; DROP PUBLICATION q; CREATE PUBLICATION p FOR ALL TABLES`,
			`BEGIN; ALTER TABLE plain SET UNLOGGED; UPDATE plain SET n = -1; ALTER TABLE plain SET LOGGED; COMMIT`},
		{"a partition is unlogged", parted, `BEGIN; ALTER TABLE leaf SET UNLOGGED; UPDATE leaf SET n = -1; ALTER TABLE leaf SET LOGGED; COMMIT`},
		{"a key is doubled under FULL", full, `BEGIN; DROP INDEX u; INSERT INTO plain VALUES (5, 500); DELETE FROM plain WHERE id = 5 AND n = 5; CREATE UNIQUE INDEX u ON plain (id); COMMIT`},
		{"a column is there for a while, and another of its name", thirty, `BEGIN; ALTER TABLE plain ADD c int; UPDATE plain SET c = 5; ALTER TABLE plain DROP c; ALTER TABLE plain ADD c int; COMMIT`},
		{"a column is dropped, and added after a change", thirty, `BEGIN; ALTER TABLE plain DROP n; UPDATE plain SET id = id + 100; ALTER TABLE plain ADD n int; COMMIT`},
		{"a column is added, and one with a value after a change", thirty, `BEGIN; ALTER TABLE plain ADD a int; UPDATE plain SET a = 1 WHERE id = 1; ALTER TABLE plain ADD c int DEFAULT 5; COMMIT`},
		{"an attribute is there for a while", `CREATE TYPE pt AS (x int); CREATE TABLE plain (id int PRIMARY KEY, v pt); INSERT INTO plain SELECT i, row(i)::pt FROM generate_series(1, 30) i`,
			`BEGIN; ALTER TYPE pt ADD ATTRIBUTE y int; UPDATE plain SET v = row(7, 8)::pt WHERE id < 5; ALTER TYPE pt DROP ATTRIBUTE y; COMMIT`},
	} {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, while no mirror runs %t", c.what, down), func(t *testing.T) { betweenLooks(t, c.setup, c.change, down) })
		}
	}
}

func betweenLooks(t *testing.T, setup, change string, down bool) {
	if strings.Contains(setup, "IN SCHEMA") {
		b := newBench(t)
		if !b.holds("current_setting('server_version_num')::int >= 150000") {
			return
		}
	}
	create, publish, _ := strings.Cut(setup, "; ALTER PUBLICATION")
	b := newBench(t, create)
	if publish != "" {
		b.exec("ALTER PUBLICATION" + publish)
	} else {
		b.exec("ALTER PUBLICATION p SET TABLE plain")
	}
	if down {
		b.settle()
		b.exec(change)
	}
	var h heard
	stop := b.hear(b.landing, &h)
	if !down {
		b.caughtUp()
		h.looked(t)
		b.exec(change)
	}
	b.reaches("plain", phaseReplicating, 2)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain")
}

// A column that is added and has no value yet is followed, however often the mirror is
// opened before it has one, and whatever was changed before it was added.
func TestAddedColumnWithoutChange(t *testing.T) {
	b := newBench(t, thirty)
	b.exec(`ALTER PUBLICATION p SET TABLE plain`)
	b.settle()
	b.exec(`ALTER TABLE plain ADD x int`)
	b.settle()
	b.settle()
	b.exec(`UPDATE plain SET x = 1 WHERE id = 1`, `ALTER TABLE plain ADD y int`, `UPDATE plain SET y = 1 WHERE id = 2`, `ALTER TABLE plain ADD z int`, `UPDATE plain SET z = 1 WHERE id = 3`)
	b.settle()
	if s := b.tableState("plain").value; s.Generation != 1 {
		t.Errorf("it was copied %d times: %s", s.Generation, s.Reason)
	}
	b.equal(newTaker(t, b.landing, 1), "plain")
}

// The values of a column that was there for a while aren't those of the next one of its
// name, though the first was seen to be gone before the stream came to it.
func TestColumnGoneBeforeStream(t *testing.T) {
	b := newBench(t, thirty)
	b.exec(`ALTER PUBLICATION p SET TABLE plain`)
	b.settle()
	b.exec(`ALTER TABLE plain ADD x int`, `INSERT INTO plain VALUES (-1, 0, 5)`, `ALTER TABLE plain DROP x`)
	var once sync.Once
	cfg := b.config(b.landing)
	cfg.Events = func(e Event) {
		if e.Kind == Streaming { // the tables are open, nothing is read yet
			once.Do(func() { b.exec(`ALTER TABLE plain ADD x int`) })
		}
	}
	stop := b.start(cfg)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain")
}

// What is defined after a snapshot's point and before the table's definition is read
// holds for the rows of the one and not for the changes of the other.
func TestBehindSnapshot(t *testing.T) {
	parted := `CREATE TABLE plain (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE plain_0 PARTITION OF plain FOR VALUES FROM (0) TO (100);
		INSERT INTO plain SELECT i, i FROM generate_series(1, 50) i; CREATE TABLE plain_1 (id int PRIMARY KEY, n int); INSERT INTO plain_1 VALUES (150, 1)`
	for _, c := range []struct {
		what, setup string
		change      []string
	}{
		{"a column with a default", thirty, []string{`UPDATE plain SET n = -1 WHERE id = 3`, `ALTER TABLE plain ADD COLUMN f int DEFAULT 7`, `UPDATE plain SET n = -1 WHERE id = 4`}},
		{"a partition", parted, []string{`UPDATE plain_1 SET n = -1`, `INSERT INTO plain_1 VALUES (151, 2)`, `ALTER TABLE plain ATTACH PARTITION plain_1 FOR VALUES FROM (100) TO (200)`}},
		{"another publishing", thirty, []string{`ALTER PUBLICATION p DROP TABLE plain`, `UPDATE plain SET n = -1`, `ALTER PUBLICATION p ADD TABLE plain`}},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first copy %t", c.what, first), func(t *testing.T) {
				b := newBench(t, c.setup)
				b.exec(`ALTER PUBLICATION p SET TABLE plain`)
				if !first {
					b.settle()
					if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "plain"}); err != nil {
						t.Fatal(err)
					}
				}
				var h heard
				var once sync.Once
				cfg := b.config(b.landing)
				cfg.Events = h.hear
				cfg.Changing = func(what string, do func() error) error {
					err := do()
					if !first || what == "create replication slot "+cfg.Slot {
						once.Do(func() { b.exec(c.change...) })
					}
					return err
				}
				stop := b.start(cfg)
				b.caughtUp()
				h.looked(t)
				b.caughtUp()
				stop()
				b.equal(newTaker(t, b.landing, 1), "plain")
			})
		}
	}
}

// A table of which only inserts are published is one without a key, though it has
// one: what else happens to it is counted.
func TestInsertsOnly(t *testing.T) {
	b := newBench(t, `CREATE TABLE plain (id int, n int); INSERT INTO plain SELECT i, i FROM generate_series(1, 30) i`)
	b.exec(`ALTER PUBLICATION p SET (publish = 'insert, truncate')`)
	var h heard
	stop := b.hear(b.landing, &h)
	b.caughtUp()
	b.exec(`ALTER TABLE plain ADD PRIMARY KEY (id)`)
	h.looked(t)
	b.exec(`UPDATE plain SET n = -1 WHERE id < 10`, `DELETE FROM plain WHERE id > 20`)
	eventually(t, "the changes are counted", func() bool { return b.tableState("plain").value.Ignored == 19 })
	b.exec(`ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')`)
	b.reaches("plain", phaseReplicating, 2)
	b.exec(`UPDATE plain SET n = -2 WHERE id < 5`)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain")
}

// A publication that leaves out what would be lost parks its tables until it doesn't.
func TestPartlyPublished(t *testing.T) {
	b := newBench(t, thirty)
	stop := b.start(b.config(b.landing))
	b.caughtUp()
	b.exec(`ALTER PUBLICATION p SET (publish = 'insert, update, delete')`, `TRUNCATE plain`, `INSERT INTO plain VALUES (1000, 1)`)
	b.reaches("plain", phaseParked, 1)
	b.exec(`CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1); ALTER PUBLICATION p ADD TABLE late`)
	b.reaches("late", phaseParked, 1)
	if s := b.tableState("plain").value; !strings.Contains(s.Reason, "leave out") {
		t.Errorf("it is parked because %s", s.Reason)
	}
	b.exec(`ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')`)
	b.reaches("plain", phaseReplicating, 2)
	b.reaches("late", phaseReplicating, 2)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain", "late")
}

// Of tables whose names differ only in case, which Fabric takes for one, one is
// mirrored.
func TestTwins(t *testing.T) {
	b := newBench(t, thirty)
	stop := b.start(b.config(b.landing))
	b.reaches("plain", phaseReplicating, 1)
	b.exec(`CREATE TABLE "Plain" (id int PRIMARY KEY); ALTER PUBLICATION p ADD TABLE "Plain"`)
	b.reaches("Plain", phaseParked, 1)
	if s := b.tableState("Plain").value; !strings.Contains(s.Reason, "public.plain") {
		t.Errorf("it is parked because %s", s.Reason)
	}
	b.exec(`UPDATE plain SET n = -1`)
	b.caughtUp()
	b.exec(`ALTER TABLE plain RENAME TO other`)
	b.reaches("Plain", phaseReplicating, 2)
	stop()
}

// A table that was parked because somebody else took its next file's name is built
// anew when that is asked for.
func TestResyncTaken(t *testing.T) {
	b := newBench(t, tables...)
	stop := b.start(b.config(b.landing))
	b.caughtUp()
	n, dir := b.tableState("moving").value.Number, landing.TableDir("public", "moving")
	if err := b.landing.Rename(t.Context(), path.Join(dir, landing.FileName(n)), path.Join(dir, landing.FileName(n+1))); err != nil {
		t.Fatal(err)
	}
	b.exec(`UPDATE moving SET v = 'x'`)
	b.reaches("moving", phaseParked, 1)
	if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "moving"}); err != nil {
		t.Fatal(err)
	}
	b.reaches("moving", phaseReplicating, 2)
	b.caughtUp()
	stop()
	b.same()
}

// Fabric loses a table while no mirror runs.
func TestFabricResetWhileDown(t *testing.T) {
	for _, c := range []struct {
		what string
		then []FabricTable
	}{
		{"gone", nil},
		{"begun anew", []FabricTable{{Schema: "public", Table: "plain", Rows: 10}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBench(t, thirty)
			said := []FabricTable{{Schema: "public", Table: "plain", Rows: 30}}
			var h heard
			cfg := b.config(b.landing)
			cfg.Watch, cfg.Events = 30*time.Millisecond, h.hear
			cfg.Fabric = func(context.Context) ([]FabricTable, error) { return said, nil }
			stop := b.start(cfg)
			b.caughtUp()
			h.looked(t)
			stop()
			said = c.then
			stop = b.start(cfg)
			h.await(t, Rebuilding, 1)
			stop()
		})
	}
}

// A server whose disk was put back to an earlier copy has a log that ends before what
// the mirror has.
func TestDiskPutBack(t *testing.T) {
	dir := shortDir(t)
	settings := map[string]string{"wal_level": "logical", "wal_sender_timeout": "2s"}
	c := localpgtest.Start(t, localpg.Options{Dir: filepath.Join(dir, "a"), Superuser: "postgres", Password: "pw", Settings: settings})
	b := newBenchOn(t, c, thirty)
	b.settle()
	copied(t, c, dir)
	b.exec(`UPDATE plain SET n = -1`, `SELECT pg_switch_wal()`, `UPDATE plain SET n = -2`)
	b.settle()
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.cluster = localpgtest.Start(t, localpg.Options{Dir: filepath.Join(dir, "b"), Superuser: "postgres", Password: "pw", Settings: settings})
	var fault *Fault
	if err := Run(t.Context(), b.config(b.landing)); !errors.As(err, &fault) || fault.Code != "WentBack" {
		t.Errorf("got %v", err)
	}
}

// copied copies the cluster in a of dir to b, as it is now.
func copied(t *testing.T, c *localpg.Cluster, dir string) {
	t.Helper()
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(dir, "a"), filepath.Join(dir, "b")).CombinedOutput(); err != nil {
		t.Fatalf("copy the cluster: %v: %s", err, out)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// door leads to one of two servers.
type door struct {
	net.Listener
	to atomic.Value
}

func newDoor(t *testing.T, to string) *door {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: l}
	d.to.Store(to)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", d.to.Load().(string))
				if err != nil {
					return
				}
				defer out.Close()
				go func() { io.Copy(out, in); out.(*net.TCPConn).CloseWrite() }()
				io.Copy(in, out)
			}()
		}
	}()
	return d
}

// betweenRounds does something once, when the state of the tables is listed.
type betweenRounds struct {
	store.Store
	do atomic.Pointer[func()]
}

func (s *betweenRounds) List(ctx context.Context, name string) ([]store.Info, error) {
	if name == tablesDir {
		if do := s.do.Swap(nil); do != nil {
			(*do)()
		}
	}
	return s.Store.List(ctx, name)
}

// A standby takes over at the moment in which the mirror, between two rounds, reads no
// stream: it is told nothing, and found to be another one.
func TestFailoverBetweenRounds(t *testing.T) {
	dir := shortDir(t)
	settings := map[string]string{"wal_level": "logical", "wal_sender_timeout": "2s"}
	c := localpgtest.Start(t, localpg.Options{Dir: filepath.Join(dir, "a"), Superuser: "postgres", Password: "pw", Settings: settings})
	b := newBenchOn(t, c, tables...)
	b.settle()
	copied(t, c, dir)
	promote(t, filepath.Join(dir, "b", "data"))
	second := localpgtest.Start(t, localpg.Options{Dir: filepath.Join(dir, "b"), Superuser: "postgres", Password: "pw",
		Settings: map[string]string{"wal_level": "logical", "wal_sender_timeout": "2s", "restore_command": "false"}})
	d := newDoor(t, fmt.Sprintf("%s:%d", c.Host, c.Port))
	zone := &betweenRounds{Store: b.landing}
	var h heard
	cfg := b.config(zone)
	cfg.Source.Host, cfg.Source.Port, cfg.Events = "127.0.0.1", d.Addr().(*net.TCPAddr).Port, h.hear
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(`UPDATE plain SET n = -1`, `DELETE FROM moving WHERE k < 9`) // the standby has none of it
	b.caughtUp()
	over := func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		d.to.Store(fmt.Sprintf("%s:%d", second.Host, second.Port))
	}
	zone.do.Store(&over)
	b.exec(`CREATE TABLE late (id int PRIMARY KEY); ALTER PUBLICATION p ADD TABLE late`) // a new round
	h.await(t, NewTimeline, 1)
	b.cluster = second
	b.exec(`UPDATE plain SET n = 5 WHERE id < 10`)
	b.caughtUp()
	stop()
	b.same()
}

// A table with a damaged value is parked, whether the copy meets it or a later look
// at the row, and the others go on.
func TestDamaged(t *testing.T) {
	const damage = `DO $$ BEGIN EXECUTE (SELECT format('SELECT heap_force_kill(%L::regclass, ARRAY[''(0,1)'']::tid[])', reltoastrelid::regclass) FROM pg_class WHERE relname = 'bad'); END $$`
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("first copy %t", first), func(t *testing.T) {
			b := newBench(t, thirty, `CREATE EXTENSION pg_surgery`, `CREATE TABLE bad (id int PRIMARY KEY, n int, big text); ALTER TABLE bad ALTER big SET STORAGE EXTERNAL`,
				`INSERT INTO bad SELECT i, i, repeat(md5(i::text), 200) FROM generate_series(1, 5) i`)
			if first {
				b.exec(damage)
			}
			cfg := b.config(b.landing)
			cfg.Workers = 1
			stop := b.start(cfg)
			if !first {
				b.caughtUp()
				b.exec(damage, `UPDATE bad SET n = -1 WHERE id = 1`)
			}
			b.reaches("bad", phaseParked, 1)
			b.reaches("plain", phaseReplicating, 1)
			b.exec(`UPDATE plain SET n = -1`)
			b.caughtUp()
			stop()
			b.equal(newTaker(t, b.landing, 1), "plain")
		})
	}
}

// What happens to the rows of a table without a key while that is copied is counted.
func TestTouchedWhileCopied(t *testing.T) {
	b := newBench(t, `CREATE TABLE log (v int, fill text); ALTER TABLE log ALTER fill SET STORAGE PLAIN`, `INSERT INTO log SELECT i, repeat('x', 500) FROM generate_series(1, 3000) i`)
	b.exec(`ALTER PUBLICATION p SET (publish = 'insert, truncate')`)
	cfg := b.config(b.landing)
	cfg.chunk, cfg.Workers = 100, 1
	var once sync.Once
	cfg.Events = func(e Event) {
		if e.Kind == SnapshotProgress {
			once.Do(func() { b.exec(`UPDATE log SET v = -1 WHERE v < 100`) })
		}
	}
	stop := b.start(cfg)
	eventually(t, "they are counted", func() bool { s := b.tableState("log").value; return s.Phase == phaseReplicating && s.Ignored == 99 })
	stop()
}

// A request that can't be answered is told of and thrown away; the mirror goes on.
func TestRequestThrownAway(t *testing.T) {
	b := newBench(t, thirty)
	var h heard
	stop := b.hear(b.landing, &h)
	b.caughtUp()
	for i, body := range []string{`{`, `{"version": 1, "kind": "vacuum", "schema": "public", "table": "plain"}`, `{"version": 99, "kind": "resync", "schema": "public", "table": "plain"}`} {
		if _, err := b.landing.Put(t.Context(), requestFile("public", "plain")+waiting, []byte(body), store.Cond{}); err != nil {
			t.Fatal(err)
		}
		h.await(t, NotAnswered, i+1)
		b.answered("plain")
	}
	b.exec(`UPDATE plain SET n = -1`)
	b.caughtUp()
	stop()
	if e, n := h.last(Retrying); n > 0 {
		t.Errorf("%d tries, the last: %s", n, e.Reason)
	}
	b.equal(newTaker(t, b.landing, 1), "plain")
}

// A table that is paused while it isn't published stays so when it is again.
func TestPauseAbsent(t *testing.T) {
	b := newBench(t, thirty, `CREATE TABLE other (id int PRIMARY KEY)`)
	var h heard
	stop := b.hear(b.landing, &h)
	b.caughtUp()
	b.exec(`ALTER PUBLICATION p DROP TABLE plain`)
	b.reaches("plain", phaseParked, 1)
	if err := Ask(t.Context(), b.landing, Request{Kind: Pause, Schema: "public", Table: "plain"}); err != nil {
		t.Fatal(err)
	}
	b.answered("plain")
	b.exec(`ALTER PUBLICATION p ADD TABLE plain`)
	h.looked(t)
	stop()
	if s := b.tableState("plain").value; s.Phase != phaseParked || s.Reason != "paused" {
		t.Errorf("it is %s, %q", s.Phase, s.Reason)
	}
}

// A table that the server can't read, for a reason of its own, is parked after a few
// tries.
func TestHopeless(t *testing.T) {
	tab := &table{m: &mirror{guard: &guard{at: map[string][]time.Time{}}}, name: "public.t"}
	internal := &pgconn.PgError{Severity: "ERROR", Code: "XX000"}
	for i := range guardTimes {
		if tab.hopeless(fmt.Errorf("read: %w", internal)) {
			t.Fatalf("hopeless at try %d", i+1)
		}
	}
	if !tab.hopeless(internal) {
		t.Errorf("not hopeless after %d tries", guardTimes+1)
	}
	if tab.hopeless(&pgconn.PgError{Severity: "ERROR", Code: "57014"}) || tab.hopeless(io.EOF) {
		t.Error("another error is hopeless, too")
	}
}
