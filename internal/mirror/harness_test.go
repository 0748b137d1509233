package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// TestMain lets a test run this binary as the mirror that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("MIRROR_TEST_DIR"); dir != "" {
		runChild(dir)
	}
	if settings := os.Getenv("MIRROR_TEST_SOAK"); settings != "" {
		runSoakChild(settings)
	}
	code := m.Run()
	if shared.cluster != nil {
		_ = shared.cluster.Stop(context.Background()) // it ends with this process anyway
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// shared is the server of most tests, and where it lies.
var shared struct {
	cluster *localpg.Cluster
	dir     string
}

// bench is a database and a landing zone for one test.
type bench struct {
	t       testing.TB
	cluster *localpg.Cluster
	db      string
	landing *store.Dir
	dir     string
	types   postgres.Choices
}

var cluster = sync.OnceValues(func() (*localpg.Cluster, error) {
	var err error
	if shared.dir, err = os.MkdirTemp("", "mirror-"); err != nil {
		return nil, err
	}
	shared.cluster, err = localpg.Start(context.Background(), localpg.Options{Dir: shared.dir, Superuser: "postgres", Password: "pw", Settings: map[string]string{
		"wal_level": "logical", "max_replication_slots": "50", "max_wal_senders": "50", "fsync": "off", "max_prepared_transactions": "5",
		"wal_sender_timeout": "20s",   // a machine that stalls for less loses no stream
		"autovacuum":         "off"}}) // its transactions are waited for and told of as anybody's
	return shared.cluster, err
})

var databases int

// newBench makes a database with the given tables, each a name and its columns,
// and a publication of them.
func newBench(t testing.TB, sql ...string) *bench {
	t.Helper()
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	b := newBenchOn(t, c, sql...)
	t.Cleanup(func() {
		eventually(t, "the slot can be dropped", func() bool {
			conn, err := pgx.Connect(context.Background(), b.url())
			if err != nil {
				return false
			}
			defer conn.Close(context.Background())
			_, err = conn.Exec(context.Background(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1", b.db)
			return err == nil
		})
	})
	return b
}

func newBenchOn(t testing.TB, c *localpg.Cluster, sql ...string) *bench {
	t.Helper()
	databases++
	b := &bench{t: t, cluster: c, db: fmt.Sprintf("db%d", databases), dir: t.TempDir()}
	localpgtest.Exec(t, c.URL("postgres", "pw", "postgres"), "CREATE DATABASE "+b.db)
	localpgtest.Exec(t, b.url(), sql...)
	localpgtest.Exec(t, b.url(), `DO $$ DECLARE l text; BEGIN
		SELECT string_agg(format('%I', tablename), ',') INTO l FROM pg_tables WHERE schemaname = 'public';
		IF l IS NOT NULL THEN EXECUTE 'CREATE PUBLICATION p FOR TABLE ' || l; END IF; END $$`)
	var err error
	if b.landing, err = store.OpenDir(b.dir); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) url() string { return b.cluster.URL("postgres", "pw", b.db) }

func (b *bench) config(s store.Store) Config {
	return Config{
		Source: postgres.Endpoint{Host: b.cluster.Host, Port: b.cluster.Port, Database: b.db, User: "postgres", Password: "pw", SSLMode: "disable"},
		Slot:   "s_" + b.db, Publications: []string{"p"}, Types: b.types, Landing: s, Freshness: 20 * time.Millisecond, Workers: 2,
		retry: func(int) time.Duration { return 10 * time.Millisecond }, Watch: 200 * time.Millisecond, idle: 100 * time.Millisecond,
		unseen: time.Hour, // each look at the slot is one at the catalog, but for the first
	}
}

func (b *bench) exec(sql ...string) { b.t.Helper(); localpgtest.Exec(b.t, b.url(), sql...) }

// run runs a mirror until stop is called, which returns Run's error.
func (b *bench) run(s store.Store, events func(Event)) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	cfg := b.config(s)
	cfg.Events = events
	go func() { done <- Run(ctx, cfg) }()
	stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		if err != nil {
			b.t.Logf("the mirror ended: %v", err)
		}
		return err
	})
	b.t.Cleanup(func() { _ = stop() }) // of a test that has failed
	return stop
}

