package postgres

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// ValueError says that a column's type in the mirror can't hold a value, or that it
// isn't one of the column's type, so that the table can't go on as it is. Possibly
// wrapped.
type ValueError struct {
	Column string
	Reason string // never shows the value
}

func (e *ValueError) Error() string { return fmt.Sprintf("column %q: %s", e.Column, e.Reason) }

// fault is a ValueError that doesn't know its column yet.
type fault string

func (f fault) Error() string { return string(f) }

// put appends one value in wire format to a column.
type put func(c *batch.Column, v []byte) error

// Decoder turns the rows of one table, in both wire formats, into the values of
// a batch. It has one function a column, made once, and allocates nothing a row.
// It belongs to one goroutine at a time; making one is cheap.
type Decoder struct {
	columns []columnDecoder
	binary  bool
	root    *Table // the partitioned table, of a partition's decoder
}

type columnDecoder struct {
	name    string
	sqlName string
	at      int // which column of the batch
	text    put
	bin     put // nil: the type's binary form isn't read, so COPY sends its text
	changed *int64
	loss    string
}

// NewDecoder makes the decoder for the mirrored columns of t, as t.MirrorSchema
// lists them.
func NewDecoder(t *Table) (*Decoder, error) {
	return t.LeafDecoder(t)
}

// LeafDecoder makes the decoder for one of t's Leaves: it reads the leaf's tuples
// and its rows, whose columns may come in another order, into a batch of
// t.MirrorSchema.
func (t *Table) LeafDecoder(leaf *Table) (*Decoder, error) {
	d := &Decoder{binary: true}
	if leaf.OID != t.OID {
		d.root = t
	}
	columns, own := t.mirrored(), leaf.mirrored()
	if len(columns) != len(own) {
		return nil, fmt.Errorf("%s has %d columns in the mirror, its partition %s has %d", t, len(columns), leaf, len(own))
	}
	for _, l := range own {
		at := slices.IndexFunc(columns, func(c *Column) bool { return c.Name == l.Name })
		if at < 0 || columns[at].TypeOID != l.TypeOID || columns[at].Typmod != l.Typmod {
			return nil, fmt.Errorf("column %q of %s is not as in its partition %s", l.Name, t, leaf)
		}
		c := columns[at]
		inKey := slices.ContainsFunc(t.Key, func(k int) bool { return &t.Columns[k] == c })
		text, bin, changed, err := compile(c, inKey, t.sqlASCII)
		if err != nil {
			return nil, fmt.Errorf("column %q of %s: %w", c.Name, t, err)
		}
		d.binary = d.binary && bin != nil
		d.columns = append(d.columns, columnDecoder{name: c.Name, sqlName: quoteIdent(c.Name), at: at, text: text, bin: bin, changed: changed, loss: cmp.Or(c.Loss, "bytes that are no UTF-8 become U+FFFD")})
	}
	return d, nil
}

// Binary says whether the table's binary form can be read whole, so that the
// stream may be started in binary mode.
func (d *Decoder) Binary() bool { return d.binary }

// Changes is how many values of a column did not fit its type in the mirror and
// were changed to what does, as the column's Loss says.
type Changes struct {
	Column string
	Values int64
	Loss   string
}

// TakeChanges lists the columns with changed values since it was called last, or the
// decoder was made.
func (d *Decoder) TakeChanges() []Changes {
	var out []Changes
	for _, c := range d.columns {
		if *c.changed > 0 {
			out = append(out, Changes{c.name, *c.changed, c.loss})
			*c.changed = 0
		}
	}
	return out
}

// selectList is the columns as COPY (FORMAT binary) must send them. concat calls
// a type's output function, as pgoutput does and as a cast to text does not
// always do; num_nulls, unlike IS NULL, takes a row of NULLs for a value.
func (d *Decoder) selectList() string {
	list := make([]string, len(d.columns))
	for i, c := range d.columns {
		list[i] = "t." + c.sqlName
		if c.bin == nil {
			list[i] = fmt.Sprintf("CASE WHEN pg_catalog.num_nulls(t.%s) = 0 THEN pg_catalog.concat(t.%s) END", c.sqlName, c.sqlName)
		}
	}
	return strings.Join(list, ", ")
}

