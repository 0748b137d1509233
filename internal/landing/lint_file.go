package landing

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// lintedShape is what a table's files have been like so far.
type lintedShape struct {
	columns []lintedColumn
	order   []string // of the columns in the last file that isn't one of deletes
	marked  string   // the first file with markers

	header   []string // of the first file of delimited text
	headerOf string
}

type lintedColumn struct {
	batch.Field
	notNull bool
	from    string   // the first file that has it
	without []string // files of changes after that which leave it out
}

// file looks into a data file.
func (t *tableLint) file(ctx context.Context, i store.Info, sh *lintedShape) error {
	if i.Size == 0 {
		t.report(FileEmpty, i.Name, "")
		return nil
	}
	if !t.meta.parquet() {
		if t.meta.text.readable() {
			return t.text(ctx, i, sh)
		}
		return nil
	}
	body, _, err := t.s.Read(ctx, i.Name, 0, -1)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return nil // it was processed meanwhile
	case err != nil:
		return err
	}
	f, err := parquet.Open(body)
	switch {
	case errors.Is(err, parquet.ErrCorrupt):
		t.report(FileTorn, i.Name, "%v", err)
		return nil
	case err != nil:
		t.report(ColumnTypeUnsupported, i.Name, "%v", err)
		return nil
	}
	t.linted.Files++
	t.linted.Rows += int64(f.Rows)
	l := fileLint{tableLint: t, name: i.Name, f: f, sh: sh}
	if !l.compression(body) {
		return nil // it can't be read on
	}
	l.columnNames(i.Name, l.columns())
	l.markers()
	l.schema()
	l.types()
	l.keys()
	return nil
}

// fileLint is the look into one Parquet file.
type fileLint struct {
	*tableLint
	name    string
	f       *parquet.File
	sh      *lintedShape
	torn    bool // it was reported that the file can't be read
	deletes bool // it has the keys of rows that are gone, and nothing else
}

// compression reports false when a column can't be read.
func (l *fileLint) compression(body []byte) bool {
	r, err := file.NewParquetReader(bytes.NewReader(body))
	if err != nil {
		l.tear(err)
		return false
	}
	allowed := []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Zstd}
	for g := range r.NumRowGroups() {
		for c := range l.f.Leaves {
			chunk, err := r.MetaData().RowGroup(g).ColumnChunk(c)
			if err != nil {
				l.tear(err)
				return false
			}
			if codec := chunk.Compression(); !slices.Contains(allowed, codec) {
				l.report(CompressionUnsupported, l.name, "column %q is compressed with %s", l.f.Leaves[c].Name, codec)
				return false
			}
		}
	}
	return true
}

func (l *fileLint) tear(err error) {
	if !l.torn {
		l.report(FileTorn, l.name, "%v", err)
	}
	l.torn = true
}

// forbiddenInName are the characters that no column of a Delta table has in its
// name (without column mapping, which Fabric's mirror doesn't use).
const forbiddenInName = " ,;{}()\n\t="

// columns are the names in the file's order.
func (l *fileLint) columns() (names []string) {
	for _, leaf := range l.f.Leaves {
		names = append(names, leaf.Name)
	}
	return names
}

func (t *tableLint) columnNames(file string, names []string) {
	seen := map[string]string{}
	for _, name := range names {
		lower := strings.ToLower(name)
		if before, ok := seen[lower]; ok {
			t.report(ColumnNameTwice, file, "%q and %q", before, name)
		}
		seen[lower] = name
		switch {
		case name == "" || strings.ContainsAny(name, forbiddenInName):
			t.report(ColumnNameForbidden, file, "%q", name)
		case name != parquet.MarkerColumn && strings.Trim(lower, "_") == "rowmarker":
			t.report(MarkerMisspelt, file, "%q", name)
		}
	}
}

