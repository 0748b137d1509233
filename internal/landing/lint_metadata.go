package landing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

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
}

const (
	sequentialFileName = "SequentialFileName"
	lastUpdateTime     = "LastUpdateTimeFileDetection"
	delimitedText      = "DelimitedText"
)

func (m *lintedMetadata) sequential() bool { return m.strategy != lastUpdateTime }

func (m *lintedMetadata) parquet() bool {
	return m.format == "" && m.ending == "" || strings.EqualFold(m.format, "Parquet")
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
	if err != nil {
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
	for k := range m.raw {
		switch {
		case strings.EqualFold(k, "isUpsertDefaultMode"):
			m.report(UpsertNameWrong, m.name, "")
		case !slices.ContainsFunc(metadataNames, func(n string) bool { return strings.EqualFold(n, k) }):
			m.report(MetadataKeyUnknown, m.name, "%q", k)
		}
	}
}

// get finds a value by its name, in any case.
func (m *metadataLint) get(name string) (json.RawMessage, bool) {
	for k, v := range m.raw {
		if strings.EqualFold(k, name) && !bytes.Equal(v, []byte("null")) {
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
}

var delimitedTypes = []string{"Double", "Single", "Int16", "Int32", "Int64", "DateTime", "IDate", "ITime", "String", "Boolean", "ByteArray"}

// delimitedOptions are the values that FileFormatTypeProperties may have.
var delimitedOptions = map[string][]string{
	"RowSeparator":    {"\r\n", "\n", "\r"},
	"ColumnSeparator": {",", ";", "|", "\t"},
	"QuoteCharacter":  {`"`, "'", ""},
	"EscapeCharacter": {`\`, "/", `"`, ""},
}

// delimited looks at what describes files that are not Parquet.
func (m *metadataLint) delimited() {
	m.take("FileFormat", &m.meta.format)
	m.take("FileExtension", &m.meta.ending)
	bad := func(format string, args ...any) { m.report(DelimitedTextInvalid, m.name, format, args...) }
	switch f := m.meta.format; {
	case strings.EqualFold(f, delimitedText) && m.meta.ending == "":
		bad("FileExtension is required for %s", delimitedText)
	case f != "" && !strings.EqualFold(f, delimitedText) && !strings.EqualFold(f, "CSV") && !strings.EqualFold(f, "Parquet"):
		bad("FileFormat is %q", f)
	}
	if m.meta.ending == "" && strings.EqualFold(m.meta.format, "CSV") {
		m.meta.ending = "csv"
	}
	var schema struct {
		Columns []struct{ Name, DataType string }
	}
	m.take("SchemaDefinition", &schema)
	for _, c := range schema.Columns {
		if !slices.Contains(delimitedTypes, c.DataType) {
			bad("column %q is %q, which is none of %s", c.Name, c.DataType, strings.Join(delimitedTypes, ", "))
		}
	}
	var props map[string]any
	m.take("FileFormatTypeProperties", &props)
	for name, v := range props {
		if allowed, ok := delimitedOptions[name]; ok && !slices.Contains(allowed, fmt.Sprint(v)) {
			bad("%s is %q, which is none of %q", name, v, allowed)
		}
		if name == "FirstRowAsHeader" && !strings.EqualFold(fmt.Sprint(v), "true") {
			bad("FirstRowAsHeader is %v: it must be true", v)
		}
	}
}
