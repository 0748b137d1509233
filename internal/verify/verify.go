// Package verify proves that a mirror holds what PostgreSQL holds.
//
// The proof shares no decoder with the mirror: PostgreSQL itself renders its
// values as text, the Delta table's values are rendered here, and rows are
// compared by key and hash. Nothing is needed but the Delta tables.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// Config says what to compare.
type Config struct {
	Source postgres.Endpoint
	Tables store.Store // the item's Tables folder: <schema>/<table>/_delta_log
	Only   []string    // tables as "schema.table", or "table" in any schema; empty: all

	// Settle is how long a row must differ, unchanged at the source, before it
	// counts as different: once several newer versions of its table have come,
	// or five times as long when they don't. 0 decides from the lag that is
	// observed: three times that, at least 2 s; at least 3 min of a mirror that
	// doesn't say how far it has come.
	Settle time.Duration

	Mirror string // what the mirror is called in receipts: a place that no other mirror has

	// Called is what the mirror calls a table of the source, when not by its own
	// name: an open mirror's folders have escaped names. nil: by its own.
	Called func(schema, table string) (string, string)

	// Publications are an open mirror's: columns that they leave out are not
	// compared, and rows are known by the key that is published.
	Publications []string

	Native bool        // Fabric's own engine made the mirror: its documented losses are losses, not differences
	Events func(Event) // is told of progress, one call at a time; may be nil

	Workers int // tables that are compared at once; 0: 2

	// Memory is how many bytes all tables together may take, however large they
	// are; 0: 256 MiB. On top of it each worker holds one Delta file as it is
	// stored, and one row group of it decoded.
	Memory int64

	// Save is given the receipt after every table, Finished still being zero, one
	// call at a time; may be nil. Its error ends the run.
	Save func(*Receipt) error

	// Resume is the receipt of a verification of the same source and mirror that
	// didn't come to its end. What it found equal, or lossy, isn't compared again; what
	// it found of tables beside Only stays as it is. Both hold only for tables that
	// weren't made anew on either side.
	Resume *Receipt

	open     func(ctx context.Context, t store.Store) (mirrorTable, error) // nil: openDelta
	lockWait time.Duration                                                 // 0: lockWait
	untold   time.Duration                                                 // 0: minUntold
	unseen   time.Duration                                                 // 0: maxUnseen
}

func (cfg Config) withDefaults() Config {
	tell := cfg.Events
	if tell == nil {
		tell = func(Event) {}
	}
	var mu sync.Mutex
	cfg.Events = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		tell(e)
	}
	if cfg.Save == nil {
		cfg.Save = func(*Receipt) error { return nil }
	}
	if cfg.Called == nil {
		cfg.Called = func(schema, table string) (string, string) { return schema, table }
	}
	if cfg.open == nil {
		cfg.open = openDelta
	}
	cfg.lockWait = cmp.Or(cfg.lockWait, lockWait)
	cfg.untold = cmp.Or(cfg.untold, minUntold)
	cfg.unseen = cmp.Or(cfg.unseen, maxUnseen)
	if cfg.Workers <= 0 {
		cfg.Workers = 2
	}
	if cfg.Memory <= 0 {
		cfg.Memory = 256 << 20
	}
	return cfg
}

// Event is one step of a verification.
type Event struct {
	Type    string       `json:"type"` // "comparing", "looking-again" or "compared"
	Schema  string       `json:"schema"`
	Table   string       `json:"table"`
	Version int64        `json:"version,omitempty"` // Delta version that is being read
	Differ  int          `json:"differ,omitempty"`  // rows that differ so far, settled or not
	Result  *TableResult `json:"result,omitempty"`  // of "compared"
}

