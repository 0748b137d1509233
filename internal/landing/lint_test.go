package landing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	arrow "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// rawColumn is a column of a Parquet file as any publisher may write it.
type rawColumn struct {
	node   schema.Node
	values any
	def    []int16 // nil: no NULL
}

var optional, required = arrow.Repetitions.Optional, arrow.Repetitions.Required

var more = rawColumn{schema.NewInt64Node("more", required, -1), []int64{1}, nil}

func ids(v ...int64) rawColumn {
	return rawColumn{schema.NewInt64Node("id", optional, -1), v, nil}
}

func markers(v ...int32) rawColumn {
	return rawColumn{schema.NewInt32Node(parquet.MarkerColumn, optional, -1), v, nil}
}

func text(name string, v ...string) rawColumn {
	n, err := schema.NewPrimitiveNodeLogical(name, optional, schema.StringLogicalType{}, arrow.Types.ByteArray, 0, -1)
	if err != nil {
		panic(err)
	}
	values := make([]arrow.ByteArray, len(v))
	for i := range v {
		values[i] = arrow.ByteArray(v[i])
	}
	return rawColumn{n, values, nil}
}

func timestamps(t schema.LogicalType) rawColumn {
	n, err := schema.NewPrimitiveNodeLogical("at", optional, t, arrow.Types.Int64, 0, -1)
	if err != nil {
		panic(err)
	}
	return rawColumn{n, []int64{1}, nil}
}

func raw(t *testing.T, cols ...rawColumn) []byte {
	return rawCompressed(t, compress.Codecs.Snappy, cols...)
}

