package landing

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

func TestNames(t *testing.T) {
	for n, want := range map[int64]string{1: "00000000000000000001.parquet", 1234: "00000000000000001234.parquet"} {
		if got := FileName(n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, ok := FileNumber(want); !ok || got != n {
			t.Errorf("%s: got %d, %t", want, got, ok)
		}
	}
	for _, bad := range []string{"", "1.parquet", "00000000000000000000.parquet", "_0000000000000000001.parquet", "00000000000000000001.csv", "-0000000000000000001.parquet", "99999999999999999999.parquet"} {
		if n, ok := FileNumber(bad); ok {
			t.Errorf("%q: got %d, want no number", bad, n)
		}
	}
}

func TestTableDir(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct{ schema, table, want string }{
		{"public", "orders", "public.schema/orders"},
		{"public", "Orders", "public.schema/Orders"},
		{"my schema", "a.b", "my schema.schema/a.b"},
		{"public", "a/b", "public.schema/a~2Fb"},
		{"public", "_hidden", "public.schema/~5Fhidden"},
		{"public", "..", "public.schema/~2E~2E"},
		{"public", "tilde~2F", "public.schema/tilde~7E2F"},
		{"größe", "表", "größe.schema/表"},
		{"public", "bad\xff", "public.schema/bad~FF"},
		{"public", "dot.", "public.schema/dot~2E"},
	} {
		got := TableDir(c.schema, c.table)
		if got != c.want {
			t.Errorf("%q.%q: got %q, want %q", c.schema, c.table, got, c.want)
		}
		if s, n := TableName(got); s+".schema/"+n != got {
			t.Errorf("%s is named %q.%q", got, s, n)
		}
		if before, ok := seen[got]; ok {
			t.Errorf("%q and %q share a folder", before, c.table)
		}
		seen[got] = c.table
	}
}

func TestPositionSkip(t *testing.T) {
	half := Position{CommitLSN: 100, N: 3}
	whole := Position{CommitLSN: 100, N: 3, Complete: true}
	for _, c := range []struct {
		p   Position
		lsn LSN
		n   int64
		all bool
	}{{half, 99, 0, true}, {half, 100, 3, false}, {half, 101, 0, false}, {whole, 100, 0, true}, {whole, 101, 0, false}, {Position{}, 1, 0, false}} {
		if n, all := c.p.Skip(c.lsn); n != c.n || all != c.all {
			t.Errorf("%+v at %s: got %d, %t, want %d, %t", c.p, c.lsn, n, all, c.n, c.all)
		}
	}
}

func TestMeta(t *testing.T) {
	want := Meta{Generation: 2, Position: Position{CommitLSN: 0x16B374D848, N: 7, Complete: true}, EndLSN: 0x16B374D880, CommitTime: time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC), Filled: 4}
	f := want.Footer()
	if f["pgmirror.commit_lsn"] != "16/B374D848" {
		t.Errorf("commit_lsn: got %s", f["pgmirror.commit_lsn"])
	}
	got, ok, err := ParseMeta(f)
	if err != nil || !ok || cmp.Diff(got, want) != "" {
		t.Errorf("got %+v, %t, %v, want %+v", got, ok, err, want)
	}
	if _, ok, err := ParseMeta(map[string]string{"writer": "other"}); ok || err != nil {
		t.Errorf("a file of another publisher: %t, %v", ok, err)
	}
	f["pgmirror.n"] = "x"
	if _, _, err := ParseMeta(f); err == nil {
		t.Error("a broken footer was read")
	}
}

func dir(t *testing.T) *store.Dir {
	t.Helper()
	d, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func rows() *batch.Batch {
	b := batch.New(&batch.Schema{Key: []int{0}, Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}}}, true)
	b.Cols[0].AppendInt64(42)
	b.EndMarkedRow(batch.Upsert)
	return b
}

