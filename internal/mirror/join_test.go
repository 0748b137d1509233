package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// gate lets the first writes to a folder through and holds the others until it is
// open.
type gate struct {
	store.Store
	dir  string
	held chan bool // closed when one is held
	open chan bool

	mu   sync.Mutex
	free int
	once sync.Once
}

func newGate(s store.Store, table string, free int) *gate {
	return &gate{Store: s, dir: landing.TableDir("public", table), free: free, held: make(chan bool), open: make(chan bool)}
}

func (g *gate) Put(ctx context.Context, name string, body []byte, c store.Cond) (store.Info, error) {
	if strings.HasPrefix(name, g.dir+"/") {
		g.mu.Lock()
		g.free--
		hold := g.free < 0
		g.mu.Unlock()
		if hold {
			g.once.Do(func() { close(g.held) })
			select {
			case <-g.open:
			case <-ctx.Done():
				return store.Info{}, ctx.Err()
			}
		}
	}
	return g.Store.Put(ctx, name, body, c)
}

// reaches waits until a table is in a phase, in a generation.
func (b *bench) reaches(table string, p phase, generation int64) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%s is %s, in generation %d", table, p, generation), func() bool {
		s := b.tableState(table).value
		return s.Phase == p && s.Generation == generation
	})
}

// position asks the source for one.
func (b *bench) position(sql string, args ...any) landing.LSN {
	b.t.Helper()
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var text string
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&text); err != nil {
		b.t.Fatal(err)
	}
	var lsn landing.LSN
	if err := lsn.UnmarshalText([]byte(text)); err != nil {
		b.t.Fatal(err)
	}
	return lsn
}

func (b *bench) confirmed() landing.LSN {
	b.t.Helper()
	return b.position("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", "s_"+b.db)
}

// While a table is being copied for the first time, those that are copied are
// followed, and the slot keeps what the other will need and no more.
func TestFollowWhileCopying(t *testing.T) {
	b := newBench(t, append(tables, `CREATE TABLE zlast (id int PRIMARY KEY, v text)`, `INSERT INTO zlast SELECT i, 'v' FROM generate_series(1, 100) i`)...)
	g := newGate(b.landing, "zlast", 0)
	stop := b.start(b.config(g))
	<-g.held
	b.reaches("plain", phaseReplicating, 1)
	now := b.position("SELECT pg_current_wal_lsn()::text")
	b.exec(`UPDATE plain SET n = 77 WHERE id = 1`)
	eventually(t, "a copied table is followed", func() bool { return b.target("plain")["1"] == "1|note 1|77" })
	eventually(t, "the slot is told of what concerns nobody else", func() bool {
		b.exec("SELECT pg_logical_emit_message(true, 'test', '')")
		return b.confirmed() > now
	})
	b.exec(`UPDATE zlast SET v = 'while it is copied'`)
	first := b.position("SELECT pg_current_wal_insert_lsn()::text") // its commit lies before that, and what else may be confirmed before that commit
	b.exec(`DELETE FROM zlast WHERE id > 90`, `UPDATE plain SET n = 78 WHERE id = 1`)
	eventually(t, "a copied table is followed further", func() bool { return b.target("plain")["1"] == "1|note 1|78" })
	if got := b.confirmed(); got >= first {
		t.Errorf("the slot was told %v, and the table that is being copied needs what was committed before %v", got, first)
	}
	close(g.open)
	b.caughtUp()
	stop()
	b.same()
	b.compare([][3]string{{"zlast", "id, v", "id"}})
}

