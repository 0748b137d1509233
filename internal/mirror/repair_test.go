package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// heard notes events.
type heard struct {
	mu     sync.Mutex
	events []Event
}

func (h *heard) hear(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// last is the last event of a kind.
func (h *heard) last(kind EventKind) (last Event, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Kind == kind {
			last = e
			n++
		}
	}
	return last, n
}

func (h *heard) await(t *testing.T, kind EventKind, times int) Event {
	t.Helper()
	eventually(t, fmt.Sprintf("%d times %s", times, kind), func() bool { _, n := h.last(kind); return n >= times })
	e, _ := h.last(kind)
	return e
}

// unseen makes changes that the stream doesn't bring.
func (b *bench) unseen(sql ...string) {
	b.t.Helper()
	b.exec("ALTER PUBLICATION p SET (publish = ''); " + strings.Join(sql, ";") + "; ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')")
}

func (b *bench) repair(table string, key []string, rows ...[]string) {
	b.t.Helper()
	if err := Ask(b.t.Context(), b.landing, Request{Kind: Repair, Schema: "public", Table: table, Key: key, Rows: rows}); err != nil {
		b.t.Fatal(err)
	}
}

// answered waits until no request about a table is left.
func (b *bench) answered(table string) {
	b.t.Helper()
	eventually(b.t, "the request about "+table+" is answered", func() bool {
		waits, err := Asked(context.Background(), b.landing, "public", table)
		if err != nil {
			b.t.Fatal(err)
		}
		return !waits
	})
}

// Rows that are wrong, missing and too many are as in the source after a repair,
// and no other row is written.
func TestRepair(t *testing.T) {
	b := newBench(t, append(tables, "CREATE TABLE keyless (v text)", "INSERT INTO keyless VALUES ('a')",
		"CREATE DOMAIN code AS numeric(6,2) CHECK (value <> 3)", "CREATE DOMAIN sure AS text NOT NULL", "CREATE DOMAIN surer AS sure CHECK (value IS NOT NULL)",
		"CREATE TABLE strict (k code PRIMARY KEY, v sure, w surer)", "INSERT INTO strict VALUES (1.5, 'v', 'w'), (2, 'v', 'w')")...)
	b.types = postgres.Choices{Numeric: func(_, _, _ string) (batch.Type, bool) { return batch.Type{Kind: batch.String}, true }}
	b.settle()
	b.unseen("UPDATE plain SET n = -1, note = NULL WHERE id = 1", "DELETE FROM plain WHERE id = 2", "INSERT INTO plain VALUES (900001, 'new', 1)",
		`UPDATE pair SET v = 'it''s' WHERE b = 'b1'`, `UPDATE pair SET b = '\o/ "x"' WHERE b = 'b2'`, "UPDATE toast SET big = repeat('z', 9000) WHERE id = 7", "UPDATE strict SET v = 'u' WHERE k = 1.5")
	var h heard
	stop := b.run(b.landing, h.hear)
	b.repair("plain", []string{"id"}, []string{"1"}, []string{"2"}, []string{"900001"}, []string{"1"}, []string{"3"})
	b.repair("pair", []string{"a", "b"}, []string{"1", "b1"}, []string{"2", "b2"}, []string{"2", `\o/ "x"`})
	b.repair("toast", []string{"id"}, []string{"7"})
	b.repair("strict", []string{"k"}, []string{"1.5"}, []string{"3"}) // the mirror may have what the domain doesn't allow
	for _, name := range []string{"plain", "pair", "toast", "strict"} {
		b.answered(name)
	}
	rows := int64(0)
	h.mu.Lock()
	for _, e := range h.events {
		if e.Kind == Published {
			rows += e.Rows
		}
	}
	h.mu.Unlock()
	if rows != 4+3+1+2 {
		t.Errorf("%d rows were published, want those 10 that were named", rows)
	}
	for i, c := range []struct {
		table string
		key   []string
		row   []string
	}{{"plain", []string{"n"}, []string{"1"}}, {"plain", []string{"id"}, []string{"one"}}, {"plain", []string{"id"}, []string{"1", "2"}}, {"keyless", nil, nil}} {
		b.repair(c.table, c.key, c.row)
		b.answered(c.table)
		if e := h.await(t, NotRepaired, i+1); e.Table != "public."+c.table {
			t.Errorf("case %d: got %+v", i, e)
		}
	}
	b.finish(stop)
	b.compare([][3]string{{"strict", "k, v, w", "k"}})
}

