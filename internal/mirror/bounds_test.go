package mirror

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// docs is a table of 60 rows of 100 kB.
var docs = []string{`CREATE TABLE docs (id int PRIMARY KEY, n int, body text)`, `ALTER TABLE docs ALTER body SET STORAGE EXTERNAL`,
	`INSERT INTO docs SELECT i, 0, repeat(md5(i::text), 3200) FROM generate_series(1, 60) i`}

// later is a table's files from one on: how many rows each has, and what it says.
func (b *bench) later(table string, from int64) (rows []int, metas []landing.Meta) {
	b.t.Helper()
	files, err := landing.Files(context.Background(), b.landing, landing.TableDir("public", table))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range files {
		if f.Number < from {
			continue
		}
		data, _, err := b.landing.Read(context.Background(), f.Name, 0, -1)
		if err != nil {
			b.t.Fatal(err)
		}
		p, err := parquet.Open(data)
		if err != nil {
			b.t.Fatal(err)
		}
		m, _, err := landing.ParseMeta(p.Metadata)
		if err != nil {
			b.t.Fatal(err)
		}
		rows, metas = append(rows, p.Rows), append(metas, m)
	}
	return rows, metas
}

// Values that the stream leaves out are many times what it brings: they are read and
// published in pieces, of which none ends a transaction but the last.
func TestFillInPieces(t *testing.T) {
	b := newBench(t, docs...)
	b.settle()
	before := b.tableState("docs").value
	cfg := b.config(b.landing)
	cfg.Budget = 4 << 20 // half a MiB is a share
	stop := b.start(cfg)
	b.exec(`BEGIN; UPDATE docs SET n = 1 WHERE id <> 7; INSERT INTO docs VALUES (100, 1, 'whole'); DELETE FROM docs WHERE id = 9; COMMIT`)
	b.caughtUp()
	b.repair("docs", []string{"id"}, keysTo(70)...)
	b.answered("docs")
	stop()
	rows, metas := b.later("docs", before.Number+1)
	ends := 0
	for i, m := range metas {
		if rows[i] > 20 {
			t.Errorf("a file has %d rows; half a MiB, what is read at once and the 11 that are gone are fewer", rows[i])
		}
		if m.Position.Complete && ends == 0 {
			ends = i
		} else if ends == 0 && m.Position.CommitLSN != before.Position.CommitLSN {
			t.Errorf("piece %d follows the stream to %+v before the others are there", i, m.Position)
		}
	}
	if ends < 4 || len(metas) < ends+5 {
		t.Errorf("the update is in %d files and the repair in %d", ends+1, len(metas)-ends-1)
	}
	if s := b.tableState("docs").value; s.Position == before.Position || s.Seen <= s.Position.CommitLSN {
		t.Errorf("it is at %+v and was read at %v", s.Position, s.Seen)
	}
	b.equal(newTaker(t, b.landing, 1), "docs")
}

func keysTo(n int) (keys [][]string) {
	for i := range n {
		keys = append(keys, []string{fmt.Sprint(i)})
	}
	return keys
}

// The mirror dies between two pieces, before and after each write; the next run
// takes what was in them again.
func TestCutPieces(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n <= 9; n++ { // three pieces, a write for the file, one for its number and its name
			t.Run(fmt.Sprintf("write %d, after %t", n, after), func(t *testing.T) {
				b := newBench(t, docs...)
				b.settle()
				f := &faulty{Store: b.landing, left: 1 << 30, after: after}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				cfg := b.config(f)
				cfg.Budget, cfg.idle = 4<<20, time.Hour // nothing else is written
				var once sync.Once
				cfg.Events = func(e Event) {
					switch e.Kind {
					case Streaming:
						once.Do(func() {
							f.mu.Lock()
							f.left = n
							f.mu.Unlock()
							b.exec(`UPDATE docs SET n = 1 WHERE id < 40`)
						})
					case Retrying:
						cancel() // one attempt is what is tested
					}
				}
				if err := Run(ctx, cfg); err != nil && !errors.Is(err, errCut) {
					t.Fatal(err)
				}
				if !f.cut {
					t.Fatalf("write %d was not reached", n)
				}
				b.exec(`UPDATE docs SET id = id + 1000 WHERE id < 4`, `DELETE FROM docs WHERE id BETWEEN 10 AND 14`, `UPDATE docs SET n = 2 WHERE id > 30`)
				cfg = b.config(b.landing)
				cfg.Budget = 4 << 20
				stop := b.start(cfg)
				b.caughtUp()
				stop()
				if got := len(b.target("docs")); got != 55 {
					t.Errorf("the mirror has %d rows, want 55", got)
				}
				b.equal(newTaker(t, b.landing, 1), "docs")
			})
		}
	}
}

