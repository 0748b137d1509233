package postgres_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// typeCase is a type of PostgreSQL with values that are worth a look. Every value
// is read from COPY BINARY, from a binary stream and from a text stream; all
// three must be equal, and equal to what the SQL expression want says of v.
type typeCase struct {
	typ    string
	mirror string // the type in the mirror, behind "as " if it was chosen
	binary bool
	want   string
	values []string
	random func(r *rand.Rand) string
	since  int // the first major version that knows it; 0: all do
}

const (
	wantText   = "concat(v)"
	wantJSON   = "to_json(v)::text"
	wantMicros = `(extract(epoch FROM CASE WHEN v < '0001-01-01' THEN '0001-01-01' WHEN v > '9999-12-31 23:59:59.999999' THEN '9999-12-31 23:59:59.999999' ELSE v END)
		* 1000000)::bigint::text`
	wantDays = `(greatest(least(v, '9999-12-31'), '0001-01-01') - '1970-01-01'::date)::text`
)

// wantDecimal is the unscaled value.
func wantDecimal(scale int) string {
	return fmt.Sprintf("trim_scale(v * 10::numeric ^ %d)::text", scale)
}

var typeCases = []typeCase{
	{"boolean", "boolean", true, "v::int::text", []string{"t", "f"}, nil, 0},
	{"smallint", "short", true, "v::text", []string{"-32768", "32767", "0", "-1"}, randomWhole(16), 0},
	{"integer", "integer", true, "v::text", []string{"-2147483648", "2147483647", "0"}, randomWhole(32), 0},
	{"bigint", "long", true, "v::text", []string{"-9223372036854775808", "9223372036854775807", "0"}, randomInt, 0},
	{"oid", "long", true, "v::text", []string{"0", "4294967295"}, func(r *rand.Rand) string { return fmt.Sprint(r.Uint32()) }, 0},
	{"real", "float", true, "v::text", floats, randomFloat(32), 0},
	{"double precision", "double", true, "v::text", append([]string{"1.7976931348623157e308", "5e-324", "9007199254740993"}, floats...), randomFloat(64), 0},
	{"numeric(12,2)", "decimal(12,2)", true, wantDecimal(2), []string{"0", "9999999999.99", "-9999999999.99", "0.01", "-0.05", "10000", "99990000.1", "0.1"}, randomNumeric(10, 2), 0},
	{"numeric(18,0)", "decimal(18,0)", true, wantDecimal(0), []string{"999999999999999999", "-999999999999999999", "10000000000000000"}, randomNumeric(18, 0), 0},
	{"numeric(5,5)", "decimal(5,5)", true, wantDecimal(5), []string{"0.99999", "0.00001", "-0.00001"}, randomNumeric(0, 5), 0},
	{"numeric(38,10)", "decimal(38,10)", true, wantDecimal(10), []string{"9999999999999999999999999999.9999999999", "-9999999999999999999999999999.9999999999", "0.0000000001", "-0.0000000001"}, randomNumeric(28, 10), 0},
	{"numeric(38,38)", "decimal(38,38)", true, wantDecimal(38), []string{"0.99999999999999999999999999999999999999", "-0.00000000000000000000000000000000000001"}, nil, 0},
	{"numeric(19,0)", "decimal(19,0)", true, wantDecimal(0), []string{"9223372036854775808", "-9223372036854775809", "9999999999999999999"}, randomNumeric(19, 0), 0},
	{"numeric", "string", true, wantText, []string{"0", "0.00", "NaN", "Infinity", "-Infinity", "1e500", "1e-500", "-12345678901234567890.123", "0.00012", "10000.0000", "100000000"}, randomNumeric(60, 40), 0},
	{"numeric(39,2)", "string", true, wantText, []string{"NaN", "1234567890123456789012345678901234567.12"}, randomNumeric(37, 2), 0},
	{"numeric(3,-2)", "string", true, wantText, []string{"12345", "-99900", "0"}, nil, 15},
	{"numeric(2,4)", "string", true, wantText, []string{"0.0099", "-0.0001"}, nil, 15},
	{"numeric", "as decimal(20,4)", true, wantDecimal(4), []string{"0", "1.50", "-0.0001", "0.00010000", "9999999999999999.9999", "-9999999999999999.9999"}, randomNumeric(16, 4), 0},
	{"numeric(39,2)", "as decimal(9,0)", true, wantDecimal(0), []string{"999999999", "-1"}, randomNumeric(9, 0), 0},
	{"numeric(12,2)", "as string", true, wantText, []string{"NaN", "0", "-0.05", "9999999999.99"}, randomNumeric(10, 2), 0},
	{"money", "decimal(19,2)", true, "trim_scale(v::numeric * 100)::text", []string{"-92233720368547758.08", "92233720368547758.07", "0", "-0.01", "1234.5"}, randomNumeric(14, 2), 0},
	{"date", "date", true, wantDays, []string{"infinity", "-infinity", "0044-03-15 BC", "0001-01-01", "9999-12-31", "10000-01-01", "5874897-12-31", "4713-01-01 BC", "1970-01-01", "1969-12-31", "2000-02-29", "1900-03-01"}, randomDate, 0},
	{"timestamp", "timestamp", true, wantMicros, timestamps, randomTimestamp, 0},
	{"timestamp(3)", "timestamp", true, wantMicros, []string{"2024-02-29 23:59:59.9996"}, nil, 0},
	{"timestamp", "as timestamp_ntz", true, wantMicros, timestamps, randomTimestamp, 0},
	{"timestamptz", "timestamp", true, wantMicros, timestamps, randomTimestamp, 0},
	{"time", "string", true, wantText, []string{"00:00:00", "24:00:00", "23:59:59.999999", "12:34:56.7", "01:02:03.000004"}, randomTime, 0},
	{"timetz", "string", true, wantText, []string{"00:00:00+00", "24:00:00-15:59:59", "12:34:56.789+05:30", "01:02:03-08", "01:02:03.5+15:59"}, randomTimetz, 0},
	{"interval", "string", true, wantText, []string{"0", "1 year 2 months 3 days 04:05:06.789", "-1 year", "-1 months", "-0.5 seconds", "-1 day +00:00:00.000001", "1 mon -1 day", "178956970 years 7 months", "2147483647 days", "00:01:00", "-00:00:30"}, randomInterval, 0},
	{"interval", "string", true, wantText, []string{"2562047788:00:54.775807", "-2562047788:00:54.775807"}, nil, 15},
	{"interval", "string", true, wantText, []string{"infinity", "-infinity"}, nil, 17},
	{"uuid", "string", true, wantText, []string{"00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}, randomUUID, 0},
	{"text", "string", true, wantText, texts, randomText, 0},
	{"varchar(20)", "string", true, wantText, []string{"", "ümlaut", "a b  "}, randomText, 0},
	{"char(5)", "string", true, wantText, []string{"", "a", "ab  ", "€"}, func(r *rand.Rand) string { return strings.TrimRight(string([]rune(randomText(r) + "     ")[:5]), " ") }, 0},
	{`"char"`, "string", true, wantText, []string{"", "a", `\`}, nil, 0},
	{"name", "string", true, wantText, []string{"", "pg_class", strings.Repeat("x", 63)}, nil, 0},
	{"citext", "string", true, wantText, []string{"", "MiXed"}, nil, 0},
	{"mood", "string", true, wantText, []string{"sad", "it's \"ok\""}, nil, 0},
	{"bytea", "binary", true, "encode(v, 'hex')", []string{"", `\x00ff5c27`}, func(r *rand.Rand) string { return `\x` + hex.EncodeToString([]byte(randomText(r))) }, 0},
	{"json", "string", true, wantText, []string{"null", `{"b" : 1,  "a":[1, 2]}`, `"x\u0041"`}, randomJSON, 0},
	{"jsonb", "string", true, wantText, []string{"null", `{"b" : 1,  "a":[1, 2.50]}`, `"x\u0041 \n"`}, randomJSON, 0},
	{"bit(3)", "string", true, wantText, []string{"101", "000"}, nil, 0},
	{"varbit", "string", true, wantText, []string{"", "1", "101100111000", "11111111"}, func(r *rand.Rand) string { return strconv.FormatUint(r.Uint64()>>r.IntN(64), 2) }, 0},
	{"macaddr", "string", true, wantText, []string{"08:00:2b:01:02:03"}, func(r *rand.Rand) string { return randomUUID(r)[:12] }, 0},
	{"macaddr8", "string", true, wantText, []string{"08:00:2b:01:02:03:04:05"}, nil, 0},
	{"pg_lsn", "string", true, wantText, []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"}, func(r *rand.Rand) string { return fmt.Sprintf("%X/%X", r.Uint32(), r.Uint32()>>r.IntN(32)) }, 0},
	{"hstore", "string", true, "CASE WHEN v = '' THEN '{}' ELSE replace(replace(hstore_to_json(v)::text, '\": ', '\":'), ', \"', ',\"') END", []string{"", `a=>1`, `"k \"1\\"=>"v\n", b=>NULL`, `NULL=>"null"`, "longer=>x, a=>y, bb=>NULL"}, nil, 0},
	{"posint", "integer", true, "v::text", []string{"1", "2147483647"}, nil, 0},
	{"price", "decimal(10,2)", true, wantDecimal(2), []string{"1.5", "-99999999.99"}, nil, 0},
	{"price", "as string", true, wantText, []string{"1.5", "NaN"}, nil, 0},
	{"integer[]", "string", true, wantJSON, []string{"{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={5,6}", "{{{1},{2}},{{3},{NULL}}}"}, randomArray(randomWhole(32)), 0},
	{"smallint[]", "string", true, wantJSON, []string{"{-32768,32767}"}, nil, 0},
	{"bigint[]", "string", true, wantJSON, []string{"{-9223372036854775808,9223372036854775807}"}, randomArray(randomInt), 0},
	{"oid[]", "string", true, "replace(to_json(v)::text, '\"', '')", []string{"{4294967295,0}"}, nil, 0},
	{"boolean[]", "string", true, wantJSON, []string{"{t,f,NULL}"}, nil, 0},
	{"text[]", "string", true, wantJSON, []string{`{a,"b c","",NULL,"NULL","q\"uote","back\\slash","com,ma","cur{ly}","tab	new
line"}`, "{{a,b},{c,NULL}}", "{\"\x01\x1f\b\f\r\",ümlaut}"}, randomArray(randomText), 0},
	{"varchar(5)[]", "string", true, wantJSON, []string{`{a,"b "}`}, randomArray(func(r *rand.Rand) string { return string([]rune(randomText(r) + "abcde")[:5]) }), 0},
	{"char(3)[]", "string", true, wantJSON, []string{`{a,"b "}`}, nil, 0},
	{`"char"[]`, "string", true, wantJSON, []string{`{a,"",",",NULL}`}, nil, 0},
	{"name[]", "string", true, wantJSON, []string{`{a,"b\"c"}`}, nil, 0},
	{"real[]", "string", true, wantJSON, []string{"{1e20,1e6,999999,100000,1.5e-5,0.0001,NaN,Infinity,-Infinity,-0,3.4028235e38,1e-45}"}, randomFloats(32), 0},
	{"double precision[]", "string", true, wantJSON, []string{"{1e20,1e15,999999999999999,1.5e-5,0.0001,NaN,Infinity,-Infinity,-0,1.7976931348623157e308,5e-324}"}, randomFloats(64), 0},
	{"numeric[]", "string", true, wantJSON, []string{"{1.50,NaN,-0.001,Infinity,-Infinity,1e20,NULL}"}, randomArray(randomNumeric(30, 20)), 0},
	{"money[]", "string", true, "replace(replace(replace(to_json(v)::text, '$', ''), '\"', ''), '1,2', '12')", []string{"{-1.5,1234.56,0}"}, nil, 0},
	{"date[]", "string", true, wantJSON, []string{`{infinity,-infinity,2024-02-29,"0044-03-15 BC",5874897-12-31,"4713-01-01 BC"}`}, randomArray(randomDate), 0},
	{"timestamp[]", "string", true, wantJSON, []string{`{infinity,-infinity,"2024-02-29 23:59:59.5","0044-03-15 01:02:03 BC","294276-12-31 23:59:59.999999","4713-01-01 00:00:00 BC",NULL}`}, randomArray(randomTimestamp), 0},
	{"timestamptz[]", "string", true, wantJSON, []string{`{infinity,"2024-02-29 23:59:59.5+02","0044-03-15 01:02:03+00 BC","294276-12-31 23:59:59.999999+00"}`}, randomArray(randomTimestamp), 0},
	{"time[]", "string", true, wantJSON, []string{"{24:00:00,12:34:56.7}"}, randomArray(randomTime), 0},
	{"timetz[]", "string", true, wantJSON, []string{"{24:00:00+05:30,12:34:56.7-08}"}, randomArray(randomTimetz), 0},
	{"interval[]", "string", true, wantJSON, []string{"{1 day,-1 month}"}, randomArray(randomInterval), 0},
	{"uuid[]", "string", true, wantJSON, []string{"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"}, randomArray(randomUUID), 0},
	{"bytea[]", "string", true, wantJSON, []string{`{"\\x00ff",""}`}, nil, 0},
	{"json[]", "string", true, wantJSON, []string{`{"{\"a\" : [1]}","null",NULL}`}, nil, 0},
	{"jsonb[]", "string", true, wantJSON, []string{`{"{\"a\" : [1, \"x\\\\y\"]}","null",NULL}`}, randomArray(randomJSON), 0},
	{"varbit[]", "string", true, wantJSON, []string{"{101,1}"}, nil, 0},
	{"macaddr[]", "string", true, wantJSON, []string{"{08:00:2b:01:02:03}"}, nil, 0},
	{"pg_lsn[]", "string", true, wantJSON, []string{"{16/B374D848}"}, nil, 0},
	{"mood[]", "string", true, wantJSON, []string{`{sad,"it's \"ok\""}`}, nil, 0},
	{"citext[]", "string", true, wantJSON, []string{"{aB}"}, nil, 0},
	{"posint[]", "string", true, wantJSON, []string{"{1,2}"}, nil, 0},
	{"ints", "string", true, wantJSON, []string{"{1,2}", "{}"}, nil, 0},
	{"ints[]", "string", true, wantJSON, []string{`{"{1,2}","{}",NULL,"{NULL,3}"}`}, nil, 0},
	{"words[]", "string", true, wantJSON, []string{`{"{\"a \\\"b\",NULL}"}`}, nil, 0},
	{"hstore[]", "string", true, `'[{"a":"1"},null]'`, []string{`{"a=>1",NULL}`}, nil, 0},
	{"inet", "string", false, wantText, []string{"10.0.0.1", "10.0.0.0/8", "::1", "::ffff:1.2.3.4/128"}, nil, 0},
	{"cidr", "string", false, wantText, []string{"10.0.0.0/8", "::/0"}, nil, 0},
	{"inet[]", "string", false, wantJSON, []string{"{10.0.0.1,::1/64}"}, nil, 0},
	{"xml", "string", false, wantText, []string{"<a/>", `<?xml version="1.0" encoding="UTF-8"?><a>ü</a>`}, nil, 0},
	{"int4range", "string", false, wantText, []string{"empty", "[1,5)", "(,)"}, nil, 0},
	{"tstzrange", "string", false, wantText, []string{"[2024-01-01 00:00+00,infinity)"}, nil, 0},
	{"int4multirange", "string", false, wantText, []string{"{}", "{[1,5),[7,8)}"}, nil, 0},
	{"int4range[]", "string", false, `array_to_json(v::text[])::text`, []string{`{"[1,5)",empty}`}, nil, 0},
	{"point", "string", false, wantText, []string{"(1.5,-2)"}, nil, 0},
	{"box", "string", false, wantText, []string{"(1,2),(3,4)"}, nil, 0},
	{"box[]", "string", false, `'["(3,4),(1,2)","(1,1),(0,0)"]'`, []string{"{(1,2),(3,4);(0,0),(1,1)}"}, nil, 0},
	{"polygon", "string", false, wantText, []string{"((0,0),(1,1),(1,0))"}, nil, 0},
	{"tsvector", "string", false, wantText, []string{"'a' 'b':1A"}, nil, 0},
	{"pair", "string", false, wantText, []string{`(1,"a b")`, "(,)", `(2,"q""x")`}, nil, 0},
	{"pair[]", "string", false, `array_to_json(v::text[])::text`, []string{`{"(1,\"a b\")",NULL,"(,)"}`}, nil, 0},
	{"regclass", "string", false, wantText, []string{"pg_class", "0"}, nil, 0},
	{"int2vector", "string", false, wantText, []string{"1 2 3", ""}, nil, 0},
	{"xid8", "string", false, wantText, []string{"18446744073709551615"}, nil, 0},
}

var (
	floats     = []string{"0", "-0", "1", "-1.5", "NaN", "Infinity", "-Infinity", "3.4028234e38", "1e-45", "1.17549435e-38", "123456.789", "0.1"}
	timestamps = []string{"infinity", "-infinity", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "10000-01-01 00:00:00", "294276-12-31 23:59:59.999999",
		"4713-01-01 00:00:00 BC", "1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "0044-03-15 12:34:56.5 BC"}
	texts = []string{"", "NULL", `\N`, "ünïcödé 🙂", "tab\tnewline\n", `quote"'`, strings.Repeat("long", 3000)}
)

func randomInt(r *rand.Rand) string { return strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10) }

func randomFloat(bits int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		f := (r.Float64() - 0.5) * pow(10, r.IntN(60)-30)
		return strconv.FormatFloat(f, 'g', 1+r.IntN(17), bits)
	}
}

func pow(base float64, exp int) float64 {
	p := 1.0
	for range max(exp, -exp) {
		p *= base
	}
	if exp < 0 {
		return 1 / p
	}
	return p
}

func randomFloats(bits int) func(*rand.Rand) string {
	one := randomFloat(bits)
	return func(r *rand.Rand) string { return "{" + one(r) + "," + one(r) + "}" }
}

func randomNumeric(whole, scale int) func(*rand.Rand) string {
	digits := func(r *rand.Rand, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0000123456789"[r.IntN(13)]
		}
		return string(b)
	}
	return func(r *rand.Rand) string {
		return []string{"", "-"}[r.IntN(2)] + "0" + digits(r, r.IntN(whole+1)) + "." + digits(r, r.IntN(scale+1)) + "0"
	}
}

func randomDate(r *rand.Rand) string {
	return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(12000), 1+r.IntN(12), 1+r.IntN(28))
}

func randomTimestamp(r *rand.Rand) string {
	return fmt.Sprintf("%s %02d:%02d:%02d.%06d", randomDate(r), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1_000_000))
}

