package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// Rows are found by keys of every type that a key may have.
func TestReadRowsByKey(t *testing.T) {
	e := database(t, "")
	run(t, e, `CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"'); CREATE SCHEMA elsewhere; CREATE EXTENSION citext SCHEMA elsewhere; CREATE EXTENSION ltree SCHEMA elsewhere; CREATE TYPE pair AS (n int, s text); CREATE DOMAIN duo AS pair; CREATE DOMAIN code AS varchar(9); CREATE DOMAIN price AS numeric(25,3)`)
	conn := connect(t, e)
	for i, c := range []struct{ typ, there, gone string }{
		{"boolean", "f", "t"}, {"smallint", "-3", "4"}, {"int", "-3", "4"}, {"bigint", "9223372036854775807", "4"}, {"oid", "4294967295", "4"},
		{"real", "0.1", "0.2"}, {"double precision", "1e-300", "NaN"}, {"numeric(10,2)", "-0.05", "7"}, {"price", "-1234567890123456789012.005", "7"}, {"numeric", "1.50", "2"},
		{"date", "0001-01-01", "9999-12-31"}, {"timestamp", "0001-01-01 00:00:00.000001", "2024-01-01"}, {"timestamptz", "1969-12-31 23:59:59.999999+00", "2024-01-01"},
		{"time", "12:34:56.7", "24:00"}, {"timetz", "12:34:56.7-08", "24:00+00"}, {"interval", "-1 year 2 days -3.5 seconds", "1 s"},
		{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, {"text", `a "q" \ , {}`, "NULL"}, {"code", "NULL", "x"}, {"char(4)", "a", "b"},
		{`"char"`, "a", "b"}, {"name", "a b", "c"}, {"elsewhere.citext", "Ab", "xy"}, {"elsewhere.ltree", "a.b", "a"}, {"pair", `(1,"a\"\"\\\\ b")`, "(,)"}, {"duo", "(1,x)", "(2,)"}, {"int4range", "[1,5)", "empty"}, {"regclass", "pg_class", "pg_type"}, {"mood", `it's "ok"`, "sad"}, {"bytea", `\x00ff5c`, `\x`}, {"inet", "10.0.0.0/8", "::1"}, {"jsonb", `{"a": [1]}`, "1"},
		{"macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:04"}, {"varbit", "101", "1"},
	} {
		name := fmt.Sprintf("k%d", i)
		lit := func(s string) string { return strings.ReplaceAll(s, "'", "''") }
		run(t, e, fmt.Sprintf("CREATE TABLE %[1]s (k %[2]s, k2 int, v text, PRIMARY KEY (k2, k)); INSERT INTO %[1]s VALUES ('%[3]s', 1, 'found'), ('%[4]s', 2, 'gone')", name, c.typ, lit(c.there), lit(c.gone)))
		tab := table(t, e, name)
		keys := copyAll(t, e, tab)
		run(t, e, "DELETE FROM "+name+" WHERE k2 = 2")
		got := batch.New(tab.MirrorSchema(), i%2 == 0)
		asOf, err := postgres.ReadRows(t.Context(), conn, tab, decoder(t, tab), keys, nil, got, postgres.Bounds{})
		if err != nil {
			t.Errorf("%s: %v", c.typ, err)
			continue
		}
		if asOf == 0 || got.Rows() != 1 || string(got.Cols[2].Value(0)) != "found" || string(got.AppendKey(nil, 0)) != string(keys.AppendKey(nil, 0)) {
			t.Errorf("%s: got %d rows as of %s, want the row that is there", c.typ, got.Rows(), asOf)
		}
	}
}

// A value that an UPDATE left alone is not sent; read back it is what it was.
func TestUnchangedToast(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, n int, v text); ALTER TABLE a ALTER v SET STORAGE EXTERNAL; INSERT INTO a VALUES (1, 1, repeat('x', 10000))", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "toast")
	run(t, e, "UPDATE a SET n = 2")
	s := startStream(t, e, postgres.StreamOptions{Slot: "toast", Publications: []string{"p"}, Binary: true})
	xid := nextMessage(t, s, "B").XID
	tab := table(t, e, "a")
	d := decoder(t, tab)
	b := batch.New(tab.MirrorSchema(), true)
	if err := d.AppendTuple(b, nextMessage(t, s, "U").New); err != nil {
		t.Fatal(err)
	}
	b.EndMarkedRow(batch.Upsert)
	if !b.HasUnchanged(0) || b.Cols[2].Def[0] != batch.Unchanged {
		t.Fatal("the value was sent")
	}
	end := postgres.LSN(nextMessage(t, s, "C").EndLSN)
	got := batch.New(tab.MirrorSchema(), true)
	asOf, err := postgres.ReadRows(t.Context(), connect(t, e), tab, d, b, []uint32{xid}, got, postgres.Bounds{})
	if err != nil || got.Rows() != 1 || asOf < end {
		t.Fatalf("got %d rows as of %s, %v; want one, not before %s", got.Rows(), asOf, err, end)
	}
	if got.Cols[1].I32[0] != 2 || len(got.Cols[2].Value(0)) != 10000 {
		t.Errorf("got %d, %d bytes", got.Cols[1].I32[0], len(got.Cols[2].Value(0)))
	}
}

// A transaction that isn't visible yet is waited for: no snapshot from before its
// commit is read.
func TestReadRowsWaitsForVisibility(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (1, 1)")
	tab := table(t, e, "a")
	keys := copyAll(t, e, tab)
	writer := connect(t, e)
	var xid uint32
	if _, err := writer.Exec(t.Context(), "BEGIN; UPDATE a SET v = 2"); err != nil {
		t.Fatal(err)
	}
	if err := writer.QueryRow(t.Context(), "SELECT pg_current_xact_id()::xid::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	reader, watcher := connect(t, e), connect(t, e)
	got := batch.New(tab.MirrorSchema(), false)
	done := make(chan error, 1)
	go func() {
		_, err := postgres.ReadRows(context.Background(), reader, tab, decoder(t, tab), keys, []uint32{xid}, got, postgres.Bounds{})
		done <- err
	}()
	until(t, "the reader has looked", func() bool {
		var looked bool
		err := watcher.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND query = 'ROLLBACK')", reader.PgConn().PID()).Scan(&looked)
		if err != nil {
			t.Fatal(err)
		}
		return looked
	})
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if _, err := writer.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || got.Rows() != 1 || got.Cols[1].I32[0] != 2 {
		t.Errorf("got %v, %v", got.Cols[1].I32, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := postgres.ReadRows(ctx, connect(t, e), tab, decoder(t, tab), keys, []uint32{xid}, got, postgres.Bounds{}); err == nil {
		t.Error("a context that is over is taken")
	}
}

func TestReadRowsRefuses(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int[] PRIMARY KEY); INSERT INTO a VALUES ('{1}')", "CREATE TABLE keyless (id int); INSERT INTO keyless VALUES (1)")
	for _, name := range []string{"a", "keyless"} {
		tab := table(t, e, name)
		conn := connect(t, e)
		if _, err := postgres.ReadRows(t.Context(), conn, tab, decoder(t, tab), copyAll(t, e, tab), nil, batch.New(tab.MirrorSchema(), false), postgres.Bounds{}); err == nil {
			t.Errorf("%s was read back", name)
		}
		var one int
		if err := conn.QueryRow(t.Context(), "SELECT 1").Scan(&one); err != nil {
			t.Errorf("the connection is of no use after it: %v", err)
		}
		if _, err := pgx.CollectRows(must(conn.Query(t.Context(), "SELECT id FROM "+name)), pgx.RowToMap); err != nil {
			t.Error(err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
