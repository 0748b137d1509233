package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// With Reseed a lost slot is replaced, and every table copied anew.
func TestReseed(t *testing.T) {
	b := newBench(t, tables...)
	b.settle()
	eventually(t, "the slot is dropped", func() bool {
		return b.try("SELECT pg_drop_replication_slot('s_"+b.db+"')") == nil
	})
	b.exec("DELETE FROM plain WHERE id < 100", "UPDATE moving SET v = 'unseen'")
	cfg := b.config(b.landing)
	cfg.Reseed = true
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	b.caughtUp()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.same()
}

// While an open transaction keeps the slot from being made, it is named, also to a
// role that may not see everything; and so is a prepared one, which no session has.
func TestBlockedSlot(t *testing.T) {
	b := newBench(t, append(tables, `CREATE ROLE ordinary LOGIN REPLICATION PASSWORD 'pw'`, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO ordinary`)...)
	defer b.exec(`DROP OWNED BY ordinary`, `DROP ROLE ordinary`)
	conn, err := pgx.Connect(t.Context(), b.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO plain VALUES (-3, 'x', 1)"); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	cfg := b.config(b.landing)
	cfg.Source.User = "ordinary"
	cfg.Events = func(e Event) {
		if e.Kind == Waiting {
			told <- e.Reason
		}
	}
	stop := b.start(cfg)
	for _, c := range [][2]string{{fmt.Sprintf("pid %d ", conn.PgConn().PID()), "PREPARE TRANSACTION 'it''s left'"}, {"'it''s left'", "COMMIT PREPARED 'it''s left'"}} {
		if got := <-told; !strings.Contains(got, c[0]) {
			t.Errorf("got %q, want it to name %q", got, c[0])
		}
		if _, err := conn.Exec(t.Context(), c[1]); err != nil {
			t.Fatal(err)
		}
	}
	b.caughtUp()
	stop()
	b.same()
}

// The slot is looked at while nothing else can be done: the landing zone is away, or
// hangs.
func TestSlotWatchedAlways(t *testing.T) {
	for _, hangs := range []bool{true, false} {
		t.Run(fmt.Sprintf("hangs %t", hangs), func(t *testing.T) {
			b := newBench(t, tables...)
			away := &awayStore{Store: b.landing, hangs: hangs}
			var h heard
			cfg := b.config(away)
			cfg.Events, cfg.unseen, cfg.Watch = h.hear, 100*time.Millisecond, 50*time.Millisecond
			stop := b.start(cfg)
			b.caughtUp()
			away.away.Store(true)
			if hangs {
				eventually(t, "a request hangs", func() bool { return away.hanging.Load() > 0 })
			} else {
				_, n := h.last(Retrying)
				h.await(t, Retrying, n+2)
			}
			h.looked(t)
			away.away.Store(false)
			stop()
		})
	}
}

// awayStore is a store that can't list anything for a while.
type awayStore struct {
	store.Store
	hangs   bool
	away    atomic.Bool
	hanging atomic.Int32
}

func (s *awayStore) List(ctx context.Context, name string) ([]store.Info, error) {
	switch {
	case !s.away.Load():
		return s.Store.List(ctx, name)
	case s.hangs:
		s.hanging.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, errors.New("it is away")
}

func TestSlotFaults(t *testing.T) {
	b := newBench(t, tables...)
	stop := b.run(b.landing, nil)
	b.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	wantFault := func(code string) {
		t.Helper()
		var fault *Fault
		if err := Run(t.Context(), b.config(b.landing)); !errors.As(err, &fault) || fault.Code != code || (fault.Next == "") != (code == "SlotNotOurs") {
			t.Fatalf("got %v, want a Fault with code %s", err, code)
		}
	}
	b.exec("INSERT INTO plain VALUES (-2, 'x', 1)")
	eventually(t, "the slot is free", func() bool {
		return b.try("SELECT pg_replication_slot_advance('s_"+b.db+"', pg_current_wal_lsn())") == nil
	})
	wantFault("SlotMoved")
	b.exec("SELECT pg_drop_replication_slot('s_" + b.db + "')")
	wantFault("SlotLost")
	b.exec("SELECT pg_create_logical_replication_slot('s_" + b.db + "', 'pgoutput')")
	other, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b.landing = other
	wantFault("SlotNotOurs")
}

// A publication that was dropped is missed, also when it is there again.
func TestPublicationDropped(t *testing.T) {
	for _, c := range []struct{ what, change string }{
		{"dropped", `DROP PUBLICATION p`},
		{"made again", `DROP PUBLICATION p; UPDATE plain SET n = -1; CREATE PUBLICATION p FOR ALL TABLES`},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBench(t, thirty)
			b.exec(`DROP PUBLICATION p`, `CREATE PUBLICATION p FOR ALL TABLES`)
			ended := make(chan error, 1)
			go func() { ended <- Run(t.Context(), b.config(b.landing)) }()
			b.caughtUp()
			b.exec(c.change)
			var fault *Fault // without Reseed, which is a policy
			if err := <-ended; !errors.As(err, &fault) || fault.Code != "PublicationLost" {
				t.Fatalf("got %v", err)
			}
			if c.what == "dropped" {
				b.exec(`CREATE PUBLICATION p FOR ALL TABLES`)
			}
			cfg := b.config(b.landing)
			cfg.Reseed = true
			stop := b.start(cfg)
			b.reaches("plain", phaseReplicating, 2)
			b.caughtUp()
			stop()
			b.equal(newTaker(t, b.landing, 1), "plain")
		})
	}
}

// A slot of the name that reads another database isn't ours.
func TestSlotOfAnotherDatabase(t *testing.T) {
	b, other := newBench(t, thirty), newBench(t)
	b.settle()
	eventually(t, "the slot is dropped", func() bool { return b.try("SELECT pg_drop_replication_slot('s_"+b.db+"')") == nil })
	other.exec("SELECT pg_create_logical_replication_slot('s_" + b.db + "', 'pgoutput')")
	for _, reseed := range []bool{false, true} {
		cfg := b.config(b.landing)
		cfg.Reseed = reseed
		var fault *Fault
		if err := Run(t.Context(), cfg); !errors.As(err, &fault) || fault.Code != slotNotOurs {
			t.Errorf("reseed %t: got %v", reseed, err)
		}
		if !other.holds("EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 's_" + b.db + "')") {
			t.Error("somebody else's slot was dropped")
		}
	}
}

// By policy a publication that is made again has all tables copied anew, without
// anybody's doing.
func TestPublicationMadeAgain(t *testing.T) {
	b := newBench(t, thirty)
	b.exec(`DROP PUBLICATION p`, `CREATE PUBLICATION p FOR ALL TABLES`)
	cfg := b.config(b.landing)
	cfg.Reseed = true
	stop := b.start(cfg)
	b.caughtUp()
	b.exec(`BEGIN; DROP PUBLICATION p; UPDATE plain SET n = -1; CREATE PUBLICATION p FOR ALL TABLES; COMMIT`)
	b.reaches("plain", phaseReplicating, 2)
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "plain")
}

// Of several publications one that is new, or that was dropped and made again, is read
// with once the slot is past its making. What the others publish goes on meanwhile.
func TestNewPublication(t *testing.T) {
	for _, down := range []bool{true, false} {
		t.Run(fmt.Sprintf("while no mirror runs %t", down), func(t *testing.T) {
			b := newBench(t, thirty, `CREATE TABLE log (v text)`, `INSERT INTO log VALUES ('a')`)
			b.exec(`ALTER PUBLICATION p SET TABLE plain`)
			b.settle()
			b.exec(`UPDATE plain SET n = 100 WHERE id = 1`, `CREATE PUBLICATION q FOR TABLE log WITH (publish = 'insert, truncate')`, `INSERT INTO log VALUES ('b')`)
			cfg := b.config(b.landing)
			cfg.Publications = []string{"p", "q"}
			var h heard
			cfg.Events = h.hear
			stop := b.start(cfg)
			b.reaches("log", phaseReplicating, 1)
			b.caughtUp()
			if e, n := h.last(Retrying); n > 0 {
				t.Errorf("%d tries more: %s", n, e.Reason)
			}
			made := `DROP PUBLICATION q; INSERT INTO log VALUES ('c'); UPDATE plain SET n = 200 WHERE id = 2; CREATE PUBLICATION q FOR TABLE log WITH (publish = 'insert, truncate')`
			if down {
				stop()
				b.exec(made, `INSERT INTO log VALUES ('d')`)
				stop = b.start(cfg)
			} else {
				b.exec("BEGIN; "+made+"; COMMIT", `INSERT INTO log VALUES ('d')`)
			}
			b.reaches("log", phaseReplicating, 2)
			b.exec(`INSERT INTO log VALUES ('e')`)
			b.caughtUp()
			stop()
			if got := b.tableState("plain").value.Generation; got != 1 {
				t.Errorf("what another publication publishes was copied %d times", got)
			}
			b.exec(`ALTER PUBLICATION p ADD TABLE log`) // only that equal finds it
			b.equal(newTaker(t, b.landing, 1), "plain", "log")
		})
	}
}

// A transaction that began before a publication was made is decoded without it, however
// late it ends.
func TestNewPublicationUnderTransaction(t *testing.T) {
	b := newBench(t, thirty, `CREATE TABLE log (v text)`, `INSERT INTO log VALUES ('a')`)
	b.exec(`ALTER PUBLICATION p SET TABLE plain`)
	b.settle()
	open, err := pgx.Connect(t.Context(), b.url())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close(context.Background())
	if _, err := open.Exec(t.Context(), "BEGIN; UPDATE plain SET n = 100 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	b.exec(`CREATE PUBLICATION q FOR TABLE log WITH (publish = 'insert, truncate')`)
	cfg := b.config(b.landing)
	cfg.Publications = []string{"p", "q"}
	var h heard
	cfg.Events = h.hear
	stop := b.start(cfg)
	for range 3 {
		h.looked(t)
		_, confirms := h.last(Confirmed)
		b.exec(`SELECT pg_logical_emit_message(false, 'test', '')`) // the slot goes beyond the publication, and nothing is decoded for that
		h.await(t, Confirmed, confirms+1)
	}
	if _, err := open.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	b.reaches("log", phaseReplicating, 1)
	b.caughtUp()
	if e, n := h.last(Retrying); n > 0 {
		t.Errorf("%d tries more: %s", n, e.Reason)
	}
	stop()
	b.exec(`ALTER PUBLICATION p ADD TABLE log`) // only that equal finds it
	b.equal(newTaker(t, b.landing, 1), "plain", "log")
}

// The slot is read with the publications that are there once it is past all that began
// before the last of them was seen, and at once if it is.
func TestRenewal(t *testing.T) {
	b := newBench(t, thirty)
	b.settle()
	m := &mirror{cfg: b.config(b.landing), run: "r"}
	m.cfg.Publications = []string{"p", "q", "r"}
	var err error
	if m.state, err = load[mirrorState](t.Context(), b.landing, mirrorFile); err != nil {
		t.Fatal(err)
	}
	acked := func(at landing.LSN) {
		if err := m.state.change(t.Context(), func(s *mirrorState) { s.Run, s.Acked = m.run, at }); err != nil {
			t.Fatal(err)
		}
	}
	acked(1)
	conn, err := pgx.Connect(t.Context(), b.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	expect := func(what string, renews, reads int) {
		t.Helper()
		now, err := postgres.Publications(t.Context(), conn, m.cfg.Publications)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := m.renews(t.Context(), conn, now); err != nil || again != (renews > 0) {
			t.Errorf("%s: it renews %t, %v", what, again, err)
		}
		if err := m.renew(t.Context(), conn); err != nil || len(m.publications()) != reads {
			t.Errorf("%s: the slot is read with %q, %v; want %d", what, m.publications(), err, reads)
		}
	}
	now, err := postgres.Publications(t.Context(), conn, []string{"p"})
	if err != nil {
		t.Fatal(err)
	}
	m.read(now)
	expect("nothing is new", 0, 1)
	_, end := b.writer()
	b.exec(`CREATE PUBLICATION q`)
	expect("q is new", 1, 1)
	expect("a transaction is open", 0, 1)
	end()
	expect("it has ended", 1, 1)
	expect("the slot isn't there yet", 0, 1)
	b.exec(`CREATE PUBLICATION r`)
	acked(m.renewal.at)
	expect("r is new, and the slot where it is known of q", 1, 1)
	expect("the slot isn't past r", 0, 1)
	acked(m.renewal.at)
	expect("the slot is past r", 0, 3)
	b.exec(`DROP PUBLICATION r`, `DROP PUBLICATION q`)
	m.read(now)
	b.exec(`CREATE PUBLICATION q`)
	acked(1 << 60)
	expect("the slot is past q before it is seen", 1, 2)
}

// A slot that is made while others change definitions is one that can be followed.
// Left alone, PostgreSQL goes wrong here: what commits before the server has seen
// every running transaction, such as this TRUNCATE, is not seen by the decoding of
// what comes right after.
func TestSlotAmongDefinitions(t *testing.T) {
	b := newBench(t, tables...)
	cfg := b.config(b.landing)
	cfg.Changing = func(what string, do func() error) error {
		if what != "create replication slot "+cfg.Slot {
			return do()
		}
		first, end := b.writer()
		made := make(chan error, 1)
		go func() { made <- do() }()
		b.awaited(first)
		second, endSecond := b.writer()
		b.exec(`TRUNCATE plain`)
		end()
		b.awaited(second)
		b.exec(`INSERT INTO pair VALUES (-1, 'b', 'v')`)
		endSecond()
		err := <-made
		b.exec(`INSERT INTO plain VALUES (-1, 'x', 1)`)
		return err
	}
	cfg.Events = func(e Event) {
		if e.Kind == Retrying {
			t.Error(e.Reason)
		}
	}
	stop := b.start(cfg)
	b.caughtUp()
	stop()
	b.same()
}

// writer is an open transaction that has an id, until it is ended.
func (b *bench) writer() (id string, end func()) {
	b.t.Helper()
	conn, err := pgx.Connect(context.Background(), b.url())
	if err == nil {
		_, err = conn.Exec(context.Background(), "BEGIN")
	}
	if err == nil {
		err = conn.QueryRow(context.Background(), "SELECT pg_current_xact_id()::text").Scan(&id)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return id, func() {
		_, _ = conn.Exec(context.Background(), "ROLLBACK") // or the server ends it some time after it was left
		conn.Close(context.Background())
	}
}

// awaited returns when somebody waits for the end of a transaction.
func (b *bench) awaited(id string) {
	b.t.Helper()
	eventually(b.t, "the end of the transaction is waited for", func() bool {
		return b.holds("EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted AND transactionid::text = '" + id + "')")
	})
}