func randomInterval(r *rand.Rand) string {
	sign := []string{"", "-"}[r.IntN(2)]
	return fmt.Sprintf("%d months %d days %s%d:%02d:%02d.%06d", r.IntN(2001)-1000, r.IntN(2001)-1000, sign, r.IntN(1_000_000), r.IntN(60), r.IntN(60), r.IntN(1_000_000))
}

func randomWhole(bits int) func(*rand.Rand) string {
	return func(r *rand.Rand) string { return strconv.FormatInt(int64(r.Uint64())>>(64-bits+r.IntN(bits)), 10) }
}

func randomTime(r *rand.Rand) string {
	return fmt.Sprintf("%02d:%02d:%02d.%06d", r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1_000_000))
}

func randomTimetz(r *rand.Rand) string {
	return fmt.Sprintf("%s%+03d:%02d:%02d", randomTime(r), r.IntN(31)-15, r.IntN(60), r.IntN(60))
}

func randomUUID(r *rand.Rand) string { return fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()) }

// randomText has what has to be escaped somewhere, but no NUL, which PostgreSQL
// doesn't store.
func randomText(r *rand.Rand) string {
	letters := []rune("ab \t\n\r\b\f\v\x01\x1f\x7f'\"\\,{}[]()<>&/äß€\u2028🙂NULnul01")
	out := make([]rune, r.IntN(20))
	for i := range out {
		out[i] = letters[r.IntN(len(letters))]
	}
	return string(out)
}

