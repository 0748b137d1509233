package batch

import (
	"math"
	"math/big"
	"slices"
	"testing"
)

func TestTypeNames(t *testing.T) {
	for _, n := range []string{"boolean", "short", "integer", "long", "float", "double", "date", "timestamp", "timestamp_ntz", "string", "binary", "decimal(12,2)", "decimal(38,38)"} {
		typ, err := ParseType(n)
		if err != nil || typ.String() != n {
			t.Errorf("%s: got %s, %v", n, typ, err)
		}
	}
	for _, n := range []string{"", "decimal", "decimal(39,1)", "decimal(3,4)", "decimal(0,0)", "decimal(5,2) ", "map<string,string>"} {
		if typ, err := ParseType(n); err == nil {
			t.Errorf("%q: got %s, want an error", n, typ)
		}
	}
}

func TestInt128(t *testing.T) {
	for _, s := range []string{"0", "-1", "1", "18446744073709551615", "18446744073709551616", "-18446744073709551616", "99999999999999999999999999999999999999", "-99999999999999999999999999999999999999"} {
		b, _ := new(big.Int).SetString(s, 10)
		v, ok := Int128FromBig(b)
		if !ok || v.Big().Cmp(b) != 0 {
			t.Errorf("%s: got %s, %t", s, v.Big(), ok)
		}
	}
	if _, ok := Int128FromBig(new(big.Int).Lsh(big.NewInt(1), 127)); ok {
		t.Error("2^127 fitted")
	}
}

func sample() *Batch {
	b := New(&Schema{Key: []int{0, 1}, Fields: []Field{{"id", Type{Kind: Int64}}, {"name", Type{Kind: String}}, {"f", Type{Kind: Float64}}}}, true)
	for _, r := range []struct {
		id   int64
		name string
		f    float64
	}{{1, "a", 0}, {1, "", math.Copysign(0, -1)}, {2, "a", math.NaN()}} {
		b.Cols[0].AppendInt64(r.id)
		b.Cols[1].AppendBytes([]byte(r.name))
		b.Cols[2].AppendFloat64(r.f)
		b.EndMarkedRow(Upsert)
	}
	b.Cols[0].AppendNull()
	b.Cols[1].AppendNull()
	b.Cols[2].AppendUnchanged()
	b.EndMarkedRow(Delete)
	return b
}

func TestSelectTruncateAppend(t *testing.T) {
	b := sample()
	s := b.Select([]int32{3, 0})
	if s.Rows() != 2 || !slices.Equal(s.Marker, []int32{Delete, Upsert}) || s.Cols[0].Def[0] != Null || !s.HasUnchanged(0) || s.HasUnchanged(1) || string(s.Cols[1].Value(1)) != "a" {
		t.Fatalf("select: %+v", s)
	}
	b.Cols[0].AppendInt64(9) // a row that was begun
	b.Truncate(2)
	if b.Rows() != 2 || len(b.Marker) != 2 || len(b.Cols[1].Off) != 3 {
		t.Fatalf("truncate: %+v", b)
	}
	b.AppendRow(s, 1)
	b.EndMarkedRow(Upsert)
	if string(b.AppendKey(nil, 2)) != string(b.AppendKey(nil, 0)) || string(b.AppendKey(nil, 1)) == string(b.AppendKey(nil, 0)) {
		t.Fatal("keys: equal rows differ, or others don't")
	}
}

// PostgreSQL takes 0 and -0 for one key; NULL is none of the values.
func TestValueEncoding(t *testing.T) {
	b := sample()
	c := &b.Cols[2]
	if string(c.AppendValue(nil, 0)) != string(c.AppendValue(nil, 1)) {
		t.Error("0 and -0 differ")
	}
	n := &b.Cols[1]
	if string(n.AppendValue(nil, 1)) == string(n.AppendValue(nil, 3)) {
		t.Error("an empty string equals NULL")
	}
}

func TestShiftedColumnPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a row with a column missing was ended")
		}
	}()
	b := New(sample().Schema, false)
	b.Cols[0].AppendInt64(1)
	b.EndRow()
}

func TestBytes(t *testing.T) {
	b := sample()
	want := 4 * len(b.Marker)
	for i := range b.Cols {
		want += b.Cols[i].Bytes()
	}
	want -= 4 // a column of strings has one offset more than rows
	if got := b.Bytes(); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestWhole(t *testing.T) {
	s := &Schema{Fields: []Field{{"a", Type{Kind: Int32}}}}
	for n := range 20 {
		b := New(s, false)
		for range n {
			b.Cols[0].AppendInt32(1)
			b.EndRow()
		}
		if !b.Whole() {
			t.Fatalf("%d values are not whole", n)
		}
		for i := range n {
			b.Cols[0].Def[i] = Unchanged
			if b.Whole() {
				t.Fatalf("%d values are whole without value %d", n, i)
			}
			b.Cols[0].Def[i] = Null
		}
	}
}

// A mirror takes millions of rows through the same batch.
func TestAppendAllocatesNothing(t *testing.T) {
	src, b := sample(), New(sample().Schema, true)
	var key []byte
	got := testing.AllocsPerRun(100, func() {
		b.Truncate(0)
		for i := range src.Rows() {
			b.AppendRow(src, i)
			b.EndMarkedRow(Upsert)
			key = b.AppendKey(key[:0], i)
			_ = b.Bytes()
		}
	})
	if got != 0 {
		t.Errorf("%v allocations for %d rows, want none", got, src.Rows())
	}
}

// TestReserve has rows appended to what was reserved for them, without anything
// being moved.
func TestReserve(t *testing.T) {
	b := New(&Schema{Fields: []Field{{"id", Type{Kind: Int64}}, {"name", Type{Kind: String}}}}, true)
	row := func(i int) {
		b.Cols[0].AppendInt64(int64(i))
		b.Cols[1].AppendBytes([]byte("name"))
		b.EndMarkedRow(Upsert)
	}
	b.Reserve(1 << 20) // nothing is known of its rows yet
	for i := range 100 {
		row(i)
	}
	b.Reserve(1000 * b.Bytes() / 100)
	have := b.Capacity()
	for i := 100; i < 1000; i++ {
		row(i)
	}
	if b.Capacity() != have {
		t.Errorf("it grew from %d bytes to %d", have, b.Capacity())
	}
	for i := range 1000 {
		if b.Cols[0].I64[i] != int64(i) || string(b.Cols[1].Value(i)) != "name" || b.Marker[i] != Upsert {
			t.Fatalf("row %d is another", i)
		}
	}
}
