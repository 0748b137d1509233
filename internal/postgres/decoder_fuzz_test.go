package postgres

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// fuzzTypes has every family of types, arrays and an array of an array.
func fuzzTypes() []*pgType {
	var types []*pgType
	oids := make([]uint32, 0, len(builtin))
	for oid := range builtin {
		oids = append(oids, oid)
	}
	slices.Sort(oids)
	for _, oid := range oids {
		types = append(types, &pgType{OID: oid, Type: 'b', Delim: ',', MoneyScale: 2})
	}
	types = append(types, &pgType{OID: 70001, Type: 'b', Output: "hstore.hstore_out", Delim: ','}, &pgType{OID: 70002, Type: 'c', Delim: ';'})
	for _, t := range types[:len(types):len(types)] {
		types = append(types, &pgType{OID: 80000 + t.OID, Type: 'b', Output: "array_out", Elem: t})
	}
	domain := &pgType{OID: 90000, Type: 'd', Base: types[len(types)-1], Delim: ','}
	return append(types, &pgType{OID: 90001, Type: 'b', Output: "array_out", Elem: domain})
}

// one is a table with one column of a type.
func one(t *pgType, typmod int32) *Table {
	c := Column{Name: "v", Attnum: 1, TypeOID: t.OID, Typmod: typmod, typ: t}
	c.Type, c.Loss = t.mirror(typmod)
	tab := &Table{OID: 1, Schema: "public", Name: "t", Kind: 'r', ReplicaIdentity: 'd', Columns: []Column{c}}
	tab.nameFields()
	return tab
}

// FuzzDecode gives any bytes to the decoder of any type in both formats: it must
// take them as one value or drop them, and JSON must be JSON. It begins with what
// a server sent of every type, which TestRecord wrote.
func FuzzDecode(f *testing.F) {
	types := fuzzTypes()
	recorded, err := os.ReadFile("testdata/values.recording")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(recorded)) {
		var oid uint32
		var typmod int32
		var text bool
		var v []byte
		if _, err := fmt.Sscanf(line, "%d %d %t %q", &oid, &typmod, &text, &v); err != nil {
			f.Fatalf("%s: %v", line, err)
		}
		f.Add(oid, typmod, text, v)
	}
	for i := range types {
		for _, v := range []string{"", "1", "-1.50", "t", "{1,NULL}", `{"a\"b",{}}`, "[0:1]={{1},{2}}", "2024-02-29 12:34:56.7+05:30 BC", "0044-03-15 BC", "infinity", `"a"=>"1", "b"=>NULL`,
			"NaN", "16/B374D848", `\x00ff`, "\x00\x01\x00\x00\x00\x00\x00\x02\x00\x01", "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x07"} {
			f.Add(types[i].OID, int32(-1), true, []byte(v))
			f.Add(types[i].OID, int32(38<<16|10)+4, false, []byte(v))
		}
	}
	f.Fuzz(func(t *testing.T, oid uint32, typmod int32, text bool, v []byte) {
		at := slices.IndexFunc(types, func(typ *pgType) bool { return typ.OID == oid })
		if at < 0 {
			at = int(oid % uint32(len(types)))
		}
		typ := types[at]
		tab := one(typ, typmod)
		d, err := NewDecoder(tab)
		if err != nil {
			t.Fatal(err)
		}
		b := batch.New(tab.MirrorSchema(), false)
		c := &d.columns[0]
		kind := byte(pgoutput.Text)
		if !text {
			kind = pgoutput.Binary
		}
		if err := c.append(&b.Cols[0], kind, v); err != nil {
			b.Truncate(0)
		}
		b.Cols[0].AppendNull()
		b.SetRows(b.Cols[0].Rows())
		family := typ.family()
		if b.Rows() == 2 && (family == famArray || family == famHstore) && utf8.Valid(v) && !holdsJSON(typ) {
			if got := b.Cols[0].Value(0); !json.Valid(got) {
				t.Errorf("%q became %q, which is not JSON", v, got)
			}
		}
	})
}

// holdsJSON says whether a type's elements go into JSON as they are.
func holdsJSON(t *pgType) bool {
	for t.Elem != nil || t.Base != nil {
		if t.Base != nil {
			t = t.Base
		} else {
			t = t.Elem
		}
	}
	return t.family() == famJSON || t.family() == famJSONB
}