func randomJSON(r *rand.Rand) string {
	out, err := json.Marshal(map[string]any{randomText(r): []any{randomText(r), r.Float64(), nil, r.IntN(2) == 0}, "n": r.Int64()})
	if err != nil {
		panic(err)
	}
	return string(out)
}

// randomArray has up to three elements of one dimension, NULLs among them.
func randomArray(element func(*rand.Rand) string) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		out := make([]string, r.IntN(4))
		for i := range out {
			if out[i] = "NULL"; r.IntN(5) > 0 {
				out[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(element(r)) + `"`
			}
		}
		return "{" + strings.Join(out, ",") + "}"
	}
}

// name is the type, and what was chosen for it.
func (c *typeCase) name() string {
	if as, chosen := strings.CutPrefix(c.mirror, "as "); chosen {
		return c.typ + " as " + as
	}
	return c.typ
}

// choose gives column v the type that the case chooses, as configured.
func (c *typeCase) choose(tab *postgres.Table) {
	as, chosen := strings.CutPrefix(c.mirror, "as ")
	if !chosen {
		return
	}
	become := batch.Type{Kind: batch.String}
	if n, _ := fmt.Sscanf(as, "decimal(%d,%d)", &become.Precision, &become.Scale); n == 2 {
		become.Kind = batch.Decimal
	}
	postgres.Choices{NTZ: as == "timestamp_ntz", Numeric: func(schema, table, column string) (batch.Type, bool) {
		return become, schema == "public" && table == tab.Name && column == "v"
	}}.Apply(tab)
}