// A row that is larger than a row may be, which the stream doesn't show, parks its
// table when it is read.
func TestFillRowTooLarge(t *testing.T) {
	b := newBench(t, docs...)
	b.settle()
	cfg := b.config(b.landing)
	cfg.maxRow = 50_000
	stop := b.start(cfg)
	b.exec(`UPDATE docs SET n = 1 WHERE id = 1`)
	b.reaches("docs", phaseParked, 1)
	stop()
	if s := b.tableState("docs").value; !strings.Contains(s.Reason, "larger than a row may be") {
		t.Errorf("it is parked because %q", s.Reason)
	}
}

// A table that Fabric doesn't drop is parked, and the others of its join aren't.
func TestNotDropped(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("alone %t", alone), func(t *testing.T) {
			b := newBench(t, tables...)
			if alone {
				b.exec(`ALTER PUBLICATION p SET TABLE plain, pair`)
			}
			b.settle()
			for _, name := range []string{"pair", "plain"} {
				if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: name}); err != nil {
					t.Fatal(err)
				}
			}
			cfg := b.config(b.landing)
			cfg.dropPatience = 300 * time.Millisecond
			cfg.Fabric = func(context.Context) ([]FabricTable, error) {
				return []FabricTable{{Schema: "public", Table: "plain"}}, nil
			}
			stop := b.start(cfg)
			b.reaches("plain", phaseParked, 1)
			b.reaches("pair", phaseReplicating, 2)
			b.caughtUp()
			stop()
			if s := b.tableState("plain").value; !strings.Contains(s.Reason, "Fabric still has it") {
				t.Errorf("it is parked because %q", s.Reason)
			}
			b.equal(newTaker(t, b.landing, 1), "pair")
		})
	}
}

// removal calls after when something was removed.
type removal struct {
	store.Store
	after func(name string)
}

func (r *removal) Remove(ctx context.Context, name string) error {
	err := r.Store.Remove(ctx, name)
	if err == nil {
		r.after(name)
	}
	return err
}

// flushes waits until the mirror has done with a change.
func (b *bench) flushes(t *testing.T, sql string) {
	before := b.position("SELECT pg_current_wal_insert_lsn()::text")
	if err := b.try(sql); err != nil {
		t.Error(err)
	}
	if !soon(func() bool { return b.confirmed() > before }) {
		t.Errorf("it is not confirmed: %s", sql)
	}
}

// What happens to a table while it is being forgotten neither ends the mirror nor
// brings the table back.
func TestForgetWhileItChanges(t *testing.T) {
	dir := landing.TableDir("public", "plain")
	for _, c := range []struct{ removed, change string }{
		{dir, `INSERT INTO plain VALUES (-9, 'x', 1)`}, {dir, `TRUNCATE plain`},
		{tableFile("public", "plain"), `INSERT INTO plain VALUES (-9, 'x', 1)`}, {tableFile("public", "plain"), `TRUNCATE plain`},
	} {
		t.Run(c.change+" after "+c.removed, func(t *testing.T) {
			b := newBench(t, tables...)
			b.settle()
			var once sync.Once
			var h heard
			stop := b.hear(&removal{b.landing, func(name string) {
				if name != c.removed {
					return
				}
				once.Do(func() {
					b.flushes(t, c.change)
					if _, err := b.landing.Stat(context.Background(), dir); !errors.Is(err, store.ErrNotExist) {
						t.Errorf("the folder is there again, %v", err)
					}
				})
			}}, &h)
			h.await(t, Streaming, 1)
			if err := Ask(t.Context(), b.landing, Request{Kind: Forget, Schema: "public", Table: "plain"}); err != nil {
				t.Fatal(err)
			}
			b.answered("plain")
			b.reaches("plain", phaseReplicating, 1) // it is still published
			b.caughtUp()
			stop()
			b.same()
		})
	}
}