// Run compares every table of the mirror with its source, the largest first and
// several at once, and blocks until that is done: at least Settle for a table
// that has differences. It reads each table under one snapshot of the source and
// one Delta version, at least twice when they differ, in the memory that
// Config.Memory tells. A table that can't be compared is a result, not an error;
// the error is about the run as a whole, and there is no receipt then.
func Run(ctx context.Context, cfg Config) (*Receipt, error) {
	cfg = cfg.withDefaults()
	r := &Receipt{Format: ReceiptFormat, Source: cfg.Source.String(), Mirror: cfg.Mirror, Native: cfg.Native, Started: time.Now().UTC()}
	conn, err := cfg.Source.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := r.identify(ctx, conn); err != nil {
		return nil, err
	}
	before, err := cfg.resumable(r)
	if err != nil {
		return nil, err
	}
	all, err := pairTables(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	asked, err := only(all, cfg.Only)
	if err != nil {
		return nil, err
	}
	if before != nil {
		asked = before.takeOver(ctx, cfg, all, asked, r)
	}
	if err := verifyTables(ctx, cfg, asked, r); err != nil {
		return nil, err
	}
	r.Finished = time.Now().UTC()
	return r, nil
}

const identitySQL = `SELECT pg_catalog.current_setting('server_version'), (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
	CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0
		ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint END,
	pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'), pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')`

// identify asks the server who it is, and which of its timelines and databases this is.
func (r *Receipt) identify(ctx context.Context, conn *pgx.Conn) error {
	var system, checkpoint bool // the role may ask for them
	err := conn.QueryRow(ctx, identitySQL).Scan(&r.ServerVersion, &r.DatabaseOID, &r.Timeline, &system, &checkpoint)
	if err == nil && system {
		err = conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_catalog.pg_control_system()").Scan(&r.System)
	}
	if err == nil && checkpoint && r.Timeline == 0 { // of a standby
		err = conn.QueryRow(ctx, "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()").Scan(&r.Timeline)
	}
	if err != nil {
		return fmt.Errorf("ask the source who it is: %w", err)
	}
	return nil
}

// takeOver puts into a receipt what the receipt of the run that is resumed says:
// of the tables asked for those that it found right, of the others all. It returns
// the tables that are left to compare.
func (r *Receipt) takeOver(ctx context.Context, cfg Config, all, asked []pair, now *Receipt) []pair {
	found, same := make([]TableResult, len(all)), make([]bool, len(all))
	var g errgroup.Group
	g.SetLimit(8)
	for i, p := range all {
		g.Go(func() error {
			found[i], same[i] = r.of(ctx, cfg, p)
			return nil
		})
	}
	_ = g.Wait() // they return nil
	var left []pair
	for i, p := range all {
		wanted, right := slices.Contains(asked, p), found[i].State == Equal || found[i].State == Lossy
		taken := same[i] && (right || !wanted)
		if taken {
			now.Replace(found[i])
		}
		switch {
		case wanted && taken:
			cfg.Events(Event{Type: "compared", Schema: p.schema, Table: p.name, Version: found[i].DeltaVersion, Result: &found[i]})
		case wanted:
			left = append(left, p)
		}
	}
	return left
}

// verifyTables compares pairs and puts the results into the receipt.
func verifyTables(ctx context.Context, cfg Config, open []pair, r *Receipt) error {
	open = slices.Clone(open)
	slices.SortStableFunc(open, func(a, b pair) int { return cmp.Compare(b.bytes(), a.bytes()) })
	var mu sync.Mutex // of r
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cfg.Workers)
	for _, p := range open {
		g.Go(func() error {
			res, err := verifyTable(ctx, cfg, p)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.Replace(res)
			if err := cfg.Save(r); err != nil {
				return fmt.Errorf("save the receipt: %w", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// retries of a table whose files went away while they were read, as the mirror's
// upkeep may remove old ones at any time, or that was redefined.
const retries = 3

// verifyTable compares one table. Its fault is its result; the error is only
// that ctx has ended.
func verifyTable(ctx context.Context, cfg Config, p pair) (TableResult, error) {
	started := time.Now()
	res := p.result(started)
	cfg.Events(Event{Type: "comparing", Schema: p.schema, Table: p.name})
	var err error
	switch {
	case p.source == nil:
		res.State, res.Reason = Differs, "the source has no such table"
	case p.mirror == nil:
		res.State, res.Reason = NotMirrored, "the mirror has no such table"
		if p.source.Obstacle != "" {
			res.Reason = p.source.Obstacle
		}
	default:
		for range retries {
			if err = compareTable(ctx, cfg, p, &res); !errors.Is(err, store.ErrNotExist) && !errors.Is(err, errRedefined) {
				break
			}
		}
	}
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	if err != nil {
		version, id := res.DeltaVersion, res.DeltaID
		res = p.result(started)
		res.DeltaVersion, res.DeltaID, res.State, res.Reason = version, id, Unreadable, err.Error()
	}
	res.Seconds = time.Since(started).Seconds()
	cfg.Events(Event{Type: "compared", Schema: p.schema, Table: p.name, Version: res.DeltaVersion, Differ: res.Differing, Result: &res})
	return res, nil
}

// compareTable opens a session for the table, so that one that broke is no other
// table's fault.
func compareTable(ctx context.Context, cfg Config, p pair, res *TableResult) error {
	conn, err := cfg.Source.Connect(ctx, postgres.Setting{Name: "lock_timeout", Value: fmt.Sprint(cfg.lockWait.Milliseconds())})
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	*res = p.result(res.Started)
	c := &comparison{cfg: cfg, pair: p, conn: conn, res: res, memory: cfg.Memory / int64(cfg.Workers)}
	return c.run(ctx)
}

// comparison is the state of comparing one table.
type comparison struct {
	cfg  Config
	pair pair
	conn *pgx.Conn
	res  *TableResult

	writer copyWriter // one read of the source at a time
	memory int64      // bytes, for all of this
	limits limits
	source *postgres.Table // in the snapshot that is compared
	plan   *plan
	mirror mirrorTable   // at the version that is compared
	taken  time.Time     // of the source's snapshot
	lsn    postgres.LSN  // then
	ahead  time.Duration // of our clock, the source's
	cands  map[hash]*candidate
	cut    bool // there were more candidates than are followed
}

// run compares under a snapshot and looks again at what differed. Should there
// be more than can be followed, and all that were followed had only been in
// flight, it begins anew: the rest may be, too.
func (c *comparison) run(ctx context.Context) error {
	for round := range retries {
		if err := c.snapshot(ctx); err != nil {
			return err
		}
		if err := c.settle(ctx); err != nil {
			return err
		}
		if !c.cut || c.res.Differing > 0 || round == retries-1 {
			break
		}
	}
	c.judge()
	return nil
}

// judge says what the table as a whole is.
func (c *comparison) judge() {
	r := c.res
	r.Truncated = c.cut
	for _, col := range c.plan.columns {
		if col.lost > 0 {
			r.Lossy = append(r.Lossy, Loss{Column: col.name, Rows: col.lost, Why: col.why})
		}
	}
	switch {
	case r.Differing > 0:
		r.State = Differs
	case r.Moving > 0 || c.cut:
		r.State = Moving
	case len(r.Lossy)+len(r.LeftOut) > 0:
		r.State = Lossy
	default:
		r.State = Equal
	}
}