var errShortRow = errors.New("a row is cut short")

// AppendCopyRow appends one tuple of COPY (FORMAT binary), its field count
// included, and doesn't end the row. After an error the row is dropped again.
func (d *Decoder) AppendCopyRow(b *batch.Batch, row []byte) error {
	rest, err := d.appendCopyRow(b, row)
	if err == nil && len(rest) > 0 {
		b.Truncate(b.Rows())
		err = fmt.Errorf("a row has %d bytes too many", len(rest))
	}
	return err
}

// appendCopyRow is AppendCopyRow for a row with more behind it.
func (d *Decoder) appendCopyRow(b *batch.Batch, row []byte) (rest []byte, err error) {
	if len(row) < 2 {
		return nil, errShortRow
	}
	if n := int(binary.BigEndian.Uint16(row)); n != len(d.columns) {
		return nil, fmt.Errorf("a row has %d columns, want %d", n, len(d.columns))
	}
	rest = row[2:]
	for i := range d.columns {
		if rest, err = d.appendField(&b.Cols[d.columns[i].at], i, rest); err != nil {
			b.Truncate(b.Rows())
			return nil, err
		}
	}
	return rest, nil
}

// appendField appends a value that has its length in front, -1 for NULL.
func (d *Decoder) appendField(col *batch.Column, i int, rest []byte) ([]byte, error) {
	if len(rest) < 4 {
		return nil, errShortRow
	}
	size := int(int32(binary.BigEndian.Uint32(rest)))
	rest = rest[4:]
	if size == -1 {
		col.AppendNull()
		return rest, nil
	}
	if size < 0 || size > len(rest) {
		return nil, errShortRow
	}
	return rest[size:], d.columns[i].appendCopied(col, rest[:size:size])
}

// appendCopied appends a value as selectList has it sent; nil is NULL.
func (c *columnDecoder) appendCopied(col *batch.Column, v []byte) error {
	if v == nil {
		col.AppendNull()
		return nil
	}
	decode := c.bin
	if decode == nil {
		decode = c.text
	}
	if err := decode(col, v); err != nil {
		return c.explain(err)
	}
	return nil
}

// AppendTuple appends a tuple of the stream and doesn't end the row. After an
// error the row is dropped again.
func (d *Decoder) AppendTuple(b *batch.Batch, t pgoutput.Tuple) error {
	if t.Len() != len(d.columns) {
		return fmt.Errorf("a tuple has %d columns, want %d", t.Len(), len(d.columns))
	}
	for i := range d.columns {
		kind, v := t.Next()
		c := &d.columns[i]
		if err := c.append(&b.Cols[c.at], kind, v); err != nil {
			b.Truncate(b.Rows())
			return err
		}
	}
	return nil
}

func (c *columnDecoder) append(col *batch.Column, kind byte, v []byte) error {
	var err error
	switch {
	case kind == pgoutput.Null:
		col.AppendNull()
	case kind == pgoutput.Unchanged:
		col.AppendUnchanged()
	case kind == pgoutput.Text:
		err = c.text(col, v)
	case c.bin != nil:
		err = c.bin(col, v)
	default:
		err = errors.New("its type can't be read in binary")
	}
	if err != nil {
		return c.explain(err)
	}
	return nil
}

func (c *columnDecoder) explain(err error) error {
	if f, ok := errors.AsType[fault](err); ok {
		return &ValueError{Column: c.name, Reason: string(f)}
	}
	if errors.Is(err, errMalformed) { // it comes again with every try
		return &ValueError{Column: c.name, Reason: "the server sent a value that does not look like one of its type"}
	}
	return fmt.Errorf("decode column %q: %w", c.name, err)
}
