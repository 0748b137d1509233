package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/pgmirror/pgmirror/internal/store"
)

// Retention is how long a removed file stays for readers of older versions,
// unless the table says otherwise.
const Retention = 7 * 24 * time.Hour

// Checkpoint writes the state of a version as one file, so that readers need
// none of the commits before it
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#checkpoints).
// Tombstones older than Retention before now are left out. A checkpoint that
// could not be written harms nobody.
func (s *Snapshot) Checkpoint(ctx context.Context, now time.Time) error {
	rows := s.checkpointRows(now.Add(-Retention).UnixMilli())
	body, err := encodeCheckpoint(rows, s.Protocol)
	if err != nil {
		return fmt.Errorf("checkpoint of version %d: %w", s.Version, err)
	}
	name := fmt.Sprintf("%s/%020d.checkpoint.parquet", logDir, s.Version)
	if _, err := s.table.Put(ctx, name, body, store.Cond{}); err != nil {
		return fmt.Errorf("checkpoint of version %d: %w", s.Version, err)
	}
	last, err := json.Marshal(map[string]int64{"version": s.Version, "size": int64(len(rows)), "sizeInBytes": int64(len(body)), "numOfAddFiles": int64(len(s.Files))})
	if err == nil {
		_, err = s.table.Put(ctx, logDir+"/_last_checkpoint", last, store.Cond{})
	}
	return err
}

func (s *Snapshot) checkpointRows(oldest int64) []Action {
	rows := []Action{{Protocol: &s.Protocol}, {Metadata: &s.Metadata}}
	for _, id := range slices.Sorted(maps.Keys(s.state.txns)) {
		rows = append(rows, Action{Txn: s.state.txns[id]})
	}
	for i := range s.Files {
		a := s.Files[i].Add
		a.DataChange = false
		rows = append(rows, Action{Add: &a})
	}
	for _, k := range slices.Sorted(maps.Keys(s.state.removes)) {
		if r := *s.state.removes[k]; r.DeletionTimestamp > oldest {
			r.DataChange = false
			rows = append(rows, Action{Remove: &r})
		}
	}
	return rows
}

func checkpointSchema(p Protocol) *arrow.Schema {
	text, long, integer, boolean := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.FixedWidthTypes.Boolean
	dict, list := arrow.MapOf(text, text), arrow.ListOf(text)
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	vector := arrow.StructOf(f("storageType", text), f("pathOrInlineDv", text), f("offset", integer), f("sizeInBytes", integer), f("cardinality", long))
	protocol := []arrow.Field{f("minReaderVersion", integer), f("minWriterVersion", integer)}
	if p.MinReader == 3 {
		protocol = append(protocol, f("readerFeatures", list))
	}
	if p.MinWriter == 7 {
		protocol = append(protocol, f("writerFeatures", list))
	}
	return arrow.NewSchema([]arrow.Field{
		f("txn", arrow.StructOf(f("appId", text), f("version", long), f("lastUpdated", long))),
		f("add", arrow.StructOf(f("path", text), f("partitionValues", dict), f("size", long), f("modificationTime", long), f("dataChange", boolean),
			f("tags", dict), f("deletionVector", vector), f("stats", text))),
		f("remove", arrow.StructOf(f("path", text), f("deletionTimestamp", long), f("dataChange", boolean), f("extendedFileMetadata", boolean),
			f("partitionValues", dict), f("size", long), f("deletionVector", vector))),
		f("metaData", arrow.StructOf(f("id", text), f("name", text), f("description", text), f("format", arrow.StructOf(f("provider", text), f("options", dict))),
			f("schemaString", text), f("partitionColumns", list), f("configuration", dict), f("createdTime", long))),
		f("protocol", arrow.StructOf(protocol...)),
	}, nil)
}

// dictFields are the members of actions that are maps: objects in the log's
// JSON, lists of entries in Arrow's.
var dictFields = []string{"partitionValues", "tags", "options", "configuration"}