// schema compares the columns with those of the files before. Which columns a table
// has, a file of deletes doesn't say.
func (l *fileLint) schema() {
	first := l.sh.columns == nil
	base := path.Base(l.name)
	l.order()
	for _, leaf := range l.f.Leaves {
		if leaf.Name == parquet.MarkerColumn {
			continue
		}
		i := slices.IndexFunc(l.sh.columns, func(c lintedColumn) bool { return c.Name == leaf.Name })
		if i < 0 && l.deletes {
			continue
		}
		if i < 0 {
			if !first && leaf.Required {
				l.report(SchemaNotNullAdded, l.name, "%q", leaf.Name)
			}
			if c := l.otherCase(leaf.Name); c != nil {
				l.report(SchemaCaseChanged, l.name, "%q was %q in %s", leaf.Name, c.Name, c.from)
			}
			l.sh.columns = append(l.sh.columns, lintedColumn{Field: leaf.Field, notNull: leaf.Required, from: base})
			continue
		}
		if l.sh.columns[i].Type != leaf.Type {
			l.report(SchemaTypeChanged, l.name, "%q is %s, and was %s in %s", leaf.Name, leaf.Type, l.sh.columns[i].Type, l.sh.columns[i].from)
		}
		if l.sh.columns[i].notNull != leaf.Required {
			l.report(SchemaNullChanged, l.name, "%q was otherwise in %s", leaf.Name, l.sh.columns[i].from)
		}
		for _, file := range l.sh.columns[i].without { // it wasn't dropped for good, then
			l.report(SchemaColumnLeftOut, file, "%q, which %s and %s have", leaf.Name, l.sh.columns[i].from, base)
		}
		l.sh.columns[i].without = nil
	}
	for _, c := range l.sh.columns {
		if _, ok := l.f.Leaf(c.Name); !ok && c.notNull && !l.deletes {
			l.report(SchemaNotNullDropped, l.name, "%q of %s", c.Name, c.from)
		}
	}
}

// otherCase finds a column of the files before that this one has under a name which
// differs only in case.
func (l *fileLint) otherCase(name string) *lintedColumn {
	for i := range l.sh.columns {
		c := &l.sh.columns[i]
		if _, ok := l.f.Leaf(c.Name); !ok && strings.EqualFold(c.Name, name) {
			return c
		}
	}
	return nil
}

// order compares the order of the columns that this file and the last one have. The
// last one alone: a column that was dropped and made again comes elsewhere, rightly.
func (l *fileLint) order() {
	var names []string
	last := -1
	told := false
	for _, name := range l.columns() {
		if name == parquet.MarkerColumn {
			continue
		}
		names = append(names, name)
		at := slices.Index(l.sh.order, name)
		if at >= 0 && at < last && !told {
			told = true
			l.report(SchemaOrderChanged, l.name, "%q came before %q", name, l.sh.order[last])
		}
		last = max(last, at)
	}
	if !l.deletes {
		l.sh.order = names
	}
}

func (l *fileLint) types() {
	for _, leaf := range l.f.Leaves {
		isTime := leaf.Type.Kind == batch.Timestamp || leaf.Type.Kind == batch.TimestampNTZ
		if isTime && !leaf.Exact {
			l.report(TimestampUnit, l.name, "%q", leaf.Name)
		}
		if leaf.Type.Kind == batch.TimestampNTZ {
			l.report(TimestampNoZone, l.name, "%q", leaf.Name)
		}
		if leaf.Type.Kind == batch.String {
			l.strings(leaf)
		} else {
			l.scan(leaf.Name, func(*batch.Column, int) {}) // a page that can't be decoded is seen nowhere else
		}
	}
}

func (l *fileLint) strings(leaf parquet.Leaf) {
	told := false
	l.scan(leaf.Name, func(c *batch.Column, before int) {
		for i := range c.Rows() {
			if n := len(c.Value(i)); n > l.maxString && !told {
				told = true
				l.report(StringTooLong, l.name, "%q has %d bytes in row %d", leaf.Name, n, before+i+1)
			}
		}
	})
}

// scan reads one column in pieces, each with the number of rows before it, or
// reports that the file is torn.
func (l *fileLint) scan(name string, each func(c *batch.Column, before int)) (whole bool) {
	before := 0
	err := l.f.Scan(name, func(c *batch.Column) {
		each(c, before)
		before += c.Rows()
	})
	if err != nil {
		l.tear(err)
	}
	return err == nil
}

