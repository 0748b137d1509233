// Package batch holds rows of one table in columns, with their row markers.
package batch

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// A row marker says what a row of a landing-zone file does to the row with the
// same key in the mirror. The values are Fabric's
// (https://learn.microsoft.com/fabric/mirroring/open-mirroring-landing-zone-format).
const (
	Insert int32 = 0 // adds a row without looking for the key: a second one doubles it
	Update int32 = 1
	Delete int32 = 2
	Upsert int32 = 4
)

// Definition levels of a Column. Unchanged never reaches a file: it stands for
// a TOASTed value that an UPDATE left alone and that pgoutput did not send.
const (
	Null      int16 = 0
	Present   int16 = 1
	Unchanged int16 = -1
)

// Field is a column's name and type.
type Field struct {
	Name string
	Type Type
}

// Schema is the columns of a table, in order, and which of them are its key.
type Schema struct {
	Fields []Field
	Key    []int // positions in Fields, in the order of the key; empty: no key
}

// Batch is rows of one table.
type Batch struct {
	Schema *Schema
	Cols   []Column
	Marker []int32 // one a row, or nil when no row has a marker
	rows   int

	width int   // bytes of a row, those of strings left out; 0: not known
	long  []int // the columns of strings
}

// Column is the values of one column. Exactly one of the value slices is in
// use, as Type.Storage says; it has a slot for every row, also for a NULL (zero
// then, or empty), so that row i is at index i.
type Column struct {
	Type Type
	Def  []int16 // Null, Present or Unchanged, one a row

	I32  []int32   // Bool (0, 1), Int16, Int32, Date (days since 1970-01-01)
	I64  []int64   // Int64, Timestamp and TimestampNTZ (µs since 1970-01-01), Decimal of at most 18 digits (unscaled)
	I128 []Int128  // Decimal of more than 18 digits (unscaled)
	F32  []float32 // Float32
	F64  []float64 // Float64
	Off  []int32   // String, Binary: row i is Data[Off[i]:Off[i+1]]; one more than there are rows
	Data []byte
}

// New makes an empty batch; marked says whether its rows have markers.
func New(s *Schema, marked bool) *Batch {
	b := &Batch{Schema: s, Cols: make([]Column, len(s.Fields))}
	for i, f := range s.Fields {
		b.Cols[i] = NewColumn(f.Type)
		b.width += 2 + f.Type.Storage().width()
		if f.Type.Storage() == StoreBytes {
			b.long = append(b.long, i)
		}
	}
	if marked {
		b.Marker = []int32{}
	}
	return b
}

// NewColumn makes an empty column.
func NewColumn(t Type) Column {
	c := Column{Type: t}
	if t.Storage() == StoreBytes {
		c.Off = []int32{0}
	}
	return c
}

// Rows is the number of rows.
func (b *Batch) Rows() int { return b.rows }

// EndRow closes a row of a batch without markers, after one value was appended
// to each column. It panics when a column has more or fewer: that is a bug in
// the caller, and a shifted column is the worst thing that could be written.
func (b *Batch) EndRow() {
	b.rows++
	for i := range b.Cols {
		if len(b.Cols[i].Def) != b.rows {
			panic(fmt.Sprintf("batch: column %q has %d values, want %d", b.Schema.Fields[i].Name, len(b.Cols[i].Def), b.rows))
		}
	}
}

// EndMarkedRow closes a row of a batch with markers.
func (b *Batch) EndMarkedRow(marker int32) {
	b.Marker = append(b.Marker, marker)
	b.EndRow()
}

// SetRows closes n rows at once, for a reader that appended whole columns. It
// panics like EndRow.
func (b *Batch) SetRows(n int) {
	b.rows = n - 1
	b.EndRow()
}

// Truncate drops all rows from n on, also a row that was begun and not ended.
func (b *Batch) Truncate(n int) {
	for i := range b.Cols {
		b.Cols[i].Truncate(n)
	}
	if b.Marker != nil && len(b.Marker) > n {
		b.Marker = b.Marker[:n]
	}
	b.rows = n
}

// Bytes is roughly the memory that the rows take. It is cheap enough to be asked
// after every row.
func (b *Batch) Bytes() int {
	n := 4 * len(b.Marker)
	if b.width > 0 {
		n += b.rows * b.width
		for _, i := range b.long {
			n += len(b.Cols[i].Data)
		}
		return n
	}
	for i := range b.Cols {
		n += b.Cols[i].Bytes()
	}
	return n
}

// Capacity is roughly the memory that the batch holds, used or not.
func (b *Batch) Capacity() int {
	n := 4 * cap(b.Marker)
	for i := range b.Cols {
		c := &b.Cols[i]
		n += 2*cap(c.Def) + 4*cap(c.I32) + 8*cap(c.I64) + 16*cap(c.I128) + 4*cap(c.F32) + 8*cap(c.F64) + 4*cap(c.Off) + cap(c.Data)
	}
	return n
}

