package replicator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/parquet"
)

// notNullProperty lists, in the table's properties, the columns that its first
// file didn't allow to be NULL: they may not go away.
const notNullProperty = "pgmirror.notNull"

func mergeFailure(format string, args ...any) error {
	return &fault{text: "SchemaMergeFailure: " + fmt.Sprintf(format, args...), latch: true}
}

// shape is the columns of a table.
type shape struct {
	fields  []batch.Field
	notNull []string
}

func shapeOf(s *delta.Snapshot) (shape, error) {
	sh := shape{fields: s.Schema.Fields}
	if p := s.Metadata.Configuration[notNullProperty]; p != "" {
		if err := json.Unmarshal([]byte(p), &sh.notNull); err != nil {
			return sh, fmt.Errorf("table property %s: %w", notNullProperty, err)
		}
	}
	return sh, nil
}

// firstShape is the columns of a table whose first file this is.
func firstShape(leaves []parquet.Leaf) (shape, error) {
	var sh shape
	for _, l := range leaves {
		if l.Name == parquet.MarkerColumn {
			continue
		}
		if err := sh.admit(l.Field); err != nil {
			return sh, err
		}
		if l.Required {
			sh.notNull = append(sh.notNull, l.Name)
		}
	}
	if len(sh.fields) == 0 {
		return sh, &fault{text: "the first file has no columns", latch: true}
	}
	return sh, nil
}

// admit adds a column whose name Delta allows and that is not there yet.
func (sh *shape) admit(f batch.Field) error {
	if f.Name == "" || strings.ContainsAny(f.Name, " ,;{}()\n\t=") {
		return mergeFailure("Column name '%s' is empty or has one of the characters ' ,;{}()\\n\\t='", f.Name)
	}
	lower := strings.ToLower(f.Name) // as whoever writes tells them apart; EqualFold takes more for the same
	for _, g := range sh.fields {
		if lower == strings.ToLower(g.Name) {
			return mergeFailure("Column '%s' differs from column '%s' only in case", f.Name, g.Name)
		}
	}
	sh.fields = append(slices.Clip(sh.fields), f)
	return nil
}

// merge is the columns once a file with these leaves is applied: the union, as
// far as the new columns may be NULL and no type changes.
func (sh shape) merge(leaves []parquet.Leaf) (shape, error) {
	seen := map[string]bool{}
	for _, l := range leaves {
		if l.Name == parquet.MarkerColumn {
			continue
		}
		seen[l.Name] = true
		i := slices.IndexFunc(sh.fields, func(f batch.Field) bool { return f.Name == l.Name })
		if i < 0 {
			if l.Required {
				return sh, mergeFailure("Column '%s' was added as NOT NULL", l.Name)
			}
			if err := sh.admit(l.Field); err != nil {
				return sh, err
			}
			continue
		}
		if have := sh.fields[i].Type; have != l.Type {
			return sh, mergeFailure("Type mismatch for column '%s'. Incoming type: '%s', existing type: '%s'", l.Name, l.Type, have)
		}
	}
	for _, name := range sh.notNull {
		if !seen[name] {
			return sh, mergeFailure("Column '%s' is NOT NULL and was dropped", name)
		}
	}
	return sh, nil
}

func (sh shape) configuration() map[string]string {
	c := map[string]string{}
	if len(sh.notNull) > 0 {
		b, _ := json.Marshal(sh.notNull) // strings can't fail
		c[notNullProperty] = string(b)
	}
	return c
}

// keyed is the schema with the positions of the key columns.
func keyed(s *batch.Schema, keyColumns []string) (*batch.Schema, error) {
	out := &batch.Schema{Fields: s.Fields}
	for _, name := range keyColumns {
		i := slices.IndexFunc(s.Fields, func(f batch.Field) bool { return f.Name == name })
		if i < 0 {
			return nil, &fault{text: fmt.Sprintf("key column %q of _metadata.json is not in the table", name)}
		}
		out.Key = append(out.Key, i)
	}
	return out, nil
}

// conform brings rows into the table's columns; those that b lacks are NULL.
func conform(b *batch.Batch, s *batch.Schema) *batch.Batch {
	out := &batch.Batch{Schema: s, Cols: make([]batch.Column, len(s.Fields)), Marker: b.Marker}
	for i, f := range s.Fields {
		k := slices.IndexFunc(b.Schema.Fields, func(g batch.Field) bool { return g.Name == f.Name })
		if k >= 0 {
			out.Cols[i] = b.Cols[k]
			continue
		}
		out.Cols[i] = batch.NewColumn(f.Type)
		for range b.Rows() {
			out.Cols[i].AppendNull()
		}
	}
	out.SetRows(b.Rows())
	return out
}
