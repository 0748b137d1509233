package postgres_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// orders is a partitioned table whose leaves have their columns in other orders,
// lie at several depths and in two schemas, and have replica identities of all
// kinds.
const orders = `CREATE SCHEMA cold;
	CREATE TABLE orders (id int, gone int, day date, note text, price numeric(9,2), PRIMARY KEY (id, day)) PARTITION BY RANGE (day); ALTER TABLE orders DROP gone;
	CREATE TABLE o2024 PARTITION OF orders FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
	CREATE TABLE o2025 (price numeric(9,2), x int, note text, y text, day date NOT NULL, id int NOT NULL); ALTER TABLE o2025 DROP x, DROP y;
	ALTER TABLE orders ATTACH PARTITION o2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
	CREATE UNIQUE INDEX by_all ON o2025 (day, id) INCLUDE (note); ALTER TABLE o2025 REPLICA IDENTITY USING INDEX by_all;
	CREATE TABLE cold.old (day date NOT NULL, id int NOT NULL, note text, price numeric(9,2)) PARTITION BY HASH (id);
	CREATE TABLE cold.old0 (id int NOT NULL, day date NOT NULL, price numeric(9,2), note text);
	ALTER TABLE cold.old ATTACH PARTITION cold.old0 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE cold.old1 PARTITION OF cold.old FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	ALTER TABLE orders ATTACH PARTITION cold.old FOR VALUES FROM ('1900-01-01') TO ('2024-01-01');
	ALTER TABLE cold.old0 REPLICA IDENTITY FULL;
	CREATE PUBLICATION p FOR TABLE orders;`

func published(t testing.TB, e postgres.Endpoint, how ...postgres.Listing) []postgres.Table {
	t.Helper()
	tables, err := postgres.PublishedTables(context.Background(), connect(t, e), []string{"p"}, how...)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// showTable is what matters of a table and its leaves in one line.
func showTable(tab postgres.Table) string {
	var leaves []string
	for _, l := range tab.Leaves {
		leaves = append(leaves, l.String())
	}
	s := fmt.Sprintf("%s %c [%s] %s", tab.String(), tab.Kind, strings.Join(leaves, " "), keyOf(&tab))
	if tab.Obstacle != "" {
		s += ": " + tab.Obstacle
	}
	return s
}

func showTables(tables []postgres.Table) []string {
	var out []string
	for _, tab := range tables {
		out = append(out, showTable(tab))
	}
	return out
}

func TestWithLeaves(t *testing.T) {
	e := database(t, "")
	run(t, e, orders)
	want := []string{"public.orders p [cold.old0 cold.old1 public.o2024 public.o2025] id,day primary key"}
	if diff := cmp.Diff(want, showTables(published(t, e, postgres.WithLeaves))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"cold.old0 r [] id,day primary key", "cold.old1 r [] id,day primary key", "public.o2024 r [] id,day primary key", "public.o2025 r [] day,id index by_all"},
		showTables(published(t, e))); diff != "" {
		t.Error("without:", diff)
	}
	all, err := postgres.Tables(t.Context(), connect(t, e))
	if err != nil {
		t.Fatal(err)
	}
	grouped, err := postgres.GroupLeaves(t.Context(), connect(t, e), all)
	if diff := cmp.Diff(want, showTables(grouped)); err != nil || diff != "" {
		t.Error("all tables:", err, diff)
	}
}