func rawCompressed(t *testing.T, codec compress.Compression, cols ...rawColumn) []byte {
	t.Helper()
	var fields schema.FieldList
	for _, c := range cols {
		fields = append(fields, c.node)
	}
	root, err := schema.NewGroupNode("schema", required, fields, -1)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := file.NewParquetWriter(&buf, root, file.WithWriterProps(arrow.NewWriterProperties(arrow.WithCompression(codec))))
	rg, err := w.AppendRowGroupChecked()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cols {
		cw, err := rg.NextColumn()
		if err != nil {
			t.Fatal(err)
		}
		if err := writeRaw(cw, c); err != nil {
			t.Fatal(err)
		}
		if err := cw.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func writeRaw(cw file.ColumnChunkWriter, c rawColumn) (err error) {
	levels := func(n int) []int16 {
		if c.def != nil || c.node.RepetitionType() == required {
			return c.def
		}
		return slices.Repeat([]int16{1}, n)
	}
	switch w := cw.(type) {
	case *file.Int32ColumnChunkWriter:
		v := c.values.([]int32)
		_, err = w.WriteBatch(v, levels(len(v)), nil)
	case *file.Int64ColumnChunkWriter:
		v := c.values.([]int64)
		_, err = w.WriteBatch(v, levels(len(v)), nil)
	case *file.ByteArrayColumnChunkWriter:
		v := c.values.([]arrow.ByteArray)
		_, err = w.WriteBatch(v, levels(len(v)), nil)
	default:
		err = fmt.Errorf("no values for %T", cw)
	}
	return err
}

const (
	first  = "00000000000000000001.parquet"
	second = "00000000000000000002.parquet"
	third  = "00000000000000000003.parquet"
	table  = "public.schema/orders/"
	keyed  = `{"keyColumns":["id"]}`

	firstText  = "00000000000000000001.csv"
	secondText = "00000000000000000002.csv"
	textMeta   = `{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv","SchemaDefinition":{"Columns":[` +
		`{"Name":"id","DataType":"Int16","IsNullable":false},{"Name":"name","DataType":"String"},{"Name":"n","DataType":"Double"},{"Name":"__rowMarker__","DataType":"Int32"}]}}`
)

// soundZone is a landing zone without a fault: a snapshot and changes, and a
// table in the root that was processed.
func soundZone(t *testing.T) map[string][]byte {
	return map[string][]byte{
		"_partnerEvents.json":                  []byte(`{"partnerName":"p","sourceInfo":{"sourceType":"PostgreSQL","sourceVersion":"17","additionalInformation":{}}}`),
		"_pgmirror/state.json":                 []byte("{}"),
		table + "_metadata.json":               []byte(`{"keyColumns":["id"],"fileDetectionStrategy":"SequentialFileName","isUpsertDefaultRowMarker":false}`),
		table + first:                          raw(t, ids(1, 2), text("name", "a", "b")),
		table + second:                         raw(t, ids(1, 2), text("name", "a", ""), timestamps(schema.NewTimestampLogicalType(true, schema.TimeUnitMicros)).rows(2), markers(4, 2)),
		table + "_upload.parquet":              nil, // of a publisher that is writing it
		"loose/_metadata.json":                 []byte(keyed),
		"loose/_ProcessedFiles/" + first:       raw(t, ids(1)),
		"loose/_FilesReadyToDelete/" + second:  raw(t, ids(1)),
		"loose/" + third:                       raw(t, ids(1), markers(4)),
		"loose/00000000000000000004.parquet":   raw(t, ids(), markers()),
		"loose/00000000000000000005.parquet":   raw(t, ids(1), text("a", "x"), text("b", "x"), markers(4)),
		"loose/00000000000000000006.parquet":   raw(t, ids(1), text("a", "x"), text("new", "x"), text("b", "x"), markers(4)),
		"loose/00000000000000000007.parquet":   raw(t, ids(1), markers(2)),
		"loose/00000000000000000008.parquet":   raw(t, ids(1), text("a", "x"), text("new", "x"), text("b", "x"), markers(4)),
		"parts/_metadata.json":                 []byte(`{"keyColumns":["id"],"isPartitionEnabled":"true"}`),
		"parts/region=north/" + first:          raw(t, ids(1)),
		"parts/region=south/" + first:          raw(t, ids(1)),
		"any/_metadata.json":                   []byte(`{"KeyColumns":["id"],"fileDetectionStrategy":"LastUpdateTimeFileDetection"}`),
		"any/whatever.parquet":                 raw(t, ids(1), markers(1)),
		"csv/_metadata.json":                   []byte(`{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv","SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int32","IsNullable":false}]},"FileFormatTypeProperties":{"FirstRowAsHeader":true,"QuoteCharacter":"'","Encoding":"UTF-8"}}`),
		"csv/00000000000000000001.csv":         []byte("id\r\n1\r\n"),
		"text/_metadata.json":                  []byte(textMeta),
		"text/" + firstText:                    []byte("\ufeffid,name,n,__rowMarker__\r\n1,\"a,\\\"\r\n\",-1.5,4\r\n\"2\",,,2"),
		"gz.schema/t/_metadata.json":           []byte(`{}`),
		"gz.schema/t/" + first:                 rawCompressed(t, compress.Codecs.Gzip, ids(1)),
		"gz.schema/t/" + second:                rawCompressed(t, compress.Codecs.Zstd, ids(1)),
		"gz.schema/t/" + third:                 rawCompressed(t, compress.Codecs.Uncompressed, ids(1)),
		"gz.schema/t/_scratchPad/half.parquet": []byte("PAR1"),
	}
}

// rows repeats a column's value.
func (c rawColumn) rows(n int) rawColumn {
	c.values = slices.Repeat(c.values.([]int64), n)
	return c
}

// zoneOf writes files without syncing them, which takes the time that these
// tests take.
func zoneOf(t *testing.T, files map[string][]byte) store.Store {
	t.Helper()
	root := t.TempDir()
	for name, body := range files {
		name = filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lint puts files into a zone and looks at it. A nil body is an empty file.
func lint(t *testing.T, files map[string][]byte, limit func(*linter)) (found []Finding, looked Linted) {
	t.Helper()
	s := zoneOf(t, files)
	l := newLinter(s, "dbo", func(f Finding) { found = append(found, f) })
	if limit != nil {
		limit(l)
	}
	if err := l.zone(t.Context()); err != nil {
		t.Fatal(err)
	}
	return found, l.linted
}

func TestLintFindsNothing(t *testing.T) {
	found, looked := lint(t, soundZone(t), nil)
	if len(found) > 0 {
		t.Errorf("got %v, want nothing", found)
	}
	if want := (Linted{Tables: 7, Files: 16, Rows: 18}); looked != want {
		t.Errorf("looked at %+v, want %+v", looked, want)
	}
}

// Nothing is found either of what only just keeps the rules.
func TestLintAtItsLimits(t *testing.T) {
	files := soundZone(t)
	for name, body := range map[string][]byte{
		"other.schema/orders/_metadata.json": []byte(keyed), // a name that another schema has
		"other.schema/orders/" + first:       raw(t, ids(1)),
		"any/another.parquet":                raw(t, ids(1), markers(1)),
		"ups/_metadata.json":                 []byte(`{"keyColumns":["a","b","c","d"],"isUpsertDefaultRowMarker":true}`),
		"ups/" + first:                       raw(t, text("a", "x"), text("b", "x"), text("c", "x"), text("d", "x"), markers(4)),
		"ups/" + second:                      raw(t, text("a", "12345"), text("b", "x"), text("c", "x"), text("d", "x")),
		"ups/_left.parquet":                  nil,
		"gone/_metadata.json":                []byte(keyed), // deletes need no more than the key
		"gone/" + first:                      raw(t, ids(1), markers(2)),
		"gone/" + second:                     raw(t, ids(1), more, markers(4)),
		"gone/" + third:                      raw(t, ids(1), markers(2)),
		"lost/_metadata.json":                []byte(strings.Replace(textMeta, `"String"`, `"String","IsNullable":false`, 1)),
		"lost/" + firstText:                  []byte("id,name,n,__rowMarker__\r\n1,,x,2\r\n2,abcdef,,2"),
	} {
		files[name] = body
	}
	var l *linter
	limits := func(to *linter) {
		to.s = apart{to.s, to.now.Add(-day)}
		to.maxTables, to.maxRows, to.maxString, to.maxFiles = 11, 2, 5, 6
		if l != nil {
			to.maxToday = l.today
		}
		l = to
	}
	for range 2 { // the second time it knows the day's bytes
		if found, looked := lint(t, files, limits); len(found) > 0 {
			t.Errorf("got %v in %+v, want nothing", found, looked)
		}
	}
}

// apart is a store whose files were changed a moment after each other.
type apart struct {
	store.Store
	at time.Time
}

func (s apart) List(ctx context.Context, dir string) ([]store.Info, error) {
	list, err := s.Store.List(ctx, dir)
	for i := range list {
		list[i].Modified = s.at.Add(time.Duration(i+1) * time.Nanosecond)
	}
	return list, err
}

// change is how a sound zone is spoilt: files that are put in, or with nil taken
// out, or limits that are narrowed.
type change struct {
	files map[string][]byte
	out   []string
	limit func(*linter)
	path  string // of the finding; "": the one file that was put in
	also  []string
}

func provoked(t *testing.T) map[string][]change {
	put := func(name string, body []byte) change { return change{files: map[string][]byte{name: body}} }
	meta := func(s string) change { return put(table+"_metadata.json", []byte(s)) }
	twin := func(dir, other string) change {
		return change{files: map[string][]byte{dir + "/_metadata.json": []byte(keyed), dir + "/" + first: raw(t, ids(1))}, path: max(dir, other)}
	}
	csv := func(s string) change {
		return put("csv/_metadata.json", []byte(`{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv",`+s+`}`))
	}
	lines := func(rows string, also ...string) change {
		return change{files: map[string][]byte{"text/" + secondText: []byte("id,name,n,__rowMarker__\r\n" + rows)}, also: also}
	}
	headed := func(s string, also ...string) change {
		return change{files: map[string][]byte{"text/" + secondText: []byte(s)}, also: also}
	}
	data := func(cols ...rawColumn) change { return put(table+third, raw(t, cols...)) }
	named := func(name string) rawColumn { return text(name, "x") }
	nested := func() rawColumn {
		return rawColumn{schema.NewInt32Node("list", arrow.Repetitions.Repeated, -1), []int32{}, nil}
	}
	zeroth := func(n schema.Node) rawColumn { return rawColumn{n, []int64{0}, []int16{0}} }
	torn := raw(t, ids(1))
	body := raw(t, ids(1, 2), markers(4, 4))
	wide := `{"keyColumns":["a","b","c","d","e"]}`
	return map[string][]change{
		PartnerEventsMissing: {{out: []string{"_partnerEvents.json"}, path: "_partnerEvents.json"}},
		PartnerEventsInvalid: {put("_partnerEvents.json", []byte("{")), put("_partnerEvents.json", []byte(`{"sourceInfo":{"sourceType":"x"}}`)), put("_partnerEvents.json", []byte(`{"partnerName":"x"}`))},
		TablesTooMany:        {{limit: func(l *linter) { l.maxTables = 5 }}},
		ChangesTooMany:       {{limit: func(l *linter) { l.maxToday = 10 }}, {files: map[string][]byte{"big/_metadata.json": []byte(keyed), "big/_ProcessedFiles/" + first: make([]byte, 1<<20)}, limit: func(l *linter) { l.maxToday = 1 << 20 }}},
		NameStray: {put("readme.txt", nil), put("public.schema/readme.txt", nil), put(table+"readme.txt", nil),
			{files: map[string][]byte{table + "2026/a.parquet": nil}, path: table + "2026"}, {files: map[string][]byte{"parts/region=north/old/a.parquet": nil}, path: "parts/region=north/old"}},
		TableTwice:         {twin("Loose", "loose"), twin("dbo.schema/loose", "loose"), twin("DBO.schema/Loose", "loose"), twin("public.schema/Orders", "public.schema/orders")},
		TableEmpty:         {{files: map[string][]byte{"empty/_metadata.json": []byte(keyed)}, path: "empty"}},
		MetadataMissing:    {{out: []string{"gz.schema/t/_metadata.json"}, path: "gz.schema/t/_metadata.json"}},
		MetadataUnreadable: {meta(`{"keyColumns":["id"]`), meta(""), meta(`{"keyColumns":["id"],"fileDetectionStrategy":7}`)},
		MetadataKeyUnknown: {meta(`{"keyColumns":["id"],"keyColums":[]}`),
			csv(`"SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int32"}],"Keys":[]}`),
			csv(`"SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int32","Nullable":true}]}`),
			csv(`"FileFormatTypeProperties":{"firstRowAsHeader":true,"ColumnSeperator":","}`),
		},
		MetadataKeyTwice: {meta(`{"keyColumns":["id"],"KeyColumns":["id"]}`), csv(`"FileFormatTypeProperties":{"columnSeparator":",","ColumnSeparator":";"}`)},
		UpsertNameWrong:  {meta(`{"keyColumns":["id"],"isUpsertDefaultMode":true}`)},
		StrategyUnknown:  {meta(`{"keyColumns":["id"],"fileDetectionStrategy":"LastUpdate"}`)},
		DelimitedTextInvalid: {
			put("csv/_metadata.json", []byte(`{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv","SchemaDefinition":{"Columns":[{"Name":"p","DataType":"Decimal"}]}}`)),
			put("csv/_metadata.json", []byte(`{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv","FileFormatTypeProperties":{"FirstRowAsHeader":false}}`)),
			put("csv/_metadata.json", []byte(`{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv","FileFormatTypeProperties":{"ColumnSeparator":"~"}}`)),
			csv(`"SchemaDefinition":{"Columns":[{"Name":"number","DataType":"Int32"}]}`),
			csv(`"SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int32"},{"DataType":"Int32"}]}`),
			csv(`"SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int32"},{"Name":"id","DataType":"Int64"}]}`),
			csv(`"FileFormatTypeProperties":{"encoding":"EBCDIC"}`),
			csv(`"fileformattypeproperties":{"columnseparator":"~"}`),
			put("csv/_metadata.json", []byte(`{"keyColumns":["id"],"FileFormat":"Tab","FileExtension":"csv"}`)),
			{files: map[string][]byte{"new/_metadata.json": []byte(`{"keyColumns":["id"],"FileFormat":"DelimitedText"}`), "new/" + first: []byte("id\n")}, path: "new/_metadata.json"},
		},
		KeyColumnsInvalid: {meta(`{"keyColumns":["id","id"]}`), meta(`{"keyColumns":["id",""]}`)},
		KeyColumnsTooMany: {{files: map[string][]byte{"wide/_metadata.json": []byte(wide), "wide/" + first: raw(t, named("a"), named("b"), named("c"), named("d"), named("e"))}, path: "wide/_metadata.json"}},
		KeyColumnsMissing: {{files: map[string][]byte{"csv/_metadata.json": []byte(`{"FileFormat":"CSV"}`), "csv/" + firstText: []byte("id,__rowMarker__\r\n1,2\r\n")}, path: "csv/" + firstText},
			{files: map[string][]byte{"gz.schema/t/00000000000000000004.parquet": raw(t, ids(1), markers(2)), "gz.schema/t/00000000000000000005.parquet": raw(t, ids(1), markers(2))}, path: "gz.schema/t/00000000000000000004.parquet"},
			put("gz.schema/t/_metadata.json", []byte(`{"isUpsertDefaultRowMarker":true}`)),
			put("csv/_metadata.json", []byte(`{"FileFormat":"DelimitedText","FileExtension":"csv","SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int32"},{"Name":"__rowMarker__","DataType":"Int32"}]}}`))},
		KeyColumnAbsent: {data(text("name", "x"), markers(4))},
		KeyColumnNull:   {data(zeroth(schema.NewInt64Node("id", optional, -1)), markers(4)), lines(",a,1,2")},
		FileNameInvalid: {put(table+"3.parquet", body), put(table+"00000000000000000000.parquet", body)},
		FileGap: {{files: map[string][]byte{table + "00000000000000000004.parquet": body}, path: table + third},
			{files: map[string][]byte{"csv/00000000000000000004.csv": []byte("id\r\n")}, path: "csv/00000000000000000002.csv"},
			{out: []string{"loose/_FilesReadyToDelete/" + second, "loose/" + third}, path: "loose/" + second}},
		FileFirstMissing: {{files: map[string][]byte{"late/_metadata.json": []byte(keyed), "late/" + second: raw(t, ids(1))}, path: "late/" + second}},
		FileNumberReused: {{files: map[string][]byte{table + "_ProcessedFiles/" + first: body}, path: table + first},
			{files: map[string][]byte{"again/_metadata.json": []byte(keyed), "again/_ProcessedFiles/00000000000000000050.parquet": body, "again/" + first: body}, path: "again/" + first}},
		FileEmpty: {put(table+third, nil), put("parts/region=north/city=a/"+first, nil)},
		FileTorn: {put(table+third, torn[:len(torn)-9]), put(table+third, []byte("not Parquet at all")), put(table+third, damaged(t)),
			lines("1,\"a,1,4\r\n"), lines("1,\"a\"b,1,4"), lines("1,\xff,1,4"), lines("1,2,4\r\n"), lines("1,a,1,4,5\r\n"), lines("1,a,1,4\n2,b,1,4\n"), headed("id,name,\"n")},
		HeaderDiffers: {headed("id,name,__rowMarker__\r\n"), headed("id,name,n,m,__rowMarker__\r\n"),
			{files: map[string][]byte{"plain/_metadata.json": []byte(`{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv","FileFormatTypeProperties":{"RowSeparator":"\n","ColumnSeparator":"|","QuoteCharacter":""}}`),
				"plain/" + firstText: []byte("id|\"x\n1|\"\n"), "plain/" + secondText: []byte("id|y\n")}, path: "plain/" + secondText}},
		TextValueInvalid: {lines("32768,a,1,4"), lines("1,a,x,4"), lines("x,,,2"), lines("1,,x,2\r\n1,,x,4"),
			{files: map[string][]byte{"strict/_metadata.json": []byte(`{"FileFormat":"DelimitedText","FileExtension":"csv","SchemaDefinition":{"Columns":[{"Name":"a","DataType":"String","IsNullable":false}]},"FileFormatTypeProperties":{"NullValue":"-"}}`),
				"strict/" + firstText: []byte("a\r\n\"-\"\r\n\r\n"), "strict/" + secondText: []byte("a\r\n-")}, path: "strict/" + secondText}},
		FileTooLarge: {{files: map[string][]byte{"text/" + secondText: []byte("id,name,n,__rowMarker__\r\n1,,,4\r\n2,,,4\r\n3,,,4")}, limit: func(l *linter) { l.maxRows = 2 }},
			{files: map[string][]byte{table + third: raw(t, ids(1, 2, 3), markers(4, 4, 4))}, limit: func(l *linter) { l.maxRows = 2 }}},
		FilesSmall: {{limit: func(l *linter) { l.maxFiles = 2 }, path: "gz.schema/t", also: []string{FilesSmall}}},
		FileTimeTie: {{files: map[string][]byte{"any/another.parquet": raw(t, ids(1), markers(1))}, path: "any/whatever.parquet", limit: func(l *linter) {
			l.s = together{l.s, l.now}
		}}},
		UploadLeft:             {{limit: func(l *linter) { l.now = l.now.Add(25 * time.Hour) }, path: table + "_upload.parquet"}},
		CompressionUnsupported: {put(table+third, rawCompressed(t, compress.Codecs.Brotli, ids(1), markers(4)))},
		ColumnTypeUnsupported:  {data(ids(), nested(), markers())},
		ColumnNameForbidden:    {data(ids(1), named("unit price"), markers(4)), data(ids(1), named("a;b"), markers(4)), headed("id,name,n,a b,__rowMarker__", HeaderDiffers)},
		ColumnNameTwice:        {data(ids(1), named("Name"), text("name", "x"), markers(4)), headed("id,name,n,Name,__rowMarker__", HeaderDiffers)},
		MarkerMisspelt:         {headed("id,name,n,rowMarker", MarkerLeftOut, HeaderDiffers), {files: map[string][]byte{table + third: raw(t, ids(1), text("_RowMarker_", "4"))}, also: []string{MarkerLeftOut}}},
		MarkerNotLast: {data(markers(4), ids(1)), headed("id,name,__rowMarker__,n\r\n1,a,4,1"),
			csv(`"SchemaDefinition":{"Columns":[{"Name":"__rowMarker__","DataType":"Int32"},{"Name":"id","DataType":"Int32"}]}`)},
		MarkerTypeWrong: {data(ids(1), text(parquet.MarkerColumn, "4")),
			csv(`"SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int32"},{"Name":"__rowMarker__","DataType":"Int16"}]}`)},
		MarkerUnknown: {data(ids(1), markers(3)), data(ids(1), rawColumn{markers().node, []int32{}, []int16{0}})},
		MarkerInsert:  {data(ids(1), markers(0))},
		MarkerLeftOut: {data(ids(1))},
		SchemaTypeChanged: {data(ids(1), rawColumn{schema.NewInt64Node("name", optional, -1), []int64{1}, nil}, markers(4)), data(text("id", "1"), markers(2)),
			{files: map[string][]byte{table + third: raw(t, ids(1), rawColumn{schema.NewInt64Node("name", required, -1), []int64{1}, nil}, markers(4))}, also: []string{SchemaNullChanged}}},
		SchemaNotNullAdded:   {data(ids(1), more, markers(4))},
		SchemaNotNullDropped: {{files: map[string][]byte{"strict/_metadata.json": []byte(keyed), "strict/" + first: raw(t, ids(1), more), "strict/" + second: raw(t, ids(1))}, path: "strict/" + second}},
		SchemaNullChanged: {{files: map[string][]byte{"strict/_metadata.json": []byte(keyed), "strict/" + first: raw(t, ids(1), more),
			"strict/" + second: raw(t, ids(1), rawColumn{schema.NewInt64Node("more", optional, -1), []int64{1}, nil}, markers(4))}, path: "strict/" + second}},
		SchemaCaseChanged:  {data(ids(1), text("Name", "x"), markers(4))},
		SchemaOrderChanged: {data(text("name", "x"), ids(1), markers(4))},
		SchemaColumnLeftOut: {{files: map[string][]byte{table + third: raw(t, ids(1), markers(4)), table + "00000000000000000004.parquet": raw(t, ids(1), markers(2)),
			table + "00000000000000000005.parquet": raw(t, ids(1), text("name", "c"), markers(4))}, path: table + third}},
		TimestampUnit: {data(ids(1), timestamps(schema.NewTimestampLogicalType(true, schema.TimeUnitMillis)), markers(4)),
			data(ids(1), timestamps(schema.NewTimestampLogicalType(true, schema.TimeUnitNanos)), markers(4)),
		},
		TimestampNoZone: {{files: map[string][]byte{"local/_metadata.json": []byte(keyed), "local/" + first: raw(t, ids(1), timestamps(schema.NewTimestampLogicalTypeForce(false, schema.TimeUnitMicros)))}, path: "local/" + first}},
		StringTooLong:   {{files: map[string][]byte{"text/" + secondText: []byte("id,name,n,__rowMarker__\r\n1,abcdef,,4")}, limit: func(l *linter) { l.maxString = 5 }}, {files: map[string][]byte{table + third: raw(t, ids(1), text("name", "abcdef"), markers(4))}, limit: func(l *linter) { l.maxString = 5 }}},
	}
}

// damaged is a file in which a page of a column can't be decoded that is neither
// text nor key nor marker.
func damaged(t *testing.T) []byte {
	b := rawCompressed(t, compress.Codecs.Zstd, ids(1), rawColumn{schema.NewInt64Node("more", optional, -1), []int64{7}, nil}, markers(4))
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd} // how each of a column's two pages begins
	at := 0
	for range 4 {
		at += bytes.Index(b[at:], frame) + 1
	}
	b[at]++
	return b
}

// TestLintRules provokes every rule in an otherwise sound zone, and wants that
// finding and no other. A rule that nothing provokes fails.
func TestLintRules(t *testing.T) {
	cases := provoked(t)
	for _, r := range Rules() {
		t.Run(r.Code, func(t *testing.T) {
			if len(cases[r.Code]) == 0 {
				t.Fatal("nothing provokes this rule")
			}
			if r.Sentence == "" || r.Remedy == "" || r.Severity != Fault && r.Severity != Warning {
				t.Errorf("the rule is not whole: %+v", r)
			}
			for i, c := range cases[r.Code] {
				provoke(t, i, r, c)
			}
		})
	}
}

func provoke(t *testing.T, i int, r Rule, c change) {
	t.Helper()
	files := soundZone(t)
	for name, body := range c.files {
		files[name] = body
		if len(c.files) == 1 && c.path == "" {
			c.path = name
		}
	}
	for _, name := range c.out {
		delete(files, name)
	}
	found, _ := lint(t, files, c.limit)
	met := false
	for _, f := range found {
		switch {
		case f.Code == r.Code && f.Path == c.path && f.Severity == r.Severity:
			met = true
		case !slices.Contains(c.also, f.Code):
			t.Errorf("case %d: got %+v as well", i, f)
		}
	}
	if !met {
		t.Errorf("case %d: got %v, want %s of %q", i, found, r.Code, c.path)
	}
}

// FuzzText writes fields as each format has them and reads them back, and reads
// any text to its end.
func FuzzText(f *testing.F) {
	f.Add("a", "b,c", `"d\\`+"\r\n")
	f.Add("", "\x00", "\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, x := range []textFormat{{row: "\r\n", column: ",", quote: `"`, escape: `\`}, {row: "\n", column: "\t", quote: "'", escape: `"`}, {row: "\r", column: ";", quote: `"`, escape: `"`}} {
			want := []string{a, b, c}
			var out strings.Builder
			for i, s := range want {
				s = strings.ReplaceAll(s, x.escape, x.escape+x.escape)
				if x.escape != x.quote {
					s = strings.ReplaceAll(s, x.quote, x.escape+x.quote)
				}
				out.WriteString(x.quote + s + x.quote + map[bool]string{true: x.row, false: x.column}[i == len(want)-1])
			}
			r := newTextReader(strings.NewReader(out.String()), 16, x)
			for i, s := range want {
				got, last, err := r.field()
				if err != nil || last != (i == len(want)-1) || len(s) < 4096 && utf8.ValidString(s) && string(got.text) != s {
					t.Fatalf("field %d of %q: got %q, %v, %v", i, out.String(), got.text, last, err)
				}
			}
			if _, err := r.Peek(1); err != io.EOF || r.invalid == utf8.ValidString(out.String()) {
				t.Errorf("at the end of %q: %v, invalid %v", out.String(), err, r.invalid)
			}
			r = newTextReader(strings.NewReader(a+b+c), 16, x)
			for _, err := r.Peek(1); err == nil; _, err = r.Peek(1) {
				if _, _, bad := r.field(); bad != nil {
					break
				}
			}
		}
	})
}

func TestLintRulesAreApart(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.Code] {
			t.Errorf("%s is there twice", r.Code)
		}
		seen[r.Code] = true
	}
}

