// Package parquet writes and reads a batch as a Parquet file.
package parquet

import (
	"fmt"
	"io"
	"maps"
	"slices"

	arrow "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// MarkerColumn holds the row markers; it is an INT32 and the last column
// (https://learn.microsoft.com/fabric/mirroring/open-mirroring-landing-zone-format).
const MarkerColumn = "__rowMarker__"

// RowGroupRows is how many rows a row group holds at most.
const RowGroupRows = 1 << 20

// Write writes b as one Parquet file: every column OPTIONAL, snappy, data page
// V1, then MarkerColumn if b has markers. Metadata goes into the footer. A value
// that was never sent (batch.Unchanged) is an error: nothing may guess it.
func Write(w io.Writer, b *batch.Batch, metadata map[string]string) error {
	for i := range b.Cols {
		if slices.Contains(b.Cols[i].Def, batch.Unchanged) {
			return fmt.Errorf("column %q: a value that was not sent can't be written", b.Schema.Fields[i].Name)
		}
	}
	root, err := fileSchema(b)
	if err != nil {
		return err
	}
	fw := file.NewParquetWriter(w, root, file.WithWriterProps(writerProperties(b)))
	for from := 0; from < b.Rows(); from += RowGroupRows {
		if err := writeRowGroup(fw, b, from, min(from+RowGroupRows, b.Rows())); err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		if err := fw.AppendKeyValueMetadata(k, metadata[k]); err != nil {
			return err
		}
	}
	return fw.Close()
}

func writerProperties(b *batch.Batch) *arrow.WriterProperties {
	o := []arrow.WriterProperty{arrow.WithCompression(compress.Codecs.Snappy), arrow.WithCreatedBy("pgmirror"), arrow.WithDataPageVersion(arrow.DataPageV1)}
	for i, f := range b.Schema.Fields {
		// Keys don't repeat: a dictionary of them would be built in vain.
		if slices.Contains(b.Schema.Key, i) && len(b.Schema.Key) == 1 {
			o = append(o, arrow.WithDictionaryPath(arrow.ColumnPath{f.Name}, false))
		}
	}
	return arrow.NewWriterProperties(o...)
}

func fileSchema(b *batch.Batch) (*schema.GroupNode, error) {
	var fields schema.FieldList
	for _, f := range b.Schema.Fields {
		n, err := leaf(f)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		fields = append(fields, n)
	}
	if b.Marker != nil {
		fields = append(fields, schema.NewInt32Node(MarkerColumn, arrow.Repetitions.Optional, -1))
	}
	return schema.NewGroupNode("schema", arrow.Repetitions.Required, fields, -1)
}

// leaf is the Parquet leaf of a column, as Delta wants it
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#primitive-types).
func leaf(f batch.Field) (schema.Node, error) {
	logical := func(t schema.LogicalType, p arrow.Type, n int) (schema.Node, error) {
		return schema.NewPrimitiveNodeLogical(f.Name, arrow.Repetitions.Optional, t, p, n, -1)
	}
	opt := arrow.Repetitions.Optional
	switch f.Type.Kind {
	case batch.Bool:
		return schema.NewBooleanNode(f.Name, opt, -1), nil
	case batch.Int16:
		return logical(schema.NewIntLogicalType(16, true), arrow.Types.Int32, 0)
	case batch.Int32:
		return schema.NewInt32Node(f.Name, opt, -1), nil
	case batch.Int64:
		return schema.NewInt64Node(f.Name, opt, -1), nil
	case batch.Float32:
		return schema.NewFloat32Node(f.Name, opt, -1), nil
	case batch.Float64:
		return schema.NewFloat64Node(f.Name, opt, -1), nil
	case batch.Date:
		return logical(schema.DateLogicalType{}, arrow.Types.Int32, 0)
	case batch.Timestamp:
		return logical(schema.NewTimestampLogicalType(true, schema.TimeUnitMicros), arrow.Types.Int64, 0)
	case batch.TimestampNTZ:
		return logical(schema.NewTimestampLogicalTypeForce(false, schema.TimeUnitMicros), arrow.Types.Int64, 0)
	case batch.String:
		return logical(schema.StringLogicalType{}, arrow.Types.ByteArray, 0)
	case batch.Binary:
		return schema.NewByteArrayNode(f.Name, opt, -1), nil
	case batch.Decimal:
		p, n := decimalLeaf(f.Type.Precision)
		return logical(schema.NewDecimalLogicalType(int32(f.Type.Precision), int32(f.Type.Scale)), p, n)
	}
	return nil, fmt.Errorf("kind %d has no Parquet type", f.Type.Kind)
}

// decimalLeaf is the physical type of a decimal, and its length in bytes if it
// is a fixed one: the least that holds the precision.
func decimalLeaf(precision int) (arrow.Type, int) {
	switch {
	case precision <= 9:
		return arrow.Types.Int32, 0
	case precision <= 18:
		return arrow.Types.Int64, 0
	}
	return arrow.Types.FixedLenByteArray, decimalBytes[precision]
}

// decimalBytes[p] bytes hold every integer of p digits in two's complement.
var decimalBytes = [39]int{19: 9, 20: 9, 21: 9, 22: 10, 23: 10, 24: 11, 25: 11, 26: 11, 27: 12, 28: 12, 29: 13, 30: 13, 31: 13, 32: 14, 33: 14, 34: 15, 35: 15, 36: 16, 37: 16, 38: 16}

func writeRowGroup(fw *file.Writer, b *batch.Batch, from, to int) error {
	rg := fw.AppendRowGroup()
	for i := range b.Cols {
		cw, err := rg.NextColumn()
		if err == nil {
			err = writeColumn(cw, &b.Cols[i], from, to)
		}
		if err != nil {
			return fmt.Errorf("column %q: %w", b.Schema.Fields[i].Name, err)
		}
	}
	if b.Marker != nil {
		cw, err := rg.NextColumn()
		if err != nil {
			return err
		}
		def := slices.Repeat([]int16{batch.Present}, to-from)
		if _, err := cw.(*file.Int32ColumnChunkWriter).WriteBatch(b.Marker[from:to], def, nil); err != nil {
			return fmt.Errorf("column %q: %w", MarkerColumn, err)
		}
		if err := cw.Close(); err != nil {
			return err
		}
	}
	return rg.Close()
}

func writeColumn(cw file.ColumnChunkWriter, c *batch.Column, from, to int) error {
	def := c.Def[from:to]
	var err error
	switch w := cw.(type) {
	case *file.BooleanColumnChunkWriter:
		v := present(c.I32[from:to], def)
		bools := make([]bool, len(v))
		for i, x := range v {
			bools[i] = x != 0
		}
		_, err = w.WriteBatch(bools, def, nil)
	case *file.Int32ColumnChunkWriter:
		v := c.I32
		if c.Type.Kind == batch.Decimal {
			v = narrow(c.I64[from:to])
		} else {
			v = v[from:to]
		}
		_, err = w.WriteBatch(present(v, def), def, nil)
	case *file.Int64ColumnChunkWriter:
		_, err = w.WriteBatch(present(c.I64[from:to], def), def, nil)
	case *file.Float32ColumnChunkWriter:
		_, err = w.WriteBatch(present(c.F32[from:to], def), def, nil)
	case *file.Float64ColumnChunkWriter:
		_, err = w.WriteBatch(present(c.F64[from:to], def), def, nil)
	case *file.FixedLenByteArrayColumnChunkWriter:
		_, err = w.WriteBatch(fixed(present(c.I128[from:to], def), decimalBytes[c.Type.Precision]), def, nil)
	case *file.ByteArrayColumnChunkWriter:
		err = writeBytes(w, c.Data, presentOffsets(c.Off[from:to+1], def), def)
	default:
		err = fmt.Errorf("no writer for %T", cw)
	}
	if err != nil {
		return err
	}
	return cw.Close()
}

// present leaves out the slots of NULLs, which Parquet doesn't store.
func present[T any](v []T, def []int16) []T {
	if !slices.Contains(def, batch.Null) {
		return v
	}
	out := make([]T, 0, len(v))
	for i, d := range def {
		if d == batch.Present {
			out = append(out, v[i])
		}
	}
	return out
}

// presentOffsets is present for bytes: a NULL has none, so that leaving out its
// offset moves no other value.
func presentOffsets(off []int32, def []int16) []int32 {
	if !slices.Contains(def, batch.Null) {
		return off
	}
	out := append(make([]int32, 0, len(off)), off[0])
	for i, d := range def {
		if d == batch.Present {
			out = append(out, off[i+1])
		}
	}
	return out
}

// writeBytes takes the way without a slice a value where the encoder has one; the
// dictionary's has not.
func writeBytes(w *file.ByteArrayColumnChunkWriter, data []byte, off []int32, def []int16) error {
	if w.SupportsArrowOffsets() {
		_, err := w.WriteBatchArrow(data, off, def, nil)
		return err
	}
	v := make([]arrow.ByteArray, len(off)-1)
	for i := range v {
		v[i] = data[off[i]:off[i+1]:off[i+1]]
	}
	_, err := w.WriteBatch(v, def, nil)
	return err
}

func narrow(v []int64) []int32 {
	out := make([]int32, len(v))
	for i, x := range v {
		out[i] = int32(x)
	}
	return out
}

// fixed is decimals as big-endian two's complement of n bytes each.
func fixed(v []batch.Int128, n int) []arrow.FixedLenByteArray {
	buf := make([]byte, n*len(v))
	out := make([]arrow.FixedLenByteArray, len(v))
	for i, x := range v {
		p := buf[i*n : (i+1)*n : (i+1)*n]
		for k := range n {
			shift := 8 * (n - 1 - k)
			if shift >= 64 {
				p[k] = byte(x.Hi >> (shift - 64))
			} else {
				p[k] = byte(x.Lo >> shift)
			}
		}
		out[i] = p
	}
	return out
}