func (c *typeCase) all() []string {
	values := append([]string(nil), c.values...)
	if c.random == nil {
		return values
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		values = append(values, c.random(r))
	}
	return values
}

func TestTypesAgree(t *testing.T) {
	e := database(t, "")
	run(t, e, `CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"'); CREATE TYPE pair AS (n int, s text);
		CREATE DOMAIN posint AS int CHECK (value > 0); CREATE DOMAIN base_price AS numeric(10,2); CREATE DOMAIN price AS base_price;
		CREATE DOMAIN ints AS int[]; CREATE DOMAIN words AS text[]; CREATE PUBLICATION pub_text; CREATE PUBLICATION pub_binary`)
	known := func(c typeCase) bool { return c.since <= cluster(t).Version }
	for i, c := range typeCases {
		if !known(c) {
			continue
		}
		run(t, e, fmt.Sprintf("CREATE TABLE t%d (id int PRIMARY KEY, v %s)", i, c.typ), fmt.Sprintf("ALTER PUBLICATION pub_text ADD TABLE t%d", i))
		if c.binary {
			run(t, e, fmt.Sprintf("ALTER PUBLICATION pub_binary ADD TABLE t%d", i))
		}
	}
	newSlot(t, e, "types_text")
	newSlot(t, e, "types_binary")
	conn := connect(t, e)
	for i, c := range typeCases {
		if known(c) {
			insertValues(t, conn, i, c)
		}
	}
	run(t, e, "SELECT pg_logical_emit_message(false, 'end', '')")

	choose := func(tab *postgres.Table) {
		i, err := strconv.Atoi(strings.TrimPrefix(tab.Name, "t"))
		if err != nil {
			t.Fatal(err)
		}
		typeCases[i].choose(tab)
	}
	asText := streamAll(t, e, "types_text", "pub_text", false, choose)
	asBinary := streamAll(t, e, "types_binary", "pub_binary", true, choose)
	var rows []*typeRow
	ran := 0
	for i, c := range typeCases {
		if len(rows) == 0 || rows[len(rows)-1].typ != c.name() {
			rows = append(rows, &typeRow{typ: c.name()})
		}
		row := rows[len(rows)-1]
		t.Run(c.name(), func(t *testing.T) {
			ran++
			if !known(c) {
				row.later = fmt.Sprintf("from PostgreSQL %d on also `%s`", c.since, strings.Join(c.values, "`, `"))
				t.Skipf("PostgreSQL knows it from version %d on", c.since)
			}
			tab := table(t, e, fmt.Sprintf("t%d", i))
			c.choose(tab)
			if got := tab.MirrorSchema().Fields[1].Type.String(); got != strings.TrimPrefix(c.mirror, "as ") {
				t.Errorf("becomes %s, want %s", got, c.mirror)
			}
			if got := decoder(t, tab).Binary(); got != c.binary {
				t.Errorf("binary %t, want %t", got, c.binary)
			}
			want := sqlValues(t, conn, i, c)
			copied := byID(copyAll(t, e, tab))
			same(t, "COPY and SQL", values(copied), want)
			same(t, "text stream and SQL", values(asText[tab.OID]), want)
			sameFile(t, "text stream", asText[tab.OID], copied)
			if c.binary {
				same(t, "binary stream and SQL", values(asBinary[tab.OID]), want)
				sameFile(t, "binary stream", asBinary[tab.OID], copied)
			}
			row.prove(c, tab, copied, c.binary)
		})
	}
	if cluster(t).Version == typesVersion && ran == len(typeCases) {
		checkTypesPage(t, rows)
	}
}

