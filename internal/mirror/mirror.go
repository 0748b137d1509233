// Package mirror keeps a landing zone up to date with PostgreSQL.
//
// The landing zone holds the only state (state.go): a run that died anywhere is
// continued by another one, on any machine, from what is written there. A row
// walks one way: out of the snapshot (snapshot.go) or the stream (stream.go)
// into columns (changes.go), into a file (publish.go, fill.go); then the slot is
// told how far that is durable (flush.go), and nothing else ever tells it. A
// table that is new or has changed is joined meanwhile (join.go); of a partition
// that was attached only its own rows are read (attach.go).
package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// Config says what is mirrored where.
type Config struct {
	Source       postgres.Endpoint
	Slot         string   // made when the landing zone is new
	Publications []string // they list the tables; pgmirror never changes them here
	Types        postgres.Choices
	Landing      store.Store

	Freshness time.Duration   // how long a change may wait for others to share its file; 0: 5 s
	Workers   int             // connections of a snapshot, and tables published at once; 0: 4
	Budget    int64           // bytes of changes held in memory; 0: 256 MiB
	Watch     time.Duration   // between looks at the catalog and for requests; 0: 10 s
	Heal      time.Duration   // a table without a key that has missed changes is built anew when that is this long ago; 0: never
	Spill     *postgres.Spill // where large transactions are kept until they commit; nil: the server keeps them
	Reseed    bool            // when the slot is lost or not as we left it, make a new one and copy every table anew

	// Renew says where the source is and who signs in now, once the source has
	// refused the password: it may have been changed. nil: it stays as it is.
	Renew func(ctx context.Context) (postgres.Endpoint, error)

	Events func(Event) // told what happens, one call at a time; nil: nobody is

	// Changing stands around every change in the source, and does it. nil: it is
	// just done.
	Changing func(what string, do func() error) error

	// Fabric lists the tables that Fabric has: for noticing what it has lost, and
	// because it has to have dropped a table before the table's folder is made
	// again. nil: nobody is asked, and nobody waited for.
	Fabric func(ctx context.Context) ([]FabricTable, error)

	retry    func(try int) time.Duration // before the next try; tests shorten it
	chunk    uint32                      // heap blocks a chunk of a snapshot has
	fileRows int                         // changes that a file has at most
	maxRow   int                         // bytes of the largest row that is mirrored: it passes through memory whole, several times over
	idle     time.Duration               // how long the slot may lag behind an idle database
	attach   int64                       // bytes of a partition that is read while all tables wait
	lock     time.Duration               // how long a table that somebody holds locked is waited for before others come first

	lockPatience time.Duration // and before it is parked, when they don't
	dropPatience time.Duration // how long Fabric may take to drop a table
	comeOn       time.Duration // a try to join tables that took longer had come on
	unseen       time.Duration // how long nobody may have looked at the slot at least, before somebody else does
}

func (c Config) withDefaults() Config {
	if c.Changing == nil {
		c.Changing = func(_ string, do func() error) error { return do() }
	}
	if c.Freshness <= 0 {
		c.Freshness = 5 * time.Second
	}
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.Budget <= 0 {
		c.Budget = 256 << 20
	}
	if c.chunk == 0 {
		c.chunk = chunkBlocks
	}
	if c.fileRows == 0 {
		c.fileRows = fileRows
	}
	if c.maxRow <= 0 {
		c.maxRow = 256 << 20
	}
	if c.attach == 0 {
		c.attach = attachBytes
	}
	if c.lock == 0 {
		c.lock = 5 * time.Second
	}
	if c.lockPatience == 0 {
		c.lockPatience = lockPatience
	}
	if c.dropPatience == 0 {
		c.dropPatience = dropPatience
	}
	if c.comeOn == 0 {
		c.comeOn = time.Minute
	}
	if c.unseen == 0 {
		c.unseen = 5 * time.Second
	}
	if c.idle <= 0 {
		c.idle = 10 * time.Second
	}
	if c.Watch <= 0 {
		c.Watch = 10 * time.Second
	}
	if c.retry == nil {
		c.retry = func(try int) time.Duration { return min(30*time.Second, 250*time.Millisecond<<min(try, 7)) }
	}
	return c
}