// A table that is truncated while it is being paused stays paused.
func TestPauseWhileTruncated(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	var once sync.Once
	var h heard
	truncated := make(chan bool)
	stop := b.hear(&removal{b.landing, func(name string) {
		if strings.HasSuffix(name, answering) && b.tableState("plain").value.Phase == phaseParked {
			once.Do(func() {
				b.flushes(t, `TRUNCATE plain`)
				close(truncated)
			})
		}
	}}, &h)
	h.await(t, Streaming, 1)
	if err := Ask(t.Context(), b.landing, Request{Kind: Pause, Schema: "public", Table: "plain"}); err != nil {
		t.Fatal(err)
	}
	<-truncated
	b.caughtUp()
	stop()
	if s := b.tableState("plain").value; s.Phase != phaseParked || s.Reason != "paused" {
		t.Errorf("it is %s, %q", s.Phase, s.Reason)
	}
	if _, n := h.last(Rebuilding); n > 0 {
		t.Errorf("it was to be built anew %d times", n)
	}
}

// A table that was parked when a file of it could not be numbered uploads no others,
// and the next start removes the one.
func TestParkedUploadsNothing(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	name := path.Join(landing.TableDir("public", "plain"), landing.FileName(b.tableState("plain").value.Number+1))
	if _, err := b.landing.Put(t.Context(), name, []byte("somebody else's"), store.Cond{}); err != nil {
		t.Fatal(err)
	}
	stop := b.start(b.config(b.landing))
	b.exec(`UPDATE plain SET n = 1 WHERE id = 1`)
	b.reaches("plain", phaseParked, 1)
	for range 3 {
		b.flushes(t, `UPDATE plain SET n = n + 1 WHERE id = 1`)
	}
	if n := b.staged("plain"); n != 1 {
		t.Errorf("%d staged files, want 1", n)
	}
	stop()
	defer b.start(b.config(b.landing))()
	eventually(t, "another start removes it", func() bool { return b.staged("plain") == 0 })
}

// pausing holds the first of one of its calls until it is open.
type pausing struct {
	store.Store
	call string // as "list public.schema/plain"
	held chan bool
	open chan bool
	once sync.Once
}

func newPausing(s store.Store, call string) *pausing {
	return &pausing{Store: s, call: call, held: make(chan bool), open: make(chan bool)}
}

func (p *pausing) wait(ctx context.Context, call string) {
	if call == p.call {
		p.once.Do(func() {
			close(p.held)
			select {
			case <-p.open:
			case <-ctx.Done():
			}
		})
	}
}

func (p *pausing) List(ctx context.Context, dir string) ([]store.Info, error) {
	p.wait(ctx, "list "+dir)
	return p.Store.List(ctx, dir)
}

func (p *pausing) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	p.wait(ctx, "read "+name)
	return p.Store.Read(ctx, name, off, n)
}

func (p *pausing) Rename(ctx context.Context, from, to string) error {
	p.wait(ctx, "rename in "+path.Dir(from))
	return p.Store.Rename(ctx, from, to)
}

// A run that is taken over while it opens a table neither takes the table back nor
// removes what the other one has staged.
func TestTakenOverWhileOpening(t *testing.T) {
	dir := landing.TableDir("public", "plain")
	for _, at := range []string{"read " + tableFile("public", "plain"), "list " + dir} {
		t.Run(at, func(t *testing.T) {
			b := newBench(t, tables...)
			b.settle()
			one, other := newPausing(b.landing, at), newPausing(b.landing, "rename in "+dir)
			ended := make(chan error, 1)
			go func() { ended <- Run(t.Context(), b.config(one)) }()
			<-one.held
			stop := b.start(b.config(other))
			b.exec(`UPDATE plain SET n = 4711 WHERE id = 7`)
			<-other.held
			close(one.open)
			var fault *Fault
			if err := <-ended; !errors.As(err, &fault) || fault.Code != fenced {
				t.Errorf("the run that was taken over ended with %v", err)
			}
			close(other.open)
			b.exec(`UPDATE plain SET n = 4712 WHERE id = 8`)
			b.caughtUp()
			stop()
			b.same()
		})
	}
}