func TestPublish(t *testing.T) {
	ctx, d := t.Context(), dir(t)
	w := Writer{Store: d, Dir: TableDir("public", "t")}
	s, err := w.Upload(ctx, rows(), Meta{Generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := Files(ctx, d, w.Dir); err != nil || len(f) != 0 {
		t.Fatalf("an upload is visible: %v, %v", f, err)
	}
	for range 2 { // the second time as after a crash
		if err := w.Publish(ctx, s, 1); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Files(ctx, d, w.Dir)
	if err != nil || len(f) != 1 || f[0].Number != 1 || f[0].Size != s.Size {
		t.Fatalf("files: %+v, %v", f, err)
	}
	data, _, err := d.Read(ctx, f[0].Name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := parquet.Open(data); err != nil || p.Rows != 1 {
		t.Fatalf("the file: %+v, %v", p, err)
	}
}

func TestPublishTaken(t *testing.T) {
	ctx, d := t.Context(), dir(t)
	w := Writer{Store: d, Dir: "t"}
	if _, err := d.Put(ctx, "t/"+FileName(1), []byte("theirs"), store.Cond{}); err != nil {
		t.Fatal(err)
	}
	s, err := w.Upload(ctx, rows(), Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(ctx, s, 1); !errors.Is(err, ErrTaken) {
		t.Fatalf("got %v, want %v", err, ErrTaken)
	}
	if b, _, err := d.Read(ctx, "t/"+FileName(1), 0, -1); err != nil || string(b) != "theirs" {
		t.Fatalf("their file: %q, %v", b, err)
	}
	if err := d.Remove(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(ctx, s, 2); !errors.Is(err, ErrFolderGone) {
		t.Fatalf("got %v, want %v", err, ErrFolderGone)
	}
}

// unclear answers ErrUnknown to renames, before or after they took effect.
type unclear struct {
	store.Store
	times int
	after bool
}

func (u *unclear) Rename(ctx context.Context, from, to string) error {
	if u.times--; u.times < 0 {
		return u.Store.Rename(ctx, from, to)
	}
	if u.after {
		if err := u.Store.Rename(ctx, from, to); err != nil {
			return err
		}
	}
	return store.ErrUnknown
}

func TestPublishUnclear(t *testing.T) {
	for _, u := range []unclear{{times: 1}, {times: 1, after: true}, {times: 3}} {
		ctx, d := t.Context(), dir(t)
		u.Store = d
		w := Writer{Store: &u, Dir: "t", Wait: func(int) error { return nil }}
		s, err := w.Upload(ctx, rows(), Meta{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Publish(ctx, s, 1); err != nil {
			t.Fatal(err)
		}
		if f, err := Files(ctx, d, "t"); err != nil || len(f) != 1 {
			t.Fatalf("files: %v, %v", f, err)
		}
	}
	u := unclear{Store: dir(t), times: 1 << 30}
	w := Writer{Store: &u, Dir: "t", Wait: func(int) error { return nil }}
	s, err := w.Upload(t.Context(), rows(), Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(t.Context(), s, 1); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("got %v, want %v: the tries are bounded", err, store.ErrUnknown)
	}
}

// short loses the end of what is put.
type short struct{ store.Store }

func (s short) Put(ctx context.Context, name string, body []byte, c store.Cond) (store.Info, error) {
	return s.Store.Put(ctx, name, body[:len(body)-1], c)
}

func TestUploadIsChecked(t *testing.T) {
	w := Writer{Store: short{dir(t)}, Dir: "t"}
	if _, err := w.Upload(t.Context(), rows(), Meta{}); err == nil || !strings.Contains(err.Error(), "bytes arrived") {
		t.Fatalf("got %v, want an error about missing bytes", err)
	}
}

func TestDiscard(t *testing.T) {
	ctx, d := t.Context(), dir(t)
	w := Writer{Store: d, Dir: "t"}
	if _, err := w.Upload(ctx, rows(), Meta{}); err != nil {
		t.Fatal(err)
	}
	staged, err := w.Staged(ctx)
	if err != nil || len(staged) != 1 {
		t.Fatalf("staged: %q, %v", staged, err)
	}
	keep, err := w.Upload(ctx, rows(), Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteMetadata(ctx, d, "t", TableMetadata{KeyColumns: []string{"id"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Discard(ctx, staged); err != nil {
		t.Fatal(err)
	}
	list, err := d.List(ctx, "t")
	if err != nil || len(list) != 2 || path.Base(list[0].Name) != MetadataFile || path.Base(list[1].Name) != keep.Name {
		t.Fatalf("left: %+v, %v", list, err)
	}
	m, err := ReadMetadata(ctx, d, "t")
	if err != nil || !cmp.Equal(m.KeyColumns, []string{"id"}) {
		t.Fatalf("metadata: %+v, %v", m, err)
	}
}

func TestFolders(t *testing.T) {
	ctx, d := t.Context(), dir(t)
	for _, n := range []string{"public.schema/a/x", "public.schema/_skip/x", "plain/x", "_pgmirror/tables/x", "loose"} {
		if _, err := d.Put(ctx, n, []byte("x"), store.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Folders(ctx, d, "dbo")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got {
		names = append(names, f.Schema+"/"+f.Table+" in "+f.Dir)
		if f.ETag == "" {
			t.Errorf("%s has no etag", f.Dir)
		}
	}
	if want := []string{"dbo/plain in plain", "public/a in public.schema/a"}; !cmp.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// overwriting is a store whose rename replaces.
type overwriting struct{ store.Store }

func (o overwriting) Rename(ctx context.Context, from, to string) error {
	if err := o.Store.Remove(ctx, to); err != nil {
		return err
	}
	return o.Store.Rename(ctx, from, to)
}

func TestProve(t *testing.T) {
	d := dir(t)
	if err := Prove(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if l, err := d.List(t.Context(), StateDir+"/probe"); err != nil || len(l) != 0 {
		t.Errorf("the probe left %v, %v", l, err)
	}
	if err := Prove(t.Context(), overwriting{d}); !errors.Is(err, ErrOverwrites) {
		t.Errorf("got %v, want %v", err, ErrOverwrites)
	}
}

func TestPartnerEvents(t *testing.T) {
	d := dir(t)
	if err := WritePartnerEvents(t.Context(), d, "15.18"); err != nil {
		t.Fatal(err)
	}
	b, _, err := d.Read(t.Context(), PartnerEventsFile, 0, -1)
	if err != nil || !bytes.Contains(b, []byte(`"partnerName":"pgmirror"`)) || !bytes.Contains(b, []byte(`"sourceVersion":"15.18"`)) {
		t.Fatalf("got %s, %v", b, err)
	}
}

func FuzzFileNumber(f *testing.F) {
	f.Add(FileName(1))
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := FileNumber(name); ok && FileName(n) != name {
			t.Errorf("%q is number %d, whose name is %q", name, n, FileName(n))
		}
	})
}

// FuzzMeta gives any footer to the parser: what it takes, it writes as it was.
func FuzzMeta(f *testing.F) {
	f.Add("1", "16/B374D848", "3", "true", "16/B374D880", "2024-02-29T12:34:56.789Z", "2")
	f.Add("", "0/0", "-1", "x", "", "infinity", "9223372036854775808")
	f.Fuzz(func(t *testing.T, generation, commit, n, complete, end, at, filled string) {
		m, ok, err := ParseMeta(map[string]string{metaGeneration: generation, metaCommitLSN: commit, metaN: n, metaComplete: complete, metaEndLSN: end, metaCommitTime: at, metaFilled: filled})
		if !ok || err != nil {
			return
		}
		again, ok, err := ParseMeta(m.Footer())
		if !ok || err != nil || again.Position != m.Position || again.Generation != m.Generation || again.EndLSN != m.EndLSN || again.Filled != m.Filled || !again.CommitTime.Equal(m.CommitTime) {
			t.Errorf("%+v is read back as %+v, %v", m, again, err)
		}
	})
}

// FuzzMetadata gives any bytes to the look at _metadata.json, which has to end with
// findings that have a rule.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{"", "{}", `{"keyColumns":["id"],"isPartitionEnabled":"true"}`, `{"KeyColumns":[null],"fileDetectionStrategy":7}`,
		`{"FileFormat":"DelimitedText","FileExtension":"csv","SchemaDefinition":{"Columns":[{"Name":"p","DataType":"Decimal"}]},"FileFormatTypeProperties":{"RowSeparator":"\n","FirstRowAsHeader":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		l := newLinter(nil, "dbo", func(x Finding) {
			if x.Severity == "" {
				t.Errorf("a finding without a rule: %+v", x)
			}
		})
		m := &tableLint{linter: l, dir: "t"}
		m.readMetadata("t/"+MetadataFile, body)
		_ = m.meta.extension()
	})
}
