package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/pgmirror/pgmirror/internal/store"
)

// load adds the actions of a checkpoint, or of one of its files, to the state.
func (st *state) load(ctx context.Context, table store.Store, name string) error {
	data, _, err := table.Read(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	actions, err := decodeCheckpoint(data)
	if err != nil {
		return err
	}
	return st.apply(actions)
}

// checkpointActions are the columns of a checkpoint that concern us, and of each
// the members that do. What else there is (other engines' additions) is not read.
var checkpointActions = map[string][]string{
	"txn":      {"appId", "version", "lastUpdated"},
	"add":      {"path", "partitionValues", "size", "modificationTime", "dataChange", "stats", "tags", "deletionVector"},
	"remove":   {"path", "deletionTimestamp", "dataChange", "extendedFileMetadata", "partitionValues", "size", "deletionVector"},
	"metaData": {"id", "name", "description", "format", "schemaString", "partitionColumns", "createdTime", "configuration"},
	"protocol": {"minReaderVersion", "minWriterVersion", "readerFeatures", "writerFeatures"},
	"sidecar":  {"path"}, // to refuse it; some writers have the column and leave it empty
}

// parsedRows is where a writer that keeps statistics as columns tells a file's
// rows, perhaps there alone
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#checkpoint-schema).
const parsedRows = "add.stats_parsed.numRecords"

func concerns(path parquet.ColumnPath) bool {
	return len(path) > 1 && slices.Contains(checkpointActions[path[0]], path[1]) || path.String() == parsedRows
}

// decodeCheckpoint reads a checkpoint. It does so column by column on its own
// goroutine: Arrow's record reader has others, where a panic over a damaged file
// would end the process.
func decodeCheckpoint(data []byte) (actions []Action, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not a sound Parquet file: %v", r)
		}
	}()
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("not a sound Parquet file: %w", err)
	}
	defer r.Close()
	s := r.MetaData().Schema
	for g := range r.NumRowGroups() {
		rg := r.RowGroup(g)
		var rows []object
		for i := range s.NumColumns() {
			if !concerns(s.Column(i).ColumnPath()) {
				continue
			}
			cr, err := rg.Column(i)
			if err == nil {
				rows, err = enter(rows, cr, s.Column(i))
			}
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", s.Column(i).Path(), err)
			}
		}
		if int64(len(rows)) != rg.NumRows() {
			return nil, fmt.Errorf("%d actions of %d were read", len(rows), rg.NumRows())
		}
		if actions, err = appendActions(actions, rows); err != nil {
			return nil, err
		}
	}
	if len(actions) == 0 {
		return nil, errors.New("holds no action")
	}
	return actions, nil
}

func appendActions(actions []Action, rows []object) ([]Action, error) {
	for _, row := range rows {
		if row["sidecar"] != nil {
			return nil, fmt.Errorf("checkpoint with sidecars: %w", ErrUnsupported)
		}
		if add, ok := row["add"].(object); ok {
			if err := takeParsed(add); err != nil {
				return nil, err
			}
		}
		line, err := json.Marshal(row)
		if err != nil {
			return nil, err
		}
		var a Action
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, err
		}
		if err := a.check(); err != nil {
			return nil, err
		}
		actions = append(actions, a)
	}
	return actions, nil
}

// takeParsed makes statistics of an add's columns, unless it has them as text.
func takeParsed(add object) error {
	parsed, ok := add["stats_parsed"]
	delete(add, "stats_parsed")
	if !ok || add["stats"] != nil {
		return nil
	}
	stats, err := json.Marshal(parsed)
	add["stats"] = string(stats)
	return err
}

// object is a JSON object being put together.
type object map[string]any

// at finds the object at a path, making what is missing.
func (o object) at(path []string) object {
	for _, p := range path {
		next, ok := o[p].(object)
		if !ok {
			next = object{}
			o[p] = next
		}
		o = next
	}
	return o
}

