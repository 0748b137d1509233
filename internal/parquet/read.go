package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	arrow "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// ErrCorrupt means that the bytes are no whole, sound Parquet file; possibly
// wrapped.
var ErrCorrupt = errors.New("not a sound Parquet file")

// Leaf is a column of a file.
type Leaf struct {
	batch.Field
	Required bool // it can't be NULL
	Exact    bool // it is stored as Write stores its type, bit for bit: Delta may take the file as it is
	index    int
	from     source
}

// File is an opened Parquet file of flat columns.
type File struct {
	Leaves   []Leaf // in the file's order, MarkerColumn among them
	Rows     int
	Metadata map[string]string // the footer's key-value pairs
	r        *file.Reader
	from, to int // the row groups that it reads
}

// Open reads the footer of a file that lies in memory. It fails with ErrCorrupt,
// or says which column has a type that no mirror column can have.
func Open(data []byte) (f *File, err error) {
	defer recovered(&err)
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	f = &File{r: r, Rows: int(r.NumRows()), Metadata: map[string]string{}, to: r.NumRowGroups()}
	for _, kv := range r.MetaData().KeyValueMetadata() {
		if kv.Value != nil {
			f.Metadata[kv.Key] = *kv.Value
		}
	}
	s := r.MetaData().Schema
	if s.Root().NumFields() != s.NumColumns() {
		return nil, errors.New("nested columns are not supported")
	}
	for i := range s.NumColumns() {
		l, err := leafOf(s.Column(i))
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", s.Column(i).Name(), err)
		}
		l.index = i
		f.Leaves = append(f.Leaves, l)
	}
	return f, nil
}

// recovered turns a panic of the Parquet library, which meets some torn files
// with one, into ErrCorrupt.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrCorrupt, r)
	}
}

// Leaf finds a column by name.
func (f *File) Leaf(name string) (Leaf, bool) {
	i := slices.IndexFunc(f.Leaves, func(l Leaf) bool { return l.Name == name })
	if i < 0 {
		return Leaf{}, false
	}
	return f.Leaves[i], true
}

// Groups are the file's row groups, each as a file, for a reader that doesn't want
// all rows in memory at once.
func (f *File) Groups() (groups []*File, err error) {
	defer recovered(&err)
	rows := 0
	for g := f.from; g < f.to; g++ {
		part := *f
		part.from, part.to, part.Rows = g, g+1, int(f.r.RowGroup(g).NumRows())
		rows += part.Rows
		groups = append(groups, &part)
	}
	if rows != f.Rows {
		return nil, fmt.Errorf("%w: its row groups have %d rows, it has %d", ErrCorrupt, rows, f.Rows)
	}
	return groups, nil
}

// Read reads the named columns, all but the marker column for nil, into a new
// batch whose schema has no key; the batch has markers if the file has them and
// markers is true. A NULL marker is an error.
func (f *File) Read(columns []string, markers bool) (b *batch.Batch, err error) {
	defer recovered(&err)
	var leaves []Leaf
	s := &batch.Schema{}
	if columns == nil {
		for _, l := range f.Leaves {
			if l.Name != MarkerColumn {
				columns = append(columns, l.Name)
			}
		}
	}
	for _, name := range columns {
		l, ok := f.Leaf(name)
		if !ok {
			return nil, fmt.Errorf("no column %q", name)
		}
		leaves, s.Fields = append(leaves, l), append(s.Fields, l.Field)
	}
	b = batch.New(s, false)
	for i, l := range leaves {
		if err := f.readLeaf(l, &b.Cols[i]); err != nil {
			return nil, fmt.Errorf("column %q: %w", l.Name, err)
		}
	}
	if markers {
		if b.Marker, err = f.readMarkers(); err != nil {
			return nil, err
		}
	}
	b.SetRows(f.Rows)
	return b, nil
}

// Scan reads one column in pieces of few values, for a reader that doesn't want all
// of them in memory at once: a dictionary makes a small file of many long values.
// The piece is used again for the next one.
func (f *File) Scan(column string, each func(piece *batch.Column)) (err error) {
	defer recovered(&err)
	const few = 64
	l, ok := f.Leaf(column)
	if !ok {
		return fmt.Errorf("no column %q", column)
	}
	c := batch.NewColumn(l.Type)
	rows := 0
	for g := f.from; g < f.to; g++ {
		rg := f.r.RowGroup(g)
		cr, err := rg.Column(l.index)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		for left := int(rg.NumRows()); left > 0; left -= few {
			if err := readChunk(cr, min(few, left), l, &c); err != nil {
				return fmt.Errorf("column %q: %w", column, err)
			}
			rows += c.Rows()
			each(&c)
			c.Truncate(0)
		}
	}
	if rows != f.Rows {
		return fmt.Errorf("column %q: %w: %d values, want %d", column, ErrCorrupt, rows, f.Rows)
	}
	return nil
}

