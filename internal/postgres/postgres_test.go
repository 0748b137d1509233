package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// The tests share one cluster, started by the first that asks for it; each has a
// database of its own.
var shared struct {
	once    sync.Once
	cluster *localpg.Cluster
	dir     string
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.cluster != nil {
		if err := shared.cluster.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
			code = 1
		}
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	if err := leaked(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "after the tests:", err)
		code = 1
	}
	os.Exit(code)
}

// leaked are the goroutines that don't end: goleak waits less than half a second for
// one that does, and the driver gives a broken connection up beside us.
func leaked() error {
	for end := time.Now().Add(testTimeout); ; {
		if err := goleak.Find(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func cluster(t testing.TB) *localpg.Cluster {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "pgtest-"); shared.err != nil {
			return
		}
		shared.cluster, shared.err = localpg.Start(context.Background(), localpg.Options{Dir: shared.dir, Settings: map[string]string{
			"fsync": "off", "full_page_writes": "off", "wal_level": "logical", "max_replication_slots": "40", "max_wal_senders": "40",
			"statement_timeout": "5min", "max_connections": "100",
		}})
	})
	if shared.err != nil {
		t.Fatalf("start PostgreSQL: %v", shared.err)
	}
	return shared.cluster
}

// database makes a database named after the test and drops it, its slots first,
// when the test is over.
func database(t testing.TB, options string) postgres.Endpoint {
	t.Helper()
	c := cluster(t)
	admin := postgres.Endpoint{Host: c.Host, Port: c.Port, Database: "postgres", User: c.Superuser, Password: c.Password, SSLMode: "disable"}
	e := admin
	e.Database = "t_" + strings.ToLower(strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()))
	run(t, admin, fmt.Sprintf("CREATE DATABASE %q %s", e.Database, options))
	t.Cleanup(func() {
		run(t, admin, fmt.Sprintf(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND database = '%s'`, e.Database))
		run(t, admin, fmt.Sprintf(`DO $$ BEGIN
			FOR i IN 1..5000 LOOP
				EXIT WHEN NOT EXISTS (SELECT FROM pg_replication_slots WHERE active AND database = '%s');
				PERFORM pg_sleep(0.02);
			END LOOP; END $$`, e.Database))
		run(t, admin, fmt.Sprintf(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '%s'`, e.Database))
		run(t, admin, fmt.Sprintf("DROP DATABASE %q WITH (FORCE)", e.Database))
	})
	return e
}

func connect(t testing.TB, e postgres.Endpoint) *pgx.Conn {
	t.Helper()
	conn, err := e.Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func run(t testing.TB, e postgres.Endpoint, sql ...string) {
	t.Helper()
	conn, err := e.Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range sql {
		if _, err := conn.PgConn().Exec(context.Background(), s).ReadAll(); err != nil {
			t.Fatalf("%.300s: %v", s, err)
		}
	}
}

// table looks one table up.
func table(t testing.TB, e postgres.Endpoint, name string) *postgres.Table {
	t.Helper()
	tables, err := postgres.Tables(context.Background(), connect(t, e))
	if err != nil {
		t.Fatal(err)
	}
	for i := range tables {
		if tables[i].Name == name {
			return &tables[i]
		}
	}
	t.Fatalf("no table %q", name)
	return nil
}

func decoder(t testing.TB, tab *postgres.Table) *postgres.Decoder {
	t.Helper()
	d, err := postgres.NewDecoder(tab)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// copyAll reads a whole table in a snapshot of its own.
func copyAll(t testing.TB, e postgres.Endpoint, tab *postgres.Table) *batch.Batch {
	t.Helper()
	r, err := postgres.OpenSnapshot(context.Background(), e, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	b := batch.New(tab.MirrorSchema(), false)
	err = r.CopyChunk(context.Background(), tab, decoder(t, tab), 0, math.MaxUint32, b, func(*batch.Batch) error {
		t.Error("a small table filled a batch")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newSlot makes a slot and lets its snapshot go.
func newSlot(t testing.TB, e postgres.Endpoint, name string) postgres.SlotCreated {
	t.Helper()
	repl, err := e.ConnectReplication(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer repl.Close(context.Background())
	slot, err := postgres.CreateSlot(context.Background(), repl, name)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// testTimeout bounds every wait of a test.
const testTimeout = 5 * time.Minute

func asValueError(err error, target **postgres.ValueError) bool { return errors.As(err, target) }
