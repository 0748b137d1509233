package landing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// lintedMetadata is `_metadata.json` as any publisher may write it. Names are
// compared without case, as both spellings are documented (keyColumns,
// KeyColumns).
type lintedMetadata struct {
	absent      bool
	unreadable  bool
	keys        []string
	strategy    string
	upserts     bool
	partitioned bool
	format      string
	ending      string
	text        textFormat
}

const (
	sequentialFileName = "SequentialFileName"
	lastUpdateTime     = "LastUpdateTimeFileDetection"
	delimitedText      = "DelimitedText"
)

func (m *lintedMetadata) sequential() bool { return m.strategy != lastUpdateTime }

func (m *lintedMetadata) parquet() bool {
	return m.format == "" && (m.ending == "" || m.extension() == ".parquet") || strings.EqualFold(m.format, "Parquet")
}

// extension is what the names of data files end in.
func (m *lintedMetadata) extension() string {
	if m.ending == "" {
		return ".parquet"
	}
	return "." + strings.TrimPrefix(m.ending, ".")
}

func (t *tableLint) metadata(ctx context.Context, list []store.Info) error {
	name := path.Join(t.dir, MetadataFile)
	if !slices.ContainsFunc(list, func(i store.Info) bool { return i.Name == name && !i.Dir }) {
		t.meta.absent = true
		return nil
	}
	body, _, err := t.s.Read(ctx, name, 0, -1)
	switch {
	case errors.Is(err, store.ErrNotExist): // it went away meanwhile, perhaps with its folder
		t.meta.absent, t.meta.unreadable = true, true
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", MetadataFile, err)
	}
	t.readMetadata(name, body)
	return nil
}

func (t *tableLint) readMetadata(name string, body []byte) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		t.report(MetadataUnreadable, name, "%v", err)
		t.meta.unreadable = true
		return
	}
	m := metadataLint{tableLint: t, name: name, raw: raw}
	m.known()
	m.take("keyColumns", &t.meta.keys)
	m.take("fileDetectionStrategy", &t.meta.strategy)
	m.take("isUpsertDefaultRowMarker", &t.meta.upserts)
	t.meta.partitioned = m.yes("isPartitionEnabled")
	m.keyColumns()
	if s := t.meta.strategy; s != "" && s != sequentialFileName && s != lastUpdateTime {
		t.report(StrategyUnknown, name, "%q", s)
	}
	m.delimited()
}

type metadataLint struct {
	*tableLint
	name string
	raw  map[string]json.RawMessage
}

var metadataNames = []string{"keyColumns", "fileDetectionStrategy", "isUpsertDefaultRowMarker", "isPartitionEnabled",
	"FileFormat", "FileExtension", "SchemaDefinition", "FileFormatTypeProperties", "ConditionalUpdateColumn"}

func (m *metadataLint) known() {
	m.twice(m.raw)
	for _, k := range slices.Sorted(maps.Keys(m.raw)) {
		switch {
		case strings.EqualFold(k, "isUpsertDefaultMode"):
			m.report(UpsertNameWrong, m.name, "")
		case !slices.ContainsFunc(metadataNames, func(n string) bool { return strings.EqualFold(n, k) }):
			m.report(MetadataKeyUnknown, m.name, "%q", k)
		}
	}
}

// twice reports names that differ only in case.
func (m *metadataLint) twice(object map[string]json.RawMessage) {
	seen := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(object)) {
		lower := strings.ToLower(k)
		if before, ok := seen[lower]; ok {
			m.report(MetadataKeyTwice, m.name, "%q and %q", before, k)
		}
		seen[lower] = k
	}
}

// get finds a value by its name, in any case; of two spellings always the same.
func (m *metadataLint) get(name string) (json.RawMessage, bool) {
	for _, k := range slices.Sorted(maps.Keys(m.raw)) {
		if v := m.raw[k]; strings.EqualFold(k, name) && !bytes.Equal(v, []byte("null")) {
			return v, true
		}
	}
	return nil, false
}

