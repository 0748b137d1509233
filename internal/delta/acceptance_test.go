package delta

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// TestAcceptance reads tables that others wrote: those in the folder
// PGMIRROR_DELTA_ACCEPTANCE, each as <case>/delta with what its newest version
// holds as Parquet files in <case>/expected, anywhere below it. That is how the
// Delta project's own acceptance and golden tables lie, and those that
// witness/delta_spark.py has Spark write. A table must be read rightly or
// refused with ErrUnsupported.
func TestAcceptance(t *testing.T) {
	root := os.Getenv("PGMIRROR_DELTA_ACCEPTANCE")
	if root == "" {
		t.Skip("PGMIRROR_DELTA_ACCEPTANCE names no folder")
	}
	logs, err := filepath.Glob(filepath.Join(root, "*", "delta", logDir))
	if err != nil || len(logs) == 0 {
		t.Fatalf("%d tables in %s, %v", len(logs), root, err)
	}
	for _, l := range logs {
		dir := filepath.Dir(filepath.Dir(l))
		t.Run(filepath.Base(dir), func(t *testing.T) {
			table, err := store.OpenDir(filepath.Join(dir, "delta"))
			if err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), table, -1)
			if errors.Is(err, ErrUnsupported) {
				t.Skip("refused: ", err)
			} else if _, none := os.Stat(filepath.Join(dir, "expected")); err != nil && none != nil {
				t.Skip("nothing is expected of it, and it is an error: ", err)
			} else if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range s.Schema.Fields {
				names = append(names, f.Name)
			}
			slices.Sort(names)
			want, err := expectedRows(filepath.Join(dir, "expected"), names)
			if err != nil {
				t.Skip("what is expected can't be read: ", err)
			}
			got := [][]byte{}
			err = s.Scan(t.Context(), names, func(_ File, b *batch.Batch, live []int32) error {
				for _, i := range live {
					got = append(got, rowBytes(b, int(i)))
				}
				return nil
			})
			if errors.Is(err, ErrUnsupported) {
				t.Skip("refused: ", err)
			} else if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(got, bytes.Compare)
			if !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("got %d rows, want %d, or they differ", len(got), len(want))
			}
			t.Logf("%d rows, version %d, protocol %+v", len(got), s.Version, s.Protocol)
		})
	}
}

func rowBytes(b *batch.Batch, i int) []byte {
	var out []byte
	for c := range b.Cols {
		out = b.Cols[c].AppendValue(out, i)
	}
	return out
}

// expectedRows reads the Parquet files of the newest version.
func expectedRows(dir string, names []string) ([][]byte, error) {
	rows := [][]byte{}
	if _, err := os.Stat(filepath.Join(dir, "latest")); err == nil {
		dir = filepath.Join(dir, "latest")
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".parquet") {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		pf, err := parquet.Open(data)
		if err != nil {
			return err
		}
		b, err := pf.Read(names, false)
		if err != nil {
			return err
		}
		for i := range pf.Rows {
			rows = append(rows, rowBytes(b, i))
		}
		return nil
	})
	slices.SortFunc(rows, bytes.Compare)
	return rows, err
}