// vanishing is a zone in which a file is processed once it was listed.
type vanishing struct {
	store.Store
	name string
}

func (v vanishing) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	if name == v.name {
		if err := v.Rename(ctx, name, strings.Replace(name, "orders/", "orders/"+ProcessedDir+"/", 1)); err != nil {
			return nil, store.Info{}, err
		}
	}
	return v.Store.Read(ctx, name, off, n)
}

// together is a store whose files were all changed at the same moment.
type together struct {
	store.Store
	at time.Time
}

func (s together) List(ctx context.Context, dir string) ([]store.Info, error) {
	list, err := s.Store.List(ctx, dir)
	for i := range list {
		list[i].Modified = s.at
	}
	return list, err
}

func TestLintMeetsProcessing(t *testing.T) {
	s := zoneOf(t, soundZone(t))
	var found []Finding
	looked, err := Lint(t.Context(), vanishing{s, table + first}, "dbo", func(f Finding) { found = append(found, f) })
	if err != nil || len(found) > 0 || looked.Files != 15 {
		t.Errorf("got %v, %v, %d files, want no finding and 15 files", err, found, looked.Files)
	}
}

// moving is a zone in which a table's first file is the first that is ever processed,
// just before its files are listed for the second time.
type moving struct {
	store.Store
	lists *int
}

