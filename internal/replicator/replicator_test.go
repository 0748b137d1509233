package replicator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// tb is what testing.TB and rapid.T share.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// row is a row to publish; NULL for a value that is nil.
type row struct {
	marker int32
	id     int64
	values []any // int64 or string, for the columns after id
}

// zone is a landing zone with one table, and the lake that it becomes.
type zone struct {
	tb
	dir           string
	landing, lake store.Store
	config        Config
	n             int64 // last file published
	fields        []batch.Field
}

const shop = "public.schema/orders"

func newZone(t tb, dir string, cow bool) *zone {
	z := &zone{tb: t, dir: dir, fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "name", Type: batch.Type{Kind: batch.String}}}}
	var err error
	if z.landing, err = store.OpenDir(filepath.Join(dir, "landing")); err != nil {
		t.Fatal(err)
	}
	if z.lake, err = store.OpenDir(filepath.Join(dir, "lake")); err != nil {
		t.Fatal(err)
	}
	z.config = Config{Landing: z.landing, Tables: z.lake, AppID: "mirror-1", CopyOnWrite: cow, FileBytes: 2000, Upkeep: Upkeep{CheckpointEvery: 3}}
	return z
}

func (z *zone) metadata(keys ...string) {
	z.Helper()
	b, err := json.Marshal(landing.TableMetadata{KeyColumns: keys})
	if err != nil {
		z.Fatal(err)
	}
	z.put(landing.MetadataFile, b)
}

func (z *zone) put(name string, body []byte) {
	z.Helper()
	if _, err := z.landing.Put(context.Background(), shop+"/"+name, body, store.Cond{}); err != nil {
		z.Fatal(err)
	}
}

// publish writes the next file.
func (z *zone) publish(marked bool, meta map[string]string, rows ...row) {
	z.Helper()
	z.n++
	z.put(landing.FileName(z.n), z.file(marked, meta, rows...))
}

func (z *zone) file(marked bool, meta map[string]string, rows ...row) []byte {
	z.Helper()
	b := batch.New(&batch.Schema{Fields: z.fields}, marked)
	for _, r := range rows {
		b.Cols[0].AppendInt64(r.id)
		for i := range z.fields[1:] {
			c := &b.Cols[i+1]
			if i >= len(r.values) || r.values[i] == nil {
				c.AppendNull()
				continue
			}
			switch v := r.values[i].(type) {
			case int64:
				c.AppendInt64(v)
			case string:
				c.AppendBytes([]byte(v))
			}
		}
		if marked {
			b.EndMarkedRow(r.marker)
		} else {
			b.EndRow()
		}
	}
	var w bytes.Buffer
	if err := parquet.Write(&w, b, meta); err != nil {
		z.Fatal(err)
	}
	return w.Bytes()
}

func part(lsn landing.LSN, n int64, complete bool) map[string]string {
	return landing.Meta{Position: landing.Position{CommitLSN: lsn, N: n, Complete: complete}, EndLSN: lsn + 8, CommitTime: time.Unix(1e9, 0)}.Footer()
}

// once runs a new replicator for one round and returns its only table's status.
func (z *zone) once() TableStatus {
	z.Helper()
	return z.round(New(z.config))
}

func (z *zone) round(r *Replicator) TableStatus {
	z.Helper()
	if err := r.Once(context.Background()); err != nil {
		z.Fatal(err)
	}
	s := r.Status()
	if len(s) != 1 {
		z.Fatalf("got %d tables, want 1", len(s))
	}
	return s[0]
}

func (z *zone) table() store.Store { return store.Sub(z.lake, "public/orders") }

// read is the rows of a version, sorted, as text.
func (z *zone) read(version int64) []string {
	z.Helper()
	s, err := delta.Open(context.Background(), z.table(), version)
	if err != nil {
		z.Fatal(err)
	}
	return z.scan(s)
}

func (z *zone) scan(s *delta.Snapshot) []string {
	z.Helper()
	out, err := scanRows(s)
	if err != nil {
		z.Fatal(err)
	}
	return out
}

