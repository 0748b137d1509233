package store_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/store"
	"github.com/pgmirror/pgmirror/internal/store/storetest"
)

func TestDir(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		d, err := store.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// A file that a crash left half written is neither listed nor in the way, and
// removed once nobody can be writing it.
func TestDirLeftover(t *testing.T) {
	d, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	list := func() {
		t.Helper()
		if l, err := d.List(t.Context(), ""); err != nil || len(l) != 0 {
			t.Fatalf("list: %v, %v", l, err)
		}
	}
	live, left, folder := d.Path(".~live"), d.Path(".~left"), d.Path(".~folder")
	for _, p := range []string{live, left} {
		if err := os.WriteFile(p, []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	list()
	yesterday := time.Now().Add(-25 * time.Hour)
	for _, p := range []string{left, folder} {
		if err := os.Chtimes(p, yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	list()
	for p, want := range map[string]bool{live: true, left: false, folder: true} {
		if _, err := os.Stat(p); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", p, err == nil, want)
		}
	}
}

// A file that is taken away as soon as it is there was put all the same.
func TestPutTaken(t *testing.T) {
	d, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	taker, stop := context.WithCancel(t.Context())
	var taken atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for taker.Err() == nil {
			if d.Rename(context.Background(), "asked", "taken") == nil {
				taken.Add(1)
				_ = d.Remove(context.Background(), "taken")
			}
		}
	})
	defer wg.Wait()
	defer stop()
	for i := 0; i < 300 || taken.Load() == 0; i++ {
		if _, err := d.Put(t.Context(), "asked", []byte("x"), store.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
}