func (m moving) List(ctx context.Context, dir string) ([]store.Info, error) {
	if dir+"/" == table {
		if *m.lists++; *m.lists == 2 {
			if err := m.Rename(ctx, table+first, table+ProcessedDir+"/"+first); err != nil {
				return nil, err
			}
		}
	}
	return m.Store.List(ctx, dir)
}

func TestLintMeetsFirstProcessing(t *testing.T) {
	var found []Finding
	lists := 0
	_, err := Lint(t.Context(), moving{zoneOf(t, soundZone(t)), &lists}, "dbo", func(f Finding) { found = append(found, f) })
	if err != nil || len(found) > 0 || lists != 2 {
		t.Errorf("got %v, %v, after %d listings, want no finding after 2", err, found, lists)
	}
}

// dropping is a zone in which a table is dropped just before a call on one of its
// files or folders.
type dropping struct {
	store.Store
	call string // Read or List
	name string
}

func (d dropping) drop(ctx context.Context, call, name string) error {
	if call != d.call || name != d.name {
		return nil
	}
	return d.Remove(ctx, strings.TrimSuffix(table, "/"))
}

func (d dropping) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	if err := d.drop(ctx, "Read", name); err != nil {
		return nil, store.Info{}, err
	}
	return d.Store.Read(ctx, name, off, n)
}

