package replicator

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
)

// told is a history for readers that are not ours: where its table lies, and
// what some of its versions hold.
type told struct {
	Name     string        `json:"name"`
	Path     string        `json:"path"`
	Versions []toldVersion `json:"versions"` // the last one is the newest
}

type toldVersion struct {
	Version int64   `json:"version"`
	Rows    [][]any `json:"rows"` // id, name, n; NULL where a version has no such column
}

// TestWriteHistories writes random histories with what their versions hold by
// the model into the folder PGMIRROR_HISTORIES, for `make witness`.
func TestWriteHistories(t *testing.T) {
	root := os.Getenv("PGMIRROR_HISTORIES")
	if root == "" {
		t.Skip("PGMIRROR_HISTORIES names no folder")
	}
	var all []told
	for seed, c := range []struct {
		name      string
		cow       int // the first so many files are applied by copy on write
		fileBytes int64
		files     int
		changes   int           // of a file, at most
		age       time.Duration // between the rounds
	}{
		{"copy-on-write", 40, 2000, 40, 20, 0},
		{"vectors-small", 0, 1500, 60, 20, 0}, // and so they are in the log
		{"vectors-large", 0, 1 << 20, 60, 600, 0},
		{"upgraded", 20, 1 << 20, 40, 20, 0},
		{"vacuumed", 0, 3000, 60, 20, 3 * time.Hour},
	} {
		all = append(all, tell(t, root, c.name, c.cow, c.fileBytes, c.files, c.changes, c.age, uint64(seed)))
	}
	body, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "histories.json"), body, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func tell(t *testing.T, root, name string, cow int, fileBytes int64, files, changes int, age time.Duration, seed uint64) told {
	z := newZone(t, filepath.Join(root, name), cow > 0)
	z.config.FileBytes, z.config.Upkeep.CheckpointEvery = fileBytes, 6
	z.metadata("id")
	random := rand.New(rand.NewPCG(seed, 7))
	rows := map[int64][]any{}
	states := [][][]any{nil}
	now := time.Now().Add(-age * time.Duration(files))
	r := New(z.config)
	r.now = func() time.Time { return now }
	state := func() [][]any {
		out := [][]any{}
		for _, id := range slices.Sorted(maps.Keys(rows)) {
			out = append(out, rows[id])
		}
		return out
	}
	for i := range files {
		if i == files/3 {
			z.fields = append(z.fields, batch.Field{Name: "n", Type: batch.Type{Kind: batch.Int64}})
		}
		if i == cow {
			z.config.CopyOnWrite = false
			r = New(z.config)
			r.now = func() time.Time { return now }
		}
		var change []row
		for range 1 + random.IntN(changes) {
			id := random.Int64N(int64(6*changes)) - 20
			if random.IntN(4) == 0 {
				change = append(change, row{marker: batch.Delete, id: id})
				delete(rows, id)
				continue
			}
			x := row{batch.Upsert, id, []any{nil}}
			if random.IntN(5) > 0 {
				x.values[0] = []string{"plain", "", "ünïcödé ✓", strings.Repeat("long ", 20) + fmt.Sprint(random.Int())}[random.IntN(4)]
			}
			rows[id] = []any{id, x.values[0], nil}
			if len(z.fields) == 3 && random.IntN(3) > 0 {
				x.values = append(x.values, random.Int64()-1<<62)
				rows[id][2] = x.values[1]
			}
			change = append(change, x)
		}
		z.publish(true, nil, change...)
		states = append(states, state())
		if random.IntN(3) > 0 || i == files-1 {
			now = time.Now().Add(-age * time.Duration(files-1-i)) // ends now: readers have clocks
			z.round(r)
			if age > 0 {
				h := history{zone: z, now: now, seen: map[int64]time.Time{}}
				h.settleTime()
			}
		}
	}
	out := told{Name: name, Path: filepath.Join(z.dir, "lake", "public", "orders")}
	newest, err := delta.Open(t.Context(), z.table(), -1)
	if err != nil {
		t.Fatal(err)
	}
	for v := range newest.Version + 1 {
		if v%5 != 0 && v != newest.Version {
			continue
		}
		s, err := delta.Open(t.Context(), z.table(), v)
		if err == nil {
			_, err = scanRows(s)
		}
		if err != nil {
			if age == 0 {
				t.Fatal(err)
			}
			continue // vacuumed, as it should be: TestRandomHistories holds it
		}
		if s.Version != newest.Version && now.Sub(time.UnixMilli(s.Info.Timestamp)) > r.Upkeep.Retention-time.Hour {
			continue // Spark refuses it, whether or not its files are there
		}
		n := int64(0)
		for _, x := range s.Txns {
			n = x
		}
		out.Versions = append(out.Versions, toldVersion{v, append([][]any{}, states[n]...)})
	}
	return out
}