// Beside is how many bytes a process needs beside Config.Budget for a mirror, as
// Go's runtime counts them (runtime/debug.SetMemoryLimit): columns that are about
// to grow, encoded files, what waits for the garbage collector.
const Beside = 128 << 20

// mirror is one attempt: from taking the landing zone to the first fault.
type mirror struct {
	cfg    Config
	run    string // names this attempt in the state files
	state  *file[mirrorState]
	tables map[string]*table // by name, as "public.orders"
	// relations is the tables that are followed in this round, by the oids of their
	// parts; the reader's.
	relations map[uint32]*table
	parked    map[uint32]bool         // the oids of the parts of parked tables; the reader's
	with      atomic.Pointer[reading] // the publications
	renewal   renewal                 // to others, if there are any; written between two rounds
	repairs   chan repairing          // to the round's flusher; nil until the slot is followed
	system    system
	fresh     bool        // this attempt made the slot, and its snapshot is there
	began     func()      // called once everything could be reached and opened
	moved     atomic.Bool // this attempt has got something done

	joins joins

	guard   *guard
	watched *watched
	eventMu *sync.Mutex

	sqlMu sync.Mutex
	sql   *pgx.Conn // for reading rows by key; nil until needed
}

type system struct {
	id       string
	timeline int32
}

// Run mirrors until ctx ends, which is no error, or until something is wrong that
// trying again can't mend (a Fault). It starts where the landing zone's state
// says. Whatever else fails is tried again once everything could be reached; before
// that it is returned, so that a wrong password is told at once. The waits between
// the tries become longer until one gets the mirror on.
func Run(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	var eventMu sync.Mutex
	g := &guard{at: map[string][]time.Time{}}
	w := &watched{seen: map[string]sighting{}, told: map[string]string{}}
	var source atomic.Pointer[postgres.Endpoint]
	source.Store(new(cfg.Source))
	watching, end := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() {
		(&mirror{cfg: cfg, watched: w, eventMu: &eventMu}).watchSlot(watching, func() postgres.Endpoint { return *source.Load() })
	})
	defer beside.Wait()
	defer end()
	ran := false
	for try := 0; ; try++ {
		m := &mirror{cfg: cfg, run: newRunID(), joins: newJoins(cfg.Workers), guard: g, watched: w, eventMu: &eventMu}
		m.began = func() { ran = true }
		start := time.Now()
		err := m.attempt(ctx)
		if m.moved.Load() || time.Since(start) > time.Minute {
			try = 0
		}
		var fault *Fault
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &fault) || !ran && !slotBusy(err):
			return err
		}
		if passwordRefused(err) && cfg.Renew != nil {
			if renewed, rerr := cfg.Renew(ctx); rerr == nil {
				cfg.Source = renewed
				source.Store(&renewed)
			} else {
				err = fmt.Errorf("%w (and the password could not be read anew: %w)", err, rerr)
			}
		}
		if try >= 5 && undecodable(err) {
			err = fmt.Errorf("%w (try %d: the server can't get past this place of its log, %s, and neither can the mirror; its newest minor release may. "+
				"Else drop replication slot %q and start with --reseed, which copies every table anew)", err, try+1, m.state.value.Acked, cfg.Slot)
		}
		m.emit(Event{Kind: Retrying, Reason: err.Error(), Wait: cfg.retry(try)})
		select {
		case <-time.After(cfg.retry(try)):
		case <-ctx.Done():
			return nil
		}
	}
}

