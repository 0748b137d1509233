package parquet

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/pgmirror/pgmirror/internal/batch"
)

type (
	byteArray      = parquet.ByteArray
	fixedByteArray = parquet.FixedLenByteArray
)

// pageBytes is about how large a page of plain values gets: a page's buffers are
// made anew for each column, and small ones stay in the cache.
const pageBytes = 1 << 18

// encoder writes columns, one at a time. It holds the buffers that a column
// needs; the next column and the next file use them again.
type encoder struct {
	levels  []int16 // all Present
	bools   []bool
	i32     []int32
	i64     []int64
	i128    []batch.Int128
	f32     []float32
	f64     []float64
	off     []int32
	fixed   []byte
	valid   []byte // a bit a row
	index   []int32
	spaced  []int32
	ints    numbers[int32]
	longs   numbers[int64]
	strings byteStrings
}

// writeColumn writes rows from up to to of a column, in a dictionary where that
// pays, and closes cw.
func (e *encoder) writeColumn(cw file.ColumnChunkWriter, c *batch.Column, from, to int) error {
	def := c.Def[from:to]
	nulls, err := countNulls(def)
	if err != nil {
		return err
	}
	l := levels{def: def, nulls: nulls}
	switch w := cw.(type) {
	case *file.BooleanColumnChunkWriter:
		_, err = w.WriteBatch(e.asBools(present(&e.i32, c.I32[from:to], l)), def, nil)
	case *file.Int32ColumnChunkWriter:
		if c.Type.Kind == batch.Decimal {
			err = e.writeInt32(w, e.narrow(present(&e.i64, c.I64[from:to], l)), l)
		} else {
			err = e.writeInt32(w, present(&e.i32, c.I32[from:to], l), l)
		}
	case *file.Int64ColumnChunkWriter:
		err = e.writeInt64(w, present(&e.i64, c.I64[from:to], l), l)
	case *file.Float32ColumnChunkWriter:
		err = e.writeFloat32(w, present(&e.f32, c.F32[from:to], l), l)
	case *file.Float64ColumnChunkWriter:
		err = e.writeFloat64(w, present(&e.f64, c.F64[from:to], l), l)
	case *file.FixedLenByteArrayColumnChunkWriter:
		err = e.writeFixed(w, e.bigEndian(present(&e.i128, c.I128[from:to], l), decimalBytes[c.Type.Precision]), l)
	case *file.ByteArrayColumnChunkWriter:
		err = e.writeBytes(w, c.Data, e.presentOffsets(c.Off[from:to+1], l), l)
	default:
		err = fmt.Errorf("no writer for %T", cw)
	}
	if err != nil {
		return err
	}
	return cw.Close()
}

// levels says which rows of a column hold a value.
type levels struct {
	def   []int16
	nulls int
}

// countNulls also finds values that were not sent. Most columns have neither, so
// that it looks at eight rows at once.
func countNulls(def []int16) (int, error) {
	i, nulls := 0, 0
	for ; i+8 <= len(def); i += 8 {
		d := def[i : i+8 : i+8]
		if (d[0]^1)|(d[1]^1)|(d[2]^1)|(d[3]^1)|(d[4]^1)|(d[5]^1)|(d[6]^1)|(d[7]^1) == 0 {
			continue
		}
		for _, x := range d {
			if x == batch.Unchanged {
				return 0, errUnchanged
			}
			nulls += int(1 - x)
		}
	}
	for _, x := range def[i:] {
		if x == batch.Unchanged {
			return 0, errUnchanged
		}
		nulls += int(1 - x)
	}
	return nulls, nil
}

var errUnchanged = errors.New("a value that was not sent can't be written")

// present leaves out the slots of NULLs, which Parquet doesn't store.
func present[T any](buf *[]T, v []T, l levels) []T {
	if l.nulls == 0 {
		return v
	}
	out := slices.Grow((*buf)[:0], len(v)-l.nulls)
	for i, d := range l.def {
		if d == batch.Present {
			out = append(out, v[i])
		}
	}
	*buf = out
	return out
}

// presentOffsets is present for bytes: a NULL has none, so that leaving out its
// offset moves no other value.
func (e *encoder) presentOffsets(off []int32, l levels) []int32 {
	if l.nulls == 0 {
		return off
	}
	out := append(slices.Grow(e.off[:0], len(off)-l.nulls), off[0])
	for i, d := range l.def {
		if d == batch.Present {
			out = append(out, off[i+1])
		}
	}
	e.off = out
	return out
}

// allPresent is the levels of n rows without a NULL.
func (e *encoder) allPresent(n int) []int16 {
	for len(e.levels) < n {
		e.levels = append(e.levels, batch.Present)
	}
	return e.levels[:n]
}