// FuzzCopyRow gives any bytes to a decoder of rows: a row is whole or dropped.
func FuzzCopyRow(f *testing.F) {
	tab := one(&pgType{OID: 23}, -1)
	tab.Columns = append(tab.Columns, Column{Name: "w", Attnum: 2, TypeOID: 25, typ: &pgType{OID: 25}, Type: batch.Type{Kind: batch.String}})
	tab.nameFields()
	d, err := NewDecoder(tab)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x00\x02\x00\x00\x00\x04\x00\x00\x00\x07\x00\x00\x00\x01x"))
	f.Add([]byte("\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, row []byte) {
		b := batch.New(tab.MirrorSchema(), false)
		want := 1
		if d.AppendCopyRow(b, row) != nil {
			want = 0
		}
		if b.Cols[0].Rows() != want || b.Cols[1].Rows() != want {
			t.Errorf("%d and %d values, want %d", b.Cols[0].Rows(), b.Cols[1].Rows(), want)
		}
		b.Truncate(0)
		w := &copyWriter{decoder: d, dst: b, header: true, limit: 1 << 20}
		_, err := w.Write(row)
		if b.Cols[0].Rows() != b.Rows() || b.Cols[1].Rows() != b.Rows() {
			t.Errorf("a row was begun and not dropped (%v)", err)
		}
	})
}

// COPY's data may be cut into messages anywhere.
func TestCopyDataCutAnywhere(t *testing.T) {
	tab := one(&pgType{OID: 25}, -1)
	d, err := NewDecoder(tab)
	if err != nil {
		t.Fatal(err)
	}
	data := append([]byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "\x00\x01\x00\x00\x00\x02ab\x00\x01\xff\xff\xff\xff\x00\x01\x00\x00\x00\x00\xff\xff"...)
	for size := 1; size <= len(data); size++ {
		b := batch.New(tab.MirrorSchema(), false)
		w := &copyWriter{decoder: d, dst: b, limit: 1 << 20}
		for piece := range slices.Chunk(data, size) {
			if _, err := w.Write(piece); err != nil {
				t.Fatalf("pieces of %d: %v", size, err)
			}
		}
		if err := w.finish(); err != nil || b.Rows() != 3 || string(b.Cols[0].Data) != "ab" || b.Cols[0].Def[1] != batch.Null || b.Cols[0].Def[2] != batch.Present {
			t.Errorf("pieces of %d: %d rows, %v", size, b.Rows(), err)
		}
		if size > 1 {
			w := &copyWriter{decoder: d, dst: batch.New(tab.MirrorSchema(), false), limit: 1 << 20}
			if _, err := w.Write(data[:len(data)-size]); err == nil && w.finish() == nil {
				t.Errorf("data without its last %d bytes is taken for whole", size)
			}
		}
	}
	w := &copyWriter{decoder: d, dst: batch.New(tab.MirrorSchema(), false), limit: 1 << 20}
	if _, err := w.Write(append(data[:len(data):len(data)], 0, 1)); err == nil {
		t.Error("data behind the end is taken")
	}
}

// A numeric may be given another type by configuration; what doesn't fit it is a
// fault, never rounded.
func TestNumericAsConfigured(t *testing.T) {
	tab := one(&pgType{OID: 1700}, -1)
	tab.Columns[0].Type = batch.Type{Kind: batch.Decimal, Precision: 4, Scale: 1}
	d, err := NewDecoder(tab)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"999.9": "", "-1.50": "", "0.05": string(faultRange), "1000": string(faultRange), "NaN": string(faultNaN), "-Infinity": string(faultNaN)} {
		b := batch.New(tab.MirrorSchema(), false)
		err := d.columns[0].append(&b.Cols[0], pgoutput.Text, []byte(text))
		if got := reason(err); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	tab.Columns[0].Type = batch.Type{Kind: batch.Int64}
	if _, err := NewDecoder(tab); err == nil {
		t.Error("a numeric becomes an integer")
	}
}

func reason(err error) string {
	if e, ok := err.(*ValueError); ok {
		return e.Reason
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
