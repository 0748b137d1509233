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
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/pgmirror/pgmirror/internal/store"
)

// Checkpoint writes the state of a version as one file, so that readers need
// none of the commits before it
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#checkpoints).
// Tombstones older than the table's retention before now are left out. A
// checkpoint that could not be written harms nobody.
func (s *Snapshot) Checkpoint(ctx context.Context, now time.Time) error {
	retention, err := s.FileRetention()
	if err != nil {
		return err
	}
	rows := s.checkpointRows(now.Add(-retention).UnixMilli())
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
			line, err = withEntries(line)
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
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithCreatedBy(Engine))
	fw, err := pqarrow.NewFileWriter(schema, &w, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fw.Write(rec), fw.Close()); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// withEntries brings the maps inside one action into the form that Arrow reads.
func withEntries(line []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var walk func(m map[string]any)
	walk = func(m map[string]any) {
		for k, x := range m {
			inner, ok := x.(map[string]any)
			switch {
			case ok && slices.Contains(dictFields, k):
				m[k] = entries(inner)
			case ok:
				walk(inner)
			}
		}
	}
	walk(v)
	return json.Marshal(v)
}

func entries(m map[string]any) []any {
	out := []any{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, map[string]any{"key": k, "value": m[k]})
	}
	return out
}
