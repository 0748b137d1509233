// Package parquet writes and reads a batch as a Parquet file.
package parquet

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

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
	root, err := fileSchema(b)
	if err != nil {
		return err
	}
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	fw := file.NewParquetWriter(w, root, file.WithWriterProps(properties(b.Schema)))
	for from := 0; from < b.Rows(); from += RowGroupRows {
		if err := e.writeRowGroup(fw, b, from, min(from+RowGroupRows, b.Rows())); err != nil {
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

// encoders keeps what one Write has allocated for the next one.
var encoders = sync.Pool{New: func() any { return new(encoder) }}

// stepRows is after how many rows at most arrow-go looks at the size of a page.
const stepRows = 1 << 13

// properties leaves out the statistics of text and bytes that are no key: to compare
// each value with the least and the greatest one is a sixth of what a file costs, and
// the files of a landing zone are read whole.
func properties(s *batch.Schema) *arrow.WriterProperties {
	p := []arrow.WriterProperty{arrow.WithCompression(compress.Codecs.Snappy), arrow.WithCreatedBy("pgmirror"),
		arrow.WithDataPageVersion(arrow.DataPageV1), arrow.WithBatchSize(stepRows), arrow.WithDataPageSize(pageBytes)}
	for i, f := range s.Fields {
		if k := f.Type.Kind; (k == batch.String || k == batch.Binary) && !slices.Contains(s.Key, i) {
			p = append(p, arrow.WithStatsFor(f.Name, false))
		}
	}
	return arrow.NewWriterProperties(p...)
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

func (e *encoder) writeRowGroup(fw *file.Writer, b *batch.Batch, from, to int) error {
	rg, err := fw.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	for i := range b.Cols {
		cw, err := rg.NextColumn()
		if err == nil {
			err = e.writeColumn(cw, &b.Cols[i], from, to)
		}
		if err != nil {
			return fmt.Errorf("column %q: %w", b.Schema.Fields[i].Name, err)
		}
	}
	if b.Marker != nil {
		if err := e.writeMarkers(rg, b.Marker[from:to]); err != nil {
			return fmt.Errorf("column %q: %w", MarkerColumn, err)
		}
	}
	return rg.Close()
}

func (e *encoder) writeMarkers(rg file.SerialRowGroupWriter, markers []int32) error {
	cw, err := rg.NextColumn()
	if err != nil {
		return err
	}
	c := batch.Column{Type: batch.Type{Kind: batch.Int32}, I32: markers, Def: e.allPresent(len(markers))}
	return e.writeColumn(cw, &c, 0, len(markers))
}
