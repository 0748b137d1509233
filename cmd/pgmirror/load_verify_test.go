package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/replicator"
	"github.com/pgmirror/pgmirror/internal/store"
	"github.com/pgmirror/pgmirror/internal/verify"
)

// TestVerifyUnderLoad mirrors a database that is written to all the time and
// verifies it again and again: no run may name a row. Then a few changes are
// spoilt on their way into the mirror, under the same load: verify must name
// exactly their rows.
func TestVerifyUnderLoad(t *testing.T) {
	runs := 20
	if testing.Short() {
		runs = 2
	}
	w := startLoadedMirror(t)
	t.Run("no false alarm", func(t *testing.T) {
		inFlight, moving := 0, 0
		begun, runs := time.Now(), runs
		for i := range runs {
			if i >= 5 && time.Since(begun) > 2*time.Minute { // a machine that is busy has a limit for all tests
				runs = i
				break
			}
			for _, got := range w.verify(t) {
				if got.State != verify.Equal && got.State != verify.Moving || got.Differing > 0 || got.Truncated {
					t.Fatalf("run %d: %s is %s %s, %d rows differ: %v", i+1, got.Name, got.State, got.Reason, got.Differing, got.Differences)
				}
				inFlight, moving = inFlight+got.InFlight, moving+got.Moving
			}
		}
		t.Logf("%d runs: %d rows in flight, %d moving", runs, inFlight, moving)
		if inFlight == 0 {
			t.Error("no row was in flight: the load proved nothing")
		}
		if moving > inFlight/10 {
			t.Errorf("%d rows moving of %d: verify gave up too many", moving, inFlight)
		}
	})
	t.Run("lint", func(t *testing.T) { // while files are published, and moved away
		looked, err := landing.Lint(t.Context(), w.zone, "public", func(f landing.Finding) { t.Errorf("our own landing zone: %+v", f) })
		if err != nil || looked.Tables != 2 || looked.Files == 0 {
			t.Errorf("looked at %+v, %v", looked, err)
		}
	})
	t.Run("planted", func(t *testing.T) {
		w.zone.spoils.Store(true)
		localpgtest.Exec(t, w.url, "UPDATE items SET price = price + 1 WHERE id = 1", "DELETE FROM items WHERE id = 2",
			"INSERT INTO items VALUES (3, 'new', 3)", "UPDATE items SET name = '', price = price + 1 WHERE id = 4")
		err := await(t.Context(), "the spoilt changes arrive", 5*time.Minute, func(context.Context) (bool, error) { return w.zone.spoilt.Load() >= 4, nil })
		if err != nil {
			t.Fatal(err)
		}
		got := w.verify(t, "items")[0]
		want := []verify.RowDifference{
			{Key: "id=1", Kind: verify.Changed, Columns: []string{"price"}, Values: []string{"1"}},
			{Key: "id=2", Kind: verify.Extra, Values: []string{"2"}},
			{Key: "id=3", Kind: verify.Missing, Values: []string{"3"}},
			{Key: "id=4", Kind: verify.Changed, Columns: []string{"name"}, Values: []string{"4"}},
		}
		if diff := cmp.Diff(want, got.Differences); diff != "" || got.State != verify.Differs {
			t.Errorf("items is %s %s, differences (-want +got):\n%s", got.State, got.Reason, diff)
		}
		if got.InFlight == 0 {
			t.Error("no row was in flight: the load proved nothing")
		}
	})
	t.Run("repaired", func(t *testing.T) {
		w.zone.spoils.Store(false)
		err := mirror.Ask(t.Context(), w.zone, mirror.Request{Kind: mirror.Repair, Schema: "public", Table: "items", Key: []string{"id"}, Rows: [][]string{{"1"}, {"2"}, {"3"}, {"4"}}})
		if err != nil {
			t.Fatal(err)
		}
		err = await(t.Context(), "verify finds no row that differs", 5*time.Minute, func(context.Context) (bool, error) {
			return w.verify(t, "items")[0].Differing == 0, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// loadedMirror is a database, what writes to it, and its mirror.
type loadedMirror struct {
	url    string
	source postgres.Endpoint
	zone   *spoilingZone
	tables store.Store
}

func startLoadedMirror(t *testing.T) *loadedMirror {
	t.Helper()
	c := localpgtest.Start(t, localpg.Options{Settings: map[string]string{"wal_level": "logical"}})
	w := &loadedMirror{
		url:    c.URL("", "", "postgres"),
		source: postgres.Endpoint{Host: c.Host, Port: c.Port, Database: "postgres", User: c.Superuser, Password: c.Password, SSLMode: "disable"},
		zone:   &spoilingZone{Store: openDir(t, t.TempDir())},
		tables: openDir(t, t.TempDir()),
	}
	localpgtest.Exec(t, w.url, "CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric(12, 2))",
		"INSERT INTO items SELECT i, '', i FROM generate_series(1, 20000) i WHERE i <> 3",
		"CREATE TABLE docs (id uuid PRIMARY KEY, body jsonb, tags text[], at timestamptz, big text)",
		"ALTER TABLE docs ALTER big SET STORAGE EXTERNAL", // so that an update leaves it out of the stream
		"INSERT INTO docs SELECT gen_random_uuid(), '{\"a\":1}', '{x,y}', now(), repeat(md5(i::text), 200) FROM generate_series(1, 2000) i",
		"CREATE PUBLICATION p FOR TABLE items, docs")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	run := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	run("mirror", func() error {
		return mirror.Run(ctx, mirror.Config{Source: w.source, Slot: "s", Publications: []string{"p"}, Landing: w.zone.Store, Freshness: 300 * time.Millisecond})
	})
	run("replicator", func() error {
		return replicator.New(replicator.Config{Landing: w.zone, Tables: w.tables, AppID: "test", ScanInterval: 300 * time.Millisecond}).Run(ctx)
	})
	for i := range 3 {
		run("load", func() error { return writeLoad(ctx, w.url, uint64(i)) })
	}
	w.awaitMirror(t)
	return w
}

func (w *loadedMirror) awaitMirror(t *testing.T) {
	t.Helper()
	err := await(t.Context(), "both tables are in the mirror", 5*time.Minute, func(ctx context.Context) (bool, error) {
		for _, name := range []string{"items", "docs"} {
			log, err := w.tables.List(ctx, "public/"+name+"/_delta_log")
			if err != nil || len(log) == 0 {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// verify settles by the lag that it observes, as a user's would.
func (w *loadedMirror) verify(t *testing.T, only ...string) []verify.TableResult {
	t.Helper()
	r, err := verify.Run(t.Context(), verify.Config{Source: w.source, Tables: w.tables, Only: only})
	if err != nil {
		t.Fatal(err)
	}
	return r.Tables
}

// writeLoad inserts, updates, deletes and moves rows until ctx ends. It leaves
// the first ten items alone.
func writeLoad(ctx context.Context, url string, seed uint64) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rnd := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		_, err := conn.Exec(ctx, loadStatement(rnd), pgx.QueryExecModeSimpleProtocol)
		if err != nil && !collided(err) {
			return err
		}
		if _, err := conn.Exec(ctx, "ROLLBACK; SELECT pg_sleep(0.01)", pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

func loadStatement(rnd *rand.Rand) string {
	id := 10 + rnd.IntN(5000)
	doc := fmt.Sprintf("(SELECT id FROM docs ORDER BY id OFFSET %d LIMIT 1)", id%2000)
	switch rnd.IntN(6) {
	case 0:
		return fmt.Sprintf("INSERT INTO items VALUES (%d, 'new', %d) ON CONFLICT DO NOTHING", id, rnd.IntN(3))
	case 1:
		return fmt.Sprintf("DELETE FROM items WHERE id = %d", id)
	case 2:
		return fmt.Sprintf("UPDATE items SET name = '%d', price = price + 1 WHERE id BETWEEN %d AND %d", rnd.IntN(3), id, id+30)
	case 3:
		return fmt.Sprintf("UPDATE docs SET body = '{\"b\":%d}' WHERE id = %s", id, doc)
	case 4:
		return "UPDATE docs SET id = gen_random_uuid(), at = now() WHERE id = " + doc
	}
	return fmt.Sprintf("BEGIN; UPDATE items SET id = -id WHERE id = %d; UPDATE items SET id = -id WHERE id = %d; COMMIT", id, -id-1)
}

// collided says that writers met, which a load has to expect.
func collided(err error) bool {
	switch sqlState(err) {
	case "23505", "40P01": // a key that is there, a deadlock
		return true
	}
	return false
}

// spoilingZone is a landing zone of which the replicator reads some changes
// wrongly, once it is told to.
type spoilingZone struct {
	store.Store
	spoils atomic.Bool
	spoilt atomic.Int64 // changes
}

func (z *spoilingZone) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	body, info, err := z.Store.Read(ctx, name, off, n)
	_, numbered := landing.FileNumber(path.Base(name))
	if err != nil || !numbered || !z.spoils.Load() || path.Base(path.Dir(name)) != "items" {
		return body, info, err
	}
	body, err = z.spoil(body)
	return body, info, err
}

// spoil loses the changes of items 2 and 3 and falsifies those of 1 and 4.
func (z *spoilingZone) spoil(body []byte) ([]byte, error) {
	f, err := parquet.Open(body)
	if err != nil {
		return nil, err
	}
	b, err := f.Read(nil, true)
	if err != nil {
		return nil, err
	}
	out := batch.New(b.Schema, true)
	for i := range b.Rows() {
		id := b.Cols[0].I64[i]
		if id <= 4 && id > 0 {
			z.spoilt.Add(1)
		}
		switch id {
		case 2, 3:
			continue
		case 1:
			out.Cols[0].AppendFrom(&b.Cols[0], i)
			out.Cols[1].AppendFrom(&b.Cols[1], i)
			out.Cols[2].AppendInt64(b.Cols[2].I64[i] + 1)
		case 4:
			out.Cols[0].AppendFrom(&b.Cols[0], i)
			out.Cols[1].AppendNull()
			out.Cols[2].AppendFrom(&b.Cols[2], i)
		default:
			out.AppendRow(b, i)
		}
		out.EndMarkedRow(b.Marker[i])
	}
	var buf bytes.Buffer
	err = parquet.Write(&buf, out, f.Metadata)
	return buf.Bytes(), err
}