func encodeCheckpoint(rows []Action, p Protocol) ([]byte, error) {
	schema := checkpointSchema(p)
	rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer rb.Release()
	for i := range rows {
		line, err := json.Marshal(&rows[i])
		if err == nil {
			line, err = rewrite(line, toEntries)
		}
		if err == nil {
			err = rb.UnmarshalJSON(line)
		}
		if err != nil {
			return nil, err
		}
	}
	rec := rb.NewRecordBatch()
	defer rec.Release()
	var w bytes.Buffer
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithCreatedBy(engine))
	fw, err := pqarrow.NewFileWriter(schema, &w, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fw.Write(rec), fw.Close()); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// rewrite changes the maps inside one action.
func rewrite(line []byte, change func(any) any) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var walk func(m map[string]any)
	walk = func(m map[string]any) {
		for k, x := range m {
			if slices.Contains(dictFields, k) {
				m[k] = change(x)
			} else if inner, ok := x.(map[string]any); ok {
				walk(inner)
			}
		}
	}
	walk(v)
	return json.Marshal(v)
}

func toEntries(x any) any {
	m, ok := x.(map[string]any)
	if !ok {
		return x
	}
	out := []any{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, map[string]any{"key": k, "value": m[k]})
	}
	return out
}

func fromEntries(x any) any {
	list, ok := x.([]any)
	if !ok {
		return x
	}
	out := map[string]any{}
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			if k, ok := m["key"].(string); ok {
				out[k] = m["value"]
			}
		}
	}
	return out
}

// load adds the actions of a checkpoint, or of one of its files, to the state.
func (st *state) load(ctx context.Context, table store.Store, name string) error {
	data, _, err := table.Read(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	actions, err := decodeCheckpoint(ctx, data)
	if err != nil {
		return err
	}
	return st.apply(actions)
}

// checkpointActions are the columns of a checkpoint that concern us, and of each
// the members that do. What else there is (statistics as columns, other
// engines' additions) is not read.
var checkpointActions = map[string][]string{
	"txn":      {"appId", "version", "lastUpdated"},
	"add":      {"path", "partitionValues", "size", "modificationTime", "dataChange", "stats", "tags", "deletionVector"},
	"remove":   {"path", "deletionTimestamp", "dataChange", "extendedFileMetadata", "partitionValues", "size", "deletionVector"},
	"metaData": {"id", "name", "description", "format", "schemaString", "partitionColumns", "createdTime", "configuration"},
	"protocol": {"minReaderVersion", "minWriterVersion", "readerFeatures", "writerFeatures"},
}

func decodeCheckpoint(ctx context.Context, data []byte) (actions []Action, err error) {
	defer func() { // the Parquet library meets some torn files with a panic
		if r := recover(); r != nil {
			err = fmt.Errorf("not a sound Parquet file: %v", r)
		}
	}()
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("not a sound Parquet file: %w", err)
	}
	defer r.Close()
	if i := r.MetaData().Schema.Root().FieldIndexByName("sidecar"); i >= 0 {
		return nil, fmt.Errorf("checkpoint with sidecars: %w", ErrUnsupported)
	}
	var columns []int
	for i := range r.MetaData().Schema.NumColumns() {
		p := r.MetaData().Schema.Column(i).ColumnPath()
		if len(p) >= 2 && slices.Contains(checkpointActions[p[0]], p[1]) {
			columns = append(columns, i)
		}
	}
	if len(columns) == 0 {
		return nil, errors.New("holds no actions")
	}
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{BatchSize: 4096}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	rr, err := fr.GetRecordReader(ctx, columns, nil)
	if err != nil {
		return nil, err
	}
	defer rr.Release()
	for rr.Next() {
		if actions, err = appendRecord(actions, rr.RecordBatch()); err != nil {
			return nil, err
		}
	}
	if err := rr.Err(); err != nil {
		return nil, err
	}
	if n := r.NumRows(); int64(len(actions)) != n {
		return nil, fmt.Errorf("%d actions of %d were read", len(actions), n)
	}
	return actions, nil
}

func appendRecord(actions []Action, rec arrow.RecordBatch) ([]Action, error) {
	text, err := rec.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var lines []json.RawMessage
	if err := json.Unmarshal(text, &lines); err != nil {
		return nil, err
	}
	for _, line := range lines {
		if line, err = rewrite(line, fromEntries); err != nil {
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
