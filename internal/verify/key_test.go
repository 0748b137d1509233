package verify

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
)

// Keys that the mirror can't hold as they are find their rows at the source, and
// keys that become one in the mirror are counted.
func TestInexactKeys(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	put := map[batch.Kind]func(*batch.Column, int64){
		batch.Date:      func(c *batch.Column, n int64) { c.AppendInt32(int32(n)) },
		batch.Timestamp: func(c *batch.Column, n int64) { c.AppendInt64(n) },
		batch.Decimal:   func(c *batch.Column, n int64) { c.AppendInt128(batch.Int128{Hi: n >> 63, Lo: uint64(n)}) },
	}
	for _, k := range []struct {
		typ, source, other string // the other value of the source becomes the same
		kind               batch.Kind
		mirror             int64
		name               string
	}{
		{"date", "infinity", "10000-01-01", batch.Date, maxDay, "9999-12-31"},
		{"timestamp", "infinity", "10000-01-01", batch.Timestamp, maxMicro, "9999-12-31 23:59:59.999999Z"},
		{"timestamptz", "-infinity", "0044-03-15 BC", batch.Timestamp, minMicro, "0001-01-01 00:00:00.000000Z"},
		{"numeric", "1.5", "1.25", batch.Decimal, 1, "1"},
		{"numeric", "0.5", "-0.5", batch.Decimal, 0, "0"},
	} {
		key := batch.Type{Kind: k.kind}
		if k.kind == batch.Decimal {
			key.Precision = 38
		}
		mirror := func(values ...int32) *batch.Batch {
			b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "k", Type: key}, {Name: "v", Type: batch.Type{Kind: batch.Int32}}}}, false)
			for _, v := range values {
				put[k.kind](&b.Cols[0], k.mirror)
				b.Cols[1].AppendInt32(v)
				b.EndRow()
			}
			return b
		}
		for _, tt := range []struct {
			name    string
			rows    string // of the source
			mirror  []int32
			settled bool // the mirror then has 7
			state   State
			want    []RowDifference
		}{
			{name: "same", rows: "(K, 7)", mirror: []int32{7}, state: Lossy},
			{name: "missing", rows: "(K, 7)", state: Differs, want: []RowDifference{{Kind: Missing}}},
			{name: "changed", rows: "(K, 7)", mirror: []int32{9}, state: Differs, want: []RowDifference{{Kind: Changed, Columns: []string{"v"}}}},
			{name: "in flight", rows: "(K, 7)", settled: true, state: Lossy},
			{name: "two", rows: "(K, 7), (L, 8)", mirror: []int32{8, 7}, state: Lossy},
			{name: "two become one", rows: "(K, 7), (L, 8)", mirror: []int32{7}, state: Differs, want: []RowDifference{{Kind: Missing}}},
			{name: "one twice", rows: "(K, 7), (L, 8)", mirror: []int32{7, 7}, state: Differs, want: []RowDifference{{Kind: Changed}}},
		} {
			localpgtest.Exec(t, url, fmt.Sprintf("DROP TABLE IF EXISTS a; CREATE TABLE a (k %s PRIMARY KEY, v int)", k.typ)+
				"; INSERT INTO a SELECT (CASE k WHEN 'K' THEN '"+k.source+"' ELSE '"+k.other+"' END)::"+k.typ+", v FROM (VALUES "+quoteNames(tt.rows)+") x (k, v)")
			var m fakeMirror
			m.publish(mirror(tt.mirror...))
			settle, open := time.Millisecond, m.open
			if tt.settled {
				settle, open = 10*time.Second, m.atLooks(func(time.Duration) { m.publish(mirror(7)) })
			}
			got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/a"), Native: true, Settle: settle, open: open}).Tables[0]
			for i := range tt.want {
				tt.want[i].Key = "k=" + k.name
			}
			if diff := cmp.Diff(tt.want, got.Differences); diff != "" || got.State != tt.state {
				t.Errorf("%s %s, %s: got %s %s, want %s; differences (-want +got):\n%s", k.typ, k.source, tt.name, got.State, got.Reason, tt.state, diff)
			}
		}
	}
}

