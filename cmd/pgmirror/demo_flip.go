package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// copyTable copies a Delta table's folder, log and all.
func copyTable(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy the table %s: %w", from, err)
	}
	return nil
}

var errFlipped = errors.New("flipped")

// flipValue commits a new version of a Delta table in which one row, the one
// whose bigint column key is id, has another value in a text column. It rewrites
// the data file that the row lies in.
func flipValue(ctx context.Context, table store.Store, key string, id int64, column, value string) error {
	snap, err := delta.Open(ctx, table, -1)
	if err != nil {
		return err
	}
	err = snap.Scan(ctx, nil, func(f delta.File, b *batch.Batch, live []int32) error {
		kept := b.Select(live)
		row := findRow(kept, key, id)
		if row < 0 {
			return nil
		}
		if err := rewrite(ctx, table, snap.Version, f, withValue(kept, row, column, value)); err != nil {
			return err
		}
		return errFlipped
	})
	switch {
	case errors.Is(err, errFlipped):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("flip a value: no row has %s = %d", key, id)
}

func findRow(b *batch.Batch, key string, id int64) int {
	c := columnOf(b, key)
	for i := range b.Rows() {
		if c.Def[i] == batch.Present && c.I64[i] == id {
			return i
		}
	}
	return -1
}

// withValue is b with another text in one row.
func withValue(b *batch.Batch, row int, column, value string) *batch.Batch {
	old := columnOf(b, column)
	changed := batch.NewColumn(old.Type)
	for i := range b.Rows() {
		if i == row {
			changed.AppendBytes([]byte(value))
		} else {
			changed.AppendFrom(old, i)
		}
	}
	*old = changed
	return b
}

func columnOf(b *batch.Batch, name string) *batch.Column {
	for i, f := range b.Schema.Fields {
		if f.Name == name {
			return &b.Cols[i]
		}
	}
	panic("the table has no column " + name)
}

// rewrite puts rows in the place of a data file.
func rewrite(ctx context.Context, table store.Store, version int64, f delta.File, rows *batch.Batch) error {
	var body bytes.Buffer
	if err := parquet.Write(&body, rows, nil); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	name := fmt.Sprintf("part-flipped-%d.parquet", now)
	if _, err := table.Put(ctx, name, body.Bytes(), store.Cond{Absent: true}); err != nil {
		return err
	}
	_, err := delta.Commit(ctx, table, version, []delta.Action{
		{CommitInfo: &delta.CommitInfo{Operation: "UPDATE"}},
		f.Removal(now),
		{Add: &delta.Add{Path: delta.EncodePath(name), PartitionValues: map[string]string{}, Size: int64(body.Len()), ModificationTime: now,
			DataChange: true, Stats: delta.RowStats(int64(rows.Rows()))}},
	})
	return err
}
