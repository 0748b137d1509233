package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// keyOf is a table's key by names and where it comes from.
func keyOf(t *postgres.Table) string {
	var names []string
	for _, i := range t.Key {
		names = append(names, t.Columns[i].Name)
	}
	return strings.Join(names, ",") + " " + t.KeySource
}

func TestKeys(t *testing.T) {
	e := database(t, "")
	for i, c := range []struct{ name, sql, want string }{
		{"prim", "CREATE TABLE %s (a int, b int, PRIMARY KEY (b, a))", "b,a primary key"},
		{"none", "CREATE TABLE %s (a int)", " "},
		{"unique_isnt_identity", "CREATE TABLE %s (a int NOT NULL UNIQUE)", " "},
		{"nothing", "CREATE TABLE %[1]s (a int PRIMARY KEY); ALTER TABLE %[1]s REPLICA IDENTITY NOTHING", " "},
		{"deferred", "CREATE TABLE %s (a int PRIMARY KEY DEFERRABLE)", " "},
		{"using_index", "CREATE TABLE %[1]s (a int PRIMARY KEY, b int NOT NULL); CREATE UNIQUE INDEX %[1]s_i ON %[1]s (b) INCLUDE (a); ALTER TABLE %[1]s REPLICA IDENTITY USING INDEX %[1]s_i", "b index using_index_i"},
		{"full_none", "CREATE TABLE %[1]s (a int, b int UNIQUE); ALTER TABLE %[1]s REPLICA IDENTITY FULL", " "},
		{"full_primary", "CREATE TABLE %[1]s (a int PRIMARY KEY, b int NOT NULL UNIQUE); ALTER TABLE %[1]s REPLICA IDENTITY FULL", "a primary key"},
		{"full_unique", "CREATE TABLE %[1]s (a int NOT NULL, b int NOT NULL, c int NOT NULL, UNIQUE (a, c), UNIQUE (b)); ALTER TABLE %[1]s REPLICA IDENTITY FULL", "b index full_unique_b_key"},
		{"full_partial", "CREATE TABLE %[1]s (a int NOT NULL, b int NOT NULL); CREATE UNIQUE INDEX ON %[1]s (a) WHERE b > 0; CREATE UNIQUE INDEX ON %[1]s ((a + b)); ALTER TABLE %[1]s REPLICA IDENTITY FULL", " "},
		{"full_deferrable", "CREATE TABLE %[1]s (a int PRIMARY KEY DEFERRABLE, b int NOT NULL UNIQUE); ALTER TABLE %[1]s REPLICA IDENTITY FULL", "b index full_deferrable_b_key"},
		{"after_drop", "CREATE TABLE %[1]s (x int, y int, a int PRIMARY KEY); ALTER TABLE %[1]s DROP x", "a primary key"},
	} {
		run(t, e, fmt.Sprintf(c.sql, c.name))
		tab := table(t, e, c.name)
		if got := keyOf(tab); got != c.want {
			t.Errorf("%d %s: got key %q, want %q", i, c.name, got, c.want)
		}
		for k, at := range tab.MirrorSchema().Key {
			if got, want := tab.MirrorSchema().Fields[at].Name, tab.Columns[tab.Key[k]].Name; got != want {
				t.Errorf("%s: the schema's key has %q, want %q", c.name, got, want)
			}
		}
	}
}