func quoteNames(rows string) string {
	var out []byte
	for _, b := range []byte(rows) {
		if b == 'K' || b == 'L' {
			out = append(out, '\'', b, '\'')
		} else {
			out = append(out, b)
		}
	}
	return string(out)
}

// A key of the mirror that the source can't read is an extra row's; one that the source
// has, though it can't read it any more, is found.
func TestUnreadableKeys(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, "CREATE DOMAIN positive AS int CHECK (VALUE > 0)", "CREATE TABLE checked (k positive PRIMARY KEY, v int)", "INSERT INTO checked VALUES (1, 1), (2, 2)",
		"CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TABLE renamed (k mood PRIMARY KEY, v int)", "INSERT INTO renamed VALUES ('sad', 1), ('ok', 2)",
		"CREATE TABLE nul (k text PRIMARY KEY, v int)", "INSERT INTO nul VALUES ('a', 1), ('b', 2)",
		"CREATE DOMAIN loose AS int", "CREATE TABLE late (k loose PRIMARY KEY, v int)", "INSERT INTO late VALUES (1, 1), (-2, 2)")
	l := newLake(t, endpoint(c))
	b := l.read("public", "checked", nil)
	b.Cols[0].I32[0] = -1
	l.write("public/checked", b)
	b = l.read("public", "renamed", nil)
	b.Cols[0].AppendNull() // is no key that can be asked for either
	b.Cols[1].AppendInt32(3)
	b.EndRow()
	l.write("public/renamed", b)
	b = l.read("public", "nul", nil)
	b.Cols[0] = batch.NewColumn(b.Cols[0].Type)
	b.Cols[0].AppendBytes([]byte("a\x00"))
	b.Cols[0].AppendBytes([]byte("b"))
	l.write("public/nul", b)
	b = l.read("public", "late", nil)
	b.Cols[1].I32[1] = 9
	l.write("public/late", b)
	localpgtest.Exec(t, url, "ALTER TYPE mood RENAME VALUE 'sad' TO 'gloomy'", "ALTER DOMAIN loose ADD CHECK (VALUE > 0) NOT VALID")
	want := map[string][]RowDifference{
		"public.checked": {{Key: "k=-1", Kind: Extra}, {Key: "k=1", Kind: Missing, Values: []string{"1"}}},
		"public.renamed": {{Key: "k=NULL", Kind: Extra}, {Key: "k=gloomy", Kind: Missing, Values: []string{"gloomy"}}, {Key: "k=sad", Kind: Extra}},
		"public.nul":     {{Key: "k=a", Kind: Missing, Values: []string{"a"}}, {Key: "k=a\x00", Kind: Extra}},
		"public.late":    {{Key: "k=-2", Kind: Changed, Columns: []string{"v"}}},
	}
	for name, got := range l.verify(false) {
		if diff := cmp.Diff(want[name], got.Differences); diff != "" || got.State != Differs {
			t.Errorf("%s: got %s %s, differences (-want +got):\n%s", name, got.State, got.Reason, diff)
		}
	}
}