func (f *File) readMarkers() ([]int32, error) {
	l, ok := f.Leaf(MarkerColumn)
	if !ok {
		return nil, nil
	}
	c := batch.NewColumn(l.Type)
	if err := f.readLeaf(l, &c); err != nil {
		return nil, fmt.Errorf("column %q: %w", MarkerColumn, err)
	}
	if l.Type.Kind != batch.Int32 {
		return nil, fmt.Errorf("column %q: is %s, want integer", MarkerColumn, l.Type)
	}
	if slices.Contains(c.Def, batch.Null) {
		return nil, fmt.Errorf("column %q: holds NULL", MarkerColumn)
	}
	return slices.Grow(c.I32, 1), nil // not nil, also for no rows
}

func (f *File) readLeaf(l Leaf, c *batch.Column) error {
	for g := f.from; g < f.to; g++ {
		rg := f.r.RowGroup(g)
		cr, err := rg.Column(l.index)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if err := readChunk(cr, int(rg.NumRows()), l, c); err != nil {
			return err
		}
	}
	if len(c.Def) != f.Rows {
		return fmt.Errorf("%w: %d values, want %d", ErrCorrupt, len(c.Def), f.Rows)
	}
	return nil
}

func readChunk(cr file.ColumnChunkReader, rows int, l Leaf, c *batch.Column) error {
	switch r := cr.(type) {
	case *file.BooleanColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, func(c *batch.Column, v bool) {
			if v {
				c.AppendInt32(1)
			} else {
				c.AppendInt32(0)
			}
		})
	case *file.Int32ColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, l.from.int32)
	case *file.Int64ColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, l.from.int64)
	case *file.Int96ColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, func(c *batch.Column, v arrow.Int96) { c.AppendInt64(v.ToTime().UnixMicro()) })
	case *file.Float32ColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, (*batch.Column).AppendFloat32)
	case *file.Float64ColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, (*batch.Column).AppendFloat64)
	case *file.ByteArrayColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, func(c *batch.Column, v arrow.ByteArray) { l.from.bytes(c, v) })
	case *file.FixedLenByteArrayColumnChunkReader:
		return read(r.ReadBatch, rows, l, c, func(c *batch.Column, v arrow.FixedLenByteArray) { l.from.bytes(c, v) })
	}
	return fmt.Errorf("no reader for %T", cr)
}

// read reads one column chunk. Values come without the slots of NULLs.
func read[T any](readBatch func(int64, []T, []int16, []int16) (int64, int, error), rows int, l Leaf, c *batch.Column, add func(*batch.Column, T)) error {
	const step = 1 << 13
	values, def := make([]T, min(rows, step)), make([]int16, min(rows, step))
	for done := 0; done < rows; {
		total, n, err := readBatch(int64(min(step, rows-done)), values, def, nil)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if total == 0 {
			return fmt.Errorf("%w: ends after %d of %d values", ErrCorrupt, done, rows)
		}
		done += int(total)
		if l.Required {
			for _, v := range values[:n] {
				add(c, v)
			}
			continue
		}
		k := 0
		for _, d := range def[:total] {
			if d == 0 {
				c.AppendNull()
				continue
			}
			if k == n {
				return fmt.Errorf("%w: fewer values than levels", ErrCorrupt)
			}
			add(c, values[k])
			k++
		}
	}
	return nil
}

// source says how a leaf's stored values become a Column's.
type source struct {
	int32 func(*batch.Column, int32)
	int64 func(*batch.Column, int64)
	bytes func(*batch.Column, []byte)
}

// leafOf finds the type of a column of a file that we may not have written.
func leafOf(c *schema.Column) (Leaf, error) {
	l := Leaf{Field: batch.Field{Name: c.Name()}, Required: c.MaxDefinitionLevel() == 0}
	if c.MaxRepetitionLevel() > 0 || c.MaxDefinitionLevel() > 1 {
		return l, errors.New("nested and repeated columns are not supported")
	}
	var err error
	l.Type, l.from, err = typeOf(c)
	if err != nil {
		return l, err
	}
	want, err := leaf(l.Field)
	if err != nil {
		return l, err
	}
	prim := want.(*schema.PrimitiveNode)
	l.Exact = prim.PhysicalType() == c.PhysicalType() && sameLogical(prim.LogicalType(), c.LogicalType()) &&
		(c.PhysicalType() != arrow.Types.FixedLenByteArray || prim.TypeLength() == c.TypeLength())
	return l, nil
}

