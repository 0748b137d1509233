package store_test

import (
	"os"
	"path/filepath"
	"testing"

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

// A file that a crash left half written is neither listed nor in the way.
func TestDirLeftover(t *testing.T) {
	d, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path("x"), "..", ".~123"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if l, err := d.List(t.Context(), ""); err != nil || len(l) != 0 {
		t.Fatalf("list: %v, %v", l, err)
	}
}