// While a table is joined no slot but the mirror's own keeps the log.
func TestJoinKeepsNoSlot(t *testing.T) {
	b := newBench(t, tables...)
	g := newGate(b.landing, "heap", 2)
	cfg := b.config(g)
	cfg.chunk = 20
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(blocks, `ALTER PUBLICATION p ADD TABLE heap`)
	<-g.held
	b.exec(`UPDATE heap SET n = n + 1, id = -id WHERE id % 3 = 0`, `VACUUM heap`)
	eventually(t, "the temporary slot is gone", func() bool {
		return b.holds("NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database() AND temporary)")
	})
	close(g.open)
	b.caughtUp()
	stop()
	if s := b.tableState("heap").value; s.Generation != 1 || s.Chunks.Count < 5 {
		t.Errorf("it was copied %d times, in %d chunks", s.Generation, s.Chunks.Count)
	}
	b.equal(newTaker(t, b.landing, 1), "heap")
}

// Partitions that the role was given no right to are read through their table, for
// which it needs none.
func TestPartitionWithoutRights(t *testing.T) {
	for _, c := range []struct{ by, first, second, other string }{
		{"RANGE (at)", "FROM (0) TO (100)", "FROM (100) TO (200)", "FROM (200) TO (300)"},
		{"LIST (at)", "IN (50)", "IN (150)", "IN (250)"},
	} {
		t.Run(c.by, func(t *testing.T) {
			b := newBench(t, `CREATE TABLE parted (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY `+c.by,
				`CREATE TABLE pa PARTITION OF parted FOR VALUES `+c.first, `CREATE TABLE pb (v text, at int NOT NULL, id int NOT NULL)`,
				`ALTER TABLE parted ATTACH PARTITION pb FOR VALUES `+c.second,
				`INSERT INTO parted SELECT i, 50 + 100 * (i % 2), repeat('v', 500) FROM generate_series(1, 2000) i`)
			role := "r_" + b.db
			b.exec(`ALTER PUBLICATION p SET TABLE parted`, `CREATE ROLE `+role+` LOGIN REPLICATION PASSWORD 'pw'`, `GRANT SELECT ON parted, pa TO `+role)
			defer b.exec(`DROP OWNED BY `+role, `DROP ROLE `+role)
			var h heard
			cfg := b.config(b.landing)
			cfg.Source.User, cfg.Events, cfg.chunk = role, h.hear, 20
			stop := b.start(cfg)
			b.caughtUp()
			b.exec(`CREATE SCHEMA hidden; CREATE TABLE hidden.pc (v text, at int NOT NULL, id int NOT NULL, PRIMARY KEY (id, at))`, `GRANT SELECT ON hidden.pc TO `+role,
				`INSERT INTO hidden.pc SELECT 'w', 250, i FROM generate_series(1, 50) i`, `ALTER TABLE parted ATTACH PARTITION hidden.pc FOR VALUES `+c.other)
			h.await(t, Attached, 1)
			b.caughtUp()
			state := func(generation int64) {
				t.Helper()
				if s := b.tableState("parted").value; s.Phase != phaseReplicating || s.Generation != generation || s.Chunks.Count < 4 {
					t.Errorf("it is %s, %q, copied %d times in %d chunks", s.Phase, s.Reason, s.Generation, s.Chunks.Count)
				}
			}
			state(1)
			if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "parted"}); err != nil {
				t.Fatal(err)
			}
			b.reaches("parted", phaseReplicating, 2)
			b.caughtUp()
			stop()
			state(2)
			b.equal(newTaker(t, b.landing, 1), "parted")
		})
	}
}
