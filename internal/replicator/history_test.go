package replicator

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
)

// model is what a table holds, by Fabric's rules, after each file.
type model struct {
	rows   map[int64][]string
	states [][]string // after file n; nil where no commit may stand
}

func (m *model) apply(marked, complete bool, rows []row) {
	for _, r := range rows {
		marker := r.marker
		if !marked {
			marker = batch.Insert
		}
		if marker != batch.Insert {
			delete(m.rows, r.id)
		}
		if marker != batch.Delete {
			m.rows[r.id] = append(m.rows[r.id], r.text())
		}
	}
	if !complete {
		m.states = append(m.states, nil)
		return
	}
	all := []string{}
	for _, r := range m.rows {
		all = append(all, r...)
	}
	slices.Sort(all)
	m.states = append(m.states, all)
}

func (r row) text() string {
	s := []string{fmt.Sprint(r.id)}
	for _, v := range r.values {
		if v == nil {
			v = "-"
		}
		s = append(s, fmt.Sprint(v))
	}
	return strings.TrimRight(strings.Join(s, " "), " -")
}

// history is a random life of a table.
type history struct {
	*zone
	model
	t    *rapid.T
	r    *Replicator
	wide bool   // files have the third column
	open bool   // the last file did not end its transaction
	p    *power // of r's stores
	cut  bool   // a process was killed: it may have left files that no version holds
	lsn  landing.LSN
	now  time.Time           // as the replicator sees it
	seen map[int64]time.Time // when each version was there
	aged bool                // time has passed: versions may go
}

func (h *history) publishSome() {
	marked := rapid.IntRange(0, 5).Draw(h.t, "marked") > 0
	complete := rapid.IntRange(0, 3).Draw(h.t, "complete") > 0
	var rows []row
	for range rapid.IntRange(0, 12).Draw(h.t, "rows") {
		r := row{marker: rapid.SampledFrom([]int32{0, 1, 2, 2, 4, 4, 4}).Draw(h.t, "marker"), id: rapid.Int64Range(0, 25).Draw(h.t, "id")}
		r.values = []any{rapid.SampledFrom([]any{nil, "x", strings.Repeat("long ", 30) + "!"}).Draw(h.t, "name")}
		if h.wide {
			r.values = append(r.values, rapid.SampledFrom([]any{nil, int64(1), int64(-7)}).Draw(h.t, "n"))
		}
		rows = append(rows, r)
	}
	if !h.open {
		h.lsn += 8
	}
	h.open = !complete
	meta := part(h.lsn, int64(len(rows)), complete)
	if complete && rapid.Bool().Draw(h.t, "plain") {
		meta = nil
	}
	h.publish(marked, meta, rows...)
	h.model.apply(marked, complete, rows)
}

// start begins a new process.
func (h *history) start() {
	h.p = &power{left: math.MaxInt}
	c := h.config
	c.Landing, c.Tables = cutStore{h.landing, h.p}, cutStore{h.lake, h.p}
	h.r = New(c)
	h.r.now = func() time.Time { return h.now }
}

