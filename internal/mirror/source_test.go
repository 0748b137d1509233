package mirror

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// A server that was promoted, or restored with its slot, is followed onto its new
// timeline. What the mirror has that never happened there is built anew, also a
// table whose file shows it only in a value that was read back; the others go on.
func TestNewTimeline(t *testing.T) {
	dir := shortDir(t)
	settings := map[string]string{"wal_level": "logical", "wal_sender_timeout": "2s"}
	c := localpgtest.Start(t, localpg.Options{Dir: filepath.Join(dir, "a"), Superuser: "postgres", Password: "pw", Settings: settings})
	b := newBenchOn(t, c, append(tables, `CREATE TABLE still (id int PRIMARY KEY, v text)`, `INSERT INTO still VALUES (1, 'x')`, `CREATE TABLE seen (id int PRIMARY KEY, v text)`, `INSERT INTO seen VALUES (1, 'x')`)...)
	b.settle()
	b.exec(`UPDATE still SET v = 'both have it'`, `UPDATE toast SET small = 3`)
	b.settle()
	if toast := b.tableState("toast").value; toast.Seen <= toast.Position.CommitLSN {
		t.Errorf("toast was read at %v to fill values of %v: that was not noted", toast.Seen, toast.Position.CommitLSN)
	}
	copied(t, c, dir)
	b.exec(`UPDATE plain SET n = -1`, `DELETE FROM moving WHERE k < 9`, `INSERT INTO pair VALUES (-1, 'never', 'x')`)
	b.settle()
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	seen := b.tableState("seen")
	if err := seen.change(t.Context(), func(s *tableState) { s.Seen = b.tableState("plain").value.Position.CommitLSN }); err != nil {
		t.Fatal(err)
	}
	settings["restore_command"] = "false"
	promote(t, filepath.Join(dir, "b", "data"))
	b.cluster = localpgtest.Start(t, localpg.Options{Dir: filepath.Join(dir, "b"), Superuser: "postgres", Password: "pw", Settings: settings})
	eventually(t, "the server is promoted", func() bool {
		return b.try(`DO $$ BEGIN IF pg_is_in_recovery() THEN RAISE 'not yet'; END IF; END $$`) == nil
	})
	b.exec(`UPDATE plain SET n = 5 WHERE id < 10`, `UPDATE still SET v = 'after'`, `INSERT INTO empty VALUES (1)`)
	var mu sync.Mutex
	anew := map[string]bool{}
	stop := b.run(b.landing, func(e Event) {
		if e.Kind == Rebuilding {
			mu.Lock()
			defer mu.Unlock()
			anew[e.Table] = true
		}
	})
	b.finish(stop)
	b.compare([][3]string{{"still", "id, v", "id"}})
	for table, want := range map[string]bool{"public.plain": true, "public.moving": true, "public.pair": true, "public.seen": true, "public.still": false, "public.empty": false, "public.toast": false} {
		if anew[table] != want {
			t.Errorf("%s was built anew: %t, want %t", table, anew[table], want)
		}
	}
}

// tableState is what the landing zone says of a table.
func (b *bench) tableState(table string) *file[tableState] {
	b.t.Helper()
	f, err := load[tableState](context.Background(), b.landing, tableFile("public", table))
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// shortDir is short enough for a socket's path.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// promote has the cluster end its recovery on a new timeline at its next start.
func promote(t *testing.T, data string) {
	signal := filepath.Join(data, "recovery.signal")
	if out, err := exec.Command("cp", "-p", filepath.Join(data, "PG_VERSION"), signal).CombinedOutput(); err != nil { // with its owner
		t.Fatalf("%v: %s", err, out)
	}
}

// A password that was changed while the mirror runs is read anew, once the server
// refuses the old one.
func TestPasswordChange(t *testing.T) {
	b := newBench(t, append(tables, `DROP ROLE IF EXISTS turning`, `CREATE ROLE turning LOGIN SUPERUSER PASSWORD 'first'`)...)
	cfg := b.config(b.landing)
	cfg.Source.User, cfg.Source.Password = "turning", "first"
	asked := 0
	cfg.Renew = func(context.Context) (postgres.Endpoint, error) {
		asked++
		e := cfg.Source
		e.Password = "second"
		if asked == 1 {
			return e, fmt.Errorf("the vault does not answer")
		}
		return e, nil
	}
	var reasons []string
	cfg.Events = func(e Event) {
		if e.Kind == Retrying {
			reasons = append(reasons, e.Reason)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	b.caughtUp()
	b.exec(`ALTER ROLE turning PASSWORD 'second'`, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'turning'`, `INSERT INTO plain VALUES (-1, 'x', 1)`)
	b.caughtUp()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.same()
	if all := strings.Join(reasons, "\n"); asked != 2 || !strings.Contains(all, "the vault does not answer") || strings.Contains(all, "second") {
		t.Errorf("asked %d times for the password, told: %s", asked, all)
	}
}

// A server that can't decode its log is asked less and less often, and told of so
// that a person knows what to do; without the slot the mirror starts anew. Here a
// row filter divides by zero, which only the decoding sees.
func TestUndecodable(t *testing.T) {
	b := newBench(t, append(tables, `CREATE TABLE filtered (id int PRIMARY KEY)`)...)
	if b.cluster.Version < 15 {
		t.Skip("row filters are from PostgreSQL 15 on")
	}
	b.exec(`ALTER PUBLICATION p DROP TABLE filtered`, `ALTER PUBLICATION p ADD TABLE filtered WHERE (10 / id > 0)`)
	b.settle() // while tables are copied the mirror gets on
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := b.config(b.landing)
	var tries []int
	cfg.retry = func(try int) time.Duration {
		tries = append(tries, try)
		return time.Millisecond
	}
	last := ""
	cfg.Events = func(e Event) {
		switch {
		case e.Kind == Streaming && last == "":
			last = "streaming"
			b.exec(`INSERT INTO filtered VALUES (0)`)
		case e.Kind == Retrying:
			if last = e.Reason; strings.Contains(last, "can't get past") {
				cancel()
			}
		}
	}
	if err := Run(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(last, `division by zero`) || !strings.Contains(last, `drop replication slot "`+cfg.Slot+`"`) {
		t.Errorf("told: %s", last)
	}
	if !slices.Equal(slices.Compact(tries), []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("got tries %v, want 0 to 5", tries)
	}
	eventually(t, "the slot is dropped", func() bool { return b.try(`SELECT pg_drop_replication_slot('`+cfg.Slot+`')`) == nil })
	b.exec(`DROP TABLE filtered`, `INSERT INTO plain VALUES (-1, 'x', 1)`)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	cfg = b.config(b.landing)
	cfg.Reseed = true
	go func() { done <- Run(ctx, cfg) }()
	b.finish(func() error {
		cancel()
		return <-done
	})
}
