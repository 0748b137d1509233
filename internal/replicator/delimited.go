package replicator

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
)

// delimited is how the files of a folder are written that are no Parquet: the
// parts of `_metadata.json` that DelimitedText has.
type delimited struct {
	Schema struct {
		Columns []textColumn `json:"columns"`
	} `json:"schemaDefinition"`
	Properties struct {
		Header    *bool   `json:"firstRowAsHeader"`
		Row       *string `json:"rowSeparator"`
		Column    *string `json:"columnSeparator"`
		Quote     *string `json:"quoteCharacter"`
		Escape    *string `json:"escapeCharacter"`
		NullValue string  `json:"nullValue"`
		Encoding  string  `json:"encoding"`
	} `json:"fileFormatTypeProperties"`
}

type textColumn struct {
	Name     string `json:"name"`
	Type     string `json:"dataType"`
	Nullable *bool  `json:"isNullable"`
}

// textTypes are the data types of delimited text. Delta has no time of day: it is
// kept as text.
var textTypes = map[string]textType{
	"Double": {batch.Float64, func(c *batch.Column, s string) error { return number(s, 64, c.AppendFloat64) }},
	"Single": {batch.Float32, func(c *batch.Column, s string) error {
		return number(s, 32, func(v float64) { c.AppendFloat32(float32(v)) })
	}},
	"Int16": {batch.Int16, func(c *batch.Column, s string) error {
		return integer(s, 16, func(v int64) { c.AppendInt32(int32(v)) })
	}},
	"Int32": {batch.Int32, func(c *batch.Column, s string) error {
		return integer(s, 32, func(v int64) { c.AppendInt32(int32(v)) })
	}},
	"Int64":     {batch.Int64, func(c *batch.Column, s string) error { return integer(s, 64, c.AppendInt64) }},
	"DateTime":  {batch.Timestamp, dateTime},
	"IDate":     {batch.Date, date},
	"ITime":     {batch.String, timeOfDay},
	"String":    {batch.String, func(c *batch.Column, s string) error { c.AppendBytes([]byte(s)); return nil }},
	"Boolean":   {batch.Bool, boolean},
	"ByteArray": {batch.Binary, octets},
}

type textType struct {
	kind   batch.Kind
	append func(c *batch.Column, s string) error
}

func number(s string, bits int, add func(float64)) error {
	v, err := strconv.ParseFloat(s, bits)
	if err == nil {
		add(v)
	}
	return err
}

func integer(s string, bits int, add func(int64)) error {
	v, err := strconv.ParseInt(s, 10, bits)
	if err == nil {
		add(v)
	}
	return err
}

func dateTime(c *batch.Column, s string) (err error) {
	var v time.Time
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if v, err = time.Parse(layout, s); err == nil {
			c.AppendInt64(v.UnixMicro())
			return nil
		}
	}
	return err
}

func date(c *batch.Column, s string) error {
	v, err := time.Parse(time.DateOnly, s)
	if err == nil {
		c.AppendInt32(int32(v.Unix() / (24 * 60 * 60)))
	}
	return err
}

func timeOfDay(c *batch.Column, s string) error {
	_, err := time.Parse("15:04:05.999999999", s)
	if err == nil {
		c.AppendBytes([]byte(s))
	}
	return err
}

func boolean(c *batch.Column, s string) error {
	v, err := strconv.ParseBool(strings.ToLower(s))
	if err == nil {
		c.AppendInt32(map[bool]int32{true: 1}[v])
	}
	return err
}

func octets(c *batch.Column, s string) error {
	v, err := base64.StdEncoding.DecodeString(s)
	if err == nil {
		c.AppendBytes(v)
	}
	return err
}

// check says what in the format isn't one that Microsoft lists.
func (d *delimited) check() error {
	p := d.Properties
	one := func(name string, v *string, known ...string) error {
		if v != nil && !slices.Contains(known, *v) {
			return fmt.Errorf("%s %q is none of %q", name, *v, known)
		}
		return nil
	}
	errs := []error{
		one("RowSeparator", p.Row, "\r\n", "\n", "\r"), one("ColumnSeparator", p.Column, ",", ";", "|", "\t"),
		one("QuoteCharacter", p.Quote, `"`, "'", ""), one("EscapeCharacter", p.Escape, `\`, "/", `"`, ""),
	}
	if p.Header != nil && !*p.Header {
		errs = append(errs, errors.New("FirstRowAsHeader must be true"))
	}
	if p.Encoding != "" && !strings.EqualFold(p.Encoding, "UTF-8") {
		errs = append(errs, fmt.Errorf("the encoding %s is not supported, only UTF-8", p.Encoding))
	}
	if len(d.Schema.Columns) == 0 {
		errs = append(errs, errors.New("SchemaDefinition names no columns"))
	}
	for _, c := range d.Schema.Columns {
		if _, ok := textTypes[c.Type]; !ok {
			errs = append(errs, fmt.Errorf("column %q has the DataType %q, which delimited text doesn't have", c.Name, c.Type))
		}
	}
	return errors.Join(errs...)
}

// parquet is a text as a Parquet file.
func (d *delimited) parquet(text []byte) ([]byte, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return nil, errors.New("the text is not UTF-8")
	}
	r := d.reader(string(text))
	header, err := r.record()
	if err != nil {
		return nil, err
	}
	columns, marked, err := d.columns(header)
	if err != nil {
		return nil, err
	}
	s := &batch.Schema{}
	for _, c := range columns {
		s.Fields = append(s.Fields, batch.Field{Name: c.Name, Type: batch.Type{Kind: textTypes[c.Type].kind}})
	}
	b := batch.New(s, marked)
	for n := 2; r.rest != ""; n++ {
		record, err := r.record()
		if err == nil {
			err = d.row(b, columns, record)
		}
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", n, err)
		}
	}
	var out bytes.Buffer
	if err := parquet.Write(&out, b, nil); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// columns finds those that a header names. The definition and the header name the
