package parquet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	oracle "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// repeating has the values of a few random rows many times over, on several
// pages; of every third page's rows all values are NULL.
func repeating(t *testing.T, rows int) *batch.Batch {
	base := random(schemaOf(t), 60, 0.2, false, 5)
	for i := range base.Cols {
		base.Cols[i].AppendNull()
	}
	base.EndRow()
	r := rand.New(rand.NewPCG(9, 9))
	pick := make([]int32, rows)
	for i := range pick {
		pick[i] = r.Int32N(60)
		if i/dictionaryRows%3 == 1 {
			pick[i] = 60
		}
	}
	return base.Select(pick)
}

func chunk(t *testing.T, data []byte, column int) format.ColumnMetaData {
	t.Helper()
	f, err := oracle.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f.Metadata().RowGroups[0].Columns[column].MetaData
}

// dictionary says whether a column chunk has one, and nothing but it.
func dictionary(t *testing.T, m format.ColumnMetaData) bool {
	t.Helper()
	plain, indices := 0, 0
	for _, s := range m.EncodingStats {
		switch {
		case s.PageType != format.DataPage:
		case s.Encoding == format.Plain:
			plain++
		default:
			indices++
		}
	}
	if plain > 0 && indices > 0 {
		t.Errorf("%v has pages of both kinds", m.PathInSchema)
	}
	return indices > 0
}

// This also holds the door open through which arrow-go takes our dictionaries: a
// release that closes it writes plain pages, or fails.
func TestDictionaryEveryType(t *testing.T) {
	b := repeating(t, 3*dictionaryRows+1000)
	data := write(t, b, nil)
	f, err := Open(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Read(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, b)
	sameToOracle(t, data, b)
	for c, name := range types {
		want := name != "boolean" && name != "double" // which has NaN
		if got := dictionary(t, chunk(t, data, c)); got != want {
			t.Errorf("%s: dictionary %t, want %t", name, got, want)
		}
	}
}

// sameToOracle compares what another implementation reads.
func sameToOracle(t *testing.T, data []byte, b *batch.Batch) {
	t.Helper()
	f, err := oracle.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	rr := f.RowGroups()[0].Rows()
	defer rr.Close()
	rows, done := make([]oracle.Row, 1000), 0
	for done < b.Rows() {
		n, err := rr.ReadRows(rows)
		if n == 0 {
			t.Fatalf("ends after %d rows: %v", done, err)
		}
		for i := range n {
			for c := range b.Cols {
				col, v := &b.Cols[c], rows[i][c]
				if v.IsNull() != (col.Def[done+i] == batch.Null) || !v.IsNull() && !bytes.Equal(plain(col, done+i), v.Bytes()) {
					t.Fatalf("%s, row %d: got %v", b.Schema.Fields[c].Name, done+i, v)
				}
			}
		}
		done += n
	}
}

// plain is a value in Parquet's PLAIN encoding, without a length.
func plain(c *batch.Column, i int) []byte {
	switch {
	case c.Type.Kind == batch.Bool:
		return []byte{byte(c.I32[i])}
	case c.Type.Kind == batch.Decimal && c.Type.Precision <= 9:
		return binary.LittleEndian.AppendUint32(nil, uint32(c.I64[i]))
	case c.Type.Storage() == batch.Store32:
		return binary.LittleEndian.AppendUint32(nil, uint32(c.I32[i]))
	case c.Type.Storage() == batch.Store64:
		return binary.LittleEndian.AppendUint64(nil, uint64(c.I64[i]))
	case c.Type.Storage() == batch.StoreFloat32:
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(c.F32[i]))
	case c.Type.Storage() == batch.StoreFloat64:
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(c.F64[i]))
	case c.Type.Storage() == batch.Store128:
		b := binary.BigEndian.AppendUint64(nil, uint64(c.I128[i].Hi))
		b = binary.BigEndian.AppendUint64(b, c.I128[i].Lo)
		return b[16-decimalBytes[c.Type.Precision]:]
	}
	return c.Value(i)
}

// less orders values as Parquet's statistics do.
func less(c *batch.Column, i, k int) bool {
	switch c.Type.Storage() {
	case batch.Store32:
		return c.I32[i] < c.I32[k]
	case batch.Store64:
		return c.I64[i] < c.I64[k]
	case batch.Store128:
		return c.I128[i].Big().Cmp(c.I128[k].Big()) < 0
	case batch.StoreFloat32:
		return c.F32[i] < c.F32[k]
	case batch.StoreFloat64:
		return c.F64[i] < c.F64[k]
	}
	return bytes.Compare(c.Value(i), c.Value(k)) < 0
}

// Engines skip files by their statistics: a bound that is too narrow hides rows.
func TestStatistics(t *testing.T) {
	for _, c := range []struct {
		name string
		b    *batch.Batch
	}{
		{"dictionaries", repeating(t, 2*dictionaryRows+1000)},
		{"plain", random(schemaOf(t), 3000, 0.2, false, 3)},
		{"small", random(schemaOf(t), 20, 0.5, false, 4)},
		{"NULL", random(schemaOf(t), 500, 1, false, 4)},
	} {
		keyless := write(t, c.b, nil)
		keyed := *c.b.Schema
		for i := range keyed.Fields {
			keyed.Key = append(keyed.Key, i)
		}
		c.b.Schema = &keyed
		data := write(t, c.b, nil)
		for i := range c.b.Cols {
			checkStatistics(t, c.name+" "+types[i], &c.b.Cols[i], chunk(t, data, i).Statistics)
			s := chunk(t, keyless, i).Statistics
			if k := c.b.Cols[i].Type.Kind; k != batch.String && k != batch.Binary {
				checkStatistics(t, c.name+" without a key, "+types[i], &c.b.Cols[i], s)
			} else if !reflect.DeepEqual(s, format.Statistics{}) {
				t.Errorf("%s without a key, %s: got %+v, want none", c.name, types[i], s)
			}
		}
	}
}

