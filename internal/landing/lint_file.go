package landing

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
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
	marked  string // the first file with markers
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
	if !t.meta.parquet() { // what is in delimited text isn't looked at
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
	l.names()
	l.schema()
	l.types()
	l.markers()
	l.keys()
	return nil
}

// fileLint is the look into one Parquet file.
type fileLint struct {
	*tableLint
	name string
	f    *parquet.File
	sh   *lintedShape
	torn bool // it was reported that the file can't be read
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

func (l *fileLint) names() {
	seen := map[string]string{}
	for _, leaf := range l.f.Leaves {
		lower := strings.ToLower(leaf.Name)
		if before, ok := seen[lower]; ok {
			l.report(ColumnNameTwice, l.name, "%q and %q", before, leaf.Name)
		}
		seen[lower] = leaf.Name
		switch {
		case leaf.Name == "" || strings.ContainsAny(leaf.Name, forbiddenInName):
			l.report(ColumnNameForbidden, l.name, "%q", leaf.Name)
		case leaf.Name != parquet.MarkerColumn && strings.Trim(lower, "_") == "rowmarker":
			l.report(MarkerMisspelt, l.name, "%q", leaf.Name)
		}
	}
}

// schema compares the columns with those of the files before.
func (l *fileLint) schema() {
	first := l.sh.columns == nil
	base := path.Base(l.name)
	for _, leaf := range l.f.Leaves {
		if leaf.Name == parquet.MarkerColumn {
			continue
		}
		i := slices.IndexFunc(l.sh.columns, func(c lintedColumn) bool { return c.Name == leaf.Name })
		if i < 0 {
			if !first && leaf.Required {
				l.report(SchemaNotNullAdded, l.name, "%q", leaf.Name)
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
		if _, ok := l.f.Leaf(c.Name); !ok && c.notNull {
			l.report(SchemaNotNullDropped, l.name, "%q of %s", c.Name, c.from)
		}
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
			l.column(leaf.Name) // a page that can't be decoded is seen nowhere else
		}
	}
}

func (l *fileLint) strings(leaf parquet.Leaf) {
	col := l.column(leaf.Name)
	if col == nil {
		return
	}
	for i := range col.Rows() {
		if n := len(col.Value(i)); n > l.maxString {
			l.report(StringTooLong, l.name, "%q has %d bytes in row %d", leaf.Name, n, i+1)
			return
		}
	}
}

// column reads one column, or reports that the file is torn and returns nil.
func (l *fileLint) column(name string) *batch.Column {
	b, err := l.f.Read([]string{name}, false)
	if err != nil {
		l.tear(err)
		return nil
	}
	return &b.Cols[0]
}

func (l *fileLint) markers() {
	at := slices.IndexFunc(l.f.Leaves, func(leaf parquet.Leaf) bool { return leaf.Name == parquet.MarkerColumn })
	if at < 0 {
		if l.sh.marked != "" && !l.meta.upserts {
			l.report(MarkerLeftOut, l.name, "%s has markers", l.sh.marked)
		}
		return
	}
	if l.sh.marked == "" {
		l.sh.marked = path.Base(l.name)
	}
	if at != len(l.f.Leaves)-1 {
		l.report(MarkerNotLast, l.name, "it is column %d of %d", at+1, len(l.f.Leaves))
	}
	if t := l.f.Leaves[at].Type; t.Kind != batch.Int32 {
		l.report(MarkerTypeWrong, l.name, "it is %s", t)
		return
	}
	if l.f.Rows > l.maxRows {
		l.report(FileTooLarge, l.name, "%d rows", l.f.Rows)
	}
	if col := l.column(parquet.MarkerColumn); col != nil {
		l.markerValues(col)
	}
}

func (l *fileLint) markerValues(col *batch.Column) {
	inserts, changes, deletes := 0, 0, 0
	unknown := false
	for i, v := range col.I32 {
		switch {
		case col.Def[i] != batch.Present:
			l.unknown(&unknown, "NULL in row %d", i+1)
		case v == 0:
			inserts++
		case v == batch.Delete:
			changes, deletes = changes+1, deletes+1
		case v == 1 || v == batch.Upsert:
			changes++
		default:
			l.unknown(&unknown, "%d in row %d", v, i+1)
		}
	}
	if deletes < len(col.I32) {
		l.leavesOut()
	}
	if inserts > 0 {
		l.report(MarkerInsert, l.name, "%d rows", inserts)
	}
	if changes > 0 {
		l.keyless(l.name, "%d rows are updates, deletes or upserts", changes)
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

// unknown reports the first of a file.
func (l *fileLint) unknown(told *bool, format string, args ...any) {
	if !*told {
		l.report(MarkerUnknown, l.name, format, args...)
	}
	*told = true
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
		if col := l.column(k); col != nil {
			if i := slices.Index(col.Def, batch.Null); i >= 0 {
				l.report(KeyColumnNull, l.name, "%q in row %d", k, i+1)
			}
		}
	}
}