// What happens to other tables doesn't begin the copy of a large one anew: one
// without a key would never end.
func TestLongCopyGoesOn(t *testing.T) {
	b := newBench(t, append(tables, `CREATE TABLE zlog (v int)`, `ALTER TABLE zlog REPLICA IDENTITY FULL`, `INSERT INTO zlog SELECT i % 50 FROM generate_series(1, 3000) i`)...)
	g := newGate(b.landing, "zlog", 0)
	stop := b.start(b.config(g))
	<-g.held
	b.reaches("plain", phaseReplicating, 1)
	b.exec(`TRUNCATE moving`, `INSERT INTO moving SELECT i, 'again' FROM generate_series(1, 40) i`)
	b.reaches("moving", phaseReplicating, 2)
	b.exec(`ALTER TABLE pair ADD COLUMN d text DEFAULT 'all have it'`)
	b.reaches("pair", phaseReplicating, 2)
	b.exec(`CREATE TABLE late (id int PRIMARY KEY, v text)`, `INSERT INTO late SELECT i, 'late' FROM generate_series(1, 300) i`, `ALTER PUBLICATION p ADD TABLE late`)
	eventually(t, "the new table is copied", func() bool { return b.hasState("late") })
	b.reaches("late", phaseReplicating, 1)
	if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "toast"}); err != nil {
		t.Fatal(err)
	}
	b.reaches("toast", phaseReplicating, 2)
	b.exec(`INSERT INTO zlog SELECT 7 FROM generate_series(1, 20)`)
	close(g.open)
	b.caughtUp()
	stop()
	if s := b.tableState("zlog").value; s.Generation != 1 {
		t.Errorf("its copy was begun %d times", s.Generation)
	}
	if got, want := b.multiset("zlog"), b.sourceMultiset("zlog"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.compare([][3]string{{"plain", "id, note, n", "id"}, {"pair", "a, b, v, d", "a, b"}, {"toast", "id, small, big", "id"}, {"moving", "k, v", "k"}, {"late", "id, v", "id"}})
}

// A table is paused in the middle of its copy, when what is being written of it is
// written, and resumed while another one is still being copied.
func TestPauseWhileCopying(t *testing.T) {
	b := newBench(t, tables...)
	other := newGate(b.landing, "zlast", 0)
	g := newGate(other, "heap", 3) // two files and the metadata
	cfg := b.config(g)
	cfg.chunk = 20
	cfg.Events = func(e Event) {
		if e.Kind == Retrying && strings.HasPrefix(e.Reason, "join tables") {
			t.Errorf("trying again: %s", e.Reason)
		}
	}
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(`CREATE TABLE zlast (id int PRIMARY KEY, v text)`, `INSERT INTO zlast SELECT i, 'v' FROM generate_series(1, 100) i`, `ALTER PUBLICATION p ADD TABLE zlast`)
	<-other.held
	b.exec(blocks, `ALTER PUBLICATION p ADD TABLE heap`)
	<-g.held
	ask := func(kind RequestKind) {
		t.Helper()
		if err := Ask(t.Context(), b.landing, Request{Kind: kind, Schema: "public", Table: "heap"}); err != nil {
			t.Fatal(err)
		}
	}
	ask(Pause)
	eventually(t, "the request is looked at", func() bool {
		_, err := b.landing.Stat(t.Context(), requestFile("public", "heap")+answering)
		return err == nil
	})
	b.exec(`UPDATE plain SET n = 77 WHERE id = 1`)
	eventually(t, "a table beside it is followed", func() bool { return b.target("plain")["1"] == "1|note 1|77" })
	if p := b.tableState("heap").value.Phase; p != phaseSnapshot {
		t.Errorf("it is %s while it is being written", p)
	}
	close(g.open)
	b.reaches("heap", phaseParked, 1)
	b.exec(`UPDATE heap SET n = 1 WHERE id < 100`)
	ask(Resume)
	b.reaches("heap", phaseReplicating, 2)
	close(other.open)
	b.caughtUp()
	stop()
	b.same()
	b.compare([][3]string{{"heap", "id, n, fill", "id"}, {"zlast", "id, v", "id"}})
	for _, table := range []string{"plain", "zlast"} {
		if s := b.tableState(table).value; s.Generation != 1 {
			t.Errorf("%s was copied %d times", table, s.Generation)
		}
	}
}

// failing fails one write to a folder, after something was done.
type failing struct {
	store.Store
	dir  string
	mu   sync.Mutex
	left int
	do   func()
}

func (f *failing) fails(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !strings.HasPrefix(name, f.dir+"/") {
		return false
	}
	f.left--
	return f.left == 0
}

// failingRename fails the renaming of one.
type failingRename struct{ failing }

func (f *failingRename) Put(ctx context.Context, name string, body []byte, c store.Cond) (store.Info, error) {
	return f.Store.Put(ctx, name, body, c)
}

func (f *failingRename) Rename(ctx context.Context, from, to string) error {
	if f.fails(from) {
		return errors.New("this write fails")
	}
	return f.Store.Rename(ctx, from, to)
}