func TestObstacles(t *testing.T) {
	e := database(t, "")
	run(t, e, `CREATE TABLE fine (a int PRIMARY KEY); CREATE TABLE root (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE leaf PARTITION OF root DEFAULT;
		CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY); CREATE TABLE bare (); CREATE TABLE gen_only (a int GENERATED ALWAYS AS (1) STORED);
		CREATE TABLE gen_key (a int, b int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY); CREATE VIEW v AS SELECT 1; CREATE SCHEMA other; CREATE TABLE other.fine ()`)
	tables, err := postgres.Tables(t.Context(), connect(t, e), "public")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tab := range tables {
		got = append(got, fmt.Sprintf("%s %c partition=%t: %s", tab.Name, tab.Kind, tab.Parent != 0, tab.Obstacle))
	}
	want := []string{
		"bare r partition=false: it has no column that could be mirrored",
		"fine r partition=false: ",
		`gen_key r partition=false: column "b" of its key is generated, and the stream doesn't carry it`,
		"gen_only r partition=false: it has no column that could be mirrored",
		"leaf r partition=true: ",
		"root p partition=false: a partitioned table holds no rows itself; its partitions are mirrored each as a table of its own",
		"unlogged r partition=false: an unlogged table is not in the write-ahead log",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	all, err := postgres.Tables(t.Context(), connect(t, e))
	if err != nil || len(all) != len(tables)+1 || all[0].String() != "other.fine" {
		t.Errorf("all schemas: got %d tables, %v", len(all), err)
	}
}

func TestColumns(t *testing.T) {
	e := database(t, "")
	run(t, e, `CREATE DOMAIN price AS numeric(10,2); CREATE TABLE c (id bigint PRIMARY KEY, gone int, p price NOT NULL, n numeric, tags varchar(9)[],
		total numeric(10,2) GENERATED ALWAYS AS (1) STORED); ALTER TABLE c DROP gone`)
	tab := table(t, e, "c")
	var got []string
	for _, c := range tab.Columns {
		got = append(got, fmt.Sprintf("%d %s %s notnull=%t generated=%t %s (%s)", c.Attnum, c.Name, c.TypeName, c.NotNull, c.Generated, c.Type, c.Loss))
	}
	want := []string{
		"1 id bigint notnull=true generated=false long ()",
		"3 p price notnull=true generated=false decimal(10,2) ()",
		"4 n numeric notnull=false generated=false string (kept exactly, as text)",
		"5 tags character varying(9)[] notnull=false generated=false string (as JSON text; lower bounds are dropped)",
		"6 total numeric(10,2) notnull=false generated=true decimal(10,2) ()",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := len(tab.MirrorSchema().Fields); got != 4 {
		t.Errorf("%d mirrored columns, want 4", got)
	}
}

// Names that Delta forbids, and that differ only in case, become legal ones; a
// column added later doesn't change them.
func TestFieldNames(t *testing.T) {
	e := database(t, "")
	run(t, e, `CREATE TABLE f (id int PRIMARY KEY, "order date" int, "a,b;c{d}e(f)g=h" int, "x	y
z" int, "Name" int, name int, "__ROWMARKER__" int, "ünï" int, "we""ird" int)`)
	fields := func() []string {
		var out []string
		for _, f := range table(t, e, "f").MirrorSchema().Fields {
			out = append(out, f.Name)
		}
		return out
	}
	want := []string{"id", "order_date", "a_b_c_d_e_f_g_h", "x_y_z", "Name", "name_6", "__ROWMARKER___7", "ünï", `we"ird`}
	if diff := cmp.Diff(want, fields()); diff != "" {
		t.Error(diff)
	}
	run(t, e, `ALTER TABLE f ADD order_date int, ADD "NAME" int; INSERT INTO f VALUES (1,2,3,4,5,6,7,8,9,10,11)`)
	want = append(want, "order_date_10", "NAME_11")
	if diff := cmp.Diff(want, fields()); diff != "" {
		t.Error(diff)
	}
	if got := copyAll(t, e, table(t, e, "f")); got.Cols[10].I32[0] != 11 {
		t.Errorf("got %d", got.Cols[10].I32[0])
	}
}

func TestPublishedTables(t *testing.T) {
	e := database(t, "")
	if cluster(t).Version < 15 {
		t.Skip("column lists and row filters are from PostgreSQL 15 on")
	}
	run(t, e, `CREATE TABLE a (id int PRIMARY KEY, v int, w int); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE f (id int PRIMARY KEY);
		CREATE PUBLICATION one FOR TABLE a (id, w), b; CREATE PUBLICATION two FOR TABLE b, f WHERE (id > 3)`)
	tables, err := postgres.PublishedTables(t.Context(), connect(t, e), []string{"one", "two"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tab := range tables {
		var fields []string
		for _, f := range tab.MirrorSchema().Fields {
			fields = append(fields, f.Name)
		}
		got = append(got, tab.Name+" "+strings.Join(fields, ",")+" "+tab.Obstacle)
	}
	want := []string{"a id,w ", "b id ", "f id its publication has a row filter, which is not built yet"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := postgres.PublishedTables(t.Context(), connect(t, e), []string{"one", "three"}); err == nil || !strings.Contains(err.Error(), `"three"`) {
		t.Errorf("a missing publication: got %v", err)
	}
}

// What publications have is what the server's own view says, without its locks and in
// one snapshot.
func TestPublicationTables(t *testing.T) {
	e := database(t, "")
	run(t, e, `CREATE SCHEMA "S x"; CREATE SCHEMA other;
		CREATE TABLE a (id int PRIMARY KEY, v text, g int GENERATED ALWAYS AS (1) STORED); CREATE TABLE "S x"."B b" (id int PRIMARY KEY, v text); CREATE UNLOGGED TABLE u (id int); CREATE VIEW w AS SELECT 1;
		CREATE TABLE p (id int, v int, PRIMARY KEY (id, v)) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE "S x".p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY LIST (v);
		CREATE TABLE other.p2d PARTITION OF "S x".p2 DEFAULT; CREATE TABLE other.alone (id int) PARTITION BY RANGE (id)`)
	publications := []string{"every", "everyroot"}
	run(t, e, "CREATE PUBLICATION every FOR ALL TABLES; CREATE PUBLICATION everyroot FOR ALL TABLES WITH (publish_via_partition_root = true)")
	kinds := []string{`TABLE a, "S x"."B b"`, "TABLE p", "TABLE p1", `TABLE "S x".p2`, "TABLE other.p2d", "TABLE p, p1", `TABLE p, other.p2d, "S x".p2`, "TABLE other.alone, a"}
	conn := connect(t, e)
	var version int
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	said := "'', ''"
	if version >= 150000 {
		said = "array(SELECT a FROM unnest(attnames) a WHERE a <> 'g' ORDER BY 1)::text, (rowfilter IS NOT NULL)::text"
		kinds = append(kinds, "TABLE a (id, v)", "TABLE a WHERE (id > 1)", `TABLES IN SCHEMA "S x"`, "TABLES IN SCHEMA other", `TABLES IN SCHEMA public`, `TABLES IN SCHEMA other, "S x"`, `TABLE a, TABLES IN SCHEMA "S x"`, "TABLE p, TABLES IN SCHEMA other", "TABLE p1, TABLES IN SCHEMA public", "TABLE p1 (id, v)")
	}
	for i, kind := range kinds {
		for _, root := range []string{"false", "true"} {
			name := fmt.Sprintf("p%d%s", i, root)
			run(t, e, fmt.Sprintf("CREATE PUBLICATION %s FOR %s WITH (publish_via_partition_root = %s)", name, kind, root))
			publications = append(publications, name)
		}
	}
	for _, name := range publications {
		rows, err := conn.Query(t.Context(), "SELECT concat_ws(' ', schemaname || '.' || tablename, "+said+") FROM pg_publication_tables WHERE pubname = $1", name)
		var want []string
		if err == nil {
			want, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			t.Fatal(err)
		}
		published, err := postgres.PublishedTables(t.Context(), conn, []string{name})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range published {
			line := p.String() + "  "
			if version >= 150000 {
				var columns []string
				for _, c := range p.Columns {
					if !c.Generated && !c.Unpublished {
						columns = append(columns, c.Name)
					}
				}
				slices.Sort(columns)
				line = fmt.Sprintf("%s {%s} %t", &p, strings.Join(columns, ","), strings.Contains(p.Obstacle, "row filter"))
			}
			got = append(got, line)
		}
		slices.Sort(want)
		want = slices.Compact(want) // 14 names a partition twice that is named beside its root
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the view (-), we (+):\n%s", name, diff)
		}
	}

	other := connect(t, e)
	if _, err := other.Exec(t.Context(), `BEGIN; LOCK TABLE a, p IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SET lock_timeout = '10s'"); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.PublishedTables(t.Context(), conn, publications, postgres.WithLeaves); err != nil {
		t.Errorf("with locked tables: %v", err)
	}
	if _, err := postgres.Refused(t.Context(), conn, publications); err != nil {
		t.Errorf("with locked tables: %v", err)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}

	if _, err := conn.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1"); err != nil {
		t.Fatal(err)
	}
	run(t, e, "DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY); ALTER PUBLICATION p0false ADD TABLE a")
	if published, err := postgres.PublishedTables(t.Context(), conn, []string{"p0false"}); err != nil || len(published) != 2 {
		t.Errorf("in a snapshot from before a table was made anew: got %d tables, %v, want 2", len(published), err)
	}
}

// Generated columns that a publication publishes, as it can from PostgreSQL 18
// on, are copied and streamed like others, also of partitions and in a key;
// virtual ones never are.
func TestPublishedGeneratedColumns(t *testing.T) {
	if cluster(t).Version < 18 {
		t.Skip("from PostgreSQL 18 on")
	}
	e := database(t, "")
	run(t, e, `CREATE TABLE a (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED, v int GENERATED ALWAYS AS (id * 3) VIRTUAL, w int);
		CREATE TABLE k (id int, g int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY);
		CREATE TABLE r (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id); CREATE TABLE r1 PARTITION OF r DEFAULT;
		CREATE TABLE listed (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED, h int GENERATED ALWAYS AS (id) STORED);
		CREATE PUBLICATION p FOR TABLE a, k, r WITH (publish_generated_columns = stored); CREATE PUBLICATION q FOR TABLE listed (id, h)`)
	newSlot(t, e, "generated")
	run(t, e, "INSERT INTO a (id, w) VALUES (1, 7); INSERT INTO k (id) VALUES (2); INSERT INTO r (id) VALUES (3); INSERT INTO listed (id) VALUES (4)",
		"SELECT pg_logical_emit_message(false, 'end', '')")
	tables, err := postgres.PublishedTables(t.Context(), connect(t, e), []string{"p", "q"}, postgres.WithLeaves)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	byOID := map[uint32]*postgres.Table{}
	for i := range tables {
		tab := &tables[i]
		if tab.Obstacle != "" {
			t.Errorf("%s: %s", tab, tab.Obstacle)
		}
		for _, leaf := range append(tab.Leaves, *tab) {
			byOID[leaf.OID] = tab
		}
		var fields []string
		for _, f := range tab.MirrorSchema().Fields {
			fields = append(fields, f.Name)
		}
		got[tab.Name] = strings.Join(fields, ",") + " key " + keyOf(tab)
		if tab.Kind == 'r' {
			got[tab.Name] += " copied " + intsOf(copyAll(t, e, tab))
		}
	}
	s := startStream(t, e, postgres.StreamOptions{Slot: "generated", Publications: []string{"p", "q"}, Binary: true})
	for m := nextMessage(t, s, "RIM"); m.Kind != pgoutput.Logical; m = nextMessage(t, s, "RIM") {
		tab := byOID[m.RelationID]
		leaf := tab
		if tab.Kind == 'p' {
			leaf = &tab.Leaves[0]
		}
		if m.Kind == pgoutput.RelationKind {
			if diff := leaf.Difference(m.Relation); diff != "" {
				t.Errorf("%s: %s", tab, diff)
			}
			continue
		}
		d, err := tab.LeafDecoder(leaf)
		if err != nil {
			t.Fatal(err)
		}
		b := batch.New(tab.MirrorSchema(), false)
		if err := d.AppendTuple(b, m.New); err != nil {
			t.Fatal(err)
		}
		b.EndRow()
		got[tab.Name] += " streamed " + intsOf(b)
	}
	want := map[string]string{
		"a":      "id,g,w key id primary key copied 1 2 7 streamed 1 2 7",
		"k":      "id,g key g primary key copied 2 4 streamed 2 4",
		"r":      "id,g key id primary key streamed 3 6",
		"listed": "id,h key id primary key copied 4 4 streamed 4 4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// intsOf is the first row of a batch of integers.
func intsOf(b *batch.Batch) string {
	var out []string
	for i := range b.Cols {
		out = append(out, fmt.Sprint(b.Cols[i].I32[0]))
	}
	return strings.Join(out, " ")
}

// A key by whose values rows can't be looked up is no key; under FULL another
// may do.
func TestKeysThatCannotBeLookedUp(t *testing.T) {
	e := database(t, "")
	run(t, e, `CREATE EXTENSION hstore; CREATE DOMAIN list AS text[];
		CREATE TABLE arr (a int[] PRIMARY KEY); CREATE TABLE dom (a list, b int, PRIMARY KEY (b, a)); CREATE TABLE cash (a money PRIMARY KEY);
		CREATE TABLE hs (a hstore NOT NULL, b int NOT NULL, UNIQUE (a)); ALTER TABLE hs REPLICA IDENTITY USING INDEX hs_a_key;
		CREATE TABLE full_arr (a int[] PRIMARY KEY); ALTER TABLE full_arr REPLICA IDENTITY FULL;
		CREATE TABLE full_other (a int[] PRIMARY KEY, b int NOT NULL UNIQUE); ALTER TABLE full_other REPLICA IDENTITY FULL`)
	var got []string
	tables, err := postgres.Tables(t.Context(), connect(t, e))
	if err != nil {
		t.Fatal(err)
	}
	for _, tab := range tables {
		got = append(got, tab.Name+": "+strings.TrimSpace(keyOf(&tab)+" "+tab.Obstacle))
	}
	want := []string{
		`arr: column "a" of its key is of type integer[], by which rows can't be looked up`,
		`cash: column "a" of its key is of type money, by which rows can't be looked up`,
		`dom: column "a" of its key is of type list, by which rows can't be looked up`,
		`full_arr: column "a" of its key is of type integer[], by which rows can't be looked up`,
		"full_other: b index full_other_b_key",
		`hs: column "a" of its key is of type hstore, by which rows can't be looked up`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Every change that a Relation message shows makes it differ from the table read
// before.
func TestDifference(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v numeric(5,2), g int GENERATED ALWAYS AS (1) STORED)", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "difference")
	s := startStream(t, e, postgres.StreamOptions{Slot: "difference", Publications: []string{"p"}})
	for i, c := range []struct{ name, first, change, want string }{
		{"a", "", "", ""},
		{"a", "", "ALTER TABLE a ADD w int", "it has 3 columns, not 2"},
		{"a", "ALTER TABLE a DROP w", "", ""},
		{"a", "", "ALTER TABLE a RENAME v TO x", `column 2 is named "x", not "v"`},
		{"a", "ALTER TABLE a RENAME x TO v", "ALTER TABLE a ALTER v TYPE numeric(6,2)", `column "v" has another type`},
		{"a", "ALTER TABLE a ALTER v TYPE numeric(5,2)", "ALTER TABLE a REPLICA IDENTITY FULL", "its replica identity is 'f', not 'd'"},
		{"a", "ALTER TABLE a REPLICA IDENTITY DEFAULT", "ALTER TABLE a DROP CONSTRAINT a_pkey; ALTER TABLE a ALTER v SET NOT NULL, ADD PRIMARY KEY (id, v)", `column "v" is now in, or no longer in, the replica identity`},
		{"b", "", "ALTER TABLE a RENAME TO b", "it is named public.b"},
	} {
		run(t, e, c.first)
		before := table(t, e, "a")
		run(t, e, c.change, fmt.Sprintf("INSERT INTO %s VALUES (%d, 1)", c.name, i))
		if got := before.Difference(nextMessage(t, s, "R").Relation); got != c.want {
			t.Errorf("after %q: got %q, want %q", c.change, got, c.want)
		}
	}
}