// A key with bytes that are no UTF-8 finds its row at the source, and names none to mend.
func TestKeysOfAnyBytes(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), `CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`)
	localpgtest.Exec(t, c.URL("", "", "ascii"), `CREATE TABLE a (k text, n int, v int, PRIMARY KEY (k, n))`, `INSERT INTO a VALUES (E'a\xff', 1, 7), ('ü', 1, 7)`,
		`CREATE TYPE mood AS ENUM (E's\xff')`, `CREATE TABLE e (k mood PRIMARY KEY, v int)`)
	e := endpoint(c)
	e.Database = "ascii"
	mirror := func(rows ...int32) *batch.Batch {
		b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "k", Type: batch.Type{Kind: batch.String}}, {Name: "n", Type: batch.Type{Kind: batch.Int32}}, {Name: "v", Type: batch.Type{Kind: batch.Int32}}}}, false)
		for i, v := range rows {
			b.Cols[0].AppendBytes([]byte([]string{"ü", "a\uFFFD"}[i]))
			b.Cols[1].AppendInt32(1)
			b.Cols[2].AppendInt32(v)
			b.EndRow()
		}
		return b
	}
	for _, tt := range []struct {
		name string
		rows []int32
		want []RowDifference
	}{
		{"same", []int32{7, 7}, nil},
		{"missing", []int32{7}, []RowDifference{{Key: "k=a\uFFFD, n=1", Kind: Missing}}},
		{"changed", []int32{7, 9}, []RowDifference{{Key: "k=a\uFFFD, n=1", Kind: Changed, Columns: []string{"v"}}}},
		{"others", []int32{9, 7}, []RowDifference{{Key: "k=ü, n=1", Kind: Changed, Columns: []string{"v"}, Values: []string{"ü", "1"}}}},
	} {
		var m fakeMirror
		m.publish(mirror(tt.rows...))
		got := mustRun(t, Config{Source: e, Tables: folder(t, "public/a"), Only: []string{"a"}, Settle: time.Millisecond, open: m.open}).Tables[0]
		if diff := cmp.Diff(tt.want, got.Differences); diff != "" || (got.State == Lossy) != (tt.want == nil) {
			t.Errorf("%s: got %s %s, differences (-want +got):\n%s", tt.name, got.State, got.Reason, diff)
		}
	}
	// The row of a label that the source can't read as the mirror writes it comes
	// between two looks.
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "k", Type: batch.Type{Kind: batch.String}}, {Name: "v", Type: batch.Type{Kind: batch.Int32}}}}, false)
	b.Cols[0].AppendBytes([]byte("s\uFFFD"))
	b.Cols[1].AppendInt32(7)
	b.EndRow()
	var m fakeMirror
	m.publish(b)
	came := false
	got := mustRun(t, Config{Source: e, Tables: folder(t, "public/e"), Only: []string{"e"}, Settle: time.Second, open: m.open, Events: func(e Event) {
		if e.Type == "looking-again" && !came {
			came = true
			localpgtest.Exec(t, c.URL("", "", "ascii"), `INSERT INTO e VALUES (E's\xff', 7)`)
		}
	}}).Tables[0]
	if got.Differing > 0 || got.InFlight != 1 {
		t.Errorf("a label: got %s %v, %d in flight, want 1", got.State, got.Differences, got.InFlight)
	}
}

// A "char" beyond ASCII is the same in all versions of PostgreSQL, in a key as well.
func TestCharBeyondASCII(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{})
	localpgtest.Exec(t, c.URL("", "", "postgres"), `CREATE TABLE a (k "char" PRIMARY KEY, v "char")`, `INSERT INTO a VALUES ((-56)::int4::"char", (-57)::int4::"char"), ('a', 'b')`)
	l := newLake(t, endpoint(c))
	b := l.read("public", "a", nil)
	l.write("public/a", b)
	if got := l.verify(false)["public.a"]; got.State != Equal {
		t.Errorf("got %s %s %v, want equal", got.State, got.Reason, got.Differences)
	}
	l.s = newLake(t, l.e).s
	l.write("public/a", b.Select([]int32{1}))
	want := []RowDifference{{Key: `k=\310`, Kind: Missing}}
	if got := l.verify(false)["public.a"]; !cmp.Equal(got.Differences, want) {
		t.Errorf("got %s %s %v, want %v", got.State, got.Reason, got.Differences, want)
	}
}