func (d dropping) List(ctx context.Context, dir string) ([]store.Info, error) {
	if err := d.drop(ctx, "List", dir); err != nil {
		return nil, err
	}
	return d.Store.List(ctx, dir)
}

func TestLintMeetsDropping(t *testing.T) {
	for _, c := range []struct {
		call, name string
		tables     int
	}{
		{"List", "public.schema", 6},
		{"List", strings.TrimSuffix(table, "/"), 6},
		{"Read", table + "_metadata.json", 6},
		{"Read", table + first, 7},
	} {
		var found []Finding
		looked, err := Lint(t.Context(), dropping{zoneOf(t, soundZone(t)), c.call, c.name}, "dbo", func(f Finding) { found = append(found, f) })
		if err != nil || len(found) > 0 || looked.Tables != c.tables {
			t.Errorf("dropped before %s of %s: got %v, %v, %d tables, want no finding and %d", c.call, c.name, err, found, looked.Tables, c.tables)
		}
	}
}

// A small file is not held in memory as large as it decodes to: a dictionary makes
// 80 MB of one text. Its rows are numbered through its pieces. What is counted is what
// is held, not what the collector hasn't come to yet: it runs often, and nothing else
// runs while it can't keep up.
func TestLintMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const rows = 20_000
	def := slices.Repeat([]int16{1}, rows)
	def[rows-1] = 0
	id := rawColumn{ids().node, make([]int64, rows-1), def}
	s := zoneOf(t, map[string][]byte{"t/_metadata.json": []byte(keyed), "t/" + first: raw(t, id, text("name", slices.Repeat([]string{strings.Repeat("x", 4000)}, rows)...))})
	runtime.GC()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, peak := heap(), uint64(0)
	var details []string
	done := make(chan error, 1)
	go func() {
		_, err := Lint(t.Context(), s, "dbo", func(f Finding) { details = append(details, f.Code+": "+f.Detail) })
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if diff := cmp.Diff([]string{"PartnerEventsMissing: ", `KeyColumnNull: "id" in row 20000`}, details); err != nil || diff != "" {
				t.Error(err, diff)
			}
			if peak > before+50<<20 {
				t.Errorf("it took %d MB, want less than 50", (peak-before)>>20)
			}
			return
		default:
			peak = max(peak, heap())
			runtime.Gosched()
		}
	}
}

