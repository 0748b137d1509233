package parquet

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	oracle "github.com/parquet-go/parquet-go"

	"github.com/pgmirror/pgmirror/internal/batch"
)

var types = []string{"boolean", "short", "integer", "long", "float", "double", "decimal(7,3)", "decimal(12,2)", "decimal(19,0)", "decimal(38,10)",
	"date", "timestamp", "timestamp_ntz", "string", "binary"}

func schemaOf(t *testing.T) *batch.Schema {
	s := &batch.Schema{Key: []int{3}}
	for _, n := range types {
		typ, err := batch.ParseType(n)
		if err != nil {
			t.Fatal(err)
		}
		s.Fields = append(s.Fields, batch.Field{Name: strings.NewReplacer("(", "_", ")", "", ",", "_").Replace(n), Type: typ})
	}
	return s
}

// random fills a batch with values, the extremes among them; a share of nulls
// of them is NULL.
func random(s *batch.Schema, rows int, nulls float64, marked bool, seed uint64) *batch.Batch {
	r := rand.New(rand.NewPCG(seed, 1))
	b := batch.New(s, marked)
	for range rows {
		for i := range b.Cols {
			appendRandom(r, &b.Cols[i], nulls)
		}
		if marked {
			b.EndMarkedRow([]int32{batch.Delete, batch.Upsert}[r.IntN(2)])
		} else {
			b.EndRow()
		}
	}
	return b
}

func appendRandom(r *rand.Rand, c *batch.Column, nulls float64) {
	if r.Float64() < nulls {
		c.AppendNull()
		return
	}
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.Type.Precision)), nil)
	switch c.Type.Kind {
	case batch.Bool:
		c.AppendInt32(r.Int32N(2))
	case batch.Int16:
		c.AppendInt32(int32(int16(r.Uint32())))
	case batch.Int32, batch.Date:
		c.AppendInt32([]int32{math.MinInt32, math.MaxInt32, int32(r.Uint32())}[r.IntN(3)])
	case batch.Int64, batch.Timestamp, batch.TimestampNTZ:
		c.AppendInt64([]int64{math.MinInt64, math.MaxInt64, int64(r.Uint64())}[r.IntN(3)])
	case batch.Float32:
		c.AppendFloat32([]float32{float32(math.Inf(1)), 0, r.Float32()}[r.IntN(3)])
	case batch.Float64:
		c.AppendFloat64([]float64{math.Inf(-1), math.NaN(), r.NormFloat64()}[r.IntN(3)])
	case batch.Decimal:
		v := new(big.Int).Rand(randv1{r}.rand(), limit)
		if r.IntN(2) == 0 {
			v.Neg(v)
		}
		if c.Type.Storage() == batch.Store64 {
			c.AppendInt64(v.Int64())
		} else {
			x, _ := batch.Int128FromBig(v)
			c.AppendInt128(x)
		}
	default:
		c.AppendBytes([]byte(strings.Repeat("Zoë ", r.IntN(4))))
	}
}

func write(t *testing.T, b *batch.Batch, metadata map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Write(&buf, b, metadata); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func same(t *testing.T, got, want *batch.Batch) {
	t.Helper()
	if got.Rows() != want.Rows() {
		t.Fatalf("rows: got %d, want %d", got.Rows(), want.Rows())
	}
	for c := range want.Cols {
		for i := range want.Rows() {
			if !bytes.Equal(got.Cols[c].AppendValue(nil, i), want.Cols[c].AppendValue(nil, i)) {
				t.Fatalf("column %s, row %d: values differ", want.Schema.Fields[c].Name, i)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		rows   int
		nulls  float64
		marked bool
	}{{0, 0, false}, {0, 0, true}, {1, 0, true}, {1000, 0, false}, {20000, 0.3, true}, {50, 1, false}} {
		b := random(schemaOf(t), c.rows, c.nulls, c.marked, uint64(c.rows))
		f, err := Open(write(t, b, map[string]string{"a": "1", "b": ""}))
		if err != nil {
			t.Fatal(err)
		}
		if f.Metadata["a"] != "1" {
			t.Errorf("metadata: %v", f.Metadata)
		}
		got, err := f.Read(nil, true)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, b)
		if c.marked != (got.Marker != nil) {
			t.Fatalf("marked: got %t, want %t", got.Marker != nil, c.marked)
		}
		for i := range b.Marker {
			if got.Marker[i] != b.Marker[i] {
				t.Fatalf("marker %d: got %d, want %d", i, got.Marker[i], b.Marker[i])
			}
		}
		for k, l := range f.Leaves[:len(types)] {
			if l.Type != b.Schema.Fields[k].Type || !l.Exact || l.Required {
				t.Errorf("leaf %+v, want an exact, optional %s", l, b.Schema.Fields[k].Type)
			}
		}
		if last := f.Leaves[len(f.Leaves)-1].Name; c.marked && last != MarkerColumn {
			t.Errorf("last column: got %s, want %s", last, MarkerColumn)
		}
	}
}

func TestProjection(t *testing.T) {
	b := random(schemaOf(t), 100, 0.1, true, 1)
	f, err := Open(write(t, b, nil))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Read([]string{"string", "long"}, false)
	if err != nil || len(got.Cols) != 2 || got.Marker != nil {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i := range b.Rows() {
		if !bytes.Equal(got.Cols[1].AppendValue(nil, i), b.Cols[3].AppendValue(nil, i)) {
			t.Fatalf("row %d differs", i)
		}
	}
	if _, err := f.Read([]string{"none"}, false); err == nil {
		t.Fatal("a column that isn't there was read")
	}
}

func TestScan(t *testing.T) {
	b := random(schemaOf(t), 1000, 0.3, false, 1)
	f, err := Open(write(t, b, nil))
	if err != nil {
		t.Fatal(err)
	}
	for k, c := range b.Cols {
		rows := 0
		err := f.Scan(b.Schema.Fields[k].Name, func(piece *batch.Column) {
			for i := range piece.Rows() {
				if !bytes.Equal(piece.AppendValue(nil, i), c.AppendValue(nil, rows)) {
					t.Fatalf("column %s, row %d: values differ", types[k], rows)
				}
				rows++
			}
			if piece.Rows() > 64 {
				t.Errorf("a piece of %d rows", piece.Rows())
			}
		})
		if err != nil || rows != b.Rows() {
			t.Errorf("column %s: %d rows, %v", types[k], rows, err)
		}
	}
	if err := f.Scan("none", nil); err == nil {
		t.Error("a column that isn't there was read")
	}
}

func TestUnchangedIsRefused(t *testing.T) {
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "a", Type: batch.Type{Kind: batch.String}}}}, false)
	b.Cols[0].AppendUnchanged()
	b.EndRow()
	if err := Write(&bytes.Buffer{}, b, nil); err == nil {
		t.Fatal("a value that was not sent was written")
	}
}

