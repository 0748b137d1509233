package verify

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// lake is a Tables folder of real Delta tables.
type lake struct {
	t *testing.T
	s store.Store
	e postgres.Endpoint
}

func newLake(t *testing.T, e postgres.Endpoint) *lake {
	t.Helper()
	s, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &lake{t, s, e}
}

// read is a table as the mirror's own decoders read it.
func (l *lake) read(schema, name string, adjust func(*postgres.Table)) *batch.Batch {
	l.t.Helper()
	ctx := l.t.Context()
	r, err := postgres.OpenSnapshot(ctx, l.e, "", time.Minute)
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Close(ctx)
	tables, err := postgres.Tables(ctx, r.Conn(), schema)
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range tables {
		tab := &tables[i]
		if tab.Name != name {
			continue
		}
		if adjust != nil {
			adjust(tab)
		}
		d, err := postgres.NewDecoder(tab)
		if err != nil {
			l.t.Fatal(err)
		}
		b := batch.New(tab.MirrorSchema(), false)
		if err := r.CopyChunk(ctx, tab, d, 0, math.MaxUint32, b, func(*batch.Batch) error { return nil }); err != nil {
			l.t.Fatal(err)
		}
		return b
	}
	l.t.Fatalf("no table %s.%s", schema, name)
	return nil
}

// write makes b the table's first version.
func (l *lake) write(table string, b *batch.Batch) {
	l.t.Helper()
	ctx := l.t.Context()
	s := store.Sub(l.s, table)
	var w bytes.Buffer
	if err := parquet.Write(&w, b, nil); err != nil {
		l.t.Fatal(err)
	}
	if _, err := s.Put(ctx, "part-0.parquet", w.Bytes(), store.Cond{}); err != nil {
		l.t.Fatal(err)
	}
	p := delta.ProtocolFor(b.Schema, false)
	_, err := delta.Commit(ctx, s, -1, []delta.Action{{CommitInfo: &delta.CommitInfo{Operation: "WRITE"}}, {Protocol: &p},
		{Metadata: delta.NewMetadata(delta.SchemaString(b.Schema), nil)},
		{Add: &delta.Add{Path: "part-0.parquet", PartitionValues: map[string]string{}, Size: int64(w.Len()), ModificationTime: 1, DataChange: true, Stats: delta.Stats(b)}}})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lake) verify(native bool) map[string]TableResult {
	l.t.Helper()
	r := mustRun(l.t, Config{Source: l.e, Tables: l.s, Settle: 20 * time.Millisecond, Native: native})
	out := map[string]TableResult{}
	for _, tr := range r.Tables {
		out[tr.Schema+"."+tr.Name] = tr
	}
	return out
}