func checkStatistics(t *testing.T, name string, col *batch.Column, s format.Statistics) {
	t.Helper()
	low, high, nulls := -1, -1, int64(0)
	for i, d := range col.Def {
		switch {
		case d == batch.Null:
			nulls++
		case col.Type.Kind == batch.Float64 && math.IsNaN(col.F64[i]): // NaN is never a bound
		case low < 0:
			low, high = i, i
		case less(col, i, low):
			low = i
		case less(col, high, i):
			high = i
		}
	}
	if s.NullCount != nulls {
		t.Errorf("%s: %d NULLs, want %d", name, s.NullCount, nulls)
	}
	var wantLow, wantHigh []byte
	if low >= 0 {
		wantLow, wantHigh = plain(col, low), plain(col, high)
	}
	if col.Type.Kind == batch.Float32 && low >= 0 && col.F32[low] == 0 {
		wantLow = []byte{0, 0, 0, 0x80} // -0, as the format asks, for 0 may stand for both
	}
	if !bytes.Equal(s.MinValue, wantLow) || !bytes.Equal(s.MaxValue, wantHigh) {
		t.Errorf("%s: from %x to %x, want %x to %x", name, s.MinValue, s.MaxValue, wantLow, wantHigh)
	}
}

// Values that arrow-go's dictionaries take for one another keep their bits.
func TestFloatsKeepTheirBits(t *testing.T) {
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "d", Type: batch.Type{Kind: batch.Float64}}, {Name: "f", Type: batch.Type{Kind: batch.Float32}}}}, false)
	for i := range 1000 {
		b.Cols[0].AppendFloat64([]float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(0x7ff8000000000002), 1}[i%5])
		b.Cols[1].AppendFloat32([]float32{0, float32(math.Copysign(0, -1)), 1}[i%3])
		b.EndRow()
	}
	sameToOracle(t, write(t, b, nil), b)
}

func TestDictionaryHasToPay(t *testing.T) {
	for _, c := range []struct {
		name  string
		rows  int
		value func(i int) int
		want  bool
	}{
		{"one value", 5000, func(int) int { return 7 }, true},
		{"few values", 200_000, func(i int) int { return i * 7919 % 20_000 }, true},
		{"runs", 200_000, func(i int) int { return i / 100 }, true},
		{"no value twice", 200_000, func(i int) int { return i }, false},
		{"no value twice, few rows", 700, func(i int) int { return i }, false},
		{"too many values", 400_000, func(i int) int { return i * 7919 % 100_000 }, false},
		{"too many values after many equal ones", 400_000, func(i int) int { return max(0, i-200_000) }, false},
		{"hardly a row", 5, func(int) int { return 7 }, false},
	} {
		b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "i", Type: batch.Type{Kind: batch.Int32}}, {Name: "l", Type: batch.Type{Kind: batch.Int64}},
			{Name: "s", Type: batch.Type{Kind: batch.String}}, {Name: "n", Type: batch.Type{Kind: batch.Decimal, Precision: 30}}}}, false)
		for i := range c.rows {
			v := c.value(i)
			b.Cols[0].AppendInt32(int32(v))
			b.Cols[1].AppendInt64(int64(v) << 20)
			b.Cols[2].AppendBytes(fmt.Appendf(nil, "value %d", v))
			b.Cols[3].AppendInt128(batch.Int128{Hi: int64(v), Lo: uint64(v)})
			b.EndRow()
		}
		data := write(t, b, nil)
		sameToOracle(t, data, b)
		for i, f := range b.Schema.Fields {
			if c.name == "too many values" && i >= 2 {
				continue // strings may have more
			}
			if got := dictionary(t, chunk(t, data, i)); got != c.want {
				t.Errorf("%s, column %s: dictionary %t, want %t", c.name, f.Name, got, c.want)
			}
		}
	}
}

// A page of large values stays near pageBytes: readers hold a page whole.
func TestLargeValuesSmallPages(t *testing.T) {
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "s", Type: batch.Type{Kind: batch.String}}}}, false)
	for i := range 300 {
		if i%3 == 0 {
			b.Cols[0].AppendNull()
		} else {
			b.Cols[0].AppendBytes([]byte(strings.Repeat(string(rune('a'+i%26)), 100_000+i)))
		}
		b.EndRow()
	}
	data := write(t, b, nil)
	sameToOracle(t, data, b)
	f, err := oracle.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	pages := f.RowGroups()[0].ColumnChunks()[0].Pages()
	defer pages.Close()
	for {
		p, err := pages.ReadPage()
		if err != nil {
			break
		}
		if p.Size() > pageBytes+200_000 {
			t.Errorf("a page of %d rows has %d bytes", p.NumRows(), p.Size())
		}
		oracle.Release(p)
	}
}

// The buffers of one file leave nothing in the next one.
func TestWriteAgain(t *testing.T) {
	big, small := repeating(t, 2*dictionaryRows), random(schemaOf(t), 300, 0.3, true, 8)
	want := write(t, small, nil)
	for range 3 {
		write(t, big, nil)
		if !bytes.Equal(write(t, small, nil), want) {
			t.Fatal("the same rows make another file")
		}
	}
}