// A file that has a number and could not be given its name is not left out when
// the copy goes on.
func TestJoinRenameFails(t *testing.T) {
	for nth := 1; nth <= 2; nth++ {
		b := newBench(t, tables...)
		f := &failingRename{failing{Store: b.landing, dir: landing.TableDir("public", "heap"), left: nth}}
		cfg := b.config(f)
		cfg.chunk, cfg.Workers = 20, 1
		stop := b.start(cfg)
		b.caughtUp()
		b.exec(blocks, `ALTER PUBLICATION p ADD TABLE heap`)
		eventually(t, "the new table is joined", func() bool { return b.hasState("heap") })
		b.caughtUp()
		stop()
		b.compare([][3]string{{"heap", "id, n, fill", "id"}})
		if _, err := landing.ReadMetadata(t.Context(), b.landing, f.dir); err != nil {
			t.Error(err)
		}
	}
}

func (f *failing) Put(ctx context.Context, name string, body []byte, c store.Cond) (store.Info, error) {
	if f.fails(name) {
		f.do()
		return store.Info{}, errors.New("this write fails")
	}
	return f.Store.Put(ctx, name, body, c)
}

// A table without a key that is joined is not copied further under another
// snapshot when a write of its copy has failed: rows would be there twice.
func TestJoinKeylessFails(t *testing.T) {
	b := newBench(t, tables...)
	f := &failing{Store: b.landing, dir: landing.TableDir("public", "zlog"), left: 3}
	f.do = func() { b.exec(`INSERT INTO zlog SELECT 7 FROM generate_series(1, 500)`) }
	cfg := b.config(f)
	cfg.chunk, cfg.Workers = 1, 1
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(`CREATE TABLE zlog (v int)`, `ALTER TABLE zlog REPLICA IDENTITY FULL`, `INSERT INTO zlog SELECT i % 50 FROM generate_series(1, 3000) i`, `ALTER PUBLICATION p ADD TABLE zlog`)
	eventually(t, "the new table is known", func() bool { return b.hasState("zlog") })
	b.caughtUp()
	stop()
	if got, want := b.multiset("zlog"), b.sourceMultiset("zlog"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// hold does something in a transaction, which commit does more in and ends.
func (b *bench) hold(sql string) (commit func(sql ...string)) {
	b.t.Helper()
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	do := func(sql string) {
		b.t.Helper()
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			b.t.Fatalf("%s: %v", sql, err)
		}
	}
	do("BEGIN")
	do(sql)
	return func(sql ...string) {
		b.t.Helper()
		defer conn.Close(context.Background())
		for _, q := range sql {
			do(q)
		}
		do("COMMIT")
	}
}

// A table that somebody holds locked, for a long migration, holds up nobody else, and
// no copy is begun anew because of it: neither when the lock comes in the middle of
// the copy, nor when it is there as the copy goes on after the mirror's end.
func TestLockedTable(t *testing.T) {
	b := newBench(t, append(tables, blocks, `CREATE TABLE afirst (id int PRIMARY KEY)`, `CREATE TABLE log (v int)`, `ALTER TABLE log REPLICA IDENTITY FULL`,
		`INSERT INTO log SELECT i % 50 FROM generate_series(1, 3000) i`)...)
	g := newGate(b.landing, "afirst", 0)
	cfg := b.config(g)
	cfg.chunk, cfg.Workers, cfg.lock = 20, 1, 100*time.Millisecond
	var named sync.Map
	cfg.Events = func(e Event) {
		switch {
		case e.Kind == Rebuilding || e.Kind == Parked:
			t.Errorf("%s %s: %s", e.Kind, e.Table, e.Reason)
		case e.Kind == Waiting && strings.Contains(e.Reason, "pid ") && strings.Contains(e.Reason, "user postgres"):
			named.Store(e.Table, true)
		}
	}
	told := func(table string) {
		t.Helper()
		eventually(t, "it is told who holds "+table, func() bool { _, ok := named.LoadAndDelete("public." + table); return ok })
	}
	lock := func(table string) (unlock func(...string)) {
		return b.hold("LOCK TABLE " + table + " IN ACCESS EXCLUSIVE MODE")
	}
	stop := b.start(cfg)
	<-g.held
	b.exec(`INSERT INTO log SELECT 7 FROM generate_series(1, 20)`) // which the snapshot doesn't show
	heap, log, toast := lock("heap"), lock("log"), lock("toast")
	close(g.open)
	b.reaches("plain", phaseReplicating, 1)
	b.exec(`UPDATE plain SET n = 77 WHERE id = 1`)
	eventually(t, "a copied table is followed", func() bool { return b.target("plain")["1"] == "1|note 1|77" })
	told("heap")
	told("log")
	log()
	b.reaches("log", phaseReplicating, 1)
	stop()
	toast()
	stop = b.start(cfg)
	told("heap")
	b.reaches("toast", phaseReplicating, 1)
	b.exec(`UPDATE plain SET n = 78 WHERE id = 1`)
	eventually(t, "a copied table is followed again", func() bool { return b.target("plain")["1"] == "1|note 1|78" })
	if p := b.tableState("heap").value.Phase; p != phaseSnapshot {
		t.Errorf("the locked table is %s", p)
	}
	heap()
	b.reaches("heap", phaseReplicating, 1)
	b.exec(`UPDATE heap SET n = 1 WHERE id < 100`)
	b.caughtUp()
	stop()
	b.same()
	b.compare([][3]string{{"heap", "id, n, fill", "id"}})
	if got, want := b.multiset("log"), b.sourceMultiset("log"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Tables that are built anew at once are dropped at once: Fabric takes its time for
// all of them together.
func TestDroppedTogether(t *testing.T) {
	b := newBench(t, tables...)
	stop := b.start(b.config(b.landing))
	b.caughtUp()
	stop()
	both := []string{"plain", "moving"}
	for _, table := range both {
		if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: table}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := b.config(b.landing)
	cfg.Fabric = func(ctx context.Context) (said []FabricTable, err error) {
		left := 0
		for _, table := range both {
			said = append(said, FabricTable{Schema: "public", Table: table})
			if _, err := b.landing.Stat(ctx, landing.TableDir("public", table)); err == nil {
				left++
			}
		}
		if left == 0 {
			return nil, nil
		}
		return said, nil // as long as a folder is there it hasn't come to dropping any
	}
	stop = b.start(cfg)
	for _, table := range both {
		b.reaches(table, phaseReplicating, 2)
	}
	b.caughtUp()
	stop()
	b.same()
}

// waits says when a table is waited for; none may be parked or built anew.
func (c *Config) waits(t *testing.T) <-chan bool {
	waiting := make(chan bool, 100)
	c.Events = func(e Event) {
		switch {
		case e.Kind == Rebuilding || e.Kind == Parked:
			t.Errorf("%s %s: %s", e.Kind, e.Table, e.Reason)
		case e.Kind == Waiting && e.Table != "":
			waiting <- true
		}
	}
	return waiting
}

// A partition that is rewritten while somebody holds it locked doesn't have the rows
// of another one, which are published without a marker, published so again. It is named
// by the publication, too, so that it can't have been UNLOGGED.
func TestLockedAndRewritten(t *testing.T) {
	b := newBench(t, `CREATE TABLE parted (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)`,
		`CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (100)`, `CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (100) TO (200)`,
		`INSERT INTO parted SELECT i, 0, 'v' FROM generate_series(1, 100) i`, `INSERT INTO parted SELECT i, 100, repeat('v', 500) FROM generate_series(1, 3000) i`)
	b.exec(`ALTER PUBLICATION p SET TABLE parted, parted_1`)
	g := newGate(b.landing, "parted", 2) // a file and the metadata
	cfg := b.config(g)
	cfg.chunk, cfg.Workers, cfg.lock = 50, 1, 100*time.Millisecond
	waiting := cfg.waits(t)
	stop := b.start(cfg)
	<-g.held
	commit := b.hold(`LOCK TABLE parted_1 IN ACCESS EXCLUSIVE MODE`)
	close(g.open)
	<-waiting
	commit(`CLUSTER parted_1 USING parted_1_pkey`)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "parted")
}

// A chunk of which a part is published when somebody takes the index of its TOASTed
// values is not published from its beginning again, unless as upserts.
func TestLockedInTheMiddle(t *testing.T) {
	b := newBench(t, `CREATE TABLE big (id int PRIMARY KEY, v text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL`,
		`INSERT INTO big SELECT i, repeat(md5(i::text), 1000) FROM generate_series(1, 900) i`)
	g := newGate(b.landing, "big", 2)
	cfg := b.config(g)
	cfg.Workers, cfg.Budget, cfg.lock = 1, 8<<20, 100*time.Millisecond
	waiting := cfg.waits(t)
	stop := b.start(cfg)
	<-g.held
	commit := b.hold(`DO $$ BEGIN EXECUTE 'REINDEX INDEX ' || (SELECT x.indexrelid::regclass FROM pg_index x JOIN pg_class c ON c.reltoastrelid = x.indrelid WHERE c.relname = 'big'); END $$`)
	close(g.open)
	<-waiting
	commit()
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "big")
}

// A table that stays locked is parked in the end, and the others of its join aren't.
func TestLockedForever(t *testing.T) {
	b := newBench(t, tables...)
	stop := b.start(b.config(b.landing))
	b.caughtUp()
	b.exec(`CREATE TABLE afirst (id int PRIMARY KEY)`, blocks, `ALTER PUBLICATION p ADD TABLE afirst, heap`)
	b.reaches("heap", phaseReplicating, 1)
	stop()
	for _, table := range []string{"heap", "plain"} {
		if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: table}); err != nil {
			t.Fatal(err)
		}
	}
	g := newGate(b.landing, "heap", 0)
	cfg := b.config(g)
	cfg.chunk, cfg.Workers, cfg.lock, cfg.lockPatience = 20, 1, 50*time.Millisecond, 200*time.Millisecond
	stop = b.start(cfg)
	<-g.held
	commit := b.hold(`LOCK TABLE heap IN ACCESS EXCLUSIVE MODE`)
	close(g.open)
	b.reaches("heap", phaseParked, 2)
	b.reaches("plain", phaseReplicating, 2)
	commit()
	if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "heap"}); err != nil {
		t.Fatal(err)
	}
	b.reaches("heap", phaseReplicating, 3)
	b.caughtUp()
	stop()
	b.same()
	b.compare([][3]string{{"heap", "id, n, fill", "id"}})
}