// marker reports whether a file has the marker column, and where it is amiss.
func (t *tableLint) marker(file string, names []string, sh *lintedShape) bool {
	at := slices.Index(names, parquet.MarkerColumn)
	if at < 0 {
		if sh.marked != "" && !t.meta.upserts {
			t.report(MarkerLeftOut, file, "%s has markers", sh.marked)
		}
		return false
	}
	if sh.marked == "" {
		sh.marked = path.Base(file)
	}
	if at != len(names)-1 {
		t.report(MarkerNotLast, file, "it is column %d of %d", at+1, len(names))
	}
	return true
}

func (l *fileLint) markers() {
	if !l.marker(l.name, l.columns(), l.sh) {
		return
	}
	leaf, _ := l.f.Leaf(parquet.MarkerColumn)
	if leaf.Type.Kind != batch.Int32 {
		l.report(MarkerTypeWrong, l.name, "it is %s", leaf.Type)
		return
	}
	if l.f.Rows > l.maxRows {
		l.report(FileTooLarge, l.name, "%d rows", l.f.Rows)
	}
	m := markerCount{tableLint: l.tableLint, name: l.name}
	whole := l.scan(parquet.MarkerColumn, func(c *batch.Column, before int) {
		for i, v := range c.I32 {
			if c.Def[i] != batch.Present {
				m.unknown("NULL in row %d", before+i+1)
				continue
			}
			m.add(v, before+i+1)
		}
	})
	if !whole {
		return
	}
	more := func(name string) bool { return name != parquet.MarkerColumn && !slices.Contains(l.meta.keys, name) }
	if m.deletes < l.f.Rows {
		l.leavesOut()
	} else {
		l.deletes = !slices.ContainsFunc(l.columns(), more)
	}
	m.end()
}

// markerCount is what the markers of a file say.
type markerCount struct {
	*tableLint
	name                      string
	marked                    bool // the file has markers
	inserts, changes, deletes int
	told                      bool // of the first that is unknown
}

func (m *markerCount) add(v int32, row int) {
	switch v {
	case 0:
		m.inserts++
	case batch.Delete:
		m.changes, m.deletes = m.changes+1, m.deletes+1
	case 1, batch.Upsert:
		m.changes++
	default:
		m.unknown("%d in row %d", v, row)
	}
}

// text adds a marker of delimited text.
func (m *markerCount) text(s string, row int) {
	v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil {
		m.unknown("row %d has no number", row)
		return
	}
	m.add(int32(v), row)
}

func (m *markerCount) unknown(format string, args ...any) {
	if !m.told {
		m.report(MarkerUnknown, m.name, format, args...)
	}
	m.told = true
}

func (m *markerCount) end() {
	if m.inserts > 0 {
		m.report(MarkerInsert, m.name, "%d rows", m.inserts)
	}
	if m.changes > 0 {
		m.keyless(m.name, "%d rows are updates, deletes or upserts", m.changes)
	}
}

// leavesOut notes which columns are absent from a file that writes rows. Should they
// come back, they were no columns that the source has dropped.
func (l *fileLint) leavesOut() {
	for i := range l.sh.columns {
		if c := &l.sh.columns[i]; !c.notNull { // else it was reported
			if _, ok := l.f.Leaf(c.Name); !ok {
				c.without = append(c.without, l.name)
			}
		}
	}
}

func (l *fileLint) keys() {
	for _, k := range l.meta.keys {
		if k == "" {
			continue // was reported
		}
		if _, ok := l.f.Leaf(k); !ok {
			l.report(KeyColumnAbsent, l.name, "%q", k)
			continue
		}
		told := false
		l.scan(k, func(c *batch.Column, before int) {
			if i := slices.Index(c.Def, batch.Null); i >= 0 && !told {
				told = true
				l.report(KeyColumnNull, l.name, "%q in row %d", k, before+i+1)
			}
		})
	}
}
