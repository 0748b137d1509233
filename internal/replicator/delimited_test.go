package replicator

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const csvMetadata = `{"KeyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv",
  "SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int64","IsNullable":false},{"Name":"name","DataType":"String"}]},
  "FileFormatTypeProperties":{"FirstRowAsHeader":true,"RowSeparator":"\n","NullValue":"NA"}}`

func TestDelimitedText(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.put("_metadata.json", []byte(csvMetadata))
	z.put("00000000000000000001.csv", []byte("id,name\n1,a\n2,\"b,\\\"c\\\"\nd\"\n3,NA\n4,\"NA\"\n5,"))
	z.put("00000000000000000001.parquet", []byte("of another format"))
	r := New(z.config)
	if s := z.round(r); s.State != Replicating || s.ProcessedRows != 5 {
		t.Fatalf("got %+v, want 5 rows", s)
	}
	want := []string{"1 a", "2 b,\"c\"\nd", "3", "4 NA", "5"}
	if d := cmp.Diff(want, z.read(-1)); d != "" {
		t.Error(d)
	}
	z.put("00000000000000000002.csv", []byte("name,id,__rowMarker__\nA,1,1\n,2,2\nsix,6,4\n"))
	z.round(r)
	if d := cmp.Diff([]string{"1 A", "3", "4 NA", "5", "6 six"}, z.read(-1)); d != "" {
		t.Error(d)
	}
}

// TestDelimitedTypes has a value of each type, and one that isn't.
func TestDelimitedTypes(t *testing.T) {
	for kind, c := range map[string]struct{ good, want, bad string }{
		"Double": {"1.5", "1.5", "x"}, "Single": {"-2.25", "-2.25", "1,5"}, "Int16": {"-32768", "-32768", "40000"}, "Int32": {"7", "7", "7.0"},
		"Int64": {"9223372036854775807", "9223372036854775807", "9223372036854775808"}, "DateTime": {"2026-01-02T03:04:05.5", "2026-01-02T03:04:05.5Z", "soon"},
		"IDate": {"1969-12-31", "1969-12-31", "31.12.1969"}, "ITime": {"23:59:59.5", "23:59:59.5", "24:00:00"}, "String": {"ü", "ü", "\xff"},
		"Boolean": {"True", "true", "yes"}, "ByteArray": {"AAE=", "\x00\x01", "?"},
	} {
		metadata := strings.ReplaceAll(strings.ReplaceAll(csvMetadata, `"String"`, `"`+kind+`"`), `"id"]`, `"id"]`)
		z := newZone(t, t.TempDir(), true)
		z.put("_metadata.json", []byte(metadata))
		z.put("00000000000000000001.csv", []byte("id,name\n1,"+c.good+"\n"))
		if s := z.round(New(z.config)); s.State != Replicating {
			t.Errorf("%s %q: got %s %s, want Replicating", kind, c.good, s.State, s.Error)
			continue
		}
		z.put("00000000000000000002.csv", []byte("id,name\n2,"+c.bad+"\n"))
		if s := z.round(New(z.config)); s.State != Failed || !strings.Contains(s.Error, "00000000000000000002.csv: ") {
			t.Errorf("%s %q: got %s %q, want Failed", kind, c.bad, s.State, s.Error)
		}
	}
}

func TestDelimitedRefuses(t *testing.T) {
	for metadata, want := range map[string]string{
		strings.Replace(csvMetadata, `"FileExtension":"csv",`, "", 1):                                                    "needs FileExtension",
		strings.Replace(csvMetadata, `"FirstRowAsHeader":true`, `"FirstRowAsHeader":false`, 1):                           "FirstRowAsHeader must be true",
		strings.Replace(csvMetadata, `"RowSeparator":"\n"`, `"RowSeparator":"\t"`, 1):                                    "RowSeparator",
		strings.Replace(csvMetadata, `"NullValue":"NA"`, `"Encoding":"UTF-16"`, 1):                                       "UTF-16",
		strings.Replace(csvMetadata, `"Int64"`, `"Decimal"`, 1):                                                          `"Decimal"`,
		strings.Replace(csvMetadata, `{"Columns":[`, `{"Columns":[],"Other":[`, 1):                                       "names no columns",
		strings.Replace(csvMetadata, `"DataType":"String"}`, `"DataType":"String"},{"Name":"c","DataType":"String"}`, 1): "2 of the 3 columns",
	} {
		wantFault(t, metadata, "id,name\n1,a\n", want)
	}
	for text, want := range map[string]string{
		"id,other\n1,a\n":              `"other"`,
		"id,name\n1\n":                 "row 2: has 1 fields, want 2",
		"id,name\nNA,a\n":              "it is not nullable",
		"id,name\n1,\"a\n":             "has no end",
		"id,name\n1,\"a\"b\n":          "follows the end",
		"__rowMarker__,id,name\n4,1,a": "is not the last column",
		"id,name,__rowMarker__\n1,a,x": "is no number",
		"id,name,__rowMarker__\n1,a,3": "row marker 3",
	} {
		wantFault(t, csvMetadata, text, want)
	}
}

func wantFault(t *testing.T, metadata, text, want string) {
	t.Helper()
	z := newZone(t, t.TempDir(), true)
	z.put("_metadata.json", []byte(metadata))
	for _, name := range []string{"00000000000000000001.csv", "00000000000000000001.parquet"} {
		z.put(name, []byte(text))
	}
	r := New(z.config)
	if err := r.Once(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s := r.Status()[0]; s.State != Failed || !strings.Contains(s.Error, want) {
		t.Errorf("%s with %q: got %s %q, want Failed with %q", metadata, text, s.State, s.Error, want)
	}
}