// settleTime gives the files that were written the time that they were written
// at, and notes the versions.
func (h *history) settleTime() {
	root := filepath.Join(h.dir, "lake")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil && time.Since(fi.ModTime()) < 24*time.Hour {
			err = os.Chtimes(p, h.now, h.now)
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	list, err := h.table().List(context.Background(), "_delta_log")
	if err != nil {
		h.Fatal(err)
	}
	for _, i := range list {
		v, err := strconv.ParseInt(strings.TrimSuffix(path.Base(i.Name), ".json"), 10, 64)
		if _, ok := h.seen[v]; err == nil && !ok {
			h.seen[v] = h.now
		}
	}
}

// tear damages a key file.
func (h *history) tear() {
	files, err := filepath.Glob(filepath.Join(h.dir, "keys", "*", "*"+keySuffix))
	if err != nil || len(files) == 0 {
		return
	}
	p := rapid.SampledFrom(files).Draw(h.t, "key file")
	body, err := os.ReadFile(p)
	if err != nil {
		h.Fatal(err)
	}
	if len(body) == 0 {
		return
	}
	at := rapid.IntRange(0, len(body)-1).Draw(h.t, "byte")
	switch rapid.IntRange(0, 2).Draw(h.t, "damage") {
	case 0:
		err = os.Remove(p)
	case 1:
		err = os.WriteFile(p, body[:at], 0o600)
	case 2:
		body[at] ^= 0x5a
		err = os.WriteFile(p, body, 0o600)
	}
	if err != nil {
		h.Fatal(err)
	}
}

// truncate makes the folder anew, as a publisher does after a TRUNCATE: another
// life of the table begins.
func (h *history) truncate() {
	if err := h.landing.Remove(context.Background(), shop); err != nil {
		h.Fatal(err)
	}
	h.n, h.open, h.model, h.seen = 0, false, model{rows: map[int64][]string{}}, map[int64]time.Time{}
	h.metadata("id")
}

// columns adds the third column, or leaves it out of the files from now on.
func (h *history) columns() {
	if h.wide = !h.wide; h.wide {
		h.fields = append(h.fields, batch.Field{Name: "n", Type: batch.Type{Kind: batch.Int64}})
		return
	}
	h.fields = h.fields[:2]
}

// fail lets the writes of one round fail, from some write on.
func (h *history) fail() {
	most := rapid.SampledFrom([]int{3, 10, 30}).Draw(h.t, "most")
	h.p.left, h.p.how = rapid.IntRange(0, most).Draw(h.t, "writes"), rapid.IntRange(before, half).Draw(h.t, "how")
	_ = h.r.Once(context.Background()) // the cut is an error somewhere, or too late
	h.settleTime()
	h.cut = h.cut || h.p.off()
	h.p.left = math.MaxInt
}

// orphans expects every data file to be held by some version.
func (h *history) orphans() {
	list, err := h.table().List(context.Background(), "")
	if err != nil {
		h.Fatal(err)
	}
	newest, err := delta.Open(context.Background(), h.table(), -1)
	if err != nil {
		h.Fatal(err)
	}
	held := map[string]bool{}
	for v := range newest.Version + 1 {
		s, err := delta.Open(context.Background(), h.table(), v)
		if err != nil {
			h.Fatal(err)
		}
		for _, f := range s.Files {
			held[f.Name] = true
		}
	}
	for _, i := range list {
		if strings.HasPrefix(i.Name, dataPrefix) && !held[i.Name] {
			h.Fatalf("%s is held by no version", i.Name)
		}
	}
}

// check compares every version with the model. One that was superseded longer
// than the retention ago may be gone, and is never a wrong row.
func (h *history) check() {
	newest, err := delta.Open(context.Background(), h.table(), -1)
	if err != nil {
		return // no table yet
	}
	for v := newest.Version; v >= 0; v-- {
		superseded, ok := h.seen[v+1]
		kept := !ok || superseded.After(h.now.Add(-h.r.Upkeep.Retention))
		got, n, err := h.version(v)
		if err != nil {
			if kept {
				h.Fatalf("version %d, superseded %s ago: %v", v, h.now.Sub(superseded), err)
			}
			continue
		}
		want := []string{}
		if n > 0 {
			if want = h.states[n-1]; want == nil {
				h.Fatalf("version %d ends with file %d, inside a transaction", v, n)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			h.Fatalf("version %d, file %d (-want +got):\n%s", v, n, diff)
		}
	}
}

// version is the rows of a version, and the number of the last file in it.
func (h *history) version(v int64) (rows []string, n int64, err error) {
	s, err := delta.Open(context.Background(), h.table(), v)
	if err != nil {
		return nil, 0, err
	}
	for _, x := range s.Txns {
		n = x
	}
	rows, err = scanRows(s)
	return rows, n, err
}

// fast is a folder of a file system in memory, where there is one: these tests
// sync thousands of files.
func fast() string {
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// TestRandomHistories compares tables with a model, at every version, through
// kills at any write, restarts, truncates, columns that come and go, upkeep,
// torn key files and time that passes.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(fast(), "history")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		cow := rapid.Bool().Draw(t, "copy on write")
		h := &history{zone: newZone(t, dir, cow), t: t, model: model{rows: map[int64][]string{}},
			now: time.Now().AddDate(-2, 0, 0), seen: map[int64]time.Time{}}
		if rapid.Bool().Draw(t, "key files on disk") {
			h.config.KeyCache = filepath.Join(dir, "keys")
		}
		h.config.Upkeep.DeletedPercent = rapid.SampledFrom([]int64{30, 100}).Draw(t, "deleted")
		h.config.FileBytes = rapid.SampledFrom([]int64{300, 2000, 1 << 20}).Draw(t, "file bytes")
		h.metadata("id")
		h.start()
		t.Repeat(map[string]func(*rapid.T){
			"publish":  func(t *rapid.T) { h.t = t; h.publishSome() },
			"publish2": func(t *rapid.T) { h.t = t; h.publishSome() },
			"round": func(t *rapid.T) {
				if s := h.round(h.r); s.Error != "" {
					t.Fatal(s.Error)
				}
				h.settleTime()
				h.check()
			},
			"restart": func(t *rapid.T) { h.start() },
			"cut":     func(t *rapid.T) { h.t = t; h.fail(); h.start() },
			"hiccup":  func(t *rapid.T) { h.t = t; h.fail() }, // the same process goes on
			"time": func(t *rapid.T) {
				unit := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "unit")
				h.now = h.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "many")) * unit)
				h.aged = true
			},
			"tear":     func(t *rapid.T) { h.t = t; h.tear() },
			"column":   func(t *rapid.T) { h.columns() },
			"truncate": func(t *rapid.T) { h.truncate() },
		})
		if h.open { // end the transaction
			h.publish(true, part(h.lsn, 99, true))
			h.model.apply(true, true, nil)
		}
		if h.n == 0 {
			return
		}
		if s := h.round(h.r); s.Error != "" || s.LastFile != h.n {
			t.Fatalf("got %+v, want file %d", s, h.n)
		}
		h.settleTime()
		h.check()
		if !h.cut && !h.aged {
			h.orphans()
		}
	})
}