// Reserve makes room for as many rows as take so many bytes, if the rows to come
// are like those that are there. Without it the values are moved again and again
// while a batch grows. A batch without rows stays as it is.
func (b *Batch) Reserve(bytes int) {
	have := b.Bytes()
	if have == 0 || bytes <= have {
		return
	}
	times := float64(bytes) / float64(have)
	b.Marker = reserve(b.Marker, times)
	for i := range b.Cols {
		c := &b.Cols[i]
		c.Def, c.I32, c.I64, c.I128 = reserve(c.Def, times), reserve(c.I32, times), reserve(c.I64, times), reserve(c.I128, times)
		c.F32, c.F64, c.Off, c.Data = reserve(c.F32, times), reserve(c.F64, times), reserve(c.Off, times), reserve(c.Data, times)
	}
}

// reserve does not use slices.Grow, which would write zeros to all of it.
func reserve[T any](s []T, times float64) []T {
	n := int(float64(len(s)) * times)
	if n <= cap(s) {
		return s
	}
	return append(make([]T, 0, n), s...)
}

// AppendRow appends row i of src, a batch of the same schema, without its
// marker and without ending the row.
func (b *Batch) AppendRow(src *Batch, i int) {
	for c := range b.Cols {
		b.Cols[c].AppendFrom(&src.Cols[c], i)
	}
}

// Select copies the given rows, in that order, into a new batch.
func (b *Batch) Select(rows []int32) *Batch {
	out := New(b.Schema, b.Marker != nil)
	for c := range b.Cols {
		out.Cols[c] = b.Cols[c].Select(rows)
	}
	if b.Marker != nil {
		out.Marker = make([]int32, len(rows))
		for k, i := range rows {
			out.Marker[k] = b.Marker[i]
		}
	}
	out.rows = len(rows)
	return out
}

// AppendKey appends an encoding of row i's key to dst: equal keys give equal
// bytes, and only they do. A NULL or Unchanged key column is encoded as such.
func (b *Batch) AppendKey(dst []byte, i int) []byte {
	for _, c := range b.Schema.Key {
		dst = b.Cols[c].AppendValue(dst, i)
	}
	return dst
}

// Whole reports whether every value of every row was sent.
func (b *Batch) Whole() bool {
	for i := range b.Cols {
		if !whole(b.Cols[i].Def) {
			return false
		}
	}
	return true
}

// whole looks at eight rows at once: Unchanged alone is negative.
func whole(def []int16) bool {
	for ; len(def) >= 8; def = def[8:] {
		if def[0]|def[1]|def[2]|def[3]|def[4]|def[5]|def[6]|def[7] < 0 {
			return false
		}
	}
	return !slices.Contains(def, Unchanged)
}

// HasUnchanged reports whether row i has a value that was not sent.
func (b *Batch) HasUnchanged(i int) bool {
	for c := range b.Cols {
		if b.Cols[c].Def[i] == Unchanged {
			return true
		}
	}
	return false
}

// AppendNull appends a NULL.
func (c *Column) AppendNull() { c.appendEmpty(Null) }

// AppendUnchanged appends a value that was not sent.
func (c *Column) AppendUnchanged() { c.appendEmpty(Unchanged) }

func (c *Column) appendEmpty(def int16) {
	c.Def = append(c.Def, def)
	switch c.Type.Storage() {
	case Store32:
		c.I32 = append(c.I32, 0)
	case Store64:
		c.I64 = append(c.I64, 0)
	case Store128:
		c.I128 = append(c.I128, Int128{})
	case StoreFloat32:
		c.F32 = append(c.F32, 0)
	case StoreFloat64:
		c.F64 = append(c.F64, 0)
	case StoreBytes:
		c.Off = append(c.Off, int32(len(c.Data)))
	}
}

// AppendInt32 appends a value of a column stored as I32.
func (c *Column) AppendInt32(v int32) { c.Def, c.I32 = append(c.Def, Present), append(c.I32, v) }

// AppendInt64 appends a value of a column stored as I64.
func (c *Column) AppendInt64(v int64) { c.Def, c.I64 = append(c.Def, Present), append(c.I64, v) }

// AppendInt128 appends a value of a column stored as I128.
func (c *Column) AppendInt128(v Int128) { c.Def, c.I128 = append(c.Def, Present), append(c.I128, v) }

// AppendFloat32 appends a value of a column stored as F32.
func (c *Column) AppendFloat32(v float32) { c.Def, c.F32 = append(c.Def, Present), append(c.F32, v) }

// AppendFloat64 appends a value of a column stored as F64.
func (c *Column) AppendFloat64(v float64) { c.Def, c.F64 = append(c.Def, Present), append(c.F64, v) }

// AppendBytes appends a copy of v to a column stored as Off and Data.
func (c *Column) AppendBytes(v []byte) {
	c.Data = append(c.Data, v...)
	c.EndBytes()
}