func (e *encoder) asBools(v []int32) []bool {
	e.bools = slices.Grow(e.bools[:0], len(v))[:len(v)]
	for i, x := range v {
		e.bools[i] = x != 0
	}
	return e.bools
}

func (e *encoder) narrow(v []int64) []int32 {
	e.i32 = slices.Grow(e.i32[:0], len(v))[:len(v)]
	for i, x := range v {
		e.i32[i] = int32(x)
	}
	return e.i32
}

// bigEndian is decimals as big-endian two's complement of n bytes each.
func (e *encoder) bigEndian(v []batch.Int128, n int) []byte {
	e.fixed = slices.Grow(e.fixed[:0], n*len(v))[:n*len(v)]
	for i, x := range v {
		p := e.fixed[i*n : (i+1)*n]
		for k := range n {
			shift := 8 * (n - 1 - k)
			if shift >= 64 {
				p[k] = byte(x.Hi >> (shift - 64))
			} else {
				p[k] = byte(x.Lo >> shift)
			}
		}
	}
	return e.fixed
}

func (e *encoder) writeInt32(w *file.Int32ColumnChunkWriter, v []int32, l levels) (err error) {
	d, ok := &e.ints, false
	if e.index, ok = d.index(e.index, v, nil); ok {
		return putDictionary(e, w, d.keys, numberArray(arrow.PrimitiveTypes.Int32, d.keys), l)
	}
	w.FallbackToPlain()
	_, err = w.WriteBatch(v, l.def, nil)
	return err
}

func (e *encoder) writeInt64(w *file.Int64ColumnChunkWriter, v []int64, l levels) (err error) {
	d, ok := &e.longs, false
	if e.index, ok = d.index(e.index, v, nil); ok {
		return putDictionary(e, w, d.keys, numberArray(arrow.PrimitiveTypes.Int64, d.keys), l)
	}
	w.FallbackToPlain()
	_, err = w.WriteBatch(v, l.def, nil)
	return err
}

// writeFloat32 tells the values apart by their bits.
func (e *encoder) writeFloat32(w *file.Float32ColumnChunkWriter, v []float32, l levels) (err error) {
	d, ok := &e.ints, false
	if e.index, ok = d.index(e.index, castSlice[int32](v), special32); ok {
		keys := castSlice[float32](d.keys)
		return putDictionary(e, w, keys, numberArray(arrow.PrimitiveTypes.Float32, keys), l)
	}
	w.FallbackToPlain()
	_, err = w.WriteBatch(v, l.def, nil)
	return err
}

func (e *encoder) writeFloat64(w *file.Float64ColumnChunkWriter, v []float64, l levels) (err error) {
	d, ok := &e.longs, false
	if e.index, ok = d.index(e.index, castSlice[int64](v), special64); ok {
		keys := castSlice[float64](d.keys)
		return putDictionary(e, w, keys, numberArray(arrow.PrimitiveTypes.Float64, keys), l)
	}
	w.FallbackToPlain()
	_, err = w.WriteBatch(v, l.def, nil)
	return err
}

func (e *encoder) writeBytes(w *file.ByteArrayColumnChunkWriter, data []byte, off []int32, l levels) error {
	d, ok := &e.strings, false
	if e.index, ok = d.index(e.index, data, off); ok {
		return putDictionary(e, w, entries[byteArray](d), d.array(), l)
	}
	return writePlainBytes(w, data, off, l.def)
}

func (e *encoder) writeFixed(w *file.FixedLenByteArrayColumnChunkWriter, v []byte, l levels) (err error) {
	n := w.Descr().TypeLength()
	e.off = e.off[:0]
	for at := 0; at <= len(v); at += n {
		e.off = append(e.off, int32(at))
	}
	d, ok := &e.strings, false
	if e.index, ok = d.index(e.index, v, e.off); ok {
		return putDictionary(e, w, entries[fixedByteArray](d), d.fixedArray(n), l)
	}
	w.FallbackToPlain()
	_, err = w.WriteBatchArrow(v, l.def, nil)
	return err
}

// writePlainBytes cuts the values so that arrow-go, which looks at the size of a
// page only after each cut, makes no page much larger than pageBytes.
func writePlainBytes(w *file.ByteArrayColumnChunkWriter, data []byte, off []int32, def []int16) error {
	w.FallbackToPlain()
	for len(def) > 0 {
		rows, values := 0, 0
		for rows < len(def) && rows < stepRows && off[values]-off[0] < pageBytes {
			values += int(def[rows])
			rows++
		}
		if _, err := w.WriteBatchArrow(data, off[:values+1], def[:rows], nil); err != nil {
			return err
		}
		def, off = def[rows:], off[values:]
	}
	return nil
}
