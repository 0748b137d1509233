package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// exported makes a slot and keeps the connection that its snapshot lives on.
func exported(t testing.TB, e postgres.Endpoint, name string) (postgres.SlotCreated, *pgconn.PgConn) {
	t.Helper()
	repl, err := e.ConnectReplication(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repl.Close(context.Background()) })
	slot, err := postgres.CreateTemporarySlot(context.Background(), repl, name)
	if err != nil {
		t.Fatal(err)
	}
	return slot, repl
}

func openSnapshot(t testing.TB, e postgres.Endpoint, snapshot string) *postgres.SnapshotReader {
	t.Helper()
	r, err := postgres.OpenSnapshot(context.Background(), e, snapshot, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

func noFull(*batch.Batch) error { return errors.New("a small batch is full") }

// Chunks of several readers under one exported snapshot give every row that was
// there when the slot was made, once, and none that came later.
func TestChunks(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, repeat('x', 50) FROM generate_series(1, 5000) i; DELETE FROM a WHERE id % 7 = 0")
	slot, _ := exported(t, e, "chunks")
	run(t, e, "INSERT INTO a SELECT i, 'late' FROM generate_series(5001, 9000) i; UPDATE a SET v = 'changed' WHERE id < 100; DELETE FROM a WHERE id BETWEEN 200 AND 300", "VACUUM a")
	tab := table(t, e, "a")
	readers := []*postgres.SnapshotReader{openSnapshot(t, e, slot.Snapshot), openSnapshot(t, e, slot.Snapshot)}
	blocks, err := readers[0].Blocks(t.Context(), tab)
	if err != nil || blocks < 20 {
		t.Fatalf("got %d blocks, %v", blocks, err)
	}
	seen := map[int32]int{}
	for n, from := 0, uint32(0); from < blocks; n, from = n+1, from+7 {
		to := from + 7
		if to >= blocks {
			to = math.MaxUint32
		}
		b := batch.New(tab.MirrorSchema(), n%2 == 0)
		if err := readers[n%2].CopyChunk(t.Context(), tab, decoder(t, tab), from, to, b, noFull); err != nil {
			t.Fatal(err)
		}
		for i := range b.Rows() {
			seen[b.Cols[0].I32[i]]++
			if got := string(b.Cols[1].Value(i)); got != strings.Repeat("x", 50) {
				t.Fatalf("row %d holds %q", b.Cols[0].I32[i], got)
			}
			if b.Marker != nil && b.Marker[i] != batch.Upsert {
				t.Fatalf("marker %d", b.Marker[i])
			}
		}
	}
	for id := int32(1); id <= 9000; id++ {
		want := 1
		if id%7 == 0 || id > 5000 {
			want = 0
		}
		if seen[id] != want {
			t.Fatalf("row %d was read %d times, want %d", id, seen[id], want)
		}
	}
}

// A batch beyond the limit is handed over, and nothing is lost around it.
func TestFullBatches(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i")
	tab := table(t, e, "a")
	r := openSnapshot(t, e, "")
	r.BatchBytes = 20_000
	b := batch.New(tab.MirrorSchema(), false)
	rows, times := 0, 0
	err := r.CopyChunk(t.Context(), tab, decoder(t, tab), 0, math.MaxUint32, b, func(b *batch.Batch) error {
		if b.Bytes() < 20_000 || b.Bytes() > 60_000 {
			t.Errorf("a batch of %d bytes", b.Bytes())
		}
		rows, times = rows+b.Rows(), times+1
		b.Truncate(0)
		return nil
	})
	if rows += b.Rows(); err != nil || rows != 3000 || times < 10 {
		t.Errorf("got %d rows, %d full batches, %v", rows, times, err)
	}
	stop := errors.New("stop")
	if err := r.CopyChunk(t.Context(), tab, decoder(t, tab), 0, math.MaxUint32, b, func(*batch.Batch) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the caller's error", err)
	}
}

// What moves or removes the rows that a snapshot sees is noticed.
func TestRewritten(t *testing.T) {
	for name, sql := range map[string]string{
		"truncate":    "TRUNCATE a",
		"vacuum full": "VACUUM FULL a",
		"retype":      "ALTER TABLE a ALTER id TYPE bigint",
		"drop":        "DROP TABLE a",
		"replace":     "DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY)",
	} {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			e := database(t, "")
			run(t, e, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
			tab := table(t, e, "a")
			slot, _ := exported(t, e, "rewritten")
			r := openSnapshot(t, e, slot.Snapshot)
			b := batch.New(tab.MirrorSchema(), false)
			if err := r.CopyChunk(t.Context(), tab, decoder(t, tab), 0, math.MaxUint32, b, noFull); err != nil || b.Rows() != 1 {
				t.Fatalf("got %d rows, %v", b.Rows(), err)
			}
			run(t, e, sql)
			if err := r.CopyChunk(t.Context(), tab, decoder(t, tab), 0, math.MaxUint32, b, noFull); !errors.Is(err, postgres.ErrRewritten) {
				t.Errorf("got %v, want ErrRewritten", err)
			}
		})
	}
}

// Between chunks a reader holds no lock; a lock of somebody else is waited for,
// not forever, and the chunk can be tried again.
func TestLocks(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
	tab := table(t, e, "a")
	slot, _ := exported(t, e, "locks")
	r := openSnapshot(t, e, slot.Snapshot)
	if _, err := r.Conn().Exec(t.Context(), "SET lock_timeout = '1s'"); err != nil {
		t.Fatal(err)
	}
	b := batch.New(tab.MirrorSchema(), false)
	read := func() error {
		return r.CopyChunk(t.Context(), tab, decoder(t, tab), 0, math.MaxUint32, b, noFull)
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	other := connect(t, e)
	if _, err := other.Exec(t.Context(), "BEGIN; SET LOCAL lock_timeout = '60s'; LOCK TABLE a IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatalf("the reader holds a lock: %v", err)
	}
	if err := read(); !postgres.IsLockTimeout(err) {
		t.Fatalf("got %v, want a lock timeout", err)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := read(); err != nil || b.Rows() != 2 {
		t.Errorf("got %d rows, %v", b.Rows(), err)
	}
}

// A row policy would hide rows in silence; it is an error instead.
func TestRowSecurityIsAnError(t *testing.T) {
	e := database(t, "")
	role := e.Database + "_reader"
	run(t, e, fmt.Sprintf(`CREATE ROLE %q LOGIN PASSWORD 'reader'; CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1);
		ALTER TABLE a ENABLE ROW LEVEL SECURITY; GRANT SELECT ON a TO %q`, role, role))
	t.Cleanup(func() { run(t, e, fmt.Sprintf("DROP OWNED BY %q; DROP ROLE %q", role, role)) })
	tab := table(t, e, "a")
	reader := e
	reader.User, reader.Password = role, "reader"
	err := openSnapshot(t, reader, "").CopyChunk(t.Context(), tab, decoder(t, tab), 0, math.MaxUint32, batch.New(tab.MirrorSchema(), false), noFull)
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("got %v, want an error about row security", err)
	}
}

func TestSnapshotThatIsGone(t *testing.T) {
	e := database(t, "")
	if _, err := postgres.OpenSnapshot(t.Context(), e, "00000003-00000FFF-1", time.Minute); err == nil {
		t.Error("a snapshot that isn't there was opened")
	}
}