func insertValues(t *testing.T, conn *pgx.Conn, i int, c typeCase) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO t%d VALUES (0, NULL)", i)
	for n, v := range c.all() {
		fmt.Fprintf(&b, ", (%d, '%s')", n+1, strings.ReplaceAll(v, "'", "''"))
	}
	if _, err := conn.PgConn().Exec(context.Background(), b.String()).ReadAll(); err != nil {
		t.Fatalf("%s: %v", c.typ, err)
	}
}

// sqlValues is what SQL says the values are, NULL as "<null>".
func sqlValues(t *testing.T, conn *pgx.Conn, i int, c typeCase) []string {
	t.Helper()
	rows, err := conn.Query(context.Background(), fmt.Sprintf("SELECT CASE WHEN num_nulls(v) = 0 THEN %s ELSE '<null>' END FROM t%d ORDER BY id", c.want, i))
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		switch c.typ {
		case "real", "real[]":
			out[i] = shortest(out[i], 32)
		case "double precision", "double precision[]":
			out[i] = shortest(out[i], 64)
		}
	}
	return out
}

var number = regexp.MustCompile(`-?[0-9][0-9.]*e?[-+0-9]*`)

// shortest writes numbers with the fewest digits that read back equal, keeping
// the exponent as it is: PostgreSQL writes a digit more when the shorter one lies
// exactly between two numbers.
func shortest(s string, bits int) string {
	if !strings.HasPrefix(s, "[") {
		if f, err := strconv.ParseFloat(s, bits); err == nil {
			return strconv.FormatFloat(f, 'g', -1, bits)
		}
	}
	return number.ReplaceAllStringFunc(s, func(n string) string {
		f, err := strconv.ParseFloat(n, bits)
		if err != nil || !strings.Contains(n, "e") {
			return n
		}
		return strconv.FormatFloat(f, 'e', -1, bits)
	})
}