// attempt is the walk of a mirror: rounds in which the same tables are followed.
// What joins tables goes on from one round to the next.
func (m *mirror) attempt(ctx context.Context) error {
	if err := m.take(ctx); err != nil {
		return fmt.Errorf("take the landing zone: %w", err)
	}
	exported, err := m.prepareSlot(ctx) // makes the tables' state too when it makes the slot
	if err != nil {
		return fmt.Errorf("replication slot %q: %w", m.cfg.Slot, err)
	}
	defer exported.close()
	defer m.closeSQL(context.WithoutCancel(ctx))
	if err := m.openTables(ctx); err != nil {
		return fmt.Errorf("open the tables: %w", err)
	}
	m.began()
	if _, err := m.answer(ctx); err != nil {
		return fmt.Errorf("answer requests: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			m.join(ctx, g, exported)
			if err := m.follow(ctx); !errors.Is(err, errAgain) {
				return err
			}
			if err := m.openTables(ctx); err != nil {
				return fmt.Errorf("open the tables again: %w", err)
			}
		}
	})
	return g.Wait()
}

// errAgain ends a round in which the tables' state has changed, or other tables
// are to be followed: the next one begins at once.
var errAgain = errors.New("the tables have changed")

// take makes this attempt the one that writes the landing zone. An earlier one
// that is still alive somewhere meets a changed state file at its next write and
// stops.
func (m *mirror) take(ctx context.Context) error {
	if err := landing.Prove(ctx, m.cfg.Landing); err != nil {
		return err
	}
	st, err := load[mirrorState](ctx, m.cfg.Landing, mirrorFile)
	if err != nil {
		return err
	}
	m.state = st
	if s := st.value.Slot; s != "" && s != m.cfg.Slot {
		return &Fault{Code: "OtherSlot", Err: fmt.Errorf("this landing zone is fed from slot %q, not from %q: set run.slot to that, or give the mirror an empty landing zone", s, m.cfg.Slot),
			Next: "pgmirror run --set run.slot=" + s}
	}
	return m.state.change(ctx, func(s *mirrorState) { s.Run, s.Slot = m.run, m.cfg.Slot })
}

// Fault is what trying again can't mend: a person has to decide.
type Fault struct {
	Code string // one stable word
	Err  error
	Next string // a command line to type; "": there is none, and Err says what to do
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// tableFault says that the server refused something about one table, as one
// that was dropped or that the role may no longer read: only that table parks.
func tableFault(err error) bool {
	var value *postgres.ValueError
	if errors.As(err, &value) || errors.Is(err, postgres.ErrRowTooLarge) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Severity == "FATAL" || pg.Severity == "PANIC" || definitionGone(err) {
		return false
	}
	if pg.Code == "XX001" || pg.Code == "XX002" { // data or an index is damaged
		return true
	}
	switch pg.Code[:2] {
	case "0A", "22", "23", "42", "3F", "54", "P0": // feature, data, a domain's constraint, definition and rights, schema, limits, PL/pgSQL
		return true
	}
	return false
}

// definitionGone says that a table is no longer as the catalog said a moment ago:
// it, a partition or a column was dropped or renamed. It has to be looked at anew,
// and nobody has to be asked.
func definitionGone(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{
		"42P01", // undefined_table
		"42703", // undefined_column
		"3F000", // invalid_schema_name
	}, pg.Code)
}

// valueGone says that the server doesn't take a value that it gave itself, as the
// label of an enum that was renamed.
func valueGone(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "22P02" // invalid_text_representation
}

// passwordRefused says that the server doesn't take the password, or no longer
// knows the role.
func passwordRefused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "28P01" || pg.Code == "28000")
}

// unreachable says that the server takes nobody new in at the moment: it can't be
// reached, is shutting down, which may take long while those that it has go on, or has
// no connection, slot or memory left. One whose disk is full is none: it has to keep
// nothing for us.
func unreachable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return slices.Contains([]string{"08", "53", "57"}, pg.Code[:2]) && pg.Code != "53100" // connection, resources, operator; disk_full
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect)
}

// undecodable says that the server itself fails when it reads its log, which is
// neither about the connection nor about resources or rights.
func undecodable(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, postgres.ErrStream) && errors.As(err, &pg) && !slices.Contains([]string{"08", "28", "53", "55", "57"}, pg.Code[:2])
}

// slotBusy says that the slot is still held, as it is for a while after its
// reader was killed.
func slotBusy(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55006" // object_in_use
}