// The partitions are those of the transaction's snapshot, and aren't locked.
func TestLeavesOfSnapshot(t *testing.T) {
	e := database(t, "")
	run(t, e, orders)
	tx, err := connect(t, e).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	leaves := func() string {
		t.Helper()
		tables, err := postgres.PublishedTables(t.Context(), tx, []string{"p"}, postgres.WithLeaves)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(showTables(tables), "\n")
	}
	before := leaves()
	run(t, e, `SET lock_timeout = '60s'; CREATE TABLE o2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); ALTER TABLE orders DETACH PARTITION o2024`)
	if diff := cmp.Diff(before, leaves()); diff != "" {
		t.Error(diff)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "public.orders p [cold.old0 cold.old1 public.o2025 public.o2026] id,day primary key"
	if diff := cmp.Diff(want, strings.Join(showTables(published(t, e, postgres.WithLeaves)), "\n")); diff != "" {
		t.Error(diff)
	}
}

// rowsOf is a batch's rows as text, sorted.
func rowsOf(b *batch.Batch) []string {
	var out []string
	for i := range b.Rows() {
		out = append(out, fmt.Sprintf("%d %d %s %d", b.Cols[0].I32[i], b.Cols[1].I32[i], b.Cols[2].Value(i), b.Cols[3].I64[i]))
	}
	slices.Sort(out)
	return out
}

// Copied, streamed and read back, rows of every leaf are rows of the whole.
func TestLeafDecoder(t *testing.T) {
	e := database(t, "")
	run(t, e, orders)
	newSlot(t, e, "leaf_text")
	newSlot(t, e, "leaf_binary")
	run(t, e, `INSERT INTO orders (id, day, note, price) SELECT i, '2022-06-01'::date + i * 10, 'note ' || i, i / 4.0 FROM generate_series(1, 120) i`, "SELECT pg_logical_emit_message(false, 'end', '')")
	root := &published(t, e, postgres.WithLeaves)[0]
	conn := connect(t, e)
	want, err := pgx.CollectRows(must(conn.Query(t.Context(), `SELECT id || ' ' || (day - '1970-01-01') || ' ' || note || ' ' || (price * 100)::int FROM orders`)), pgx.RowTo[string])
	slices.Sort(want)
	if err != nil || len(want) != 120 {
		t.Fatal(len(want), err)
	}
	decoders := map[uint32]*postgres.Decoder{}
	copied := batch.New(root.MirrorSchema(), false)
	r := openSnapshot(t, e, "")
	for i := range root.Leaves {
		leaf := &root.Leaves[i]
		d, err := root.LeafDecoder(leaf)
		if err != nil {
			t.Fatal(err)
		}
		decoders[leaf.OID] = d
		before := copied.Rows()
		if err := r.CopyChunk(t.Context(), leaf, d, 0, math.MaxUint32, copied, nil); err != nil {
			t.Fatal(err)
		}
		if copied.Rows() == before || !d.Binary() {
			t.Errorf("%s: %d rows, binary %t", leaf, copied.Rows()-before, d.Binary())
		}
		leafReadBack(t, conn, leaf, d, copied)
	}
	if diff := cmp.Diff(want, rowsOf(copied)); diff != "" {
		t.Error("COPY:", diff)
	}
	back := batch.New(root.MirrorSchema(), true)
	if _, err := postgres.ReadRows(t.Context(), conn, root, decoder(t, root), copied, nil, back, postgres.Bounds{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rowsOf(back)); diff != "" {
		t.Error("read back:", diff)
	}
	for slot, binary := range map[string]bool{"leaf_text": false, "leaf_binary": true} {
		if diff := cmp.Diff(want, rowsOf(streamLeaves(t, e, slot, binary, root, decoders))); diff != "" {
			t.Errorf("%s: %s", slot, diff)
		}
	}
}

// leafReadBack reads from one leaf: its own rows are there and no others.
func leafReadBack(t *testing.T, conn *pgx.Conn, leaf *postgres.Table, d *postgres.Decoder, keys *batch.Batch) {
	t.Helper()
	var want int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+leaf.SQLName()).Scan(&want); err != nil {
		t.Fatal(err)
	}
	got := batch.New(keys.Schema, false)
	if _, err := postgres.ReadRows(t.Context(), conn, leaf, d, keys, nil, got, postgres.Bounds{}); err != nil || got.Rows() != want {
		t.Errorf("%s: %d rows read back, want %d (%v)", leaf, got.Rows(), want, err)
	}
}

func streamLeaves(t *testing.T, e postgres.Endpoint, slot string, binary bool, root *postgres.Table, decoders map[uint32]*postgres.Decoder) *batch.Batch {
	t.Helper()
	out := batch.New(root.MirrorSchema(), false)
	s := startStream(t, e, postgres.StreamOptions{Slot: slot, Publications: []string{"p"}, Binary: binary})
	for {
		switch m := nextMessage(t, s, "RIM"); m.Kind {
		case pgoutput.RelationKind:
			i := slices.IndexFunc(root.Leaves, func(l postgres.Table) bool { return l.OID == m.RelationID })
			if got := root.Leaves[i].Difference(m.Relation); got != "" {
				t.Errorf("%s differs: %s", &root.Leaves[i], got)
			}
		case pgoutput.Insert:
			if err := decoders[m.RelationID].AppendTuple(out, m.New); err != nil {
				t.Fatal(err)
			}
			out.EndRow()
		case pgoutput.Logical:
			return out
		}
	}
}

// What a partitioned table is, by how it is published and what its leaves are.
func TestWhichRoots(t *testing.T) {
	const root = "CREATE TABLE r (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE a PARTITION OF r FOR VALUES FROM (0) TO (10); CREATE TABLE b PARTITION OF r DEFAULT PARTITION BY LIST (id); CREATE TABLE b1 PARTITION OF b DEFAULT;"
	const keyless = "CREATE TABLE r (id int, v int) PARTITION BY RANGE (id);"
	for _, c := range []struct {
		name, sql string
		since     int
		want      []string
	}{
		{"leaf", root + "CREATE PUBLICATION p FOR TABLE a", 0, []string{"public.a r [] id primary key"}},
		{"leaf via root", root + "CREATE PUBLICATION p FOR TABLE a WITH (publish_via_partition_root = true)", 0, []string{"public.a r [] id primary key"}},
		{"middle", root + "CREATE PUBLICATION p FOR TABLE b, a", 0, []string{"public.a r [] id primary key", "public.b p [public.b1] id primary key"}},
		{"both", root + "CREATE PUBLICATION p FOR TABLE b, r, b1", 0, []string{"public.r p [public.a public.b1] id primary key"}},
		{"all tables", root + "CREATE TABLE z (id int PRIMARY KEY); CREATE PUBLICATION p FOR ALL TABLES", 0, []string{"public.r p [public.a public.b1] id primary key", "public.z r [] id primary key"}},
		{"schema", root + "CREATE PUBLICATION p FOR TABLES IN SCHEMA public", 15, []string{"public.r p [public.a public.b1] id primary key"}},
		{"schema of a leaf", root + "CREATE SCHEMA s; ALTER TABLE b1 SET SCHEMA s; CREATE PUBLICATION p FOR TABLES IN SCHEMA s", 15, []string{"s.b1 r [] id primary key"}},
		{"via root", root + "CREATE PUBLICATION p FOR TABLE r WITH (publish_via_partition_root = true)", 0, []string{"public.r p [public.a public.b1] id primary key: its publication has publish_via_partition_root on, under which a partition's own TRUNCATE isn't sent; ALTER PUBLICATION … SET (publish_via_partition_root = false)"}},
		{"no leaves", keyless + "CREATE PUBLICATION p FOR TABLE r", 0, []string{"public.r p []  "}},
		{"no key", keyless + "CREATE TABLE a PARTITION OF r DEFAULT; ALTER TABLE a ADD PRIMARY KEY (id); CREATE PUBLICATION p FOR TABLE r", 0, []string{"public.r p [public.a]  "}},
		{"not in the identity", root + "ALTER TABLE a REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE r", 0, []string{"public.r p [public.a public.b1]  : the replica identity of its partition public.a doesn't have the columns of its key (id)"}},
		{"full with a unique index", keyless + "CREATE TABLE a PARTITION OF r DEFAULT; ALTER TABLE r ALTER id SET NOT NULL, ALTER v SET NOT NULL, ADD UNIQUE (id, v), ADD UNIQUE (id); ALTER TABLE a REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE r", 0, []string{"public.r p [public.a] id index r_id_key"}},
		{"an index that the identity has", root + "ALTER TABLE r ALTER v SET NOT NULL; ALTER TABLE r DROP CONSTRAINT r_pkey, ADD UNIQUE (id, v); ALTER TABLE a REPLICA IDENTITY USING INDEX a_id_v_key; ALTER TABLE b1 REPLICA IDENTITY FULL; ALTER TABLE r ALTER id SET NOT NULL; CREATE PUBLICATION p FOR TABLE r", 0, []string{"public.r p [public.a public.b1] id,v index r_id_v_key"}},
		{"array key", "CREATE TABLE r (id int[] PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE a PARTITION OF r DEFAULT; CREATE PUBLICATION p FOR TABLE r", 0, []string{`public.r p [public.a]  : column "id" of its key is of type integer[], by which rows can't be looked up`}},
		{"unlogged leaf", keyless + "CREATE UNLOGGED TABLE a PARTITION OF r DEFAULT; CREATE PUBLICATION p FOR TABLE r", 0, []string{"public.r p [public.a]  : its partition public.a: an unlogged table is not in the write-ahead log"}},
		{"foreign leaf", keyless + "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER w FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f PARTITION OF r DEFAULT SERVER w; CREATE PUBLICATION p FOR TABLE r", 0, []string{"public.r p []  : its partition public.f is a foreign table, which is not in the write-ahead log"}},
		{"row filter on a leaf", root + "CREATE PUBLICATION p FOR TABLE r, a WHERE (id > 3)", 15, []string{"public.r p [public.a public.b1] id primary key: its partition public.a: its publication has a row filter, which is not built yet"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if cluster(t).Version < c.since {
				t.Skipf("from PostgreSQL %d on", c.since)
			}
			e := database(t, "")
			run(t, e, c.sql)
			if diff := cmp.Diff(c.want, showTables(published(t, e, postgres.WithLeaves))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