// values shows column v of every row, with the standard library only.
func values(b *batch.Batch) []string {
	if b == nil {
		return nil
	}
	c := &b.Cols[1]
	out := make([]string, b.Rows())
	for i := range out {
		switch {
		case c.Def[i] == batch.Null:
			out[i] = "<null>"
		case c.Type.Storage() == batch.Store32:
			out[i] = strconv.Itoa(int(c.I32[i]))
		case c.Type.Storage() == batch.Store64:
			out[i] = strconv.FormatInt(c.I64[i], 10)
		case c.Type.Storage() == batch.Store128:
			out[i] = c.I128[i].Big().String()
		case c.Type.Storage() == batch.StoreFloat32:
			out[i] = strconv.FormatFloat(float64(c.F32[i]), 'g', -1, 32)
		case c.Type.Storage() == batch.StoreFloat64:
			out[i] = strconv.FormatFloat(c.F64[i], 'g', -1, 64)
		case c.Type.Kind == batch.Binary:
			out[i] = hex.EncodeToString(c.Value(i))
		default:
			out[i] = string(c.Value(i))
		}
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s, row %d: got %.200q, want %.200q", what, i, got[i], want[i])
		}
	}
}

// byID brings the rows, which lie in the table in any order, into that in which they
// were inserted.
func byID(b *batch.Batch) *batch.Batch {
	rows := make([]int32, b.Rows())
	for i, id := range b.Cols[0].I32 {
		rows[id] = int32(i)
	}
	return b.Select(rows)
}

