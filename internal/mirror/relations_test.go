package mirror

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/pgmirror/pgmirror/internal/store"
)

// mute is a store in which the mirror's own state can't be written, once it is told.
type mute struct {
	store.Store
	armed atomic.Bool
}

func (s *mute) Put(ctx context.Context, name string, body []byte, c store.Cond) (store.Info, error) {
	if name == mirrorFile && s.armed.Load() {
		return store.Info{}, errors.New("not now")
	}
	return s.Store.Put(ctx, name, body, c)
}

// What the stream says of one partition's definition isn't forgotten for what it says of
// another's, though both are parts of one table: the values that a change leaves out are
// read from the table, and aren't NULL because the partition is under FULL by now.
func TestPartitionsRelations(t *testing.T) {
	b := newBench(t, `CREATE TABLE parted (id int, at int, n int, big text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)`,
		`CREATE TABLE pa PARTITION OF parted FOR VALUES FROM (0) TO (100)`, `CREATE TABLE pb PARTITION OF parted FOR VALUES FROM (100) TO (200)`,
		`ALTER TABLE pa ALTER big SET STORAGE EXTERNAL`, `ALTER TABLE pb ALTER big SET STORAGE EXTERNAL`,
		`INSERT INTO parted SELECT i, 50, i, repeat('x', 9000) FROM generate_series(1, 5) i`, `INSERT INTO parted SELECT i, 150, i, repeat('x', 9000) FROM generate_series(1, 5) i`)
	b.exec(`ALTER PUBLICATION p SET TABLE parted`)
	s := &mute{Store: b.landing}
	ctx, cancel := context.WithCancel(t.Context())
	cfg := b.config(s)
	cfg.Events = func(e Event) {
		if e.Kind == Retrying {
			cancel()
		}
	}
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	b.caughtUp()
	s.armed.Store(true)
	b.exec(`UPDATE pb SET n = -1 WHERE id = 1`) // published and not confirmed: it comes again
	<-done
	b.exec(`UPDATE pa SET n = -1 WHERE id = 1`, `UPDATE pb SET id = 102 WHERE id = 2`, `ALTER TABLE pb REPLICA IDENTITY FULL`)
	stop := b.start(b.config(b.landing))
	b.caughtUp()
	stop()
	b.equal(newTaker(t, b.landing, 1), "parted")
}

// While a table is copied the slot is held back, and every round begins with what was
// said before a partition was renamed. Changes of the others are none of its.
func TestRenamedPartition(t *testing.T) {
	b := newBench(t, `CREATE TABLE parted (id int, at int, n int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)`,
		`CREATE TABLE pa PARTITION OF parted FOR VALUES FROM (0) TO (100)`, `CREATE TABLE pb PARTITION OF parted FOR VALUES FROM (100) TO (200)`,
		`INSERT INTO parted SELECT i, 50, i FROM generate_series(1, 5) i`, `INSERT INTO parted SELECT i, 150, i FROM generate_series(1, 5) i`,
		`CREATE TABLE small (id int PRIMARY KEY)`, `CREATE TABLE zlast (id int PRIMARY KEY, v text)`, `INSERT INTO zlast SELECT i, 'v' FROM generate_series(1, 100) i`)
	b.exec(`ALTER PUBLICATION p SET TABLE parted, small`)
	g := newGate(b.landing, "zlast", 0)
	var h heard
	stop := b.hear(g, &h)
	b.caughtUp()
	b.exec(`ALTER PUBLICATION p ADD TABLE zlast`)
	<-g.held
	b.exec(`UPDATE zlast SET v = 'w' WHERE id = 1`, `UPDATE pa SET n = 0 WHERE id = 2`, `UPDATE pb SET n = 0 WHERE id = 1`)
	h.looked(t)
	b.exec(`ALTER TABLE pb RENAME TO pb_old`)
	for _, n := range []string{"1", "2", "3"} {
		_, rounds := h.last(Streaming)
		if err := Ask(t.Context(), b.landing, Request{Kind: Resync, Schema: "public", Table: "small"}); err != nil {
			t.Fatal(err)
		}
		h.await(t, Streaming, rounds+1)
		b.exec(`UPDATE pa SET n = ` + n + ` WHERE id = 1`)
		eventually(t, "the change is published", func() bool { return b.target("parted")["1|50"] == "1|50|"+n })
	}
	close(g.open)
	b.caughtUp()
	stop()
	if got := b.tableState("parted").value; got.Generation > 2 { // the rename itself may build it anew
		t.Errorf("it was copied %d times: %s", got.Generation, got.Reason)
	}
	b.equal(newTaker(t, b.landing, 1), "parted", "small", "zlast")
}

// What changes of a table that is paused, or parked meanwhile, doesn't hold the slot
// while another one is copied: it begins anew later.
func TestParkedHoldsNothing(t *testing.T) {
	for _, kind := range []RequestKind{Pause, Resync} {
		t.Run(string(kind), func(t *testing.T) {
			b := newBench(t, tables...)
			g := newGate(b.landing, "zlast", 0)
			cfg := b.config(g)
			cfg.maxRow = 4000
			b.exec(`DROP TABLE toast`)
			stop := b.start(cfg)
			b.caughtUp()
			ask := func(kind RequestKind) {
				t.Helper()
				if err := Ask(t.Context(), b.landing, Request{Kind: kind, Schema: "public", Table: "plain"}); err != nil {
					t.Fatal(err)
				}
			}
			if kind == Pause {
				ask(Pause)
				b.reaches("plain", phaseParked, 1)
			}
			b.exec(`CREATE TABLE zlast (id int PRIMARY KEY, v text)`, `INSERT INTO zlast SELECT i, 'v' FROM generate_series(1, 100) i`, `ALTER PUBLICATION p ADD TABLE zlast`)
			<-g.held
			b.exec(`UPDATE plain SET note = repeat('x', 5000) WHERE id = 1`)
			b.reaches("plain", phaseParked, 1)
			b.exec(`UPDATE plain SET note = 'small' WHERE id = 1`)
			now := b.position("SELECT pg_current_wal_lsn()::text")
			eventually(t, "the slot is told of what nobody needs", func() bool {
				b.exec("SELECT pg_logical_emit_message(true, 'test', '')")
				return b.confirmed() > now
			})
			b.exec(`UPDATE zlast SET v = 'while it is copied'`)
			if kind == Pause {
				ask(Resume)
			} else {
				ask(Resync)
			}
			close(g.open)
			b.reaches("plain", phaseReplicating, 2)
			b.caughtUp()
			stop()
			b.equal(newTaker(t, b.landing, 1), "plain", "zlast")
		})
	}
}
