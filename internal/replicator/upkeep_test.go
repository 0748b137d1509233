package replicator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/store"
)

// operations counts the commits of each kind in a table's log.
func (z *zone) operations() map[string]int {
	z.Helper()
	s, err := delta.Open(context.Background(), z.table(), -1)
	if err != nil {
		z.Fatal(err)
	}
	n := map[string]int{}
	for v := range s.Version + 1 {
		info, err := delta.Info(context.Background(), z.table(), v)
		if err == nil {
			n[info.Operation]++
		}
	}
	return n
}

// TestUpkeepBesideCommits lets upkeep work while rows change all the time: rows
// that are deleted while their file is being compacted are deleted in the new
// one, and every version holds what the files up to it say.
func TestUpkeepBesideCommits(t *testing.T) {
	both(t, func(t *testing.T, z *zone) {
		z.metadata("id")
		m := model{rows: map[int64][]string{}}
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(1, 2))
		publish := func() {
			var rows []row
			for range 8 {
				rows = append(rows, row{[]int32{batch.Upsert, batch.Upsert, batch.Delete}[random.IntN(3)], random.Int64N(200), []any{fmt.Sprint("v", random.Int())}})
			}
			z.publish(true, nil, rows...)
			m.apply(true, true, rows)
		}
		// So many files, and as many more as it takes until three compactions came
		// between them; by copy on write few do, as most lose to a rewrite.
		const files, most = 120, 1200
		ctx, cancel := context.WithCancel(t.Context())
		z.config.ScanInterval = time.Millisecond
		z.config.Upkeep.Share, z.config.Upkeep.CheckpointEvery = 1, 7
		z.config.Events = func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case e.Err != nil:
				t.Error(e.Err)
			case e.Last == z.n && z.n >= files && (z.config.CopyOnWrite || z.n == most || z.operations()["OPTIMIZE"] >= 3):
				cancel()
			case e.Last == z.n:
				publish()
			}
		}
		publish()
		if err := New(z.config).Run(ctx); err != nil {
			t.Fatal(err)
		}
		z.config.Events = nil
		z.once() // to the end, and tidy
		if n := z.operations(); n["OPTIMIZE"] < 3 && !z.config.CopyOnWrite || n["OPTIMIZE"] == 0 {
			t.Errorf("got %v, want several compactions", n)
		}
		h := history{zone: z, model: m, now: time.Now()}
		newest, err := delta.Open(t.Context(), z.table(), -1)
		if err != nil {
			t.Fatal(err)
		}
		for v := range newest.Version + 1 {
			rows, n, err := h.version(v)
			want := []string{}
			if n > 0 {
				want = m.states[n-1]
			}
			if diff := cmp.Diff(want, rows); diff != "" || err != nil {
				t.Fatalf("version %d, file %d: %v (-want +got):\n%s", v, n, err, diff)
			}
		}
		if len(newest.Files) > 12 {
			t.Errorf("%d files are left of %d", len(newest.Files), z.n)
		}
	})
}

// TestCompactionWithoutRest compacts files that leave no row over: one that lost all
// its rows in the commit that added it, and one whose last row fills a new file.
func TestCompactionWithoutRest(t *testing.T) {
	both(t, func(t *testing.T, z *zone) {
		z.config.Events = func(e Event) {
			if e.Err != nil {
				t.Error(e.Err)
			}
		}
		files := func(want int) {
			t.Helper()
			s, err := delta.Open(t.Context(), z.table(), -1)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Files) != want {
				t.Errorf("got %d files, want %d", len(s.Files), want)
			}
		}
		z.metadata("id")
		z.publish(false, part(100, 1, false), row{id: 1, values: []any{"a"}})
		z.publish(true, part(100, 2, true), row{2, 1, nil})
		z.once()
		z.want()
		files(0)

		z.config.FileBytes = 1
		z.publish(false, nil, row{id: 1, values: []any{"a"}}, row{id: 2, values: []any{"b"}}, row{id: 3, values: []any{"c"}})
		z.publish(true, nil, row{2, 1, nil}, row{2, 2, nil})
		z.once()
		z.want("3 c")
		files(1)
	})
}