// sameFile holds that the rows of the stream become the very bytes that those of a
// snapshot become.
func sameFile(t *testing.T, what string, streamed, copied *batch.Batch) {
	t.Helper()
	var got, want bytes.Buffer
	for _, f := range []struct {
		to   *bytes.Buffer
		rows *batch.Batch
	}{{&got, streamed}, {&want, copied}} {
		if err := parquet.Write(f.to, f.rows, nil); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%s: its file differs from that of a snapshot", what)
	}
}

// streamAll reads a slot up to the message "end", all inserts by table.
func streamAll(t testing.TB, e postgres.Endpoint, slot, publication string, binary bool, choose ...func(*postgres.Table)) map[uint32]*batch.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	tables, err := postgres.PublishedTables(ctx, connect(t, e), []string{publication})
	if err != nil {
		t.Fatal(err)
	}
	out := map[uint32]*batch.Batch{}
	decoders := map[uint32]*postgres.Decoder{}
	for i := range tables {
		for _, c := range choose {
			c(&tables[i])
		}
		out[tables[i].OID] = batch.New(tables[i].MirrorSchema(), false)
		decoders[tables[i].OID] = decoder(t, &tables[i])
	}
	s, err := postgres.StartStream(ctx, e, postgres.StreamOptions{Slot: slot, Publications: []string{publication}, Binary: binary})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx)
	for {
		ev, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind != postgres.EventMessage {
			continue
		}
		switch m := ev.Msg; m.Kind {
		case pgoutput.Insert:
			if err := decoders[m.RelationID].AppendTuple(out[m.RelationID], m.New); err != nil {
				t.Fatal(err)
			}
			out[m.RelationID].EndRow()
		case pgoutput.Logical:
			if string(m.Prefix) == "end" {
				return out
			}
		}
	}
}