// A table that is locked while its join has more to do leaves it, and another join
// waits for the lock.
func TestLockedBeforeOthers(t *testing.T) {
	b := newBench(t, append(tables, `CREATE TABLE zlast (id int PRIMARY KEY, v text)`, `INSERT INTO zlast SELECT i, 'v' FROM generate_series(1, 100) i`)...)
	interrupted := newGate(b.landing, "zlast", 0)
	cfg := b.config(interrupted)
	cfg.Workers = 1
	stop := b.start(cfg)
	<-interrupted.held
	stop()
	b.exec(`CREATE TABLE new1 (id int PRIMARY KEY)`, `CREATE TABLE new2 (id int PRIMARY KEY, v text)`, `INSERT INTO new2 SELECT i, 'v' FROM generate_series(1, 100) i`, `ALTER PUBLICATION p ADD TABLE new1, new2`)
	g := newGate(b.landing, "new1", 0)
	cfg.Landing, cfg.lock = g, 100*time.Millisecond
	stop = b.start(cfg)
	<-g.held
	commit := b.hold(`LOCK TABLE new2 IN ACCESS EXCLUSIVE MODE`)
	close(g.open)
	b.reaches("zlast", phaseReplicating, 1)
	if s := b.tableState("new2").value; s.Phase != phaseSnapshot {
		t.Errorf("the locked table is %s", s.Phase)
	}
	commit()
	b.caughtUp()
	stop()
	b.same()
	b.compare([][3]string{{"zlast", "id, v", "id"}, {"new2", "id, v", "id"}})
}