// EndBytes ends a value that the caller appended to Data itself. A column holds
// at most 2 GiB; byte budgets keep batches far below, so passing it is a bug and
// panics.
func (c *Column) EndBytes() {
	if len(c.Data) > math.MaxInt32 {
		panic("batch: a column holds more than 2 GiB")
	}
	c.Def, c.Off = append(c.Def, Present), append(c.Off, int32(len(c.Data)))
}

// AppendFrom appends value i of src, a column of the same type.
func (c *Column) AppendFrom(src *Column, i int) {
	if src.Def[i] != Present {
		c.appendEmpty(src.Def[i])
		return
	}
	switch c.Type.Storage() {
	case Store32:
		c.AppendInt32(src.I32[i])
	case Store64:
		c.AppendInt64(src.I64[i])
	case Store128:
		c.AppendInt128(src.I128[i])
	case StoreFloat32:
		c.AppendFloat32(src.F32[i])
	case StoreFloat64:
		c.AppendFloat64(src.F64[i])
	case StoreBytes:
		c.AppendBytes(src.Value(i))
	}
}

// Value is the bytes of value i of a column stored as Off and Data; they belong
// to the column.
func (c *Column) Value(i int) []byte { return c.Data[c.Off[i]:c.Off[i+1]] }

// Rows is the number of values, the one of a row not yet ended included.
func (c *Column) Rows() int { return len(c.Def) }

// Bytes is roughly the memory that the values take.
func (c *Column) Bytes() int {
	return 2*len(c.Def) + 4*len(c.I32) + 8*len(c.I64) + 16*len(c.I128) + 4*len(c.F32) + 8*len(c.F64) + 4*len(c.Off) + len(c.Data)
}

// Truncate drops all values from n on, and bytes that were appended to Data and
// not ended.
func (c *Column) Truncate(n int) {
	if len(c.Def) <= n {
		if c.Off != nil {
			c.Data = c.Data[:c.Off[len(c.Off)-1]]
		}
		return
	}
	c.Def = c.Def[:n]
	switch c.Type.Storage() {
	case Store32:
		c.I32 = c.I32[:n]
	case Store64:
		c.I64 = c.I64[:n]
	case Store128:
		c.I128 = c.I128[:n]
	case StoreFloat32:
		c.F32 = c.F32[:n]
	case StoreFloat64:
		c.F64 = c.F64[:n]
	case StoreBytes:
		c.Off = c.Off[:n+1]
		c.Data = c.Data[:c.Off[n]]
	}
}

// Select copies the given values, in that order.
func (c *Column) Select(rows []int32) Column {
	out := NewColumn(c.Type)
	out.Def = pick(c.Def, rows)
	switch c.Type.Storage() {
	case Store32:
		out.I32 = pick(c.I32, rows)
	case Store64:
		out.I64 = pick(c.I64, rows)
	case Store128:
		out.I128 = pick(c.I128, rows)
	case StoreFloat32:
		out.F32 = pick(c.F32, rows)
	case StoreFloat64:
		out.F64 = pick(c.F64, rows)
	case StoreBytes:
		size := 0
		for _, i := range rows {
			size += int(c.Off[i+1] - c.Off[i])
		}
		out.Off, out.Data = append(make([]int32, 0, len(rows)+1), 0), make([]byte, 0, size)
		for _, i := range rows {
			out.Data = append(out.Data, c.Value(int(i))...)
			out.Off = append(out.Off, int32(len(out.Data)))
		}
	}
	return out
}

func pick[T any](v []T, rows []int32) []T {
	out := make([]T, len(rows))
	for k, i := range rows {
		out[k] = v[i]
	}
	return out
}

// AppendValue appends an encoding of value i that tells it from every other
// value of the column, NULL included.
func (c *Column) AppendValue(dst []byte, i int) []byte {
	dst = append(dst, byte(c.Def[i]))
	if c.Def[i] != Present {
		return dst
	}
	switch c.Type.Storage() {
	case Store32:
		return binary.LittleEndian.AppendUint32(dst, uint32(c.I32[i]))
	case Store64:
		return binary.LittleEndian.AppendUint64(dst, uint64(c.I64[i]))
	case Store128:
		dst = binary.LittleEndian.AppendUint64(dst, uint64(c.I128[i].Hi))
		return binary.LittleEndian.AppendUint64(dst, c.I128[i].Lo)
	case StoreFloat32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(normal32(c.F32[i])))
	case StoreFloat64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(normal64(c.F64[i])))
	}
	v := c.Value(i)
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

// PostgreSQL takes -0 and 0, and all NaNs, for one key.
func normal64(v float64) float64 {
	switch {
	case v == 0:
		return 0
	case v != v:
		return math.NaN()
	}
	return v
}

func normal32(v float32) float32 { return float32(normal64(float64(v))) }
