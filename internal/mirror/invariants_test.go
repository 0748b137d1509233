package mirror

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// start runs a mirror as configured until stop is called.
func (b *bench) start(cfg Config) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		b.t.Helper()
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("the mirror ended: %v", err)
		}
	})
	b.t.Cleanup(stop) // of a test that has failed
	return stop
}

// equal takes all files as Fabric would and compares the named tables.
func (b *bench) equal(fabric *taker, tables ...string) {
	b.t.Helper()
	for fabric.takeAll() {
	}
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	published, err := postgres.PublishedTables(context.Background(), conn, []string{"p"}, postgres.WithLeaves)
	if err != nil {
		b.t.Fatal(err)
	}
	seen := 0
	for _, src := range published {
		for _, name := range tables {
			if src.Name != name {
				continue
			}
			seen++
			b.types.Apply(&src)
			if wrong, _ := fabric.differs(b.config(b.landing).Source, src); len(wrong) > 0 {
				b.t.Errorf("%d differences: %s", len(wrong), strings.Join(wrong[:min(3, len(wrong))], "\n"))
			}
		}
	}
	if seen != len(tables) {
		b.t.Errorf("%d of the tables %v are published", seen, tables)
	}
}

const blocks = `CREATE TABLE heap (id int PRIMARY KEY, n int, fill text); ALTER TABLE heap ALTER fill SET STORAGE PLAIN;
	INSERT INTO heap SELECT i, 0, repeat('x', 500) FROM generate_series(1, 3000) i`

// What a copy lacked when it was interrupted is read under a new snapshot, in which
// rows have moved from blocks that were read to blocks that were not: as upserts.
func TestResumedCopy(t *testing.T) {
	b := newBench(t, blocks)
	cfg := b.config(b.landing)
	cfg.chunk, cfg.Workers = 20, 1
	ctx, cancel := context.WithCancel(t.Context())
	files := 0
	cfg.Events = func(e Event) {
		if e.Kind == SnapshotProgress {
			if files++; files == 3 {
				if e.Left <= 0 || e.Took <= 0 {
					t.Errorf("after two chunks: %v took, %v left", e.Took, e.Left)
				}
				cancel()
			}
		}
	}
	if err := Run(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	s := b.tableState("heap").value
	if done := s.Chunks.Next; s.Phase != phaseSnapshot || done < 3 || done == s.Chunks.Count {
		t.Fatalf("interrupted in phase %s after %d of %d chunks", s.Phase, done, s.Chunks.Count)
	}
	b.exec(`UPDATE heap SET n = 1`, `DELETE FROM heap WHERE id % 10 = 0`)
	cfg.Events = nil
	stop := b.start(cfg)
	b.caughtUp()
	stop()
	if seen, at := b.tableState("heap").value.Seen, s.Position.CommitLSN; seen <= at {
		t.Errorf("the rest was read behind %v, which was not noted: %v", at, seen)
	}
	b.equal(newTaker(t, b.landing, 1), "heap")
}

// A table that is rewritten between two chunks of its copy has its rows in other
// blocks: it is cut and copied anew.
func TestRewrittenWhileCopied(t *testing.T) {
	b := newBench(t, blocks, `DELETE FROM heap WHERE id < 1500`)
	cfg := b.config(b.landing)
	cfg.chunk, cfg.Workers = 100, 1
	var once sync.Once
	cfg.Events = func(e Event) {
		if e.Kind == SnapshotProgress {
			once.Do(func() { b.exec(`VACUUM FULL heap`) })
		}
	}
	stop := b.start(cfg)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "heap")
}

