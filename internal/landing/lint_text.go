package landing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// textFormat is how the metadata says that delimited text is written.
type textFormat struct {
	row, column, quote, escape string
	null, encoding             string
	columns                    []delimitedColumn
	invalid                    bool // it was reported: the files can't be looked into
}

// readable reports whether lint can look into the files.
func (f *textFormat) readable() bool {
	e := strings.ToLower(f.encoding)
	return !f.invalid && (e == "" || e == "utf-8" || e == "us-ascii")
}

// textLint is the look into one file of delimited text, a field in memory at a time.
type textLint struct {
	*tableLint
	name   string
	sh     *lintedShape
	in     *textReader
	header []textColumn
	told   map[string]bool // what is reported once, not for every row
	held   []func()        // reports of a row, until it is known to be no delete
	marks  markerCount
}

// textColumn is a column of the header, and what the metadata says of it.
type textColumn struct {
	delimitedColumn
	key bool
}

// text looks into a file, which it reads piece by piece.
func (t *tableLint) text(ctx context.Context, i store.Info, sh *lintedShape) error {
	l := textLint{tableLint: t, name: i.Name, sh: sh, told: map[string]bool{}, marks: markerCount{tableLint: t, name: i.Name}}
	l.in = newTextReader(t.pieces(ctx, i), int(min(i.Size, piece)), t.meta.text)
	rows, err := 0, l.begin()
	for err == nil {
		if err = l.record(rows + 1); err == nil {
			rows++
		}
	}
	var bad textError
	switch {
	case errors.Is(err, store.ErrNotExist):
		return nil // it was processed meanwhile
	case errors.As(err, &bad):
		l.once("torn", FileTorn, "%v", err)
	case err != io.EOF:
		return err
	}
	l.linted.Files++
	l.linted.Rows += int64(rows)
	if l.marks.marked && rows > l.maxRows {
		l.report(FileTooLarge, l.name, "%d rows", rows)
	}
	l.marks.end()
	return nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// piece is how much of a text is in memory.
const piece = 4 << 20

func (t *tableLint) pieces(ctx context.Context, i store.Info) io.Reader {
	off := int64(0)
	return readerFunc(func(p []byte) (int, error) {
		if off >= i.Size {
			return 0, io.EOF
		}
		b, _, err := t.s.Read(ctx, i.Name, off, min(int64(len(p)), i.Size-off))
		if err == nil && len(b) == 0 {
			err = io.EOF
		}
		off += int64(len(b))
		return copy(p, b), err
	})
}

func (l *textLint) once(what, code, format string, args ...any) {
	if !l.told[what] {
		l.report(code, l.name, format, args...)
	}
	l.told[what] = true
}

// maxColumns is where a header is taken for something else, before it fills the
// memory.
const maxColumns = 10_000

// begin reads the header.
func (l *textLint) begin() error {
	var names []string
	for last := false; !last; {
		var f textField
		var err error
		if f, last, err = l.in.field(); err != nil {
			return fmt.Errorf("header: %w", err)
		}
		if len(names) == maxColumns {
			return textError(fmt.Sprintf("the header has more than %d columns", maxColumns))
		}
		names = append(names, string(f.text))
	}
	l.encoding("the header")
	l.columnNames(l.name, names)
	l.marks.marked = l.marker(l.name, names, l.sh)
	for _, k := range l.meta.keys {
		if k != "" && !slices.Contains(names, k) {
			l.report(KeyColumnAbsent, l.name, "%q", k)
		}
	}
	l.defined(names)
	for _, name := range names {
		c := textColumn{delimitedColumn{Name: name}, slices.Contains(l.meta.keys, name)}
		if i := slices.IndexFunc(l.meta.text.columns, func(d delimitedColumn) bool { return d.Name == name }); i >= 0 {
			c.delimitedColumn = l.meta.text.columns[i]
		}
		l.header = append(l.header, c)
	}
	return nil
}

// defined compares the header with the definition, or without one with the header
// of the first file: a schema of text doesn't change.
func (l *textLint) defined(names []string) {
	wanted, of := l.sh.header, l.sh.headerOf
	if columns := l.meta.text.columns; len(columns) > 0 {
		wanted, of = nil, "SchemaDefinition"
		for _, c := range columns {
			wanted = append(wanted, c.Name)
		}
	}
	if wanted == nil {
		l.sh.header, l.sh.headerOf = names, path.Base(l.name)
		return
	}
	lacks := func(in, of []string) string {
		i := slices.IndexFunc(of, func(c string) bool { return c != parquet.MarkerColumn && !slices.Contains(in, c) })
		if i < 0 {
			return ""
		}
		return of[i]
	}
	switch more, less := lacks(wanted, names), lacks(names, wanted); {
	case more != "":
		l.report(HeaderDiffers, l.name, "%q is not in %s", more, of)
	case less != "" && !slices.Contains(l.meta.keys, less): // else it was reported
		l.report(HeaderDiffers, l.name, "%q of %s is missing", less, of)
	}
}

func (l *textLint) encoding(where string) {
	if l.in.invalid {
		l.once("torn", FileTorn, "%s is not UTF-8", where)
	}
}

// record reads the fields of a row, the header not counted; io.EOF after the last.
func (l *textLint) record(row int) error {
	if _, err := l.in.Peek(1); err != nil {
		return err
	}
	l.held = l.held[:0]
	deletes := l.marks.deletes
	for k := 0; ; k++ {
		f, last, err := l.in.field()
		if err != nil {
			return fmt.Errorf("row %d: %w", row, err)
		}
		if last != (k == len(l.header)-1) {
			return textError(fmt.Sprintf("row %d has other than the %d fields of the header", row, len(l.header)))
		}
		l.value(row, l.header[k], f)
		if last {
			l.encoding("row " + strconv.Itoa(row))
			if l.marks.deletes > deletes {
				return nil
			}
			for _, report := range l.held {
				report()
			}
			return nil
		}
	}
}

func (l *textLint) hold(what, code, format string, args ...any) {
	l.held = append(l.held, func() { l.once(what, code, format, args...) })
}

// value looks at a field. Of a row that is deleted only the key's count. The text is
// in no finding: it may be nobody's business.
func (l *textLint) value(row int, c textColumn, f textField) {
	null := !f.quoted && f.size == len(f.text) && string(f.text) == l.meta.text.null
	report := l.hold
	if c.key {
		report = l.once
	}
	switch {
	case c.Name == parquet.MarkerColumn:
		l.marks.text(string(f.text), row)
	case null && c.key:
		report("null "+c.Name, KeyColumnNull, "%q in row %d", c.Name, row)
	case null && c.notNull:
		report("value "+c.Name, TextValueInvalid, "%q is NULL in row %d, and IsNullable is false", c.Name, row)
	case null:
	case f.size > l.maxString:
		report("long "+c.Name, StringTooLong, "%q has %d bytes in row %d", c.Name, f.size, row)
	case !isText(c.DataType, string(f.text)):
		report("value "+c.Name, TextValueInvalid, "%q in row %d is no %s", c.Name, row, c.DataType)
	}
}

// isText reports whether a text may be a value of a type. How dates, times,
// booleans and bytes are written is documented nowhere: they are not judged.
func isText(dataType, s string) bool {
	s = strings.TrimSpace(s)
	var err error
	switch dataType {
	case "Int16":
		_, err = strconv.ParseInt(s, 10, 16)
	case "Int32":
		_, err = strconv.ParseInt(s, 10, 32)
	case "Int64":
		_, err = strconv.ParseInt(s, 10, 64)
	case "Single", "Double":
		_, err = strconv.ParseFloat(s, 64)
	}
	return err == nil
}

// textError says where a text is not as the metadata describes it.
type textError string

func (e textError) Error() string { return string(e) }

// textReader takes a text apart, field by field.
type textReader struct {
	*bufio.Reader
	row                   string
	column, quote, escape rune // -1: none
	invalid               bool // some bytes were no UTF-8
}

// textField is one field, of a long one the beginning.
type textField struct {
	text   []byte
	size   int // bytes
	quoted bool
}

func (f *textField) add(c rune) {
	const enough = 4096 // of a column's name or a number
	if f.size += utf8.RuneLen(c); f.size <= enough {
		f.text = utf8.AppendRune(f.text, c)
	}
}

func newTextReader(in io.Reader, size int, f textFormat) *textReader {
	one := func(s string) rune {
		for _, c := range s {
			return c
		}
		return -1
	}
	r := &textReader{Reader: bufio.NewReaderSize(in, size), row: f.row, column: one(f.column), quote: one(f.quote), escape: one(f.escape)}
	if b, _ := r.Peek(3); string(b) == "\ufeff" {
		r.Discard(3) // it was peeked
	}
	return r
}

func (r *textReader) next() (rune, error) {
	c, n, err := r.ReadRune()
	if c == '\ufffd' && n == 1 {
		r.invalid = true
	}
	return c, err
}

// follows reports whether a byte comes next.
func (r *textReader) follows(c byte) bool {
	b, _ := r.Peek(1) // a fault comes back at the next read
	return len(b) > 0 && b[0] == c
}

// field reads up to a separator; last tells that the row ends there.
func (r *textReader) field() (f textField, last bool, err error) {
	if r.quote >= 0 && r.follows(byte(r.quote)) {
		if err := r.quoted(&f); err != nil {
			return f, false, err
		}
	}
	for {
		c, err := r.next()
		switch {
		case err == io.EOF:
			return f, true, nil
		case err != nil:
			return f, false, err
		case c == r.column:
			return f, false, nil
		case c == rune(r.row[0]) && (len(r.row) == 1 || r.follows(r.row[1])):
			_, err := r.Discard(len(r.row) - 1)
			return f, true, err
		case c == '\r' || c == '\n':
			return f, false, textError(fmt.Sprintf("a line ends in %q, and RowSeparator is %q", c, r.row))
		case f.quoted:
			return f, false, textError("text follows the end of a quoted field")
		}
		f.add(c)
	}
}

// quoted reads a field in quotes, with them.
func (r *textReader) quoted(f *textField) error {
	f.quoted = true
	r.Discard(1) // the quote, which was seen
	for {
		c, err := r.next()
		switch {
		case err == io.EOF:
			return textError("a quoted field has no end")
		case err != nil:
			return err
		case c == r.escape && (r.follows(byte(r.quote)) || r.follows(byte(r.escape))):
			c, _ = r.next() // what was seen
		case c == r.quote:
			return nil
		}
		f.add(c)
	}
}
