package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
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
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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