// A number is equal to a float of the mirror that stands for it and for nothing else.
func TestFloatsForNumbers(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	tests := []struct {
		typ, value string
		mirror     float64
		single     bool
		want       State
	}{
		{"bigint", "9007199254740992", 1 << 53, false, Equal}, {"bigint", "9007199254740993", 1 << 53, false, Differs}, {"bigint", "16777217", 1 << 24, true, Differs},
		{"numeric(30,10)", "12345678901234567890.1234567891", 12345678901234567890.1234567891, false, Differs}, {"numeric(30,10)", "0.1", 0.1, false, Equal}, {"numeric(30,10)", "0", math.Copysign(0, -1), false, Equal},
		{"numeric", "NaN", math.NaN(), false, Equal}, {"numeric", "-Infinity", math.Inf(-1), false, Equal}, {"numeric", "1e400", math.Inf(1), false, Differs}, {"money", "1.25", 1.25, false, Equal},
		{"double precision", "0.1234567890123", 0.1234567890123, true, Differs}, {"double precision", "Infinity", math.Inf(1), true, Equal}, {"real", "0.1", 0.1, true, Equal},
	}
	l, create := newLake(t, endpoint(c)), ""
	for i, tt := range tests {
		create += fmt.Sprintf("CREATE TABLE t%02d (v %s); INSERT INTO t%02d VALUES ('%s');", i, tt.typ, i, tt.value)
		kind := batch.Float64
		if tt.single {
			kind = batch.Float32
		}
		b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "v", Type: batch.Type{Kind: kind}}}}, false)
		if tt.single {
			b.Cols[0].AppendFloat32(float32(tt.mirror))
		} else {
			b.Cols[0].AppendFloat64(tt.mirror)
		}
		b.EndRow()
		l.write(fmt.Sprintf("public/t%02d", i), b)
	}
	localpgtest.Exec(t, url, create)
	for i, got := range l.results(false, len(tests)) {
		if tt := tests[i]; got.State != tt.want {
			t.Errorf("%s %s as %v: got %s %s %v, want %s", tt.typ, tt.value, tt.mirror, got.State, got.Reason, got.Differences, tt.want)
		}
	}
}

// A side that is read differently the second time is not equal.
func TestUnsteadyMirror(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems)
	for _, tt := range []struct{ rows, later int }{
		{1, 0},
		{20_000, 0},   // at finer ranges
		{20_000, 200}, // too many to follow them all, and then not
	} {
		localpgtest.Exec(t, c.URL("", "", "postgres"), "TRUNCATE items", fmt.Sprintf("INSERT INTO items SELECT i, '', 1 FROM generate_series(1, %d) i", tt.rows), "ANALYZE items")
		files := manyFiles{reads: map[string]int{}}
		files.add(wrongItems(tt.rows, tt.rows))
		right, later := itemBatch(wrongItems(tt.rows, 0)), itemBatch(wrongItems(tt.rows, tt.later))
		files.done = func() {
			if files.batches[0] = later; files.reads["all"] > 2 {
				files.batches[0] = right
			}
		}
		got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: time.Millisecond, Workers: 1, Memory: 1, open: files.open}).Tables[0]
		if got.State != Unreadable || got.Checksum == got.MirrorChecksum && got.Checksum != "" {
			t.Errorf("%d rows: got %s %s, want unreadable", tt.rows, got.State, got.Reason)
		}
	}
}

// A numeric that the mirror has as text is compared as that, in keys and arrays, too: a
// row that only lost the zeros behind its point was not updated.
func TestNumericText(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, `CREATE TABLE n (id int PRIMARY KEY, v numeric)`, `INSERT INTO n VALUES (1, 1.5)`, `CREATE TABLE k (k numeric PRIMARY KEY)`, `INSERT INTO k VALUES (1.5)`,
		`CREATE TABLE a (id int PRIMARY KEY, v numeric[])`, `INSERT INTO a VALUES (1, '{1.5,NaN}')`)
	l := newLake(t, endpoint(c))
	for _, name := range []string{"n", "k", "a"} {
		l.write("public/"+name, l.read("public", name, nil))
	}
	for name, got := range l.verify(false) {
		if got.State != Equal {
			t.Errorf("%s: got %s, want equal", name, got.State)
		}
	}
	localpgtest.Exec(t, url, `UPDATE n SET v = 1.50`, `UPDATE k SET k = 1.50`, `UPDATE a SET v = '{1.50,NaN}'`)
	for name, got := range l.verify(false) {
		if got.State != Differs {
			t.Errorf("%s: the source has 1.50, the mirror's text is 1.5: got %s, want differs", name, got.State)
		}
	}
}

