package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/postgres"
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
