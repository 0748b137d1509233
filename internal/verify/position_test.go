package verify

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/store"
)

func TestTold(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for user, want := range map[string]position{
		`{"commitLsn":"0/13","endLsn":"1/1B","commitTime":"2026-01-02T03:04:05Z"}`: {known: true, end: 1<<32 + 0x1b, at: at},
		`{"commitLsn":"0/13","commitTime":"2026-01-02T03:04:05Z"}`:                 {known: true, at: at}, // a snapshot file
		`{"firstFile":1}`: {},
		`{"commitLsn":7}`: {},
		`optimized`:       {},
		``:                {},
	} {
		got := deltaTable{&delta.Snapshot{Info: delta.CommitInfo{User: user}}}.told()
		if got != want {
			t.Errorf("%s: got %+v, want %+v", user, got, want)
		}
	}
}

// A mirror that says how far it has come is judged by that: at once when it is
// beyond the row's last change, and with patience when it isn't, however many
// versions come.
func TestPositions(t *testing.T) {
	c := start(t)
	conn := connect(t, c)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, "INSERT INTO items SELECT i, '', i FROM generate_series(1, 100) i")
	before, err := readItems(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	localpgtest.Exec(t, c.URL("", "", "postgres"), "UPDATE items SET name = 'new' WHERE id = 7")
	now, err := readItems(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	run := func(open func(context.Context, store.Store) (mirrorTable, error)) TableResult {
		t.Helper()
		return mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), open: open}).Tables[0]
	}
	t.Run("beyond", func(t *testing.T) {
		m := fakeMirror{position: position{known: true, end: 1 << 60}}
		m.publish(itemBatch(before))
		got := run(m.open)
		if got.State != Differs || got.Differing != 1 || got.Seconds > (idleFactor*minSettle).Seconds() {
			t.Errorf("got %s, %d differ, after %.1f s; want 1 before %s, as of a mirror that is behind", got.State, got.Differing, got.Seconds, idleFactor*minSettle)
		}
	})
	t.Run("behind", func(t *testing.T) {
		m := fakeMirror{position: position{known: true, end: 1}}
		m.publish(itemBatch(before))
		// Every look meets a new version. Without positions, these would be signs of life.
		open := m.atLooks(func(after time.Duration) {
			if after < 2*minSettle {
				m.publish(itemBatch(before))
			} else {
				m.publish(itemBatch(now))
			}
		})
		if got := run(open); got.State != Equal || got.InFlight != 1 {
			t.Errorf("got %s, %d in flight, %v, want equal and 1", got.State, got.InFlight, got.Differences)
		}
	})
}

// A mirror that doesn't say how far it has come is given minutes.
func TestNeeded(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name        string
		pos         position
		settle, lag time.Duration
		alive       bool
		steady      int
		needed      time.Duration
	}{
		{name: "told and reached", pos: position{known: true, end: 9}, steady: 2, needed: reached},
		{name: "told, not reached", pos: position{known: true, end: 1}, steady: 2, needed: 10 * time.Second},
		{name: "told, looked once", pos: position{known: true, end: 9}, steady: 1, needed: 10 * time.Second},
		{name: "told and slow", pos: position{known: true, end: 1}, lag: 10 * time.Second, needed: 150 * time.Second},
		{name: "untold", needed: 3 * time.Minute},
		{name: "untold and alive", alive: true, needed: 3 * time.Minute},
		{name: "untold and slow", lag: 2 * time.Minute, needed: 30 * time.Minute},
		{name: "untold, slow and alive", lag: 2 * time.Minute, alive: true, needed: 6 * time.Minute},
		{name: "set", settle: time.Second, alive: true, needed: time.Second},
		{name: "set, no newer version", settle: time.Second, needed: 5 * time.Second},
		{name: "set and told", settle: 10 * time.Second, pos: position{known: true, end: 9}, steady: 2, needed: 10 * time.Second},
	} {
		s := settling{comparison: &comparison{cfg: Config{Settle: tt.settle}.withDefaults()}, pos: tt.pos, lag: tt.lag}
		if tt.alive {
			s.arrived = []time.Time{now, now}
		}
		if got := s.needed(&candidate{since: now.Add(-time.Second), lsn: 5, steady: tt.steady}); got != tt.needed {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.needed)
		}
	}
}