// enter puts the values of one leaf column into the rows, as many as it has: a
// member, an element of a list, or a key or value of a map.
func enter(rows []object, cr file.ColumnChunkReader, c *schema.Column) ([]object, error) {
	repeated, level := repetition(c)
	path := c.ColumnPath()
	n := -1
	var list *[]any // of the row at hand
	err := eachCell(cr, c, func(def, rep int16, v any) error {
		if rep == 0 {
			if n++; n == len(rows) {
				rows = append(rows, object{})
			}
			list = nil
		}
		switch {
		case n < 0:
			return errors.New("begins inside a list")
		case repeated < 0:
			if v != nil {
				rows[n].at(path[:len(path)-1])[path[len(path)-1]] = v
			}
			return nil
		case def < level-1: // no list
			return nil
		case list == nil:
			list = &[]any{} // not nil: it may stay empty
		}
		if def >= level {
			*list = append(*list, v)
		}
		return fill(rows[n].at(path[:repeated-1]), path[repeated-1], path[len(path)-1], *list)
	})
	if err == nil && n+1 != len(rows) {
		err = fmt.Errorf("%d rows, want %d", n+1, len(rows))
	}
	return rows, err
}

// repetition is where on its path a leaf repeats, -1 if nowhere, and from which
// definition level on there is an element.
func repetition(c *schema.Column) (at int, level int16) {
	at = -1
	var path []schema.Node
	for n := c.SchemaNode(); n.Parent() != nil; n = n.Parent() {
		path = append(path, n)
	}
	slices.Reverse(path)
	for i, n := range path {
		if n.RepetitionType() != parquet.Repetitions.Required {
			level++
		}
		if n.RepetitionType() == parquet.Repetitions.Repeated {
			return i, level
		}
	}
	return at, level
}

// fill sets the list or map called name to what its leaf holds so far.
func fill(o object, name, leaf string, list []any) error {
	if !slices.Contains(dictFields, name) {
		o[name] = list
		return nil
	}
	keys := "\x00" + name // set by the keys' column, which comes before that of the values
	switch leaf {
	case "key":
		o[keys], o[name] = list, object{}
		return nil
	case "value":
		k, _ := o[keys].([]any)
		if len(list) > len(k) {
			return errors.New("more values than keys")
		}
		m := object{}
		for i, v := range list {
			text, ok := k[i].(string)
			if !ok {
				return errors.New("a key that is no text")
			}
			m[text] = v
		}
		o[name] = m
	}
	return nil
}

// eachCell goes through the values of a column; nil is a NULL, at whatever level.
func eachCell(cr file.ColumnChunkReader, c *schema.Column, fn func(def, rep int16, v any) error) error {
	switch r := cr.(type) {
	case *file.ByteArrayColumnChunkReader:
		return cells(r.ReadBatch, cr, c, fn, func(v parquet.ByteArray) any { return string(v) })
	case *file.Int64ColumnChunkReader:
		return cells(r.ReadBatch, cr, c, fn, func(v int64) any { return v })
	case *file.Int32ColumnChunkReader:
		return cells(r.ReadBatch, cr, c, fn, func(v int32) any { return v })
	case *file.BooleanColumnChunkReader:
		return cells(r.ReadBatch, cr, c, fn, func(v bool) any { return v })
	}
	return fmt.Errorf("%T in a checkpoint: %w", cr, ErrUnsupported)
}

func cells[T any](readBatch func(int64, []T, []int16, []int16) (int64, int, error), cr file.ColumnChunkReader, c *schema.Column,
	fn func(def, rep int16, v any) error, value func(T) any) error {
	const step = 1024
	values, def, rep := make([]T, step), make([]int16, step), make([]int16, step)
	for cr.HasNext() {
		total, n, err := readBatch(step, values, def, rep)
		if err != nil {
			return err
		}
		if total == 0 {
			return errors.New("a page without values")
		}
		k := 0
		for i := range total {
			var v any
			if def[i] == c.MaxDefinitionLevel() {
				if k == n {
					return errors.New("fewer values than levels")
				}
				v = value(values[k])
				k++
			}
			if err := fn(def[i], rep[i], v); err != nil {
				return err
			}
		}
	}
	return cr.Err()
}
