package verify

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// rewriting holds items rewritten until somebody waits for it, then commits.
func rewriting(t *testing.T, url, how string) (wait func()) {
	t.Helper()
	ctx := t.Context()
	conn := connectTo(t, url)
	if _, err := conn.Exec(ctx, "BEGIN; "+how); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for waits := false; !waits; {
			if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_locks, pg_sleep(0.01) WHERE NOT granted)").Scan(&waits); err != nil {
				t.Error(err)
				return
			}
		}
		if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
			t.Error(err)
		}
	})
	return wg.Wait
}

// To a snapshot that is older than a rewrite the table is empty: nothing of it may
// be believed, whether the rewrite was under way at the first look or at a later one.
func TestRewrittenMeanwhile(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	for name, how := range map[string]string{
		"ALTER":    "ALTER TABLE items ALTER price TYPE numeric(12,2) USING price * 1",
		"TRUNCATE": "CREATE TEMP TABLE kept AS TABLE items; TRUNCATE items; INSERT INTO items TABLE kept",
		"leaf":     "CREATE TEMP TABLE kept AS TABLE leaf; TRUNCATE leaf; INSERT INTO leaf TABLE kept",
	} {
		for look := range 2 {
			t.Run(fmt.Sprintf("%s at look %d", name, look), func(t *testing.T) {
				localpgtest.Exec(t, url, "DROP TABLE IF EXISTS items")
				if name == "leaf" {
					localpgtest.Exec(t, url, createItems+" PARTITION BY RANGE (id)", "CREATE TABLE leaf PARTITION OF items DEFAULT")
				} else {
					localpgtest.Exec(t, url, createItems)
				}
				localpgtest.Exec(t, url, "INSERT INTO items SELECT i, '', i FROM generate_series(1, 100) i")
				rows, err := readItems(t.Context(), connect(t, c))
				if err != nil {
					t.Fatal(err)
				}
				var m fakeMirror
				m.publish(itemBatch(rows[:40])) // 60 rows are missing at any time
				wait, opened := func() {}, 0
				cfg := Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: 40 * time.Millisecond}
				cfg.open = func(ctx context.Context, s store.Store) (mirrorTable, error) {
					if opened++; look == 1 && opened == 2 {
						wait = rewriting(t, url, how)
					}
					return m.open(ctx, s)
				}
				if look == 0 {
					wait = rewriting(t, url, how)
				}
				got := mustRun(t, cfg).Tables[0]
				wait()
				if got.State != Differs || got.Differing != 60 || got.Rows != 100 {
					t.Errorf("got %s %s, %d of %d rows differ, want 60 of 100", got.State, got.Reason, got.Differing, got.Rows)
				}
			})
		}
	}
}

// A table that stays locked is no other's fault, and holds up the run for a while only.
func TestLockedTable(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems)
	conn := connect(t, c)
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE items"); err != nil {
		t.Fatal(err)
	}
	var m fakeMirror
	m.publish(itemBatch(nil))
	got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), open: m.open, lockWait: 20 * time.Millisecond}).Tables[0]
	if got.State != Unreadable || !strings.Contains(got.Reason, "another session has held the source's table locked for 20ms") {
		t.Errorf("got %s %q, want unreadable and why", got.State, got.Reason)
	}
}

// What is redefined after the tables were listed, or between two looks, is compared as
// it is then, or not at all.
func TestRedefinedMeanwhile(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	for _, tt := range []struct {
		sql    string
		follow bool // the mirror has the table as it is then, but for the value 9 in row 1's last column
		want   State
		column string
	}{
		{"ALTER TABLE items ADD COLUMN qty int DEFAULT 7", true, Differs, "qty"},
		{"ALTER TABLE items ALTER price TYPE bigint", true, Differs, "price"},
		{"ALTER TABLE items DROP COLUMN name", true, Differs, "price"},
		{"ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (name)", true, Differs, "price"},
		{"DROP TABLE items", false, Unreadable, ""},
		{"ALTER TABLE items RENAME TO things", false, Unreadable, ""},
		{"DROP TABLE items; " + createItems, false, Unreadable, ""},
	} {
		for look := range 2 {
			t.Run(fmt.Sprintf("%s at look %d", tt.sql, look), func(t *testing.T) {
				localpgtest.Exec(t, url, "DROP TABLE IF EXISTS items, things", createItems, "INSERT INTO items SELECT i, 'n' || i, 1 FROM generate_series(1, 3) i")
				l := newLake(t, endpoint(c))
				var m fakeMirror
				publish := func() {
					b := l.read("public", "items", nil)
					wrong(&b.Cols[len(b.Cols)-1])
					m.publish(b)
				}
				publish()
				var once sync.Once
				redefine := func() {
					once.Do(func() {
						localpgtest.Exec(t, url, tt.sql)
						if tt.follow {
							publish()
						}
					})
				}
				opened := 0
				cfg := Config{Source: l.e, Tables: folder(t, "public/items"), Settle: time.Millisecond, Events: func(e Event) {
					if e.Type == "comparing" && look == 0 {
						redefine()
					}
				}}
				cfg.open = func(ctx context.Context, s store.Store) (mirrorTable, error) {
					if opened++; look == 1 && opened == 2 {
						redefine()
					}
					return m.open(ctx, s)
				}
				got := mustRun(t, cfg).Tables[0]
				if got.State != tt.want || tt.want == Unreadable && got.Reason == "" {
					t.Fatalf("got %s %q %v, want %s", got.State, got.Reason, got.Differences, tt.want)
				}
				if tt.column != "" && (len(got.Differences) != 1 || !cmp.Equal(got.Differences[0].Columns, []string{tt.column})) {
					t.Errorf("got %v, want one row that differs in %s", got.Differences, tt.column)
				}
			})
		}
	}
}

// wrong makes the first value another.
func wrong(c *batch.Column) {
	if c.Type.Storage() == batch.Store32 {
		c.I32[0] += 2
	} else {
		c.I64[0] += 2
	}
}

// Columns that a publication leaves out are left out, not lost; the key is the
// published one.
func TestPublications(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	var version int
	if err := connect(t, c).QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 150000 {
		t.Skip("column lists exist from PostgreSQL 15 on")
	}
	localpgtest.Exec(t, url, "CREATE TABLE people (id int PRIMARY KEY, name text, secret text)", "INSERT INTO people VALUES (1, 'a', 'b')", "CREATE PUBLICATION p FOR TABLE people (id, name)",
		"CREATE TABLE log (id int PRIMARY KEY, line text)", "INSERT INTO log VALUES (1, 'a')", "CREATE PUBLICATION i FOR TABLE log WITH (publish = 'insert, truncate')")
	l := newLake(t, endpoint(c))
	l.write("public/people", l.read("public", "people", func(t *postgres.Table) { t.Columns[2].Unpublished = true }))
	l.write("public/log", l.read("public", "log", nil))
	got := mustRun(t, Config{Source: l.e, Tables: l.s, Settle: time.Millisecond, Publications: []string{"p", "i"}})
	log, people := got.Tables[0], got.Tables[1]
	if want := []Loss{{Column: "secret", Why: "not in the publication's column list"}}; people.State != Lossy || !cmp.Equal(people.LeftOut, want) {
		t.Errorf("got %s %v, left out %v, want lossy and %v", people.State, people.Differences, people.LeftOut, want)
	}
	if log.State != Equal || len(log.Key) > 0 {
		t.Errorf("got %s %v with key %v, want equal without a key", log.State, log.Differences, log.Key)
	}
}
