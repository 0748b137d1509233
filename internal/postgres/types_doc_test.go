package postgres_test

import (
	"flag"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

var update = flag.Bool("update", false, "write docs/types.md anew")

// typesPage is docs/types.md, which is checked on the version that it says.
const (
	typesPage    = "../../docs/types.md"
	typesVersion = 15
	typesIntro   = `# Types

What becomes of a column in an open mirror. This page is written by ` + "`go test ./internal/postgres -run TestTypesAgree -update`" + `, and the same test fails
when it is no longer true. It writes the values, some of them at random, to a real PostgreSQL 15 and reads each three times: from ` + "`COPY`" + ` in binary as the snapshot does, and from
logical replication in binary and in text. All have to be equal, and equal to what SQL says of the value. On the other versions, 14 to 18, it proves the same
(` + "`PGMIRROR_PGBIN=$(make -s postgres-17) go test ./internal/postgres`" + `).

- NULL stays NULL everywhere, as an element of an array too.
- A domain is as the type under it; so is a domain in an array.
- A table streams in binary only when every type in it is marked *binary*; any other makes its stream, not its snapshot, use text.
- A value that is brought into range is counted and reported. In a key it isn't changed, as two rows could become one: the table is parked.
- ` + "`money`" + ` has as many decimals as ` + "`lc_monetary`" + ` gives it in the mirror's session: two and ` + "`decimal(19,2)`" + ` in most locales, none for yen, three for dinars.
- NaN or infinity in a ` + "`numeric(p,s)`" + ` that is a decimal in the mirror parks the table. ` + "`run.types`" + ` makes such a column text, or any numeric a decimal of another
  precision and scale (` + "`- public.prices.amount=text`" + `, ` + "`- public.*.rate=decimal(20,4)`" + `); a value that doesn't fit parks the table then, and never is rounded.
  ` + "`run.timestampNtz: true`" + ` makes every ` + "`timestamp`" + ` a ` + "`timestamp_ntz`" + `. A table whose types were chosen anew is copied anew.
- A key may have any type that has a unique index, composites too, but for arrays, hstore and money: such a table has to be given another replica identity.
- An object is named as where ` + "`search_path`" + ` is ` + "`public`" + `, whatever the database's is: a ` + "`regclass`" + ` of another schema's table has its schema.
  It is as it was named when its row was read: a rename of the object is no change of the row, and doesn't show before the row changes.
- Generated columns are left out, but for stored ones that the publication publishes (PostgreSQL 18).
- In a database with ` + "`SQL_ASCII`" + ` bytes that are no UTF-8 become U+FFFD, counted; so do those that PostgreSQL 14 shows of a ` + "`\"char\"`" + ` beyond ASCII inside a composite or a range.
- In a database of another encoding than UTF-8 hstore and ` + "`\"char\"`" + ` are read as text, from the stream too.

| PostgreSQL | Delta | Parquet | Stream | What changes | For example |
|---|---|---|---|---|---|
`
)

// typeRow is what was proved of a type.
type typeRow struct {
	typ, mirror, parquet, wire, loss string
	examples                         []string
	later                            string
}

// shown are types of the test that stand for a kind of type.
var shown = map[string]string{"mood": "enum", "posint": "domain over integer", "price": "domain over a domain over numeric(10,2)", "pair": "composite", "ints": "domain over integer[]",
	"words": "domain over text[]", "regclass": "regclass and other aliases of oid"}

func showType(typ string) string {
	if own, as, chosen := strings.Cut(typ, " as "); chosen {
		return showType(own) + ", chosen: " + as
	}
	name, dims := strings.CutSuffix(typ, "[]")
	if s, ok := shown[name]; ok {
		name = s
	}
	if dims {
		return "array of " + name
	}
	return name
}

// prove notes a case whose values agreed; got is its table as it was copied.
func (r *typeRow) prove(c typeCase, tab *postgres.Table, got *batch.Batch, binary bool) {
	t := tab.MirrorSchema().Fields[1].Type
	r.mirror, r.parquet, r.loss, r.wire = t.String(), parquetName(t), tab.Columns[1].Loss, "text"
	if binary {
		r.wire = "binary"
	}
	for i, v := range c.values {
		out := plain(&got.Cols[1], i+1)
		if !sameNumber(v, out) && v != out && len(v)+len(out) < 260 && len(r.examples) < 4 && !strings.ContainsFunc(v+out, func(c rune) bool { return c < ' ' }) {
			r.examples = append(r.examples, fmt.Sprintf("%s → %s", quoted(v), quoted(out)))
		}
	}
}

func sameNumber(a, b string) bool {
	x, err := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err == nil && err2 == nil && (x == y || x != x && y != y || float32(x) == float32(y))
}

func quoted(s string) string {
	if s == "" {
		return "*empty*"
	}
	fence := "`"
	if strings.Contains(s, "`") {
		fence = "``"
	}
	if strings.TrimSpace(s) != s {
		s = `"` + s + `"`
	}
	return fence + strings.ReplaceAll(s, "|", `\|`) + fence
}

func parquetName(t batch.Type) string {
	switch t.Kind {
	case batch.Bool:
		return "BOOLEAN"
	case batch.Int16:
		return "INT32 INT(16)"
	case batch.Int32:
		return "INT32"
	case batch.Int64:
		return "INT64"
	case batch.Float32:
		return "FLOAT"
	case batch.Float64:
		return "DOUBLE"
	case batch.Date:
		return "INT32 DATE"
	case batch.Timestamp:
		return "INT64 TIMESTAMP(µs, UTC)"
	case batch.TimestampNTZ:
		return "INT64 TIMESTAMP(µs, local)"
	case batch.String:
		return "BYTE_ARRAY STRING"
	case batch.Binary:
		return "BYTE_ARRAY"
	case batch.Decimal:
		switch {
		case t.Precision <= 9:
			return "INT32 " + strings.ToUpper(t.String())
		case t.Precision <= 18:
			return "INT64 " + strings.ToUpper(t.String())
		}
		return "FIXED_LEN_BYTE_ARRAY " + strings.ToUpper(t.String())
	}
	return "?"
}

// plain is a value as a person would write it.
func plain(c *batch.Column, i int) string {
	switch c.Type.Kind {
	case batch.Bool:
		return strconv.FormatBool(c.I32[i] == 1)
	case batch.Int16, batch.Int32:
		return strconv.Itoa(int(c.I32[i]))
	case batch.Int64:
		return strconv.FormatInt(c.I64[i], 10)
	case batch.Float32:
		return strconv.FormatFloat(float64(c.F32[i]), 'g', -1, 32)
	case batch.Float64:
		return strconv.FormatFloat(c.F64[i], 'g', -1, 64)
	case batch.Date:
		return time.Unix(int64(c.I32[i])*86400, 0).UTC().Format(time.DateOnly)
	case batch.Timestamp, batch.TimestampNTZ:
		return time.UnixMicro(c.I64[i]).UTC().Format("2006-01-02 15:04:05.999999")
	case batch.Decimal:
		n := new(big.Int)
		if c.Type.Storage() == batch.Store64 {
			n.SetInt64(c.I64[i])
		} else {
			n = c.I128[i].Big()
		}
		return new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.Type.Scale)), nil)).FloatString(c.Type.Scale)
	case batch.Binary:
		return fmt.Sprintf("%d bytes", len(c.Value(i)))
	}
	return string(c.Value(i))
}

// checkTypesPage compares the page with what was proved, a row a type.
func checkTypesPage(t *testing.T, rows []*typeRow) {
	t.Helper()
	var b strings.Builder
	b.WriteString(typesIntro)
	for _, r := range rows {
		loss := r.loss
		if r.later != "" {
			loss = strings.TrimPrefix(loss+"; "+r.later, "; ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", showType(r.typ), r.mirror, r.parquet, r.wire, loss, strings.Join(r.examples, "<br>"))
	}
	if *update {
		if err := os.WriteFile(typesPage, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(typesPage)
	if err != nil || string(got) != b.String() {
		t.Errorf("docs/types.md isn't what was proved (%v): run go test ./internal/postgres -run TestTypesAgree -update", err)
	}
}