// caughtUp waits until every table is copied and the slot has confirmed
// everything that is in the log now.
func (b *bench) caughtUp() {
	b.t.Helper()
	copied := func() bool {
		s, err := Status(context.Background(), b.landing)
		return err == nil && len(s.Tables) > 0 && !slices.ContainsFunc(s.Tables, func(x TableState) bool {
			return x.Phase != string(phaseReplicating) && x.Phase != string(phaseParked)
		})
	}
	eventually(b.t, "the tables are copied", copied)
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var now string
	if err := conn.QueryRow(context.Background(), "SELECT pg_current_wal_lsn()").Scan(&now); err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, "the mirror catches up", func() bool {
		if _, err := conn.Exec(context.Background(), "SELECT pg_logical_emit_message(true, 'test', '')"); err != nil {
			b.t.Fatal(err)
		}
		var ok bool
		err := conn.QueryRow(context.Background(), "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2", now, "s_"+b.db).Scan(&ok)
		return err == nil && ok && copied()
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !soon(ok) {
		t.Fatalf("waited %v in vain: %s", patience, what)
	}
}

// patience is how long something is waited for that comes at once, and in a while on a
// machine that is busy with other things.
const patience = 4 * time.Minute

func soon(ok func() bool) bool {
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(5 * time.Millisecond); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// source is the rows of a table as text, by key.
func (b *bench) source(table string, columns, key string) map[string]string {
	b.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, fmt.Sprintf("SELECT concat_ws('|', %s), concat_ws('|', %s) FROM %s", key, columns, table))
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	var k, v string
	if _, err := pgx.ForEachRow(rows, []any{&k, &v}, func() error { out[k] = v; return nil }); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// target applies a table's files in the order of their numbers, as Fabric would,
// and returns its rows as text. It fails for a gap, for an insert of a key that
// is there, and for files whose positions go backwards.
func (b *bench) target(table string) map[string]string {
	b.t.Helper()
	ctx := context.Background()
	dir := landing.TableDir("public", table)
	meta, err := landing.ReadMetadata(ctx, b.landing, dir)
	if errors.Is(err, store.ErrNotExist) {
		return nil // it is being built anew
	} else if err != nil {
		b.t.Fatal(err)
	}
	files, err := landing.Files(ctx, b.landing, dir)
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	var last landing.Position
	for i, f := range files {
		if f.Number != int64(i+1) {
			if again, err := landing.Files(ctx, b.landing, dir); err == nil && !slices.EqualFunc(files, again, func(x, y landing.File) bool { return x.Number == y.Number }) {
				return nil // its folder is being removed, or was listed while files came
			}
			b.t.Fatalf("%s: file %d follows %d", table, f.Number, i)
		}
		data, _, err := b.landing.Read(ctx, f.Name, 0, -1)
		if errors.Is(err, store.ErrNotExist) {
			return nil
		} else if err != nil {
			b.t.Fatal(err)
		}
		p, err := parquet.Open(data)
		if err != nil {
			b.t.Fatalf("%s: %v", f.Name, err)
		}
		m, ok, err := landing.ParseMeta(p.Metadata)
		if err != nil || !ok {
			b.t.Fatalf("%s: meta: %t, %v", f.Name, ok, err)
		}
		if q := m.Position; q.CommitLSN < last.CommitLSN || q.CommitLSN == last.CommitLSN && q.N < last.N {
			b.t.Fatalf("%s: position %+v after %+v", f.Name, q, last)
		}
		last = m.Position
		rows, err := p.Read(nil, true)
		if err != nil {
			b.t.Fatal(err)
		}
		apply(b.t, f.Name, rows, meta.KeyColumns, out)
	}
	if !last.Complete && len(files) > 0 {
		b.t.Fatalf("%s: the last file leaves a transaction open", table)
	}
	return out
}

func apply(t testing.TB, name string, rows *batch.Batch, key []string, out map[string]string) {
	t.Helper()
	for _, k := range key {
		rows.Schema.Key = append(rows.Schema.Key, slices.IndexFunc(rows.Schema.Fields, func(f batch.Field) bool { return f.Name == k }))
	}
	for i := range rows.Rows() {
		k, v := text(rows, rows.Schema.Key, i), text(rows, nil, i)
		switch {
		case rows.Marker == nil:
			if _, there := out[k]; there {
				t.Fatalf("%s: row %s was inserted twice", name, k)
			}
			out[k] = v
		case rows.Marker[i] == batch.Delete:
			delete(out, k)
		case rows.Marker[i] == batch.Upsert:
			out[k] = v
		default:
			t.Fatalf("%s: marker %d", name, rows.Marker[i])
		}
	}
}

// text is columns of a row as concat_ws would show them.
func text(b *batch.Batch, columns []int, i int) string {
	var parts []string
	if columns == nil {
		for c := range b.Cols {
			columns = append(columns, c)
		}
	}
	for _, c := range columns {
		col := &b.Cols[c]
		if col.Def[i] == batch.Null {
			continue
		}
		switch col.Type.Storage() {
		case batch.Store32:
			parts = append(parts, strconv.Itoa(int(col.I32[i])))
		case batch.Store64:
			parts = append(parts, strconv.FormatInt(col.I64[i], 10))
		default:
			parts = append(parts, string(col.Value(i)))
		}
	}
	return strings.Join(parts, "|")
}

// same compares source and mirror of the tables that traffic writes.
func (b *bench) same() {
	b.t.Helper()
	b.compare([][3]string{{"plain", "id, note, n", "id"}, {"pair", "a, b, v", "a, b"}, {"toast", "id, small, big", "id"}, {"moving", "k, v", "k"}, {"empty", "id", "id"}})
}

// compare compares tables, each given as its name, columns and key.
func (b *bench) compare(tables [][3]string) {
	b.t.Helper()
	for _, c := range tables {
		want, got := b.source(c[0], c[1], c[2]), b.target(c[0])
		for k, v := range want {
			if got[k] != v {
				b.t.Errorf("%s, key %s: got %.60q, want %.60q", c[0], k, got[k], v)
			}
		}
		for k := range got {
			if _, ok := want[k]; !ok {
				b.t.Errorf("%s, key %s: is in the mirror, not in the source", c[0], k)
			}
		}
	}
}

var tables = []string{
	`CREATE TABLE plain (id bigint PRIMARY KEY, note text, n int)`,
	`INSERT INTO plain SELECT i, 'note ' || i, i % 7 FROM generate_series(1, 2000) i`,
	`CREATE TABLE pair (a int, b text, v text, PRIMARY KEY (a, b))`,
	`INSERT INTO pair SELECT i % 10, 'b' || i, 'v' FROM generate_series(1, 500) i`,
	`CREATE TABLE toast (id int PRIMARY KEY, small int, big text)`,
	`ALTER TABLE toast ALTER big SET STORAGE EXTERNAL`,
	`INSERT INTO toast SELECT i, 0, repeat(md5(i::text), 200) FROM generate_series(1, 60) i`,
	`CREATE TABLE moving (k int PRIMARY KEY, v text)`,
	`INSERT INTO moving SELECT i, 'm' || i FROM generate_series(1, 50) i`,
	`CREATE TABLE empty (id int PRIMARY KEY)`,
}

// traffic writes to all tables until stop is called. Its transactions commit
// back to back, from several connections.
func (b *bench) traffic(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			conn, err := pgx.Connect(context.Background(), b.url())
			if err != nil {
				b.t.Error(err)
				return
			}
			defer conn.Close(context.Background())
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for ctx.Err() == nil {
				if err := write(conn, r, w); err != nil {
					b.t.Errorf("traffic: %v", err)
					return
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// write is one transaction.
func write(conn *pgx.Conn, r *rand.Rand, w int) error {
	ctx := context.Background()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	for range 1 + r.IntN(4) {
		var sql string
		id := 1 + r.IntN(2100)*3 + w // each writer has its own rows: no deadlocks
		switch r.IntN(9) {
		case 0, 1:
			sql = fmt.Sprintf("INSERT INTO plain VALUES (%d, 'new', %d) ON CONFLICT (id) DO UPDATE SET n = plain.n + 1, note = NULL", id, r.IntN(9))
		case 2:
			sql = fmt.Sprintf("UPDATE plain SET n = n + 1 WHERE id = %d", id)
		case 3:
			sql = fmt.Sprintf("DELETE FROM plain WHERE id = %d", id)
		case 4:
			sql = fmt.Sprintf("INSERT INTO pair VALUES (%d, 'w%d', 'x') ON CONFLICT (a, b) DO UPDATE SET b = gen_random_uuid()", r.IntN(20), w)
		case 5:
			sql = fmt.Sprintf("UPDATE toast SET small = small + 1 WHERE id = %d", 1+r.IntN(20)*3+w)
		case 6:
			sql = fmt.Sprintf("UPDATE toast SET big = repeat(md5('%d'), 200) WHERE id = %d", r.IntN(99999), 1+r.IntN(20)*3+w)
		case 7: // the key of a row with a TOASTed value that is left alone
			sql = fmt.Sprintf("UPDATE toast SET id = CASE WHEN id > 1000 THEN id - 1000 ELSE id + 1000 END WHERE id %% 1000 = %d", 1+r.IntN(19)*3+w)
		case 8: // two keys change places
			a, c := 1+r.IntN(16)*3+w, 1+r.IntN(16)*3+w
			if a == c || a > 50 || c > 50 {
				continue
			}
			sql = fmt.Sprintf("UPDATE moving SET k = -1 - %d WHERE k = %d; UPDATE moving SET k = %d WHERE k = %d; UPDATE moving SET k = %d WHERE k = -1 - %d", w, a, a, c, c, w)
		}
		if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if r.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// staged counts files that have no number.
func (b *bench) staged(table string) int {
	list, err := b.landing.List(context.Background(), landing.TableDir("public", table))
	if err != nil {
		b.t.Fatal(err)
	}
	n := 0
	for _, i := range list {
		if bytes.HasPrefix([]byte(path.Base(i.Name)), []byte("_pgmirror-")) {
			n++
		}
	}
	return n
}

// standby has commits wait for a standby that never comes, until free is called.
// They are in the log by then, and nobody sees them.
func (b *bench) standby() (free func()) {
	b.t.Helper()
	b.exec("SET synchronous_commit = local", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	eventually(b.t, "the setting is there", func() bool { return b.holds("current_setting('synchronous_standby_names') = 'nobody'") })
	eventually(b.t, "commits wait for a standby", b.commitWaits) // from when the checkpointer has seen the setting
	return func() {
		b.exec("SET synchronous_commit = local", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
	}
}

// commitWaits makes a commit and reports whether that waits for a standby. One that
// does is cancelled, by which it is as any other.
func (b *bench) commitWaits() (waits bool) {
	b.t.Helper()
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_logical_emit_message(true, 'test', '')")
		done <- err
	}()
	itself := fmt.Sprintf("FROM pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'", conn.PgConn().PID())
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		select {
		case err := <-done:
			if err != nil {
				b.t.Fatal(err)
			}
			return waits
		default:
			waits = waits || b.holds("EXISTS (SELECT "+itself+")")
			if waits {
				b.exec("SELECT pg_cancel_backend(pid) " + itself)
			}
		}
	}
}

// holds asks the source.
func (b *bench) holds(condition string) bool {
	b.t.Helper()
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var yes bool
	if err := conn.QueryRow(context.Background(), "SELECT "+condition).Scan(&yes); err != nil {
		b.t.Fatal(err)
	}
	return yes
}

func (b *bench) try(sql string) error {
	conn, err := pgx.Connect(context.Background(), b.url())
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), sql)
	return err
}

// newClusterAt is a cluster that another process runs.
func newClusterAt(host string, port int) *localpg.Cluster {
	return &localpg.Cluster{Host: host, Port: port}
}

// multiset counts the rows of a mirrored table without a key.
func (b *bench) multiset(table string) map[string]int {
	b.t.Helper()
	ctx := context.Background()
	files, err := landing.Files(ctx, b.landing, landing.TableDir("public", table))
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]int{}
	for _, f := range files {
		data, _, err := b.landing.Read(ctx, f.Name, 0, -1)
		if err != nil {
			b.t.Fatal(err)
		}
		p, err := parquet.Open(data)
		if err != nil {
			b.t.Fatal(err)
		}
		rows, err := p.Read(nil, true)
		if err != nil {
			b.t.Fatal(err)
		}
		if rows.Marker != nil {
			b.t.Fatalf("%s: a table without a key has markers", f.Name)
		}
		for i := range rows.Rows() {
			out[text(rows, nil, i)]++
		}
	}
	return out
}

func (b *bench) sourceMultiset(table string) map[string]int {
	b.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, b.url())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT v::text, count(*) FROM "+table+" GROUP BY 1")
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]int{}
	var v string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&v, &n}, func() error { out[v] = n; return nil }); err != nil {
		b.t.Fatal(err)
	}
	return out
}