func sameLogical(a, b schema.LogicalType) bool {
	none := func(t schema.LogicalType) bool { // INT(32, true) and INT(64, true) say no more than the physical type
		i, whole := t.(schema.IntLogicalType)
		return t == nil || t.IsNone() || !t.IsValid() || whole && i.IsSigned() && i.BitWidth() >= 32
	}
	if none(a) || none(b) {
		return none(a) == none(b)
	}
	return a.Equals(b)
}

func typeOf(c *schema.Column) (batch.Type, source, error) {
	direct := source{int32: (*batch.Column).AppendInt32, int64: (*batch.Column).AppendInt64, bytes: (*batch.Column).AppendBytes}
	kind := func(k batch.Kind) (batch.Type, source, error) { return batch.Type{Kind: k}, direct, nil }
	switch t := c.LogicalType().(type) {
	case schema.DecimalLogicalType:
		return decimalType(t)
	case schema.TimestampLogicalType:
		return timestampType(t)
	case schema.DateLogicalType:
		return kind(batch.Date)
	case schema.StringLogicalType, schema.EnumLogicalType, schema.JSONLogicalType:
		return kind(batch.String)
	case schema.IntLogicalType:
		switch {
		case !t.IsSigned() && t.BitWidth() == 32:
			return batch.Type{Kind: batch.Int64}, source{int32: func(c *batch.Column, v int32) { c.AppendInt64(int64(uint32(v))) }}, nil
		case !t.IsSigned() && t.BitWidth() == 64:
			return batch.Type{}, direct, errors.New("unsigned 64-bit integers are not supported")
		case t.BitWidth() == 8, t.IsSigned() && t.BitWidth() == 16:
			return kind(batch.Int16)
		}
	case schema.TimeLogicalType, schema.IntervalLogicalType:
		return batch.Type{}, direct, fmt.Errorf("%s is not supported", t)
	}
	switch c.PhysicalType() {
	case arrow.Types.Boolean:
		return kind(batch.Bool)
	case arrow.Types.Int32:
		return kind(batch.Int32)
	case arrow.Types.Int64:
		return kind(batch.Int64)
	case arrow.Types.Int96:
		return kind(batch.Timestamp)
	case arrow.Types.Float:
		return kind(batch.Float32)
	case arrow.Types.Double:
		return kind(batch.Float64)
	}
	return kind(batch.Binary)
}

func timestampType(t schema.TimestampLogicalType) (batch.Type, source, error) {
	typ := batch.Type{Kind: batch.TimestampNTZ}
	if t.IsAdjustedToUTC() {
		typ.Kind = batch.Timestamp
	}
	convert := func(v int64) int64 { return v }
	switch t.TimeUnit() {
	case schema.TimeUnitMillis:
		convert = func(v int64) int64 { return v * 1000 }
	case schema.TimeUnitNanos:
		convert = func(v int64) int64 { // rounded down, also before 1970
			q := v / 1000
			if v%1000 < 0 {
				q--
			}
			return q
		}
	}
	return typ, source{int64: func(c *batch.Column, v int64) { c.AppendInt64(convert(v)) }}, nil
}

func decimalType(t schema.DecimalLogicalType) (batch.Type, source, error) {
	typ := batch.Type{Kind: batch.Decimal, Precision: int(t.Precision()), Scale: int(t.Scale())}
	if typ.Precision < 1 || typ.Precision > 38 || typ.Scale < 0 || typ.Scale > typ.Precision {
		return typ, source{}, fmt.Errorf("%s is not supported", typ)
	}
	add := func(c *batch.Column, hi, lo int64) {
		if c.Type.Storage() == batch.Store64 {
			c.AppendInt64(lo)
		} else {
			c.AppendInt128(batch.Int128{Hi: hi, Lo: uint64(lo)})
		}
	}
	return typ, source{
		int32: func(c *batch.Column, v int32) { add(c, int64(v>>31), int64(v)) },
		int64: func(c *batch.Column, v int64) { add(c, v>>63, v) },
		bytes: func(c *batch.Column, v []byte) {
			hi, lo := int64(0), uint64(0)
			if len(v) > 0 && v[0]&0x80 != 0 {
				hi, lo = -1, 1<<64-1
			}
			for _, x := range v {
				hi = hi<<8 | int64(lo>>56)
				lo = lo<<8 | uint64(x)
			}
			add(c, hi, int64(lo))
		},
	}, nil
}