// What this package writes passes its own rules.
func TestLintOurOwn(t *testing.T) {
	s := dir(t)
	w := Writer{Store: s, Dir: TableDir("public", "orders")}
	for n := range int64(3) {
		staged, err := w.Upload(t.Context(), rows(), Meta{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Publish(t.Context(), staged, n+1); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteMetadata(t.Context(), s, w.Dir, TableMetadata{KeyColumns: []string{"id"}}); err != nil {
		t.Fatal(err)
	}
	if err := WritePartnerEvents(t.Context(), s, "17"); err != nil {
		t.Fatal(err)
	}
	var found []Finding
	if _, err := Lint(t.Context(), s, "dbo", func(f Finding) { found = append(found, f) }); err != nil || len(found) > 0 {
		t.Errorf("got %v, %v", found, err)
	}
}

// Metadata that says a thing in two spellings gets the same answer each time.
func TestLintTwoSpellings(t *testing.T) {
	files := map[string][]byte{"t/_metadata.json": []byte(`{"KeyColumns":["nothing"],"keyColumns":["id"],"c":1,"b":1,"a":1}`), "t/" + first: raw(t, ids(1))}
	want, _ := lint(t, files, nil)
	for range 20 {
		if got, _ := lint(t, files, nil); !slices.Equal(got, want) {
			t.Fatalf("got %v, and %v before", got, want)
		}
	}
}

func TestFindingJSON(t *testing.T) {
	b, err := json.Marshal(Finding{Code: FileGap, Severity: Fault, Path: "a/" + second, Detail: "number 2 is missing"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"code":"FileGap","severity":"error","path":"a/00000000000000000002.parquet","detail":"number 2 is missing"}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
}

// docs/verify.md lists every rule as it is.
func TestLintIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rules() {
		if line := fmt.Sprintf("\n| `%s` | %s | %s | %s |\n", r.Code, r.Severity, r.Sentence, r.Remedy); !strings.Contains(string(doc), line) {
			t.Errorf("docs/verify.md lacks%s", line)
		}
	}
}