// A commit that waits for a standby is in the log, and may be in the mirror, before
// anybody sees it at the source.
func TestNotVisibleYet(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, createItems, "INSERT INTO items SELECT i, '', i FROM generate_series(1, 100) i")
	conn, ctx := connect(t, c), t.Context()
	before, err := readItems(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	m := fakeMirror{position: position{known: true, end: 1 << 60}}
	t.Run("commit", func(t *testing.T) {
		localpgtest.Exec(t, url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
		rows := itemBatch(before)
		rows.Cols[2].I64[6] = 99
		m.publish(rows)
		writer, done := connect(t, c), make(chan error, 1)
		go func() {
			_, err := writer.Exec(ctx, "UPDATE items SET price = 0.99 WHERE id = 7")
			done <- err
		}()
		for waits := false; !waits; {
			if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity, pg_sleep(0.01) WHERE wait_event = 'SyncRep')").Scan(&waits); err != nil {
				t.Fatal(err)
			}
		}
		visible := func() {
			localpgtest.Exec(t, url, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
		}
		looks := 0
		got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), open: m.open, unseen: time.Millisecond, Events: func(e Event) {
			if e.Type == "looking-again" && e.Differ > 0 {
				if looks++; looks == 12 {
					visible()
				}
			}
		}}).Tables[0]
		visible()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got.State != Equal || got.InFlight != 1 {
			t.Errorf("got %s, %d in flight, %v, want equal and 1", got.State, got.InFlight, got.Differences)
		}
	})
	t.Run("open transaction", func(t *testing.T) { // which proves nothing for long
		if _, err := conn.Exec(ctx, "BEGIN; UPDATE items SET price = 1 WHERE id = 8"); err != nil {
			t.Fatal(err)
		}
		m.publish(itemBatch(before))
		got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), open: m.open, unseen: 10 * time.Millisecond}).Tables[0]
		if got.State != Differs || got.Differing != 1 {
			t.Errorf("got %s, %d differ, want 1", got.State, got.Differing)
		}
	})
}

// manyFiles is a mirror of items, in files, that counts what is read of them.
type manyFiles struct {
	v       int64
	names   []string
	batches []*batch.Batch
	reads   map[string]int // of "key" or "all" columns → files
	done    func()         // after a read; may be nil
}

func (m *manyFiles) add(rows []item) {
	m.v++
	m.names, m.batches = append(m.names, fmt.Sprint(m.v)), append(m.batches, itemBatch(rows))
}

func (m *manyFiles) open(context.Context, store.Store) (mirrorTable, error) { return m, nil }
func (m *manyFiles) version() int64                                         { return m.v }
func (m *manyFiles) fields() []batch.Field                                  { return items.Fields }
func (m *manyFiles) rows() int64                                            { return -1 }
func (m *manyFiles) told() position                                         { return position{} }
func (m *manyFiles) files() []string                                        { return m.names }

func (m *manyFiles) read(ctx context.Context, i int, columns []string, fn func(*batch.Batch, []int32) error) error {
	if len(columns) == 1 {
		m.reads["key"]++
	} else {
		m.reads["all"]++
	}
	if m.done != nil {
		defer m.done()
	}
	return fakeTable{batch: m.batches[i]}.read(ctx, 0, columns, fn)
}

// itemsPlan reads items in the mirror.
func itemsPlan() *plan {
	p := &plan{key: []int{0}, schema: items.Fields}
	for i, f := range items.Fields {
		p.fields = append(p.fields, f.Name)
		p.columns = append(p.columns, &column{name: f.Name, at: i, rule: rule{mirror: renderMirror}})
	}
	return p
}

func keyOfItem(id string) hash {
	var r row
	r.add([]byte(id))
	return r.keyHash([]int{0})
}

// A look reads only what is new in the mirror, and of files without candidates
// only the key.
func TestLooksReadLittle(t *testing.T) {
	files := manyFiles{reads: map[string]int{}}
	for i := range 10 {
		files.add([]item{{id: int64(i), price: 1}})
	}
	s := settling{comparison: &comparison{cands: map[hash]*candidate{}}, seen: -1}
	s.plan = itemsPlan()
	s.keys = s.plan.keys()
	s.cfg.open = files.open
	s.cands[keyOfItem("3")] = &candidate{}
	look := func() side {
		t.Helper()
		clear(files.reads)
		if err := s.lookAtMirror(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.cands[keyOfItem("3")].mirror
	}
	if got := look(); got.n != 1 || files.reads["key"] != 10 || files.reads["all"] != 1 {
		t.Errorf("the first look found %d rows and read %v, want 1 row, the keys of 10 files and all of 1", got.n, files.reads)
	}
	if got := look(); got.n != 1 || len(files.reads) != 0 {
		t.Errorf("a look at the same version found %d rows and read %v, want 1 and nothing", got.n, files.reads)
	}
	files.add([]item{{id: 99, price: 1}})
	if got := look(); got.n != 1 || files.reads["key"] != 1 || files.reads["all"] != 0 {
		t.Errorf("a look at the next version found %d rows and read %v, want 1 row and the key of 1 file", got.n, files.reads)
	}
	files.names, files.batches = files.names[4:], files.batches[4:] // the file with the row is gone
	files.v++
	if got := look(); got.n != 0 || len(files.reads) != 0 {
		t.Errorf("without its file, the row was found %d times, and %v was read", got.n, files.reads)
	}
}