func (m *metadataLint) take(name string, to any) {
	v, ok := m.get(name)
	if !ok {
		return
	}
	if err := json.Unmarshal(v, to); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			err = fmt.Errorf("%s is %s", name, wrong.Value)
		}
		m.report(MetadataUnreadable, m.name, "%v", err)
	}
}

// yes reads a boolean that clients also write as text.
func (m *metadataLint) yes(name string) bool {
	v, _ := m.get(name)
	return strings.EqualFold(strings.Trim(string(v), `"`), "true")
}

const maxKeyColumns = 4

func (m *metadataLint) keyColumns() {
	keys := m.meta.keys
	for i, k := range keys {
		if k == "" || slices.Contains(keys[:i], k) {
			m.report(KeyColumnsInvalid, m.name, "%q", k)
		}
	}
	if len(keys) > maxKeyColumns {
		m.report(KeyColumnsTooMany, m.name, "%d columns", len(keys))
	}
	if m.meta.upserts {
		m.keyless(m.name, "isUpsertDefaultRowMarker makes every row without a marker an upsert")
	}
}

// keyless reports the first thing in a table that needs the keyColumns it hasn't.
func (t *tableLint) keyless(name, format string, args ...any) {
	if len(t.meta.keys) > 0 || t.meta.unreadable || t.toldKey {
		return
	}
	t.toldKey = true
	t.report(KeyColumnsMissing, name, format, args...)
}

var delimitedTypes = []string{"Double", "Single", "Int16", "Int32", "Int64", "DateTime", "IDate", "ITime", "String", "Boolean", "ByteArray"}