// Another implementation reads the same values from our files.
func TestOracleReads(t *testing.T) {
	b := random(schemaOf(t), 500, 0.2, true, 7)
	data := write(t, b, nil)
	f, err := oracle.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]oracle.Row, 600)
	rr := f.RowGroups()[0].Rows()
	defer rr.Close()
	n, _ := rr.ReadRows(rows)
	if n != b.Rows() {
		t.Fatalf("rows: got %d, want %d", n, b.Rows())
	}
	for i := range n {
		for c := range b.Cols {
			v, col := rows[i][c], &b.Cols[c]
			if v.IsNull() != (col.Def[i] == batch.Null) {
				t.Fatalf("%s row %d: null %t", types[c], i, v.IsNull())
			}
			if v.IsNull() {
				continue
			}
			ok := true
			switch types[c] {
			case "long", "timestamp", "decimal(12,2)":
				ok = v.Int64() == col.I64[i]
			case "decimal(7,3)":
				ok = int64(v.Int32()) == col.I64[i]
			case "decimal(38,10)", "decimal(19,0)":
				x := new(big.Int).SetBytes(v.ByteArray())
				if v.ByteArray()[0]&0x80 != 0 {
					x.Sub(x, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v.ByteArray()))))
				}
				ok = x.Cmp(col.I128[i].Big()) == 0
			case "string", "binary":
				ok = bytes.Equal(v.ByteArray(), col.Value(i))
			case "boolean":
				ok = v.Boolean() == (col.I32[i] == 1)
			case "integer", "date", "short":
				ok = v.Int32() == col.I32[i]
			}
			if !ok {
				t.Fatalf("%s row %d: got %v", types[c], i, v)
			}
		}
	}
}

// Files of other publishers: required columns, milliseconds, nanoseconds.
func TestForeignFile(t *testing.T) {
	type row struct {
		ID    int64     `parquet:"id"`
		Ms    time.Time `parquet:"ms,timestamp(millisecond)"`
		Ns    time.Time `parquet:"ns,optional,timestamp(nanosecond)"`
		Small int8      `parquet:"small"`
	}
	at := time.Date(1969, 12, 31, 23, 59, 59, 999_000_000, time.UTC)
	var buf bytes.Buffer
	if err := oracle.Write(&buf, []row{{7, at, at, -3}}); err != nil {
		t.Fatal(err)
	}
	f, err := Open(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Read([]string{"id", "ms", "ns", "small"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if b.Cols[0].I64[0] != 7 || b.Cols[1].I64[0] != at.UnixMicro() || b.Cols[2].I64[0] != at.UnixMicro() || b.Cols[3].I32[0] != -3 {
		t.Fatalf("values: %v %v %v %v", b.Cols[0].I64, b.Cols[1].I64, b.Cols[2].I64, b.Cols[3].I32)
	}
	for name, want := range map[string][2]bool{"id": {true, true}, "ms": {true, false}, "ns": {false, false}} {
		if l, _ := f.Leaf(name); l.Required != want[0] || l.Exact != want[1] {
			t.Errorf("%s: required %t, exact %t, want %v", name, l.Required, l.Exact, want)
		}
	}
}

func TestTorn(t *testing.T) {
	data := write(t, random(schemaOf(t), 200, 0.1, true, 3), nil)
	for n := range data {
		if _, err := Open(data[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: got %v, want %v", n, len(data), err, ErrCorrupt)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := &batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "s", Type: batch.Type{Kind: batch.String}}}}
	b := batch.New(s, true)
	b.Cols[0].AppendInt64(1)
	b.Cols[1].AppendBytes([]byte("x"))
	b.EndMarkedRow(batch.Upsert)
	var buf bytes.Buffer
	if err := Write(&buf, b, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := Open(data); err == nil && file.Rows < 1<<16 {
			_, _ = file.Read(nil, true) // any error will do; a panic will not
			for _, l := range file.Leaves {
				_ = file.Scan(l.Name, func(*batch.Column) {})
			}
		}
	})
}