func scanRows(s *delta.Snapshot) ([]string, error) {
	out := []string{}
	err := s.Scan(context.Background(), nil, func(_ delta.File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			out = append(out, rowText(b, int(i)))
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

func rowText(b *batch.Batch, i int) string {
	var s []string
	for c := range b.Cols {
		col := &b.Cols[c]
		switch {
		case col.Def[i] != batch.Present:
			s = append(s, "-")
		case col.Type.Kind == batch.Int64:
			s = append(s, fmt.Sprint(col.I64[i]))
		default:
			s = append(s, string(col.Value(i)))
		}
	}
	return strings.TrimRight(strings.Join(s, " "), " -") // a column that is all NULL may not be there yet
}

func (z *zone) want(rows ...string) {
	z.Helper()
	if diff := cmp.Diff(append([]string{}, rows...), z.read(-1)); diff != "" {
		z.Errorf("(-want +got):\n%s", diff)
	}
}

func (z *zone) listed(dir string) []string {
	z.Helper()
	list, err := z.landing.List(context.Background(), dir)
	if err != nil {
		z.Fatal(err)
	}
	out := []string{}
	for _, i := range list {
		out = append(out, strings.TrimPrefix(i.Name, dir+"/"))
	}
	return out
}

func both(t *testing.T, f func(t *testing.T, z *zone)) {
	for name, cow := range map[string]bool{"copy on write": true, "deletion vectors": false} {
		t.Run(name, func(t *testing.T) { f(t, newZone(t, t.TempDir(), cow)) })
	}
}

func TestMarkersDoWhatFabricSays(t *testing.T) {
	both(t, func(t *testing.T, z *zone) {
		z.publish(false, nil, row{id: 1, values: []any{"a"}}, row{id: 2, values: []any{"b"}}, row{id: 3, values: []any{"c"}})
		z.publish(true, nil,
			row{0, 4, []any{"new"}}, row{0, 4, []any{"again"}}, // nobody checks for duplicates
			row{1, 1, []any{"A"}}, row{1, 5, []any{"updated though absent"}},
			row{2, 2, nil}, row{2, 9, nil}, // absent: nothing
			row{4, 3, []any{"C"}}, row{4, 6, []any{"F"}}, row{4, 6, []any{"f"}}, row{2, 5, nil})
		z.metadata("id")
		z.once()
		z.want("1 A", "3 C", "4 again", "4 new", "6 f")
		z.publish(true, nil, row{4, 4, []any{"one"}}, row{2, 6, nil})
		if s := z.once(); s.State != Replicating || s.ProcessedRows != 15 || s.LastFile != 3 {
			t.Errorf("got %+v", s)
		}
		z.want("1 A", "3 C", "4 one")
	})
}

func TestMetadataArmsTheFolder(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.publish(false, nil, row{id: 1, values: []any{"a"}})
	r := New(z.config)
	if s := z.round(r); s.State != Initialized || s.Version != -1 {
		t.Errorf("without metadata: got %+v", s)
	}
	z.put(landing.MetadataFile, nil)
	if s := z.round(r); s.State != Initialized || s.Version != -1 {
		t.Errorf("with metadata that is made and not filled yet: got %+v", s)
	}
	z.metadata("id")
	if s := z.round(r); s.State != Replicating {
		t.Errorf("with metadata: got %+v", s)
	}
	z.want("1 a")
}

func TestEmptyTableGetsADeltaTable(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.publish(false, nil)
	z.metadata("id")
	if s := z.once(); s.State != Replicating {
		t.Errorf("got %+v", s)
	}
	z.want()
}

func TestGapBlocksAndProcessedFilesMove(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	z.publish(false, nil, row{id: 1, values: []any{"a"}})
	z.publish(true, nil, row{4, 2, []any{"b"}})
	z.n++
	z.publish(true, nil, row{4, 4, []any{"d"}})
	z.put("_"+landing.FileName(3), []byte("being uploaded"))
	r := New(z.config)
	z.round(r)
	z.round(r) // the move follows the commit
	z.want("1 a", "2 b")
	if diff := cmp.Diff([]string{landing.FileName(2), landing.FileName(4), "_" + landing.FileName(3), landing.ProcessedDir, landing.MetadataFile}, z.listed(shop)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{landing.FileName(1)}, z.listed(shop+"/"+landing.ProcessedDir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	z.put(landing.FileName(3), z.file(true, nil, row{2, 1, nil}))
	z.round(r)
	z.want("2 b", "4 d")
}

func TestProcessedFilesExpire(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	for range 3 {
		z.publish(false, nil, row{id: 1})
	}
	z.once()
	z.once()
	old := time.Now().Add(-8 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(z.dir, "landing", shop, landing.ProcessedDir, landing.FileName(1)), old, old); err != nil {
		t.Fatal(err)
	}
	z.config.Upkeep.CheckpointEvery = 1
	z.publish(false, nil, row{id: 2})
	z.once()
	if diff := cmp.Diff([]string{landing.FileName(2), landing.FileName(3)}, z.listed(shop+"/"+landing.ProcessedDir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSeveralFilesAreOneCommit(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	for i := range int64(20) {
		z.publish(true, part(landing.LSN(i), 1, true), row{4, i % 3, []any{"x"}})
	}
	if s := z.once(); s.Version != 1 || s.LastFile != 20 {
		t.Errorf("got %+v, want all in version 1", s)
	}
	s, err := delta.Open(t.Context(), z.table(), -1)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"commitLsn":"0/13","endLsn":"0/1B","commitTime":"2001-09-09T01:46:40Z"`; !strings.Contains(s.Info.User, want) {
		t.Errorf("commit tells %s, want %s in it", s.Info.User, want)
	}
}

func TestSplitTransactionIsSeenWhole(t *testing.T) {
	both(t, func(t *testing.T, z *zone) {
		z.metadata("id")
		z.publish(false, nil, row{id: 1, values: []any{"a"}})
		z.publish(true, part(7, 1, false), row{4, 1, []any{"b"}})
		z.publish(true, part(7, 2, false), row{4, 2, []any{"b"}})
		r := New(z.config)
		z.round(r)
		z.want("1 a")
		z.publish(true, part(7, 3, true), row{2, 2, nil}, row{4, 3, []any{"c"}})
		z.publish(true, part(9, 1, false), row{2, 3, nil})
		if s := z.round(r); s.LastFile != 4 {
			t.Errorf("got %+v", s)
		}
		z.want("1 b", "3 c")
	})
}

func TestColumnsAreUnioned(t *testing.T) {
	both(t, func(t *testing.T, z *zone) {
		z.metadata("id")
		z.publish(false, nil, row{id: 1, values: []any{"a"}})
		z.fields = append(z.fields, batch.Field{Name: "n", Type: batch.Type{Kind: batch.Int64}})
		z.publish(true, nil, row{4, 2, []any{"b", int64(7)}})
		z.once()
		z.fields = []batch.Field{z.fields[0], z.fields[2]}
		z.publish(true, nil, row{4, 3, []any{int64(8)}}, row{4, 1, []any{int64(9)}})
		if s := z.once(); s.State != Replicating {
			t.Errorf("got %+v", s)
		}
		z.want("1 - 9", "2 b 7", "3 - 8")
	})
}

func TestFaultsOfATable(t *testing.T) {
	text := batch.Type{Kind: batch.String}
	for name, c := range map[string]struct {
		make  func(z *zone)
		want  string
		latch bool
	}{
		"type change": {func(z *zone) {
			z.fields[1].Type = batch.Type{Kind: batch.Int64}
			z.publish(true, nil, row{4, 1, []any{int64(1)}})
		},
			"SchemaMergeFailure: Type mismatch for column 'name'. Incoming type: 'long', existing type: 'string'", true},
		"case": {func(z *zone) {
			z.fields = append(z.fields, batch.Field{Name: "ID", Type: text})
			z.publish(true, nil, row{id: 1})
		}, "differs from column 'id' only in case", true},
		"zero bytes": {func(z *zone) { z.n++; z.put(landing.FileName(z.n), nil) }, "Parquet file size is 0 bytes", true},
		"torn": {func(z *zone) {
			z.n++
			b := z.file(true, nil, row{4, 1, []any{"x"}})
			z.put(landing.FileName(z.n), b[:len(b)-9])
		}, landing.FileName(2), false},
		"marker":    {func(z *zone) { z.publish(true, nil, row{3, 1, []any{"x"}}) }, "row marker 3 is none of 0, 1, 2, 4", false},
		"no key":    {func(z *zone) { z.metadata(); z.publish(true, nil, row{4, 1, []any{"x"}}) }, "needs keyColumns", false},
		"wrong key": {func(z *zone) { z.metadata("nix"); z.publish(true, nil, row{4, 1, []any{"x"}}) }, `key column "nix"`, false},
		"strategy": {func(z *zone) {
			z.put(landing.MetadataFile, []byte(`{"fileDetectionStrategy":"ByMoon"}`))
			z.publish(true, nil, row{4, 1, []any{"x"}})
		}, "fileDetectionStrategy ByMoon", false},
		"marker not last": {func(z *zone) {
			z.fields = append(z.fields, batch.Field{Name: parquet.MarkerColumn, Type: batch.Type{Kind: batch.Int32}}, batch.Field{Name: "z", Type: text})
			b := batch.New(&batch.Schema{Fields: z.fields}, false)
			b.Cols[0].AppendInt64(1)
			b.Cols[1].AppendNull()
			b.Cols[2].AppendInt32(4)
			b.Cols[3].AppendNull()
			b.EndRow()
			var w bytes.Buffer
			if err := parquet.Write(&w, b, nil); err != nil {
				z.Fatal(err)
			}
			z.n++
			z.put(landing.FileName(z.n), w.Bytes())
		}, "is not the last column", true},
	} {
		t.Run(name, func(t *testing.T) {
			z := newZone(t, t.TempDir(), true)
			z.metadata("id")
			z.publish(false, nil, row{id: 1, values: []any{"a"}})
			if _, err := z.landing.Put(t.Context(), "other/"+landing.MetadataFile, []byte("{}"), store.Cond{}); err != nil {
				t.Fatal(err)
			}
			if _, err := z.landing.Put(t.Context(), "other/"+landing.FileName(1), z.file(false, nil, row{id: 1}), store.Cond{}); err != nil {
				t.Fatal(err)
			}
			r := New(z.config)
			if err := r.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.make(z)
			if err := r.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := r.Status()
			if s[1].State != Failed || !strings.Contains(s[1].Error, c.want) || s[1].LastFile != 1 {
				t.Errorf("got %+v, want Failed with %q", s[1], c.want)
			}
			if s[0].Table != "other" || s[0].Schema != "dbo" || s[0].State != Replicating {
				t.Errorf("the other table: got %+v", s[0])
			}
			z.want("1 a")

			// The publisher mends the file.
			if err := z.landing.Remove(t.Context(), shop+"/"+landing.FileName(2)); err != nil {
				t.Fatal(err)
			}
			z.n = 1
			z.metadata("id")
			z.fields = []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "name", Type: text}}
			z.publish(true, nil, row{4, 2, []any{"b"}})
			if err := r.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := r.Status()[1].State; (got == Failed) != c.latch {
				t.Errorf("once mended: got %s, want latched %v", got, c.latch)
			}
		})
	}
}

func TestFolderMadeAnewRebuildsTheTable(t *testing.T) {
	both(t, func(t *testing.T, z *zone) {
		z.metadata("id")
		z.publish(false, nil, row{id: 1, values: []any{"a"}})
		z.publish(true, nil, row{4, 2, []any{"b"}})
		r := New(z.config)
		z.round(r)
		if err := os.Rename(filepath.Join(z.dir, "landing", shop), filepath.Join(z.dir, "old")); err != nil { // its inode is still taken
			t.Fatal(err)
		}
		z.n = 0
		z.fields[1].Type = batch.Type{Kind: batch.Int64}
		z.publish(false, nil, row{id: 7, values: []any{int64(7)}})
		z.metadata("id")
		if s := z.round(r); s.State != Replicating || s.LastFile != 1 || s.ProcessedRows != 1 {
			t.Errorf("got %+v", s)
		}
		z.want("7 7")
		if err := z.landing.Remove(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
		if err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := z.lake.Stat(t.Context(), "public/orders"); err == nil {
			t.Error("the folder is gone, and the table is still there")
		}
		if got := r.Status(); len(got) != 0 {
			t.Errorf("got %+v, want no table", got)
		}
	})
}

func TestTableOfAFormerLifeIsDropped(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	z.publish(false, nil, row{id: 1, values: []any{"a"}})
	z.once()
	if err := z.landing.Remove(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	stranger := z.config
	stranger.AppID = "mirror-2"
	for _, c := range []struct {
		config Config
		there  bool
	}{{stranger, true}, {z.config, false}} {
		if err := New(c.config).Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := z.lake.Stat(t.Context(), "public/orders"); (err == nil) != c.there {
			t.Errorf("%s: got %v, want the table there: %v", c.config.AppID, err, c.there)
		}
	}
}

func TestTableOfAnotherMirrorIsLeftAlone(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	z.publish(false, nil, row{id: 1, values: []any{"a"}})
	z.once()
	z.config.AppID = "mirror-2"
	if s := z.once(); s.State != Failed || !strings.Contains(s.Error, "did not write") {
		t.Errorf("got %+v", s)
	}
	z.want("1 a")
}

func TestSnapshotFilesAreAdoptedAsTheyAre(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	z.publish(false, nil, row{id: 1, values: []any{"a"}}, row{id: 2})
	want := z.file(false, nil, row{id: 1, values: []any{"a"}}, row{id: 2})
	z.once()
	s, err := delta.Open(t.Context(), z.table(), -1)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := z.table().Read(t.Context(), s.Files[0].Name, 0, -1)
	if err != nil || !bytes.Equal(got, want) || s.Files[0].Rows != 2 {
		t.Errorf("got %d bytes, %v, want the %d of the landing file", len(got), err, len(want))
	}
}

func TestTableLimit(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := z.landing.Put(t.Context(), name+"/"+landing.MetadataFile, []byte("{}"), store.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	z.config.TableLimit = 2
	r := New(z.config)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.Status(); s[1].State != Initialized || s[2].State != Failed {
		t.Errorf("got %+v", s)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	z.publish(false, nil, row{id: 1, values: []any{"a"}})
	ctx, cancel := context.WithCancel(t.Context())
	z.config.ScanInterval = time.Millisecond
	z.config.Events = func(e Event) {
		if e.Err != nil {
			t.Error(e.Err)
		}
		if e.Last == 2 {
			cancel()
		} else {
			z.publish(true, nil, row{4, 1, []any{"b"}})
		}
	}
	if err := New(z.config).Run(ctx); err != nil {
		t.Fatal(err)
	}
	z.want("1 b")
}