// A value that the mirror's type can't hold is a ValueError in every format.
func TestValuesThatDoNotFit(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE n (id int PRIMARY KEY, v numeric(5,2)); INSERT INTO n VALUES (1, 'NaN')", "CREATE TABLE d (id date PRIMARY KEY); INSERT INTO d VALUES ('infinity')")
	for _, name := range []string{"n", "d"} {
		tab := table(t, e, name)
		r, err := postgres.OpenSnapshot(t.Context(), e, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		b := batch.New(tab.MirrorSchema(), false)
		err = r.CopyChunk(t.Context(), tab, decoder(t, tab), 0, 1, b, nil)
		var want *postgres.ValueError
		if !asValueError(err, &want) || b.Rows() != 0 || b.Cols[0].Rows() != 0 {
			t.Errorf("%s: got %v with %d rows, want a ValueError", name, err, b.Rows())
		}
		r.Close(t.Context())
	}
}

// Changed values are counted.
func TestChangesAreCounted(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE d (id int PRIMARY KEY, v date, w timestamp); INSERT INTO d VALUES (1, 'infinity', '2024-01-01'), (2, '0044-01-01 BC', '-infinity'), (3, now(), now())")
	tab := table(t, e, "d")
	d := decoder(t, tab)
	r, err := postgres.OpenSnapshot(t.Context(), e, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context())
	if err := r.CopyChunk(t.Context(), tab, d, 0, 1, batch.New(tab.MirrorSchema(), false), nil); err != nil {
		t.Fatal(err)
	}
	const loss = "infinity and years outside 1 to 9999 become the nearest value that fits"
	for _, want := range []string{"[{v 2 " + loss + "} {w 1 taken as UTC; " + loss + "}]", "[]"} {
		if got := fmt.Sprint(d.TakeChanges()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A database of no known encoding may hold any bytes; the mirror holds UTF-8.
func TestSQLASCII(t *testing.T) {
	e := database(t, "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	run(t, e, "CREATE TABLE s (id int PRIMARY KEY, v text, a text[])", `INSERT INTO s VALUES (1, E'a\xff\xfeb', ARRAY[E'\xe9']), (2, 'good ü', '{}')`)
	tab := table(t, e, "s")
	b := copyAll(t, e, tab)
	same(t, "COPY", values(b), []string{"a\uFFFDb", "good ü"})
	if got, want := b.Cols[2].Value(0), []byte("[\"\uFFFD\"]"); !bytes.Equal(got, want) {
		t.Errorf("array: got %q, want %q", got, want)
	}
}

// What a server converts from its encoding, or sends though it is of none, is the
// same in a copy and in a stream in text, which such types have to be read as.
func TestEncodings(t *testing.T) {
	raw := func(before15, since15 string) string {
		if cluster(t).Version < 15 {
			return before15
		}
		return since15
	}
	for encoding, cases := range map[string][]struct{ typ, value, want string }{
		"UTF8": {
			{"pc", `ROW((-23)::"char")::pc`, raw("(\uFFFD)", `("\\351")`)},
			{"dpc[]", `ARRAY[ROW((-23)::"char")::pc::dpc]`, raw("[\"(\uFFFD)\"]", `["(\"\\\\351\")"]`)},
		},
		"LATIN1": {
			{"hstore", "'é=>é'", `{"é":"é"}`}, {"hstore[]", "ARRAY['é=>NULL'::hstore]", `[{"é":null}]`},
			{`"char"`, `(-23)::"char"`, raw("é", `\351`)}, {`"char"[]`, `ARRAY[(-23)::"char"]`, raw(`["é"]`, `["\\351"]`)}, {"pc", `ROW((-23)::"char")::pc`, raw("(é)", `("\\351")`)},
		},
	} {
		t.Run(encoding, func(t *testing.T) {
			e := database(t, "ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
			run(t, e, `CREATE EXTENSION hstore; CREATE TYPE pc AS (c "char"); CREATE DOMAIN dpc AS pc; CREATE PUBLICATION p FOR ALL TABLES`)
			newSlot(t, e, "encoding_"+strings.ToLower(encoding))
			for i, c := range cases {
				run(t, e, fmt.Sprintf("CREATE TABLE t%d (id int PRIMARY KEY, v %s); INSERT INTO t%d VALUES (0, %s)", i, c.typ, i, c.value))
			}
			run(t, e, "SELECT pg_logical_emit_message(false, 'end', '')")
			streamed := streamAll(t, e, "encoding_"+strings.ToLower(encoding), "p", false)
			for i, c := range cases {
				tab := table(t, e, fmt.Sprintf("t%d", i))
				if decoder(t, tab).Binary() {
					t.Errorf("%s is read in binary", c.typ)
				}
				same(t, c.typ+" copied", values(copyAll(t, e, tab)), []string{c.want})
				same(t, c.typ+" streamed", values(streamed[tab.OID]), []string{c.want})
			}
		})
	}
}

// Somebody's own types are read as their own text, though their output functions
// are named as those that we know.
func TestOwnOutputFunctions(t *testing.T) {
	e := database(t, "")
	for _, name := range []string{"hstore_out", "citextout", "array_out"} {
		run(t, e, strings.ReplaceAll(`CREATE TYPE of_NAME; CREATE FUNCTION in_NAME(cstring) RETURNS of_NAME LANGUAGE internal IMMUTABLE STRICT AS 'byteain';
			CREATE FUNCTION NAME(of_NAME) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'byteaout'; CREATE FUNCTION send_NAME(of_NAME) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
			CREATE TYPE of_NAME (INPUT = in_NAME, OUTPUT = NAME, SEND = send_NAME, ELEMENT = int4, SUBSCRIPT = raw_array_subscript_handler);
			CREATE TABLE t_NAME (id int PRIMARY KEY, v of_NAME); INSERT INTO t_NAME VALUES (0, '\x00ff')`, "NAME", name))
		same(t, name, values(copyAll(t, e, table(t, e, "t_"+name))), []string{`\x00ff`})
	}
}

// Unscaled values beyond 64 bits come back as they are.
func TestDecimalWords(t *testing.T) {
	e := database(t, "")
	n, _ := new(big.Int).SetString("-99999999999999999999999999999999999999", 10)
	run(t, e, "CREATE TABLE w (id int PRIMARY KEY, v numeric(38,0)); INSERT INTO w VALUES (1, "+n.String()+")")
	if got := copyAll(t, e, table(t, e, "w")).Cols[1].I128[0].Big(); got.Cmp(n) != 0 {
		t.Errorf("got %s, want %s", got, n)
	}
}