// Rows are repaired again and again while they change: none of them may end as it
// was before.
func TestRepairUnderLoad(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 4
	}
	b := newBench(t, tables...)
	b.settle()
	halt := b.traffic(5)
	defer halt()
	var h heard
	cfg := func() func() error { return b.run(b.landing, h.hear) }
	stop := cfg()
	r := rand.New(rand.NewPCG(6, 6))
	for i := range rounds {
		var plain, toast, moving [][]string
		for range 40 {
			plain = append(plain, []string{fmt.Sprint(1 + r.IntN(6303))})
			toast = append(toast, []string{fmt.Sprint(1 + r.IntN(60) + 1000*r.IntN(2))})
			moving = append(moving, []string{fmt.Sprint(1 + r.IntN(50))})
		}
		b.repair("plain", []string{"id"}, plain...)
		b.repair("toast", []string{"id"}, toast...)
		b.repair("moving", []string{"k"}, moving...)
		if i%3 == 2 { // with requests waiting
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			stop = cfg()
		}
		for _, name := range []string{"plain", "toast", "moving"} {
			b.answered(name)
		}
	}
	if _, n := h.last(Repaired); n < rounds {
		t.Errorf("%d repairs in %d rounds", n, rounds)
	}
	halt()
	b.finish(stop)
}

// A commit is shipped before others see it; for long when it waits for a standby.
// A repair that read the row as it was before would take the published change
// back.
func TestRepairSeesWhatIsPublished(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	var h heard
	stop := b.run(b.landing, h.hear)
	free := b.standby()
	defer free()
	done := make(chan error, 1)
	go func() { done <- b.try("UPDATE plain SET n = 99 WHERE id = 1") }()
	eventually(t, "the change is in the mirror", func() bool { return b.target("plain")["1"] == "1|note 1|99" })
	b.repair("plain", []string{"id"}, []string{"1"})
	h.await(t, Waiting, 1)
	if _, n := h.last(Repaired); n > 0 {
		t.Error("a row was repaired that nobody could see yet")
	}
	select {
	case err := <-done:
		t.Fatalf("the commit did not wait: %v", err)
	default:
	}
	free()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.await(t, Repaired, 1)
	b.finish(stop)
}

// The mirror dies before and after every write of a repair; the next run does it.
func TestCutRepair(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n <= 6; n++ { // the request is taken by two, upload, state, rename, and the request's removal
			t.Run(fmt.Sprintf("write %d, after %t", n, after), func(t *testing.T) { cutRepair(t, n, after) })
		}
	}
}

func cutRepair(t *testing.T, n int, after bool) {
	b := newBench(t, tables...)
	b.settle()
	b.unseen("UPDATE plain SET n = -1 WHERE id = 1", "DELETE FROM plain WHERE id = 2")
	f := &faulty{Store: b.landing, left: 1 << 30, after: after}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg := b.config(f)
	cfg.Watch, cfg.idle = 20*time.Millisecond, time.Hour // nothing else is written
	cfg.Events = func(e Event) {
		switch e.Kind {
		case Streaming:
			f.mu.Lock()
			f.left = n
			f.mu.Unlock()
			if err := Ask(ctx, b.landing, Request{Kind: Repair, Schema: "public", Table: "plain", Key: []string{"id"}, Rows: [][]string{{"1"}, {"2"}}}); err != nil {
				t.Error(err)
			}
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
	stop := b.run(b.landing, nil)
	b.answered("plain")
	b.finish(stop)
	if k := b.staged("plain"); k != 0 {
		t.Errorf("%d staged files are left over", k)
	}
	if files, err := landing.Files(t.Context(), b.landing, landing.TableDir("public", "plain")); err != nil || len(files) > 3 {
		t.Errorf("%d files, %v; want the copy and the repair, at most twice", len(files), err)
	}
}

// ddlBetween runs a statement before the keys of the tables in the catalog are read.
type ddlBetween struct {
	b    *bench
	sql  string
	once sync.Once
}

func (d *ddlBetween) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "indimmediate") {
		d.once.Do(func() { d.b.exec(d.sql) })
	}
	return ctx
}

func (d *ddlBetween) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A repair reads the whole definition of a table in one snapshot: one that changes
// meanwhile is as it was, or as it is.
func TestRepairLooksOnce(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	cfg, err := pgx.ParseConfig(b.url())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Tracer = &ddlBetween{b: b, sql: "ALTER TABLE plain DROP CONSTRAINT plain_pkey"}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	m := &mirror{cfg: b.config(b.landing)}
	m.with.Store(&reading{"p": 0})
	plain := &table{m: m, state: b.tableState("plain")}
	for _, want := range []bool{true, false} {
		if src, err := m.asPublished(t.Context(), conn, plain); err != nil || (src != nil) != want {
			t.Errorf("got %v, %v; want it as its files are: %t", src, err, want)
		}
	}
}