// columns are types with values that are awkward in one way or another.
var columns = []struct {
	typ    string
	values []string
}{
	{"boolean", []string{"t", "f"}},
	{"smallint", []string{"-32768", "7"}},
	{"integer", []string{"-2147483648", "7"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
	{"oid", []string{"4294967295", "1"}},
	{"real", []string{"0.1", "-0", "NaN", "Infinity", "1e-45", "3.4028235e38", "16777216"}},
	{"double precision", []string{"0.1", "-0", "NaN", "-Infinity", "5e-324", "1e22", "1e23"}},
	{"numeric(12,2)", []string{"0", "-0.01", "9999999999.99", "100"}},
	{"numeric(38,10)", []string{"-9999999999999999999999999999.9999999999", "0.0000000001"}},
	{"numeric", []string{"1.500", "NaN", "-Infinity", "1e100", "0.00000000000000000000000000001", "12345678901234567890123456789012345678901234567890"}},
	{"money", []string{"-1234.56", "92233720368547758.07"}},
	{"date", []string{"2024-02-29", "0001-01-01", "9999-12-31", "1969-12-31"}},
	{"timestamp", []string{"2024-02-29 12:34:56.789012", "1969-12-31 23:59:59.999999", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"}},
	{"timestamptz", []string{"2024-02-29 12:34:56.789012+05:30", "1582-10-10 00:00:00+00"}},
	{"time", []string{"24:00:00", "12:34:56.7"}},
	{"timetz", []string{"12:34:56.789+05:30"}},
	{"interval", []string{"1 year 2 mons 3 days 04:05:06.789", "-1 day +00:00:00.000001"}},
	{"uuid", []string{"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}},
	{"text", []string{"", "NULL", `\N`, `a\b\\n`, "tab\tnewline\nreturn\rbell\b\f\v", "ünïcödé 🙂", `"'`, strings.Repeat("long", 5000)}},
	{"varchar(9)", []string{"", "blank  "}},
	{"char(5)", []string{"", "ab ", "€"}},
	{`"char"`, []string{"", "a", `\`}},
	{"citext", []string{"MiXed"}},
	{"mood", []string{"sad", `it's "ok"`}},
	{"bytea", []string{"", `\x00ff5c27`}},
	{"json", []string{"null", `{"b" : 1,  "a":[1, 2]}`}},
	{"jsonb", []string{"null", `{"b" : 1,  "a":[1, 2.50], "c": "\n"}`}},
	{"varbit", []string{"", "1010"}},
	{"inet", []string{"10.0.0.0/8", "::1"}},
	{"xml", []string{"<a>ü</a>"}},
	{"int4range", []string{"empty", "[1,5)"}},
	{"tsvector", []string{"'a' 'b':1A"}},
	{"point", []string{"(1.5,-2)"}},
	{"pg_lsn", []string{"16/B374D848"}},
	{"pair", []string{`(1,"a b")`, "(,)"}},
	{"hstore", []string{"", `a=>1, b=>NULL, "k \"1"=>"v"`}},
	{"price", []string{"1.5"}},
	{"text[]", []string{`{a,"b c","",NULL,"NULL","q\"uote","back\\slash"}`, "{{a,b},{c,NULL}}", "{}"}},
	{"integer[]", []string{"{1,NULL,-3}", "[0:1]={5,6}"}},
	{"oid[]", []string{"{4294967295,0}"}},
	{"numeric[]", []string{"{1.50,NaN,-0.001,1e20}"}},
	{"double precision[]", []string{"{0.1,1e23,NaN,5e-324,9007199254740993}"}},
	{"real[]", []string{"{0.1,16777216,1e10,3.4028235e38}"}},
	{"money[]", []string{"{-1.5,1234.56}"}},
	{"boolean[]", []string{"{t,f,NULL}"}},
	{"timestamptz[]", []string{`{"2024-02-29 23:59:59.5+02",infinity}`}},
	{"date[]", []string{"{2024-02-29,infinity}"}},
	{"bytea[]", []string{`{"\\x00ff",""}`}},
	{"jsonb[]", []string{`{"{\"a\" : [1, \"x\"]}","null",NULL}`}},
	{"char(3)[]", []string{`{a,"b "}`}},
	{"pair[]", []string{`{"(1,\"a b\")",NULL}`}},
	{"hstore[]", []string{`{"a=>1",NULL}`}},
	{"ints", []string{"{1,2}"}},
	{"dmoney[]", []string{"{1.5,NULL}"}},
	{"doid[]", []string{"{4294967295}"}},
	{"dreal[]", []string{"{0.1,1e10,16777216}"}},
	{"dfloat[]", []string{"{0.1,1e23,9007199254740993,5e-324}"}},
	{"price[]", []string{"{1.50,NULL}"}},
	{"dpair[]", []string{`{"(1,\"a b\")",NULL}`}},
}

const createTypes = `CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"'); CREATE TYPE pair AS (n int, s text);
	CREATE DOMAIN base_price AS numeric(10,2); CREATE DOMAIN price AS base_price; CREATE DOMAIN ints AS int[];
	CREATE DOMAIN dmoney AS money; CREATE DOMAIN doid AS oid; CREATE DOMAIN dreal AS real; CREATE DOMAIN dfloat AS float8; CREATE DOMAIN dpair AS pair`

// The mirror's decoders and PostgreSQL's text agree on every type, and a value
// taken away in any column is found.
func TestEveryType(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, createTypes)
	l := newLake(t, endpoint(c))
	for i, col := range columns {
		create := fmt.Sprintf(`CREATE TABLE t%02d (id int PRIMARY KEY, "Va""lue" %s); INSERT INTO t%02d VALUES (0, NULL)`, i, col.typ, i)
		for n, v := range col.values {
			create += fmt.Sprintf(", (%d, '%s')", n+1, strings.ReplaceAll(v, "'", "''"))
		}
		localpgtest.Exec(t, url, create)
		b := l.read("public", fmt.Sprintf("t%02d", i), nil)
		l.write(fmt.Sprintf("public/t%02d", i), b)
	}
	for i, got := range l.results(false, len(columns)) {
		if got.State != Equal {
			t.Errorf("%s: got %s %s %v", columns[i].typ, got.State, got.Reason, got.Differences)
		}
	}

	l.s = newLake(t, l.e).s
	for i := range columns {
		b := l.read("public", fmt.Sprintf("t%02d", i), nil)
		less := batch.NewColumn(b.Cols[1].Type)
		for r := range b.Rows() {
			if r == 1 {
				less.AppendNull()
			} else {
				less.AppendFrom(&b.Cols[1], r)
			}
		}
		b.Cols[1] = less
		l.write(fmt.Sprintf("public/t%02d", i), b)
	}
	for i, got := range l.results(false, len(columns)) {
		want := []RowDifference{{Key: "id=1", Kind: Changed, Columns: []string{`Va"lue`}, Values: []string{"1"}}}
		if diff := cmp.Diff(want, got.Differences); diff != "" || got.State != Differs {
			t.Errorf("%s with a NULL: got %s %s, differences (-want +got):\n%s", columns[i].typ, got.State, got.Reason, diff)
		}
	}
}

// results are those of the tables t00, t01, ….
func (l *lake) results(native bool, n int) []TableResult {
	l.t.Helper()
	all := l.verify(native)
	var out []TableResult
	for i := range n {
		out = append(out, all[fmt.Sprintf("public.t%02d", i)])
	}
	return out
}

// A key of any type finds its row again at the source.
func TestKeys(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, createTypes, `CREATE SCHEMA apart; CREATE EXTENSION ltree SCHEMA apart`)
	keys := []struct{ typ, value, other, name string }{
		{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12", "k=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"timestamptz", "2024-02-29 12:34:56.789+00", "2024-02-29 12:34:56.78+00", "k=2024-02-29 12:34:56.789000Z"},
		{"timestamp", "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00", "k=1969-12-31 23:59:59.999999Z"},
		{"date", "0004-02-29", "2024-02-29", "k=0004-02-29"},
		{"numeric", "1.50", "2", "k=1.50"},
		{"char(4)", "a'b", `\`, "k=a'b "},
		{"text", `it's \ "x"`, "", `k=it's \ "x"`},
		{"bytea", `\x00ff`, `\x`, `k=\x00ff`},
		{"boolean", "t", "f", "k=t"},
		{"mood", "sad", `it's "ok"`, "k=sad"},
		{"double precision", "0.1", "-Infinity", "k=0.1"},
		{"real", "0.1", "Infinity", "k=0.1"},
		{"price", "1.5", "2", "k=1.5"},
		{"interval", "1 day", "2 days", "k=P1D"},
		{"apart.ltree", "a.b", "a", "k=a.b"},
	}
	l := newLake(t, endpoint(c))
	for i, k := range keys {
		quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
		localpgtest.Exec(t, url, fmt.Sprintf(`CREATE TABLE t%02d (v int, k %s, "second key" int, PRIMARY KEY (k, "second key")); INSERT INTO t%02d VALUES (1, %s, 2), (2, %s, 2)`,
			i, k.typ, i, quoted(k.value), quoted(k.other)))
		b := l.read("public", fmt.Sprintf("t%02d", i), nil)
		b.Cols[0].I32[0] = 9
		l.write(fmt.Sprintf("public/t%02d", i), b)
	}
	conn := connect(t, c)
	if _, err := conn.Exec(t.Context(), "SET search_path = public, apart"); err != nil {
		t.Fatal(err)
	}
	for i, got := range l.results(false, len(keys)) {
		want := []RowDifference{{Key: keys[i].name + ", second key=2", Kind: Changed, Columns: []string{"v"}}}
		if diff := cmp.Diff(want, got.Differences, cmpopts.IgnoreFields(RowDifference{}, "Values")); diff != "" || got.State != Differs {
			t.Errorf("key %s: got %s %s, differences (-want +got):\n%s", keys[i].typ, got.State, got.Reason, diff)
			continue
		}
		var found int // by what a repair is asked for with
		query := fmt.Sprintf(`SELECT count(*) FROM t%02d WHERE k = $1::text::%s AND "second key" = $2::text::int`, i, keys[i].typ)
		if v := got.Differences[0].Values; len(v) != 2 {
			t.Errorf("key %s: got the values %q", keys[i].typ, v)
		} else if err := conn.QueryRow(t.Context(), query, v[0], v[1]).Scan(&found); err != nil || found != 1 {
			t.Errorf("key %s: %q finds %d rows, %v", keys[i].typ, v, found, err)
		}
	}
}

func TestWithoutKey(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), "CREATE TABLE log (at int, line text)", "INSERT INTO log VALUES (1, 'a'), (1, 'a'), (2, NULL), (3, 'c')")
	l := newLake(t, endpoint(c))
	b := l.read("public", "log", nil)
	l.write("public/log", b)
	if got := l.verify(false)["public.log"]; got.State != Equal {
		t.Errorf("got %s %s %v, want equal", got.State, got.Reason, got.Differences)
	}
	l.s = newLake(t, l.e).s
	l.write("public/log", b.Select([]int32{0, 2, 2})) // one of two equal rows, a row twice, one missing
	got := l.verify(false)["public.log"]
	want := []RowDifference{{Key: "at=1, line=a", Kind: Missing}, {Key: "at=2, line=NULL", Kind: Extra}, {Key: "at=3, line=c", Kind: Missing}}
	if diff := cmp.Diff(want, got.Differences); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

func TestDocumentedLoss(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"),
		"CREATE TABLE dates (id int PRIMARY KEY, d date, g int GENERATED ALWAYS AS (id + 1) STORED)", "INSERT INTO dates VALUES (1, 'infinity'), (2, '2024-01-01'), (3, '0044-03-15 BC')",
		"CREATE TABLE amounts (id int PRIMARY KEY, n numeric, w numeric(50,0), j jsonb)", `INSERT INTO amounts VALUES (1, 1.75, 1, '{}'), (2, -2, 2, NULL), (3, 'NaN', 3, NULL)`)
	l := newLake(t, endpoint(c))
	l.write("public/dates", l.read("public", "dates", nil))

	// As native mirroring writes them.
	id, wide := batch.Type{Kind: batch.Int32}, batch.Type{Kind: batch.Decimal, Precision: 38}
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "id", Type: id}, {Name: "n", Type: wide}, {Name: "w", Type: wide}}}, false)
	for i, n := range []int64{1, -2} {
		b.Cols[0].AppendInt32(int32(i + 1))
		b.Cols[1].AppendInt128(batch.Int128{Hi: n >> 63, Lo: uint64(n)})
		b.Cols[2].AppendNull()
		b.EndRow()
	}
	b.Cols[0].AppendInt32(3)
	b.Cols[1].AppendNull()
	b.Cols[2].AppendNull()
	b.EndRow()
	l.write("public/amounts", b)

	got := l.verify(true)
	dates, amounts := got["public.dates"], got["public.amounts"]
	if dates.State != Lossy || len(dates.Lossy) != 1 || dates.Lossy[0].Column != "d" || dates.Lossy[0].Rows != 2 || len(dates.LeftOut) != 1 || dates.LeftOut[0].Column != "g" {
		t.Errorf("dates: got %+v", dates)
	}
	if amounts.State != Lossy || len(amounts.Lossy) != 2 || amounts.Lossy[0].Rows != 2 || amounts.Lossy[1].Rows != 3 || len(amounts.LeftOut) != 1 || amounts.LeftOut[0].Column != "j" {
		t.Errorf("amounts: got %+v", amounts)
	}
	localpgtest.Exec(t, c.URL("", "", "postgres"), "ALTER TABLE amounts ADD COLUMN total int; UPDATE amounts SET total = id WHERE id = 2") // which the mirror should have
	if got := l.verify(true)["public.amounts"]; got.State != Differs || got.Differing != 1 || len(got.LeftOut) != 1 {
		t.Errorf("without a column of integers: got %+v", got)
	}
	localpgtest.Exec(t, c.URL("", "", "postgres"), "ALTER TABLE amounts DROP COLUMN total")
	if got := l.verify(false)["public.amounts"]; got.State != Differs || got.Differing != 3 {
		t.Errorf("in open mode nothing of this is documented: got %+v", got)
	}
}

// A column that came later is NULL in the mirror until a row has a value in it;
// one that went away is not compared. Partitions and children are tables of
// their own.
func TestShapes(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, "CREATE TABLE grown (id int PRIMARY KEY, old int)", "INSERT INTO grown VALUES (1, 1), (2, 2)",
		"CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)", "INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (2)",
		"CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (10)", "INSERT INTO parted VALUES (3)")
	l := newLake(t, endpoint(c))
	for _, name := range []string{"grown", "parent", "child", "leaf"} {
		l.write("public/"+name, l.read("public", name, nil))
	}
	localpgtest.Exec(t, url, "ALTER TABLE grown ADD COLUMN fresh int, DROP COLUMN old")
	got := l.verify(false)
	if len(got) != 4 {
		t.Errorf("got %d tables, want 4", len(got))
	}
	for name, tr := range got {
		if tr.State != Equal {
			t.Errorf("%s: got %s %s %v, want equal", name, tr.State, tr.Reason, tr.Differences)
		}
	}
	if diff := cmp.Diff([]string{"old"}, got["public.grown"].OnlyMirror); diff != "" {
		t.Errorf("columns of the mirror only (-want +got):\n%s", diff)
	}
	localpgtest.Exec(t, url, "UPDATE grown SET fresh = 1 WHERE id = 2")
	want := []RowDifference{{Key: "id=2", Kind: Changed, Columns: []string{"fresh"}, Values: []string{"2"}}}
	if diff := cmp.Diff(want, l.verify(false)["public.grown"].Differences); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

// A mirror that lacks most rows, or all, is told so within the limits.
func TestManyDifferences(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, fmt.Sprintf("INSERT INTO items SELECT i, '', 1 FROM generate_series(1, %d) i", maxCandidates+5000), "ANALYZE items")
	l := newLake(t, endpoint(c))
	l.write("public/items", itemBatch(nil))
	got := l.verify(false)["public.items"]
	if got.State != Differs || got.Differing != maxCandidates || len(got.Differences) != maxNamed || !got.Truncated || got.Rows != maxCandidates+5000 || got.MirrorRows != 0 {
		got.Differences = nil
		t.Errorf("got %+v", got)
	}
}

// A file that is gone or broken is one table's fault.
func TestBrokenFiles(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, "CREATE TABLE gone (id int PRIMARY KEY)", "CREATE TABLE torn (id int PRIMARY KEY)", "CREATE TABLE well (id int PRIMARY KEY)")
	l := newLake(t, endpoint(c))
	for _, name := range []string{"gone", "torn", "well"} {
		l.write("public/"+name, l.read("public", name, nil))
	}
	if err := l.s.Remove(t.Context(), "public/gone/part-0.parquet"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.s.Put(t.Context(), "public/torn/part-0.parquet", []byte("PAR1"), store.Cond{}); err != nil {
		t.Fatal(err)
	}
	for name, tr := range l.verify(false) {
		want := Unreadable
		if name == "public.well" {
			want = Equal
		}
		if tr.State != want || want == Unreadable && !strings.Contains(tr.Reason, "part-0.parquet") {
			t.Errorf("%s: got %s %q, want %s and the file's name", name, tr.State, tr.Reason, want)
		}
	}
}