// A server that takes nobody in for a while, as during a slow shutdown or without a
// connection or a slot left, is no table's fault: what is being joined waits, and isn't
// parked.
func TestJoinWaitsForServer(t *testing.T) {
	for what, full := range map[string]func(b *bench) (end func()){
		"connections": func(b *bench) func() {
			b.exec(`ALTER ROLE narrow CONNECTION LIMIT 0`)
			return func() { b.exec(`ALTER ROLE narrow CONNECTION LIMIT -1`) }
		},
		"slots": func(b *bench) func() {
			eventually(b.t, "no slot is about to go", func() bool { return b.holds("NOT EXISTS (SELECT FROM pg_replication_slots WHERE temporary)") })
			conn, err := pgx.Connect(context.Background(), b.url())
			if err == nil {
				_, err = conn.Exec(context.Background(), `SELECT pg_create_physical_replication_slot('full_' || i, false, true)
					FROM generate_series(1, current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int) i`)
			}
			if err != nil {
				b.t.Fatal(err)
			}
			return func() { conn.Close(context.Background()) }
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, tables...)
			b.exec(`CREATE ROLE narrow LOGIN REPLICATION PASSWORD 'pw'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO narrow; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO narrow`)
			t.Cleanup(func() { b.exec(`DROP OWNED BY narrow; DROP ROLE narrow`) })
			cfg := b.config(b.landing)
			cfg.Source.User, cfg.Watch = "narrow", time.Hour
			var h heard
			cfg.Events = h.hear
			stop := b.start(cfg)
			b.caughtUp()
			end := full(b)
			b.exec(`TRUNCATE moving`)
			h.await(t, Retrying, joinTries+3)
			if s := b.tableState("moving").value; s.Phase == phaseParked {
				t.Errorf("it is parked: %s", s.Reason)
			}
			end()
			b.exec(`INSERT INTO moving VALUES (1, 'x')`)
			b.reaches("moving", phaseReplicating, 2)
			b.caughtUp()
			stop()
			b.same()
		})
	}
}