// TestOldVersionsStayForTheRetention opens a version, lets the table go on and be
// vacuumed, and reads the version.
func TestOldVersionsStayForTheRetention(t *testing.T) {
	both(t, func(t *testing.T, z *zone) {
		z.metadata("id")
		z.config.Upkeep.CheckpointEvery = 1
		now := time.Now()
		round := func() {
			r := New(z.config)
			r.now = func() time.Time { return now }
			z.round(r)
		}
		publish := func(i int64) {
			z.publish(true, nil, row{4, 1, []any{fmt.Sprint(i)}}, row{4, i, []any{"x"}})
		}
		publish(2)
		round()
		old, err := delta.Open(t.Context(), z.table(), -1)
		if err != nil {
			t.Fatal(err)
		}
		want := z.scan(old)
		for i := range int64(10) {
			publish(3 + i)
			round()
		}
		now = now.Add(23 * time.Hour)
		round()
		if diff := cmp.Diff(want, z.scan(old)); diff != "" {
			t.Errorf("within the retention (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, z.read(old.Version)); diff != "" {
			t.Errorf("opened within the retention (-want +got):\n%s", diff)
		}
		newest := z.read(-1)
		now = now.Add(2 * time.Hour)
		publish(20)
		round()
		publish(21)
		now = now.Add(25 * time.Hour)
		round()
		if rows, err := scanRows(old); err == nil {
			t.Errorf("long after: got %v, want an error", rows)
		}
		if _, err := delta.Open(t.Context(), z.table(), old.Version); err == nil {
			t.Error("long after, the version can still be opened")
		}
		if got := z.read(-1); len(got) != len(newest)+2 {
			t.Errorf("got %v, want two rows more than %v", got, newest)
		}
		list, err := z.table().List(t.Context(), "_delta_log")
		if err != nil || len(list) > 10 {
			t.Errorf("%d files are left in the log, %v", len(list), err)
		}
	})
}

// TestKeyFilesMakeRestartsCheap counts what a restart reads of the table.
func TestKeyFilesMakeRestartsCheap(t *testing.T) {
	z := newZone(t, t.TempDir(), false)
	z.config.KeyCache = filepath.Join(z.dir, "keys")
	z.config.FileBytes = 1 << 20
	z.metadata("id")
	var rows []row
	for i := range int64(3000) {
		rows = append(rows, row{id: i, values: []any{"a"}})
	}
	z.publish(false, nil, rows...)
	z.publish(true, nil, row{4, 7, []any{"b"}})
	z.once()
	counted := &countingStore{Store: z.lake}
	z.config.Tables = counted
	z.publish(true, nil, row{4, 9, []any{"c"}})
	z.config.Upkeep.SmallFiles = 99
	z.once()
	if counted.data != 0 {
		t.Errorf("a restart read %d bytes of data files, want none", counted.data)
	}
	if got := z.read(-1); len(got) != 3000 || !slices.Contains(got, "9 c") || slices.Contains(got, "9 a") {
		t.Errorf("got %d rows", len(got))
	}
	if err := os.RemoveAll(z.config.KeyCache); err != nil {
		t.Fatal(err)
	}
	z.publish(true, nil, row{4, 11, []any{"d"}})
	z.once()
	if counted.data == 0 {
		t.Error("the key files were lost, and no data file was read")
	}
	if got := z.read(-1); len(got) != 3000 || slices.Contains(got, "11 a") {
		t.Errorf("got %d rows", len(got))
	}
}

// countingStore counts the bytes read of data files.
type countingStore struct {
	store.Store
	mu   sync.Mutex
	data int64
}

func (c *countingStore) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	b, i, err := c.Store.Read(ctx, name, off, n)
	if strings.HasSuffix(name, ".snappy.parquet") {
		c.mu.Lock()
		c.data += int64(len(b))
		c.mu.Unlock()
	}
	return b, i, err
}

// TestLatchedFaultsOutliveTheProcess restarts with a fault that latched.
func TestLatchedFaultsOutliveTheProcess(t *testing.T) {
	z := newZone(t, t.TempDir(), true)
	z.metadata("id")
	z.publish(false, nil, row{id: 1, values: []any{"a"}})
	z.n++
	z.put("00000000000000000002.parquet", nil)
	first := z.once()
	if err := z.landing.Remove(t.Context(), shop+"/00000000000000000002.parquet"); err != nil {
		t.Fatal(err)
	}
	z.n = 1
	z.publish(true, nil, row{4, 2, []any{"b"}})
	if s := z.once(); s.State != Failed || s.Error != first.Error {
		t.Errorf("got %+v, want still %q", s, first.Error)
	}
	z.want("1 a")
	if err := os.Rename(filepath.Join(z.dir, "landing", shop), filepath.Join(z.dir, "old")); err != nil {
		t.Fatal(err)
	}
	z.n = 0
	z.publish(false, nil, row{id: 3, values: []any{"c"}})
	z.metadata("id")
	if s := z.once(); s.State != Replicating {
		t.Errorf("a new folder: got %+v", s)
	}
	z.want("3 c")
}

// TestAnotherWriterOptimizes commits behind the replicator's back, as engines do
// that optimize a table.
func TestAnotherWriterOptimizes(t *testing.T) {
	z := newZone(t, t.TempDir(), false)
	z.metadata("id")
	z.publish(true, nil, row{4, 1, []any{"a"}}, row{4, 2, []any{"b"}})
	r := New(z.config)
	z.round(r)
	s, err := delta.Open(t.Context(), z.table(), -1)
	if err != nil {
		t.Fatal(err)
	}
	again := s.Files[0].Add
	data, _, err := z.table().Read(t.Context(), s.Files[0].Name, 0, -1)
	if err == nil {
		again.Path = "part-other.parquet"
		_, err = z.table().Put(t.Context(), again.Path, data, store.Cond{})
	}
	if err == nil {
		_, err = delta.Commit(t.Context(), z.table(), s.Version, []delta.Action{{CommitInfo: &delta.CommitInfo{Operation: "OPTIMIZE", Engine: "other", User: "free text"}},
			s.Files[0].Removal(time.Now().UnixMilli()), {Add: &again}})
	}
	if err != nil {
		t.Fatal(err)
	}
	z.publish(true, nil, row{4, 1, []any{"A"}}, row{2, 2, nil})
	if s := z.round(r); s.Error != "" || s.ProcessedRows != 4 {
		t.Errorf("got %+v", s)
	}
	z.want("1 A")
	if s := z.once(); s.ProcessedRows != 4 {
		t.Errorf("after a restart: got %+v", s)
	}
}
