package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/setup"
)

type runOptions struct {
	config  configOptions
	json    bool
	reseed  bool
	metrics string
}

func newRunCmd(s streams) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Mirror a database into an open mirrored database, until Ctrl-C",
		Long: `Copies every table that the mirror's publications list, then follows the
database's changes, into the landing zone of an open mirrored database. It runs
until Ctrl-C. The landing zone holds the only state: a run that died, here or on
another machine, is continued by running it again.

A slot that is lost, or that isn't as the mirror left it, ends the run: what it
would have brought is gone. --reseed, or "allow: [reseed]" in the file, makes a
new one then and copies every table anew.

A table that Fabric has lost, as when its mirrored database was stopped and
started, is copied anew.

It warns when the server's limit for a slot's WAL (max_slot_wal_keep_size) would
be reached within an hour.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRun(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "write what happens as NDJSON to stdout")
	f.BoolVar(&o.reseed, "reseed", false, "when the slot is lost, make a new one and copy every table anew")
	f.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics and /healthz at this address; without a host on this machine only: --metrics :9187")
	settings := []string{"freshness", "workers", "budget"}
	f.String("freshness", "", "how long a change may wait for others to share its file: 5s")
	f.String("workers", "", "connections that read the snapshot: 4")
	f.String("budget", "", "memory for changes on their way: 256MiB")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		for _, name := range settings {
			if flag := cmd.Flags().Lookup(name); flag.Changed {
				o.config.set = append(o.config.set, "run."+name+"="+flag.Value.String())
			}
		}
	}
	return cmd
}

// lookEvery is how often a run looks for requests and at the catalog; 0 is the
// mirror's own. Tests shorten it.
var lookEvery time.Duration

func runRun(ctx context.Context, o runOptions, s streams) error {
	cfg, err := o.config.load(ctx, s)
	if err != nil {
		return err
	}
	view := newRunView(s, cfg, o.json)
	defer view.prepares(prepareQuietly)()
	if err := runMirror(ctx, o, s, cfg, view); err != nil {
		return view.failed(ctx, err)
	}
	return view.end()
}

func runMirror(ctx context.Context, o runOptions, s streams, cfg *config.Config, view *runView) error {
	push, err := pushConfig(ctx, s, cfg)
	if err != nil {
		return err
	}
	limitMemory(push.Budget + mirror.Beside)
	refused := push.Source.Password
	push.Renew = func(ctx context.Context) (postgres.Endpoint, error) {
		e, err := signIn(ctx, o.config, s)
		if err == nil {
			view.refused(refused, e.Password)
			refused = e.Password
		}
		return e, err
	}
	push.Changing = func(what string, do func() error) error { return s.doors.audited(inDatabase(cfg, what, ""), do) }
	push.Reseed = o.reseed || cfg.Allows(config.Reseed)
	guard := &walGuard{warn: view.warn}
	watchers := []func(mirror.Event){view.event, guard.event}
	if o.metrics != "" {
		m := newRunMetrics(cfg.MirrorName(), push.Landing)
		stop, err := m.serve(ctx, o.metrics)
		if err != nil {
			return err
		}
		defer stop()
		view.s.say("metrics and health at http://%s/metrics and /healthz", m.addr)
		watchers = append(watchers, m.event)
	}
	push.Events = func(e mirror.Event) {
		for _, tell := range watchers {
			tell(e)
		}
	}
	return mirrorFailure(mirror.Run(ctx, push))
}

// pushConfig asks the set-up plane where the mirror is and how to sign in. It
// refuses a mirror that isn't set up.
func pushConfig(ctx context.Context, s streams, cfg *config.Config) (mirror.Config, error) {
	if err := wantsOpen(cfg); err != nil {
		return mirror.Config{}, err
	}
	ses, err := openSession(ctx, s, cfg)
	if err != nil {
		return mirror.Config{}, err
	}
	defer ses.close(ctx)
	if err := ses.ready(); err != nil {
		return mirror.Config{}, err
	}
	m, err := ses.mirror()
	if err != nil {
		return mirror.Config{}, err
	}
	zone, err := ses.files(m.ID, "Files/LandingZone")
	if err != nil {
		return mirror.Config{}, err
	}
	publications, err := ses.publications(ctx)
	if err != nil {
		return mirror.Config{}, err
	}
	source := named(ses.clients.Endpoint(&ses.facts), "pgmirror run")
	return mirror.Config{
		Source: source, Spill: spill(source, cfg.Slot()), Slot: cfg.Slot(), Publications: publications, Types: setup.Choices(cfg), Landing: zone,
		Freshness: cfg.Run.Freshness, Workers: cfg.Run.Workers, Budget: int64(cfg.Run.Budget), Heal: cfg.Run.Heal, Watch: lookEvery,
		Fabric: ses.fabricTables(m.ID),
	}, nil
}

// signIn reads the role's password anew from where it is kept.
func signIn(ctx context.Context, o configOptions, s streams) (postgres.Endpoint, error) {
	cfg, err := o.load(ctx, s)
	if err != nil {
		return postgres.Endpoint{}, err
	}
	ses, err := openSession(ctx, s, cfg, looking{until: "role-secret"})
	if err != nil {
		return postgres.Endpoint{}, err
	}
	defer ses.close(ctx)
	return named(ses.clients.Endpoint(&ses.facts), "pgmirror run"), nil
}

// limitMemory has the garbage collector work harder near a limit, unless the user
// has set one.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}

// spillBytes is how much of this machine's disk large transactions may take before
// they commit. One that needs more is left to the server, which then keeps it.
const spillBytes = 8 << 30

// spill is where they are kept: a directory of this source's slot alone, in the
// user's cache. Whoever has none, or none that can be written, leaves them to the
// server.
func spill(source postgres.Endpoint, slot string) *postgres.Spill {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil
	}
	id := sha256.Sum256([]byte(source.String() + " " + slot))
	dir := filepath.Join(cache, "pgmirror", "spill-"+hex.EncodeToString(id[:6]))
	if os.MkdirAll(dir, 0o700) != nil {
		return nil
	}
	return &postgres.Spill{Dir: dir, MaxBytes: spillBytes}
}

// wantsOpen refuses a native mirror, which has nothing that we could run.
func wantsOpen(cfg *config.Config) error {
	if cfg.Mode != config.Open {
		return fail(exitError, "ModeNative", "pgmirror status", "in native mode Fabric moves the data itself: there is nothing to run")
	}
	return nil
}

// fabricTables asks Fabric for its tables.
func (ses *session) fabricTables(item string) func(context.Context) ([]mirror.FabricTable, error) {
	client, workspace := ses.clients.Fabric, ses.cfg.Workspace
	return func(ctx context.Context) ([]mirror.FabricTable, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		tables, err := client.TablesStatus(ctx, workspace, item)
		if err != nil {
			return nil, err
		}
		out := make([]mirror.FabricTable, len(tables))
		for i, t := range tables {
			out[i] = mirror.FabricTable{Schema: t.Schema, Table: t.Table, Rows: t.ProcessedRows}
			if t.LatencySeconds != nil {
				out[i].Lag = time.Duration(*t.LatencySeconds) * time.Second
			}
			if t.Status == "Failed" {
				out[i].Failed = strings.Trim(t.ErrorCode+": "+t.ErrorMessage, ": ")
			}
		}
		return out, nil
	}
}

func named(e postgres.Endpoint, app string) postgres.Endpoint {
	e.AppName = app
	return e
}

// publications are those of the mirror that exist: the one of the tables
// without a key is made only when there are such tables.
func (ses *session) publications(ctx context.Context) ([]string, error) {
	e := ses.clients.Endpoint(&ses.facts)
	conn, err := e.Connect(ctx)
	if err != nil {
		return nil, connectFailure(e, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var names []string
	err = conn.QueryRow(ctx, `SELECT array_agg(pubname::text ORDER BY pubname) FROM pg_publication WHERE pubname = ANY ($1)`,
		[]string{ses.cfg.Publication(), ses.cfg.InsertOnlyPublication()}).Scan(&names)
	return names, err
}

// reseed is what is left to do when changes are lost.
const reseed = "pgmirror run --reseed"

// mirrorFailure gives a fault of the data plane its code and its next command; nil
// stays nil.
func mirrorFailure(err error) error {
	var fault *mirror.Fault
	if errors.As(err, &fault) {
		if fault.Next == reseed {
			err = fmt.Errorf("%w; --reseed copies every table anew", err)
		}
		return &failure{Exit: exitPrecondition, Code: fault.Code, Err: err, Next: fault.Next}
	}
	return err
}
