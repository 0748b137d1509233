package replicator

import (
	"bytes"
	"context"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// folder is what a publisher may put into a table's folder.
type folder struct {
	metadata, first, second []byte
	extra                   uint8
}

// seeds are folders as publishers mean them, and some that they don't.
func seeds(t tb) []folder {
	seed := func(meta map[string]string, fields []batch.Field, marked bool, ids ...int64) []byte {
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
		if err := parquet.Write(&out, b, meta); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	id, name := batch.Field{Name: "id", Type: batch.Type{Kind: batch.Int64}}, batch.Field{Name: "name", Type: batch.Type{Kind: batch.String}}
	first, second := seed(nil, []batch.Field{id, name}, false, 1, 2, 3), seed(nil, []batch.Field{id, name}, true, 2, 4)
	return []folder{
		{[]byte(`{"keyColumns":["id"]}`), first, second, 0},
		{[]byte(`{"keyColumns":["id"],"isUpsertDefaultRowMarker":true}`), first, seed(nil, []batch.Field{id}, false, 3), 1},
		{[]byte(`{"keyColumns":["id"]}`), seed(part(1, 3, true), []batch.Field{id, name}, false, 1, 2), seed(part(2, 1, false), []batch.Field{id, name}, true, 2), 1},
		{[]byte(`{"keyColumns":[]}`), seed(nil, []batch.Field{id}, false), []byte{}, 2},
		{[]byte(`{"KeyColumns":["id","id"]}`), first[:len(first)/2], first[len(first)/2:], 3},
		{[]byte(`[`), []byte("PAR1PAR1"), second, 4},
		{[]byte(`{"fileDetectionStrategy":"LastUpdateTimeFileDetection","keyColumns":["id"]}`), second, first, 5},
		{[]byte(csvMetadata), []byte("id,name\n1,a\n2,\"b,\nc\"\n"), []byte("id,name,__rowMarker__\n1,b,4\n2,,2\n"), 6},
	}
}

// FuzzLandingZone puts anything into a table's folder.
func FuzzLandingZone(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s.metadata, s.first, s.second, s.extra)
	}
	f.Fuzz(func(t *testing.T, metadata, first, second []byte, extra uint8) {
		tryFolder(t, folder{metadata, first, second, extra})
	})
}

// TestSpoiltFolders spoils what publishers mean, in some bytes.
func TestSpoiltFolders(t *testing.T) {
	all, states := seeds(t), map[State]int{}
	for n := range 200 {
		rnd := rand.New(rand.NewPCG(uint64(n), 1))
		s := all[rnd.IntN(len(all))]
		b := []*[]byte{&s.metadata, &s.first, &s.second, &s.second}[rnd.IntN(4)]
		*b = spoil(rnd, *b)
		s.extra = uint8(rnd.IntN(256))
		states[tryFolder(t, s)]++
		if t.Failed() {
			t.Fatalf("seed %d", n)
		}
	}
	if states[Failed] < 30 || states[Replicating] < 30 {
		t.Errorf("got %v, want some of each: else the files are spoilt too much or too little", states)
	}
}

func spoil(rnd *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range rnd.IntN(4) {
		if len(b) == 0 {
			return b
		}
		at := rnd.IntN(len(b))
		switch rnd.IntN(4) {
		case 0:
			b = b[:at]
		case 1:
			b = append(b[:at:at], b[min(len(b), at+1+rnd.IntN(8)):]...)
		default:
			b[at] = byte(rnd.IntN(256))
		}
	}
	return b
}

// tryFolder: the replicator neither panics nor hangs; what it can't apply makes
// the table Failed with a reason, and what it did apply can be read.
func tryFolder(t *testing.T, c folder) State {
	t.Helper()
	if len(c.metadata)+len(c.first)+len(c.second) > 1<<20 {
		return ""
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
	for _, extension := range []string{".parquet", ".csv"} {
		put(strings.Replace(landing.FileName(1), ".parquet", extension, 1), c.first)
		put(strings.Replace(landing.FileName(2), ".parquet", extension, 1), c.second)
	}
	put(landing.MetadataFile, c.metadata)
	put([]string{"_x", "note.txt", "1.parquet", "_ProcessedFiles/" + landing.FileName(1), "sub/" + landing.FileName(1)}[c.extra%5], c.first)
	r := New(Config{Landing: land, Tables: lake, AppID: "fuzz", CopyOnWrite: c.extra%2 == 0, Check: true, FileBytes: 1000})
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
		return s[0].State
	}
	snap, err := delta.Open(ctx, store.Sub(lake, "public/orders"), -1)
	if err == nil {
		err = snap.Scan(ctx, nil, func(delta.File, *batch.Batch, []int32) error { return nil })
	}
	if err != nil {
		t.Errorf("a table that is %s can't be read: %v", s[0].State, err)
	}
	return s[0].State
}

// TestTornPages: a file whose footer is sound and whose pages are not is told, not
// taken.
func TestTornPages(t *testing.T) {
	s := seeds(t)[0]
	s.metadata, s.second = []byte(`{}`), nil
	failed := 0
	for at := 4; at < 40; at++ {
		torn := s
		torn.first = bytes.Clone(s.first)
		torn.first[at] ^= 0xff
		torn.second = torn.first
		if tryFolder(t, torn) == Failed {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no torn page was told")
	}
}