// same: a schema of text doesn't change.
func (d *delimited) columns(header []textField) (columns []textColumn, marked bool, err error) {
	for i, h := range header {
		if h.text == parquet.MarkerColumn {
			if i != len(header)-1 {
				return nil, false, fmt.Errorf("%s is not the last column", h.text)
			}
			marked = true
			continue
		}
		k := slices.IndexFunc(d.Schema.Columns, func(c textColumn) bool { return c.Name == h.text })
		if k < 0 {
			return nil, false, fmt.Errorf("the column %q of the header is not in SchemaDefinition", h.text)
		}
		columns = append(columns, d.Schema.Columns[k])
	}
	defined := slices.DeleteFunc(slices.Clone(d.Schema.Columns), func(c textColumn) bool { return c.Name == parquet.MarkerColumn })
	if len(columns) != len(defined) {
		return nil, false, fmt.Errorf("the header names %d of the %d columns of SchemaDefinition", len(columns), len(defined))
	}
	return columns, marked, nil
}

func (d *delimited) row(b *batch.Batch, columns []textColumn, record []textField) error {
	marked := b.Marker != nil
	if want := len(columns) + map[bool]int{true: 1}[marked]; len(record) != want {
		return fmt.Errorf("has %d fields, want %d", len(record), want)
	}
	for i, c := range columns {
		f := record[i]
		if !f.quoted && f.text == d.Properties.NullValue {
			if c.Nullable != nil && !*c.Nullable {
				return fmt.Errorf("column %q: NULL, and it is not nullable", c.Name)
			}
			b.Cols[i].AppendNull()
			continue
		}
		if err := textTypes[c.Type].append(&b.Cols[i], f.text); err != nil {
			return fmt.Errorf("column %q: %q is no %s", c.Name, f.text, c.Type)
		}
	}
	if !marked {
		b.EndRow()
		return nil
	}
	marker, err := strconv.ParseInt(record[len(columns)].text, 10, 32)
	if err != nil {
		return fmt.Errorf("%s: %q is no number", parquet.MarkerColumn, record[len(columns)].text)
	}
	b.EndMarkedRow(int32(marker))
	return nil
}

// textReader takes a text apart.
type textReader struct {
	rest                       string
	row, column, quote, escape string
}

type textField struct {
	text   string
	quoted bool
}

func (d *delimited) reader(text string) *textReader {
	or := func(v *string, otherwise string) string {
		if v == nil {
			return otherwise
		}
		return *v
	}
	p := d.Properties
	return &textReader{text, or(p.Row, "\r\n"), or(p.Column, ","), or(p.Quote, `"`), or(p.Escape, `\`)}
}

// record reads one row, also the last one without its separator.
func (r *textReader) record() (record []textField, err error) {
	for {
		f, err := r.field()
		if err != nil {
			return nil, err
		}
		record = append(record, f)
		switch {
		case r.rest == "":
			return record, nil
		case strings.HasPrefix(r.rest, r.row):
			r.rest = r.rest[len(r.row):]
			return record, nil
		case strings.HasPrefix(r.rest, r.column):
			r.rest = r.rest[len(r.column):]
		default:
			return nil, errors.New("text follows the end of a quoted field")
		}
	}
}

func (r *textReader) field() (textField, error) {
	if r.quote == "" || !strings.HasPrefix(r.rest, r.quote) {
		end := len(r.rest)
		for _, s := range []string{r.row, r.column} {
			if i := strings.Index(r.rest[:end], s); i >= 0 {
				end = i
			}
		}
		f := textField{text: r.rest[:end]}
		r.rest = r.rest[end:]
		return f, nil
	}
	var b strings.Builder
	for i := 1; i < len(r.rest); i++ {
		switch c := r.rest[i : i+1]; {
		case c == r.escape && i+1 < len(r.rest) && (r.rest[i+1:i+2] == r.quote || r.rest[i+1:i+2] == r.escape):
			i++
			b.WriteByte(r.rest[i])
		case c == r.quote:
			r.rest = r.rest[i+1:]
			return textField{b.String(), true}, nil
		default:
			b.WriteString(c)
		}
	}
	return textField{}, errors.New("a quoted field has no end")
}
