package parquet

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// dictionaryRows is how many rows a page of indices holds.
const dictionaryRows = 1 << 16

// dictionaryEncoder is what the encoder of a column that may have a dictionary
// can do. arrow-go keeps the type internal, but its own pqarrow comes in by the
// same door.
type dictionaryEncoder interface {
	PutDictionary(arrow.Array) error
	NumEntries() int
}

// pageCutter ends the page that is being written. arrow-go does that by itself
// for values, not for indices.
type pageCutter interface{ FlushCurrentPage() error }

// minMax is the statistics of a page.
type minMax[T any] interface {
	Update(values []T, nulls int64)
	HasMinMax() bool
	Min() T
	Max() T
}

// putDictionary writes a column as the dictionary keys and e.index, which has a
// place for each value that is no NULL.
func putDictionary[T any](e *encoder, cw file.ColumnChunkWriter, keys []T, dict arrow.Array, l levels) error {
	defer dict.Release()
	enc, ok := cw.CurrentEncoder().(dictionaryEncoder)
	if !ok {
		return fmt.Errorf("%T takes no dictionary", cw.CurrentEncoder())
	}
	if err := enc.PutDictionary(dict); err != nil {
		return err
	}
	if enc.NumEntries() != len(keys) {
		return fmt.Errorf("the encoder took %d values for %d", len(keys), enc.NumEntries()) // and their places are no longer ours
	}
	stats, ok := cw.PageStatistics().(minMax[T])
	if !ok && cw.PageStatistics() != nil { // which some columns do without
		return fmt.Errorf("%T are no statistics of %T", cw.PageStatistics(), keys)
	}
	rest := e.index
	for from := 0; from < len(l.def); from += dictionaryRows {
		page := l.page(from, min(from+dictionaryRows, len(l.def)))
		n := len(page.def) - page.nulls
		switch {
		case stats == nil:
		case n > 0:
			keys = bounds(stats, keys, page.nulls)
		default:
			stats.Update(nil, int64(page.nulls))
		}
		if err := e.putIndices(cw, rest[:n], page); err != nil {
			return err
		}
		rest = rest[n:]
		if err := cw.(pageCutter).FlushCurrentPage(); err != nil {
			return err
		}
	}
	return nil
}

// bounds gives a page the bounds of the whole column. What it returns has the
// same bounds, in two values.
func bounds[T any](stats minMax[T], keys []T, nulls int) []T {
	stats.Update(keys, int64(nulls))
	if len(keys) <= 2 || !stats.HasMinMax() {
		return keys
	}
	return []T{clone(stats.Min()), clone(stats.Max())}
}

// clone copies what the statistics will overwrite.
func clone[T any](v T) T {
	switch b := any(&v).(type) {
	case *byteArray:
		*b = append(byteArray{}, *b...) // not nil, which would stand for none
	case *fixedByteArray:
		*b = slices.Clone(*b)
	}
	return v
}

// page is a part of the rows.
func (l levels) page(from, to int) levels {
	p := levels{def: l.def[from:to]}
	if l.nulls > 0 {
		p.nulls, _ = countNulls(p.def) // they were looked at before
	}
	return p
}

// putIndices hands over one page. With NULLs arrow-go wants a slot for each row,
// and a bit that says whether it counts.
func (e *encoder) putIndices(cw file.ColumnChunkWriter, index []int32, l levels) error {
	var valid *memory.Buffer
	if l.nulls > 0 {
		index = e.space(index, l.def)
		valid = memory.NewBufferBytes(e.valid)
	}
	data := array.NewData(arrow.PrimitiveTypes.Int32, len(index), []*memory.Buffer{valid, memory.NewBufferBytes(castSlice[byte](index))}, nil, l.nulls, 0)
	defer data.Release()
	a := array.NewInt32Data(data)
	defer a.Release()
	return cw.WriteDictIndices(a, l.def, nil)
}

func (e *encoder) space(index []int32, def []int16) []int32 {
	e.spaced = slices.Grow(e.spaced[:0], len(def))[:len(def)]
	e.valid = slices.Grow(e.valid[:0], (len(def)+7)/8)[:(len(def)+7)/8]
	clear(e.valid)
	k := 0
	for i, d := range def {
		e.spaced[i] = 0
		if d != 0 {
			e.spaced[i] = index[k]
			e.valid[i/8] |= 1 << (i % 8)
			k++
		}
	}
	return e.spaced
}

// numberArray is v as an arrow array over the same memory.
func numberArray[T int32 | int64 | float32 | float64](t arrow.DataType, v []T) arrow.Array {
	data := array.NewData(t, len(v), []*memory.Buffer{nil, memory.NewBufferBytes(castSlice[byte](v))}, nil, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

func (d *byteStrings) array() arrow.Array {
	data := array.NewData(arrow.BinaryTypes.Binary, d.len(), []*memory.Buffer{nil, memory.NewBufferBytes(castSlice[byte](d.off)), memory.NewBufferBytes(d.data)}, nil, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

func (d *byteStrings) fixedArray(width int) arrow.Array {
	data := array.NewData(&arrow.FixedSizeBinaryType{ByteWidth: width}, d.len(), []*memory.Buffer{nil, memory.NewBufferBytes(d.data)}, nil, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// entries is the dictionary as single values.
func entries[T ~[]byte](d *byteStrings) []T {
	out := make([]T, d.len())
	for i := range out {
		out[i] = T(d.entry(i))
	}
	return out
}

// castSlice is the same memory as a slice of another type of numbers.
func castSlice[To, From int32 | int64 | float32 | float64 | byte](v []From) []To {
	var to To
	var from From
	n := len(v) * int(unsafe.Sizeof(from)) / int(unsafe.Sizeof(to))
	return unsafe.Slice((*To)(unsafe.Pointer(unsafe.SliceData(v))), n)
}

// special32 says of a float's bits that arrow-go's dictionaries don't tell it
// from others: NaN, and 0 from -0.
func special32(bits int32) bool {
	f := math.Float32frombits(uint32(bits))
	return f != f || bits == math.MinInt32
}

func special64(bits int64) bool {
	f := math.Float64frombits(uint64(bits))
	return f != f || bits == math.MinInt64
}