// delimitedOptions are the names in FileFormatTypeProperties, and the values that
// they may have; nil is any.
var delimitedOptions = map[string][]string{
	"FirstRowAsHeader": {"true"},
	"RowSeparator":     {"\r\n", "\n", "\r"},
	"ColumnSeparator":  {",", ";", "|", "\t"},
	"QuoteCharacter":   {`"`, "'", ""},
	"EscapeCharacter":  {`\`, "/", `"`, ""},
	"NullValue":        nil,
	"Encoding":         nil,
}

// delimitedEncodings begin the encodings of text that are no guess. The format's
// pages name UTF-8 alone, and no list.
var delimitedEncodings = []string{"utf-8", "utf-16", "utf-32", "us-ascii", "iso-8859-", "windows-125", "gb2312", "gb18030", "big5", "shift-jis", "euc-jp", "euc-kr"}

// delimited looks at what describes files that are not Parquet.
func (m *metadataLint) delimited() {
	m.take("FileFormat", &m.meta.format)
	m.take("FileExtension", &m.meta.ending)
	switch f := m.meta.format; {
	case strings.EqualFold(f, delimitedText) && m.meta.ending == "":
		m.bad("FileExtension is required for %s", delimitedText)
	case f != "" && !strings.EqualFold(f, delimitedText) && !strings.EqualFold(f, "CSV") && !strings.EqualFold(f, "Parquet"):
		m.bad("FileFormat is %q", f)
	}
	if m.meta.ending == "" && strings.EqualFold(m.meta.format, "CSV") {
		m.meta.ending = "csv"
	}
	var schema struct{ Columns []delimitedColumn }
	m.take("SchemaDefinition", &schema)
	m.inside("SchemaDefinition", "Columns")
	m.meta.text = textFormat{row: "\r\n", column: ",", quote: `"`, escape: `\`, columns: schema.Columns, invalid: m.meta.text.invalid}
	if len(schema.Columns) > 0 {
		m.columns(schema.Columns)
	}
	var props map[string]any
	m.take("FileFormatTypeProperties", &props)
	m.inside("FileFormatTypeProperties", slices.Collect(maps.Keys(delimitedOptions))...)
	for _, name := range slices.Sorted(maps.Keys(props)) {
		m.option(name, props[name])
	}
}

func (m *metadataLint) bad(format string, args ...any) {
	m.meta.text.invalid = true
	m.report(DelimitedTextInvalid, m.name, format, args...)
}

// inside reports what an object has beside the names that are known.
func (m *metadataLint) inside(object string, names ...string) {
	v, _ := m.get(object)
	var have map[string]json.RawMessage
	if json.Unmarshal(v, &have) != nil {
		return // it is absent, or was reported
	}
	m.twice(have)
	for _, k := range slices.Sorted(maps.Keys(have)) {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, k) }) {
			m.report(MetadataKeyUnknown, m.name, "%q in %s", k, object)
		}
	}
}

// delimitedColumn is a column of SchemaDefinition.
type delimitedColumn struct {
	Name, DataType string
	notNull        bool
	others         []string
}

// UnmarshalJSON keeps the names that are not known.
func (c *delimitedColumn) UnmarshalJSON(b []byte) error {
	var known struct {
		Name, DataType string
		IsNullable     *bool
	}
	var have map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(b, &known), json.Unmarshal(b, &have)); err != nil {
		return err
	}
	c.Name, c.DataType, c.notNull = known.Name, known.DataType, known.IsNullable != nil && !*known.IsNullable
	for _, k := range slices.Sorted(maps.Keys(have)) {
		if !slices.ContainsFunc([]string{"Name", "DataType", "IsNullable"}, func(n string) bool { return strings.EqualFold(n, k) }) {
			c.others = append(c.others, k)
		}
	}
	return nil
}

func (m *metadataLint) columns(columns []delimitedColumn) {
	seen := map[string]bool{}
	for i, c := range columns {
		switch {
		case c.Name == "":
			m.bad("column %d has no Name", i+1)
		case seen[c.Name]:
			m.bad("column %q is there twice", c.Name)
		}
		seen[c.Name] = true
		for _, k := range c.others {
			m.report(MetadataKeyUnknown, m.name, "%q of column %q", k, c.Name)
		}
		if !slices.Contains(delimitedTypes, c.DataType) {
			m.bad("column %q is %q, which is none of %s", c.Name, c.DataType, strings.Join(delimitedTypes, ", "))
		}
		if c.Name == parquet.MarkerColumn {
			m.marker(i, columns)
		}
	}
	for _, k := range m.meta.keys {
		if k != "" && !seen[k] {
			m.bad("key column %q is not in SchemaDefinition", k)
		}
	}
}

func (m *metadataLint) marker(at int, columns []delimitedColumn) {
	if at != len(columns)-1 {
		m.report(MarkerNotLast, m.name, "it is column %d of %d in SchemaDefinition", at+1, len(columns))
	}
	m.keyless(m.name, "SchemaDefinition has %s", parquet.MarkerColumn)
	if t := columns[at].DataType; t != "Int32" {
		m.report(MarkerTypeWrong, m.name, "it is %s in SchemaDefinition", t)
	}
}

// option looks at one of FileFormatTypeProperties.
func (m *metadataLint) option(name string, v any) {
	if v == nil {
		return // as if it were absent
	}
	f := &m.meta.text
	to := map[string]*string{"RowSeparator": &f.row, "ColumnSeparator": &f.column, "QuoteCharacter": &f.quote,
		"EscapeCharacter": &f.escape, "NullValue": &f.null, "Encoding": &f.encoding}
	for known, allowed := range delimitedOptions {
		if !strings.EqualFold(known, name) {
			continue
		}
		text := fmt.Sprint(v)
		if to[known] != nil {
			*to[known] = text
		}
		switch {
		case known == "FirstRowAsHeader" && !strings.EqualFold(text, "true"):
			m.bad("FirstRowAsHeader is %v: it must be true", v)
		case known == "Encoding" && !slices.ContainsFunc(delimitedEncodings, func(e string) bool { return strings.HasPrefix(strings.ToLower(text), e) }):
			m.bad("Encoding is %q, which is not known to be read: write UTF-8", v)
		case known != "FirstRowAsHeader" && allowed != nil && !slices.Contains(allowed, text):
			m.bad("%s is %q, which is none of %q", known, v, allowed)
		}
	}
}
