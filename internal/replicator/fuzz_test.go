package replicator

import (
	"bytes"
	"context"
	"path"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// FuzzLandingZone puts anything into a table's folder: the replicator neither
// panics nor hangs; what it can't apply makes the table Failed with a reason, and
// what it did apply can be read.
func FuzzLandingZone(f *testing.F) {
	seed := func(fields []batch.Field, marked bool, ids ...int64) []byte {
		b := batch.New(&batch.Schema{Fields: fields}, marked)
		for _, id := range ids {
			b.Cols[0].AppendInt64(id)
			for i := 1; i < len(fields); i++ {
				b.Cols[i].AppendBytes([]byte("text"))
			}
			if marked {
				b.EndMarkedRow(batch.Upsert)
			} else {
				b.EndRow()
			}
		}
		var out bytes.Buffer
		if err := parquet.Write(&out, b, map[string]string{"pgmirror.commit_lsn": "0/1", "pgmirror.n": "1"}); err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	id, name := batch.Field{Name: "id", Type: batch.Type{Kind: batch.Int64}}, batch.Field{Name: "name", Type: batch.Type{Kind: batch.String}}
	first, second := seed([]batch.Field{id, name}, false, 1, 2, 3), seed([]batch.Field{id, name}, true, 2, 4)
	f.Add([]byte(`{"keyColumns":["id"]}`), first, second, uint8(0))
	f.Add([]byte(`{"keyColumns":["id"],"isUpsertDefaultRowMarker":true}`), first, seed([]batch.Field{id}, false, 3), uint8(1))
	f.Add([]byte(`{"keyColumns":[]}`), seed([]batch.Field{id}, false), []byte{}, uint8(2))
	f.Add([]byte(`{"KeyColumns":["id","id"]}`), first[:len(first)/2], first[len(first)/2:], uint8(3))
	f.Add([]byte(`[`), []byte("PAR1PAR1"), second, uint8(4))
	f.Add([]byte(`{"fileDetectionStrategy":"LastUpdateTimeFileDetection","keyColumns":["id"]}`), second, first, uint8(5))
	f.Add([]byte(`{"fileFormat":"DelimitedText","fileExtension":"csv","keyColumns":["id"]}`), []byte("id,name\r\n1,a\r\n"), []byte("id\n\"1"), uint8(6))
	f.Fuzz(func(t *testing.T, metadata, first, second []byte, extra uint8) {
		if len(metadata)+len(first)+len(second) > 1<<20 {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a hang, on any machine
		defer cancel()
		dir := t.TempDir()
		open := func(name string) store.Store {
			s, err := store.OpenDir(path.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		land, lake := open("landing"), open("lake")
		put := func(name string, body []byte) {
			if _, err := land.Put(ctx, shop+"/"+name, body, store.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
		put(landing.FileName(1), first)
		put(landing.FileName(2), second)
		put(landing.MetadataFile, metadata)
		put([]string{"_x", "note.txt", "1.parquet", "_ProcessedFiles/" + landing.FileName(1), "sub/" + landing.FileName(1)}[extra%5], first)
		r := New(Config{Landing: land, Tables: lake, AppID: "fuzz", CopyOnWrite: extra%2 == 0, Check: true, FileBytes: 1000})
		for range 2 {
			if err := r.Once(ctx); err != nil {
				t.Fatal(err)
			}
		}
		s := r.Status()
		if len(s) != 1 {
			t.Fatalf("got %d tables, want 1", len(s))
		}
		if (s[0].State == Failed) != (s[0].Error != "") {
			t.Errorf("state %s with the error %q", s[0].State, s[0].Error)
		}
		if s[0].Version < 0 {
			return
		}
		snap, err := delta.Open(ctx, store.Sub(lake, "public/orders"), -1)
		if err == nil {
			err = snap.Scan(ctx, nil, func(delta.File, *batch.Batch, []int32) error { return nil })
		}
		if err != nil {
			t.Errorf("a table that is %s can't be read: %v", s[0].State, err)
		}
	})
}
