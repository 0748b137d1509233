package mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// overwriting is a store whose rename isn't conditional.
type overwriting struct{ store.Store }

func (o overwriting) Rename(ctx context.Context, from, to string) error {
	if err := o.Remove(ctx, to); err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	return o.Store.Rename(ctx, from, to)
}

// A landing zone that overwrites is refused before anything is done at the source.
func TestOverwritingStore(t *testing.T) {
	b := newBench(t, thirty)
	if err := Run(t.Context(), b.config(overwriting{b.landing})); !errors.Is(err, landing.ErrOverwrites) {
		t.Errorf("got %v, want %v", err, landing.ErrOverwrites)
	}
	conn, err := pgx.Connect(t.Context(), b.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	slots := 0
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_replication_slots WHERE database = $1`, b.db).Scan(&slots); err != nil || slots != 0 {
		t.Errorf("%d slots were made, %v", slots, err)
	}
}

// removing removes a table's folder just before a file of a number is published in it.
type removing struct {
	*store.Dir
	number int64
	fails  bool // and the file isn't published: the next attempt has to see it

	gone bool
}

func (r *removing) Rename(ctx context.Context, from, to string) error {
	if to == path.Join(landing.TableDir("public", "plain"), landing.FileName(r.number)) && !r.gone {
		r.gone = true
		if err := os.RemoveAll(r.Path(path.Dir(to))); err != nil || r.fails {
			return errors.Join(err, errCut)
		}
	}
	return r.Dir.Rename(ctx, from, to)
}

// A table whose folder somebody removes at the moment of publishing, as to reset it in
// Fabric, is built anew, whether it is being copied or followed; the others go on.
func TestFolderRemoved(t *testing.T) {
	for _, zone := range []*removing{{number: 1}, {number: 2}, {number: 2, fails: true}} {
		t.Run(fmt.Sprintf("file %d, fails %t", zone.number, zone.fails), func(t *testing.T) {
			b := newBench(t, tables...)
			zone.Dir = b.landing
			stop := b.run(zone, nil)
			b.caughtUp()
			b.exec(`UPDATE plain SET n = 77 WHERE id < 5`, `UPDATE moving SET v = 'goes on'`)
			b.reaches("plain", phaseReplicating, 2)
			b.finish(stop)
			if got := b.tableState("moving").value.Generation; got != 1 {
				t.Errorf("another table was copied %d times", got)
			}
		})
	}
}

// A large transaction is cut into files of as many changes as Fabric takes well.
func TestFileRows(t *testing.T) {
	b := newBench(t, `CREATE TABLE plain (id int PRIMARY KEY)`)
	cfg := b.config(b.landing)
	cfg.fileRows = 800
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(`INSERT INTO plain SELECT generate_series(1, 2 * 800 + 5)`)
	b.caughtUp()
	stop()
	files, err := landing.Files(t.Context(), b.landing, landing.TableDir("public", "plain"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []int
	for _, f := range files {
		data, _, err := b.landing.Read(t.Context(), f.Name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parquet.Open(data)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, p.Rows)
	}
	if n := len(rows); n < 3 || rows[n-3] != 800 || rows[n-2] != 800 || rows[n-1] != 5 {
		t.Errorf("the files have %v rows, want the last three to have 800, 800 and 5", rows)
	}
	if got := len(b.target("plain")); got != 2*800+5 {
		t.Errorf("the mirror has %d rows", got)
	}
}

// A slot whose WAL the server has removed is lost, though it is there; a new one is
// made only by consent, and brings all.
func TestSlotInvalidated(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{Dir: filepath.Join(shortDir(t), "a"), Superuser: "postgres", Password: "pw", Settings: map[string]string{
		"wal_level": "logical", "wal_sender_timeout": "2s", "max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}})
	b := newBenchOn(t, c, thirty)
	b.settle()
	b.exec(`UPDATE plain SET n = -1`)
	eventually(t, "the slot is lost", func() bool {
		b.exec(`SELECT pg_logical_emit_message(false, 'fill', repeat('x', 8000000))`, `SELECT pg_switch_wal()`, `CHECKPOINT`)
		return b.try(`DO $$ BEGIN IF (SELECT wal_status FROM pg_replication_slots) <> 'lost' THEN RAISE 'not yet'; END IF; END $$`) == nil
	})
	var fault *Fault
	if err := Run(t.Context(), b.config(b.landing)); !errors.As(err, &fault) || fault.Code != "SlotLost" {
		t.Fatalf("got %v, want a Fault with code SlotLost", err)
	}
	cfg := b.config(b.landing)
	cfg.Reseed = true
	stop := b.start(cfg)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain")
}