// A column that is added after a table was looked at and before its snapshot is
// there has values in the snapshot.
func TestColumnAddedBeforeJoin(t *testing.T) {
	b := newBench(t, tables...)
	cfg := b.config(b.landing)
	cfg.Watch = time.Hour
	added := make(chan bool, 1)
	cfg.Fabric = func(context.Context) ([]FabricTable, error) { // asked when the folder is gone
		b.exec(`ALTER TABLE plain ADD COLUMN late int`, `UPDATE plain SET late = id`)
		added <- true
		return nil, nil
	}
	stop := b.start(cfg)
	b.caughtUp()
	stop()
	if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "plain"}); err != nil {
		t.Fatal(err)
	}
	stop = b.start(cfg)
	<-added
	b.caughtUp()
	b.exec(`UPDATE plain SET n = 0 WHERE id < 5`) // the stream now says that there is such a column
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain")
}

// A column that is dropped while values are to be read back from the table has the
// table built anew, not parked.
func TestDroppedUnderFill(t *testing.T) {
	b := newBench(t, tables...)
	cfg := b.config(b.landing)
	cfg.Watch = time.Hour
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(`BEGIN; UPDATE toast SET small = 5; ALTER TABLE toast DROP COLUMN small; COMMIT`) // it is gone whenever they are read
	b.caughtUp()
	stop()
	if s := b.tableState("toast").value; s.Phase != phaseReplicating || s.Generation != 2 {
		t.Errorf("phase %s, generation %d, reason %q; want it built anew", s.Phase, s.Generation, s.Reason)
	}
	b.equal(newTaker(t, b.landing, 1), "toast", "plain")
}

// The slot of an idle database follows the log that others write.
func TestIdleConfirms(t *testing.T) {
	b, other := newBench(t, tables...), newBench(t, `CREATE TABLE busy (id int)`)
	stop := b.run(b.landing, nil)
	b.caughtUp()
	before := b.tableState("plain").value.Number
	other.exec(`INSERT INTO busy SELECT i FROM generate_series(1, 20000) i`, `SELECT pg_switch_wal()`)
	conn, err := pgx.Connect(t.Context(), b.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var now string
	if err := conn.QueryRow(t.Context(), `SELECT pg_current_wal_lsn()`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slot is told of what it doesn't concern", func() bool {
		var ok bool
		err := conn.QueryRow(t.Context(), `SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, now, "s_"+b.db).Scan(&ok)
		return err == nil && ok
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if after := b.tableState("plain").value.Number; after != before {
		t.Errorf("%d files were written for nothing", after-before)
	}
}

// A row over a quarter of the budget goes alone; one that is larger than a row may
// be parks its table, in a copy as in the stream.
func TestLargeRows(t *testing.T) {
	big := func(n int) string {
		return fmt.Sprintf("(SELECT string_agg(md5(i::text), '') FROM generate_series(1, %d) i)", n/32)
	}
	b := newBench(t, append(tables, `CREATE TABLE wide (id int PRIMARY KEY, v text)`, `CREATE TABLE wider (id int PRIMARY KEY, v text)`, `CREATE TABLE widest (id int PRIMARY KEY, v text)`,
		`INSERT INTO widest VALUES (1, `+big(2<<20)+`)`)...)
	cfg := b.config(b.landing)
	cfg.Budget, cfg.maxRow = 1<<20, 1<<20
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(`BEGIN; INSERT INTO plain VALUES (-1, 'before', 1); INSERT INTO wide VALUES (1, `+big(300<<10)+`), (2, 'small'), (3, `+big(900<<10)+`); INSERT INTO plain VALUES (-2, 'after', 1); COMMIT`,
		`INSERT INTO wider VALUES (1, `+big(2<<20)+`)`, `UPDATE plain SET n = 3 WHERE id = 7`)
	b.caughtUp()
	stop()
	for _, table := range []string{"wider", "widest"} {
		if s := b.tableState(table).value; s.Phase != phaseParked || !strings.Contains(s.Reason, "larger than") {
			t.Errorf("%s: phase %s, reason %q; want it parked for its large row", table, s.Phase, s.Reason)
		}
	}
	b.equal(newTaker(t, b.landing, 1), "wide", "plain")
}
