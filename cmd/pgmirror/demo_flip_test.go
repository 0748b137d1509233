package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

func TestFlipValue(t *testing.T) {
	ctx := context.Background()
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	schema := &batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "name", Type: batch.Type{Kind: batch.String}}}}
	b := batch.New(schema, false)
	for id, name := range []string{"a", "b", "c"} {
		b.Cols[0].AppendInt64(int64(id))
		b.Cols[1].AppendBytes([]byte(name))
		b.EndRow()
	}
	original := openDir(t, from)
	makeTable(t, original, b)

	if err := copyTable(from, to); err != nil {
		t.Fatal(err)
	}
	if err := flipValue(ctx, openDir(t, to), "id", 1, "name", "B!"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0 a", "1 B!", "2 c"}, scan(t, openDir(t, to))); diff != "" {
		t.Errorf("the copy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0 a", "1 b", "2 c"}, scan(t, original)); diff != "" {
		t.Errorf("the original was touched (-want +got):\n%s", diff)
	}
	if err := flipValue(ctx, openDir(t, to), "id", 99, "name", "x"); err == nil {
		t.Error("flipping a row that is not there was no error")
	}
}

func openDir(t *testing.T, dir string) *store.Dir {
	t.Helper()
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func makeTable(t *testing.T, s store.Store, b *batch.Batch) {
	t.Helper()
	ctx := context.Background()
	var body bytes.Buffer
	if err := parquet.Write(&body, b, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "part-0.parquet", body.Bytes(), store.Cond{}); err != nil {
		t.Fatal(err)
	}
	protocol := delta.ProtocolFor(b.Schema, false)
	if _, err := delta.Commit(ctx, s, -1, []delta.Action{
		{Protocol: &protocol},
		{Metadata: delta.NewMetadata(delta.SchemaString(b.Schema), nil)},
		{Add: &delta.Add{Path: "part-0.parquet", PartitionValues: map[string]string{}, Size: int64(body.Len()), DataChange: true, Stats: delta.RowStats(int64(b.Rows()))}},
	}); err != nil {
		t.Fatal(err)
	}
}

func scan(t *testing.T, s store.Store) []string {
	t.Helper()
	snap, err := delta.Open(context.Background(), s, -1)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	err = snap.Scan(context.Background(), nil, func(_ delta.File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			rows = append(rows, fmt.Sprint(b.Cols[0].I64[i], " ", string(b.Cols[1].Value(int(i)))))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