// What the mirror changes of a value is lossy, whatever it is.
func TestChangedValues(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{})
	localpgtest.Exec(t, c.URL("", "", "postgres"), `CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`)
	localpgtest.Exec(t, c.URL("", "", "ascii"), `CREATE TABLE bytes (id int PRIMARY KEY, v text, w text[])`, `INSERT INTO bytes VALUES (1, E'a\xff\xfeb', ARRAY[E'\xe9']), (2, 'ü', '{ü}')`,
		`CREATE TABLE late (id int PRIMARY KEY, v timestamptz)`, `INSERT INTO late VALUES (1, '294276-12-31 23:59:59Z'), (2, 'infinity')`)
	e := endpoint(c)
	e.Database = "ascii"
	l := newLake(t, e)
	for _, name := range []string{"bytes", "late"} {
		l.write("public/"+name, l.read("public", name, nil))
	}
	want := map[string]int64{"bytes": 1, "late": 2}
	for name, got := range l.verify(false) {
		rows := want[strings.TrimPrefix(name, "public.")]
		if got.State != Lossy || len(got.Lossy) == 0 || got.Lossy[0].Rows != rows || got.Lossy[0].Why == "" {
			t.Errorf("%s: got %s %s %v, want %d rows lossy", name, got.State, got.Reason, got.Lossy, rows)
		}
	}
}

// Bytes that are no UTF-8 are lossy also where a type that somebody made shows them; a
// "char" beyond ASCII is the same in all versions of PostgreSQL, but not in a composite.
func TestBytesOfTypes(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{})
	localpgtest.Exec(t, c.URL("", "", "postgres"), `CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`)
	inComposite := Equal
	if c.Version < 15 {
		inComposite = Lossy
	}
	for _, db := range []string{"ascii", "postgres"} {
		localpgtest.Exec(t, c.URL("", "", db), `CREATE TABLE chars (v "char", w "char"[])`, `INSERT INTO chars SELECT c, ARRAY[ARRAY[c, 'a']] FROM (SELECT (-56)::int4::"char" AS c) x`,
			`CREATE TYPE pair AS (c "char", d text)`, `CREATE TABLE pairs (v pair, w pair[])`, `INSERT INTO pairs SELECT p, ARRAY[p] FROM (SELECT ROW((-56)::int4::"char", 'a')::pair AS p) x`,
			`CREATE TYPE bits`, `CREATE FUNCTION bits_in(cstring) RETURNS bits LANGUAGE internal IMMUTABLE STRICT AS 'byteain'`, `CREATE FUNCTION bits_out(bits) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'`,
			`CREATE TYPE bits (INPUT = bits_in, OUTPUT = bits_out, LIKE = bytea)`, `CREATE TABLE own (v bits, w bits[])`, `INSERT INTO own SELECT b, ARRAY[b] FROM (SELECT '\x61fffe62'::bits AS b) x`)
		e := endpoint(c)
		e.Database = db
		l := newLake(t, e)
		want := map[string]State{"public.chars": Equal, "public.pairs": inComposite, "public.own": Lossy}
		for name := range want {
			l.write(strings.ReplaceAll(name, ".", "/"), l.read("public", strings.TrimPrefix(name, "public."), nil))
		}
		for name, got := range l.verify(false) {
			if got.State != want[name] || got.State == Lossy && len(got.Lossy) != 2 {
				t.Errorf("%s of %s: got %s %s %v, lossy %v, want %s", name, db, got.State, got.Reason, got.Differences, got.Lossy, want[name])
			}
		}
	}
}
