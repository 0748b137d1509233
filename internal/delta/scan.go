package delta

import (
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
)

// Scan reads the named columns (nil: all) of one data file after another, in the
// order of Files, and calls fn with the rows of the file and the positions of
// those that are not deleted. A column that a file doesn't have is NULL. The
// batch has the columns in the order asked for, and no key. One file is in
// memory at a time; the slice of positions is used again for the next. A file
// that isn't what the log says is an error that names it, and none of its rows
// are passed on. An error of fn ends the scan and is returned.
func (s *Snapshot) Scan(ctx context.Context, columns []string, fn func(f File, b *batch.Batch, live []int32) error) error {
	var live []int32
	for i := range s.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := s.ReadFile(ctx, &s.Files[i], columns)
		if err != nil {
			return err
		}
		if live, err = s.live(ctx, &s.Files[i], b.Rows(), live[:0]); err != nil {
			return err
		}
		if err := fn(s.Files[i], b, live); err != nil {
			return err
		}
	}
	return nil
}

// ReadFile reads the named columns (nil: all) of every row of a data file, also
// of the rows that its deletion vector deletes.
func (s *Snapshot) ReadFile(ctx context.Context, f *File, columns []string) (*batch.Batch, error) {
	fields, pf, err := s.openFile(ctx, f, columns)
	if err != nil {
		return nil, err
	}
	b, err := readColumns(pf, fields)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return b, nil
}

// ReadGroups is ReadFile row group by row group, for files that may be large: fn is
// called with each, and with the number of the rows before it.
func (s *Snapshot) ReadGroups(ctx context.Context, f *File, columns []string, fn func(b *batch.Batch, before int) error) error {
	fields, pf, err := s.openFile(ctx, f, columns)
	if err != nil {
		return err
	}
	groups, err := pf.Groups()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	before := 0
	for _, g := range groups {
		b, err := readColumns(g, fields)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if err := fn(b, before); err != nil {
			return err
		}
		before += g.Rows
	}
	return nil
}

// openFile fetches a data file, and finds the columns asked for in the schema.
func (s *Snapshot) openFile(ctx context.Context, f *File, columns []string) ([]batch.Field, *parquet.File, error) {
	fields, err := s.fields(columns)
	if err != nil {
		return nil, nil, err
	}
	data, _, err := s.table.Read(ctx, f.Name, 0, -1)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", f.Name, err)
	}
	if int64(len(data)) != f.Size {
		return nil, nil, fmt.Errorf("%s has %d bytes, the log says %d: %w", f.Name, len(data), f.Size, parquet.ErrCorrupt)
	}
	pf, err := parquet.Open(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if f.Rows >= 0 && int64(pf.Rows) != f.Rows {
		return nil, nil, fmt.Errorf("%s has %d rows, the log says %d: %w", f.Name, pf.Rows, f.Rows, parquet.ErrCorrupt)
	}
	return fields, pf, nil
}

// fields finds the columns asked for in the schema.
func (s *Snapshot) fields(columns []string) ([]batch.Field, error) {
	if columns == nil {
		return s.Schema.Fields, nil
	}
	var out []batch.Field
	for _, name := range columns {
		i := slices.IndexFunc(s.Schema.Fields, func(f batch.Field) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the table has no column %q", name)
		}
		out = append(out, s.Schema.Fields[i])
	}
	return out, nil
}

// readColumns reads the fields that the file has, as the type that the table
// gives them, and makes the others NULL.
func readColumns(pf *parquet.File, fields []batch.Field) (*batch.Batch, error) {
	have := []string{}
	for _, f := range fields {
		l, ok := pf.Leaf(f.Name)
		if !ok {
			continue
		}
		if l.Type != f.Type {
			return nil, fmt.Errorf("column %q is %s, the table says %s", f.Name, l.Type, f.Type)
		}
		have = append(have, f.Name)
	}
	got, err := pf.Read(have, false)
	if err != nil {
		return nil, err
	}
	b := &batch.Batch{Schema: &batch.Schema{Fields: fields}, Cols: make([]batch.Column, len(fields))}
	next := 0
	for i, f := range fields {
		if next < len(have) && have[next] == f.Name {
			b.Cols[i] = got.Cols[next]
			next++
			continue
		}
		b.Cols[i] = batch.NewColumn(f.Type)
		for range pf.Rows {
			b.Cols[i].AppendNull()
		}
	}
	b.SetRows(pf.Rows)
	return b, nil
}

// live lists the rows of a file that its deletion vector leaves.
func (s *Snapshot) live(ctx context.Context, f *File, rows int, dst []int32) ([]int32, error) {
	dead, err := s.Deleted(ctx, f)
	if err != nil {
		return nil, err
	}
	return Live(rows, dead, dst), nil
}

// Live appends the rows of a file of that many that are not dead; dead may be nil.
func Live(rows int, dead *roaring64.Bitmap, dst []int32) []int32 {
	dst = slices.Grow(dst, rows)
	next := int32(0)
	if dead != nil {
		for it := dead.Iterator(); it.HasNext(); {
			for d := it.Next(); uint64(next) < min(d, uint64(rows)); next++ {
				dst = append(dst, next)
			}
			next++
		}
	}
	for ; next < int32(rows); next++ {
		dst = append(dst, next)
	}
	return dst
}