// While a server's disk is full nothing is waited for that it would keep WAL for.
func TestUnreachable(t *testing.T) {
	for code, want := range map[string]bool{"08006": true, "53100": false, "53200": true, "53300": true, "53400": true, "57P03": true, "42P01": false} {
		if got := unreachable(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: got %t, want %t", code, got, want)
		}
	}
}

// While a table is copied that has the name of another one now, the slot keeps its
// changes, though that one is parked and was what it is.
func TestRenamedOverParked(t *testing.T) {
	b := newBench(t, `CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a SELECT i, i FROM generate_series(1, 30) i`,
		`CREATE TABLE a_new (id int PRIMARY KEY, n int); INSERT INTO a_new SELECT i, -i FROM generate_series(1, 30) i`, `CREATE TABLE small (id int PRIMARY KEY)`)
	b.exec(`ALTER PUBLICATION p SET TABLE a, a_new, small`)
	b.settle()
	b.exec(`ALTER TABLE a RENAME TO a_old; ALTER TABLE a_new RENAME TO a`)
	g := newGate(b.landing, "a", 0)
	stop := b.start(b.config(g))
	<-g.held
	b.exec(`UPDATE a SET n = 1000 WHERE id = 1`)
	for _, id := range []string{"1", "2"} { // with the second, the first is confirmed
		b.exec(`INSERT INTO small VALUES (` + id + `)`)
		eventually(t, "the change is published", func() bool { return b.target("small")[id] != "" })
	}
	close(g.open)
	b.caughtUp()
	stop()
	if s := b.tableState("a_new").value; s.Phase != phaseParked {
		t.Errorf("what had the name before is %s", s.Phase)
	}
	b.equal(newTaker(t, b.landing, 1), "a", "a_old", "small")
}

// A session that holds a snapshot and is ended, as administrators do with those that
// are idle in a transaction, is no fault of the table that is read next.
func TestSnapshotEnded(t *testing.T) {
	b := newBench(t, tables...)
	g := newGate(b.landing, "heap", 2)
	cfg := b.config(g)
	cfg.chunk, cfg.Workers = 20, 1
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(blocks, `ALTER PUBLICATION p ADD TABLE heap`)
	<-g.held
	keeper := `FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE '%pg_export_snapshot%'`
	if !b.holds(`EXISTS (SELECT ` + keeper + `)`) {
		t.Fatal("nobody holds the snapshot")
	}
	b.exec(`SELECT pg_terminate_backend(pid) `+keeper, `UPDATE heap SET n = n + 1 WHERE id % 3 = 0`)
	close(g.open)
	b.caughtUp()
	stop()
	if s := b.tableState("heap").value; s.Phase != phaseReplicating {
		t.Errorf("it is %s: %s", s.Phase, s.Reason)
	}
	b.equal(newTaker(t, b.landing, 1), "heap")
}

// A table is parked at last when Fabric doesn't say whether it has dropped it, however
// long each look takes: the slot keeps what it will need.
func TestFabricMute(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "plain"}); err != nil {
		t.Fatal(err)
	}
	cfg := b.config(b.landing)
	cfg.dropPatience, cfg.comeOn = 250*time.Millisecond, 50*time.Millisecond
	cfg.Fabric = func(context.Context) ([]FabricTable, error) { return nil, errors.New("no answer") }
	stop := b.start(cfg)
	b.reaches("plain", phaseParked, 1)
	b.caughtUp()
	stop()
	if s := b.tableState("plain").value; !strings.Contains(s.Reason, errFabricMute.Error()) {
		t.Errorf("it is parked because %q", s.Reason)
	}
}
