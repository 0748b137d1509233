package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/replicator"
	"github.com/pgmirror/pgmirror/internal/setup"
	"github.com/pgmirror/pgmirror/internal/store"
)

type replicateOptions struct {
	landing, tables string
	keys            string
	envFile         string
	schema          string
	once            bool
	json            bool
	rewrite         bool
	interval        time.Duration
	workers         int
	memory          int // MiB
	retention       time.Duration
	share           float64
	metrics         string
}

func newReplicateCmd(s streams) *cobra.Command {
	var o replicateOptions
	cmd := &cobra.Command{
		Use:   "replicate LANDING-ZONE TABLES",
		Short: "Turn a landing zone in a folder into Delta tables, as Fabric does",
		Long: `Applies every file of an open mirroring landing zone in a folder to Delta tables,
as TABLES/<schema>/<table>, until Ctrl-C; with --once, what is there now. It goes
on where it, or a process that died, left off.

TABLES is another folder; or one of OneLake, as in a lakehouse's properties, or
of a storage account with a hierarchical namespace:

  https://onelake.dfs.fabric.microsoft.com/<workspace>/<item>/Tables
  abfss://<container>@<account>.dfs.core.windows.net/<folder>

It signs in there as the environment, a managed identity, az or azd says.

Deleted rows are marked by deletion vectors; --rewrite writes their files anew
instead, for readers that don't know those. Small files are put together, and
what no version within the retention needs is deleted, beside the commits.
The folder of --keys is a cache, which may be deleted.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.landing, o.tables = args[0], args[1]
			return runReplicate(cmd.Context(), o, s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.schema, "default-schema", "dbo", "schema of tables whose folders lie in no schema folder")
	f.BoolVar(&o.once, "once", false, "apply what is there, bring the tables into shape, and end")
	f.BoolVar(&o.json, "json", false, "write every commit as NDJSON to stdout")
	f.BoolVar(&o.rewrite, "rewrite", false, "rewrite files instead of using deletion vectors")
	f.DurationVar(&o.interval, "interval", time.Second, "how often to look for new files")
	f.IntVar(&o.workers, "workers", 0, "tables worked on at once (default: one a processor)")
	f.IntVar(&o.memory, "memory", 512, "MiB that all tables together may take, roughly, beside 128 for the process")
	f.DurationVar(&o.retention, "retention", 24*time.Hour, "how long superseded versions can be read, 1h at least")
	f.Float64Var(&o.share, "upkeep", 0.25, "share of one processor's time for compaction and the like, up to 1")
	f.StringVar(&o.keys, "keys", "", "folder of this machine where it keeps which key lies where (default: TABLES/_keys; of a lake, below the user's cache)")
	f.StringVar(&o.envFile, "env-file", "", "read KEY=value lines, as pgmirror emulator --env writes them, before the environment")
	f.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics and /healthz at this address; without a host on this machine only: --metrics :9188")
	return cmd
}

// replicateLine is one line of replicate --json: a commit to a Delta table, or
// the failure of one.
type replicateLine struct {
	Type       string     `json:"type"` // commit, failed
	Schema     string     `json:"schema"`
	Table      string     `json:"table"`
	Version    int64      `json:"version"`
	First      int64      `json:"firstFile,omitempty"`
	Last       int64      `json:"lastFile,omitempty"`
	Rows       int64      `json:"rows"`
	Seconds    float64    `json:"seconds"`
	CommitLSN  string     `json:"commitLsn,omitempty"`  // of the last source transaction in it
	CommitTime *time.Time `json:"commitTime,omitempty"` // likewise
	Error      string     `json:"error,omitempty"`
}

func (o replicateOptions) check() error {
	switch {
	case o.retention < time.Hour:
		return fail(exitError, "UsageInvalid", "pgmirror replicate --help", "--retention %s is less than 1h: readers would lose files under their hands", o.retention)
	case o.share <= 0 || o.share > 1:
		return fail(exitError, "UsageInvalid", "pgmirror replicate --help", "--upkeep %g is not above 0 and up to 1", o.share)
	case o.memory < 64:
		return fail(exitError, "UsageInvalid", "pgmirror replicate --help", "--memory %d is not at least 64", o.memory)
	case o.interval <= 0:
		return fail(exitError, "UsageInvalid", "pgmirror replicate --help", "--interval %s is not above 0", o.interval)
	}
	return nil
}

func runReplicate(ctx context.Context, o replicateOptions, s streams) error {
	if err := o.check(); err != nil {
		return err
	}
	zone, err := store.OpenDir(o.landing)
	if err != nil {
		return err
	}
	tables, keys, err := o.target(ctx, s)
	if err != nil {
		return err
	}
	view := replicateView{s: s, json: o.json, each: o.once, told: time.Now()}
	if o.json {
		view.fault = writeLines(s.Out, header{Type: "header", V: jsonVersion, Command: "replicate"})
	}
	budget := int64(o.memory) << 20
	limitMemory(budget + mirror.Beside)
	m := newReplicateMetrics()
	r := replicator.New(replicator.Config{
		Landing: zone, Tables: tables, DefaultSchema: o.schema, AppID: "pgmirror-replicate", ScanInterval: o.interval,
		CopyOnWrite: o.rewrite, Workers: o.workers, Budget: budget, KeyCache: keys,
		Upkeep: replicator.Upkeep{Share: o.share, Retention: o.retention},
		Events: func(e replicator.Event) { m.event(e); view.event(e) },
	})
	if o.metrics != "" {
		stop, err := m.serve(ctx, o.metrics, r.Status)
		if err != nil {
			return err
		}
		defer stop()
		s.say("metrics at http://%s/metrics", m.addr)
	}
	if o.once {
		err = r.Once(ctx)
	} else {
		err = r.Run(ctx)
	}
	if err == nil {
		err = view.fault
	}
	if err != nil {
		return err
	}
	return failedTables(r.Status())
}

// target opens TABLES, and says where its keys are kept.
func (o replicateOptions) target(ctx context.Context, s streams) (tables store.Store, keys string, err error) {
	if !strings.Contains(o.tables, "://") {
		if o.keys == "" {
			o.keys = filepath.Join(o.tables, "_keys")
		}
		tables, err = store.OpenDir(o.tables)
		return tables, o.keys, err
	}
	if tables, err = openLake(ctx, s, o.tables, o.envFile); err != nil {
		return nil, "", err
	}
	if err := delta.Prove(ctx, tables); err != nil {
		return nil, "", fmt.Errorf("%s: %w", o.tables, err)
	}
	if o.keys == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, "", fail(exitError, "UsageInvalid", setup.ShellLine("pgmirror", "replicate", "--keys", "FOLDER", o.landing, o.tables), "no cache folder is known: %v", err)
		}
		sum := sha256.Sum256([]byte(o.tables))
		o.keys = filepath.Join(cache, "pgmirror", "keys", hex.EncodeToString(sum[:8]))
	}
	return tables, o.keys, nil
}

// openLake opens a folder of OneLake or of a storage account.
func openLake(ctx context.Context, s streams, address, envFile string) (store.Store, error) {
	endpoint, container, folder, err := lakeAddress(address)
	if err != nil {
		return nil, &failure{Exit: exitError, Code: "UsageInvalid", Err: err, Next: "pgmirror replicate --help"}
	}
	environ := s.Environ
	if envFile != "" {
		more, err := config.ReadEnv(envFile)
		if err != nil {
			return nil, &failure{Exit: exitError, Code: "ConfigUnreadable", Err: err}
		}
		environ = append(more, s.Environ...)
	}
	cfg, err := config.Load(ctx, config.Options{Environ: environ})
	if err != nil {
		return nil, &failure{Exit: exitError, Code: "ConfigUnreadable", Err: err, Next: "pgmirror plan --explain-config"}
	}
	cfg.Workspace, cfg.Endpoints.OneLakeDFS = container, endpoint
	clients, err := setup.NewClients(ctx, cfg)
	if err != nil {
		return nil, setupFailure(err)
	}
	item, rest, _ := strings.Cut(folder, "/")
	lake, err := clients.OneLake(item, rest)
	if err != nil {
		return nil, setupFailure(err)
	}
	return fabric.NewOneLake(lake)
}

// lakeAddress reads both forms in which Microsoft's pages give a folder:
// https://host/container/folder and abfss://container@host/folder.
func lakeAddress(address string) (endpoint, container, folder string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", "", err
	}
	container, folder, _ = strings.Cut(strings.Trim(u.Path, "/"), "/")
	if u.Scheme == "abfss" {
		container, folder = u.User.Username(), strings.Trim(u.Path, "/")
	}
	if u.Scheme != "https" && u.Scheme != "abfss" || u.Host == "" || container == "" || folder == "" || u.RawQuery != "" {
		return "", "", "", fmt.Errorf("%q is none of https://HOST/CONTAINER/FOLDER, abfss://CONTAINER@HOST/FOLDER", address)
	}
	return "https://" + u.Host, container, folder, nil
}

func failedTables(list []replicator.TableStatus) error {
	failed := 0
	var first replicator.TableStatus
	for _, t := range list {
		if t.Error != "" {
			if failed++; failed == 1 {
				first = t
			}
		}
	}
	if failed == 0 {
		return nil
	}
	return fail(exitError, "TableFailed", "", "%s.%s: %s (%s with an error)", first.Schema, first.Table, first.Error, plural(failed, "table"))
}

// replicateView tells commits as they happen, from several goroutines: each to
// programs and in a single round, to people a summary every few seconds else.
type replicateView struct {
	s    streams
	json bool
	each bool

	mu      sync.Mutex
	fault   error
	told    time.Time
	commits int64
	rows    int64
	tables  map[string]bool
}

func (v *replicateView) event(e replicator.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.json:
		if v.fault == nil {
			v.fault = writeLines(v.s.Out, replicateLineOf(e))
		}
	case e.Err != nil:
		v.s.say("%s %s.%s: %v", v.s.paint(red, "!"), e.Schema, e.Table, e.Err)
	case e.Dropped:
		v.s.say("%s %s.%s: dropped", v.s.paint(green, "ok"), e.Schema, e.Table)
	case v.each:
		v.s.say("%s %s.%s: files %d to %d, %s rows, version %d  %s", v.s.paint(green, "ok"), e.Schema, e.Table, e.First, e.Last, count(e.Rows), e.Version, seconds(e.Took))
	default:
		v.sum(e)
	}
}

func replicateLineOf(e replicator.Event) replicateLine {
	line := replicateLine{Type: "commit", Schema: e.Schema, Table: e.Table, Version: e.Version, First: e.First, Last: e.Last, Rows: e.Rows,
		Seconds: e.Took.Seconds(), CommitLSN: e.CommitLSN}
	if !e.CommitTime.IsZero() {
		line.CommitTime = &e.CommitTime
	}
	if e.Err != nil {
		line.Type, line.Error = "failed", e.Err.Error()
	}
	return line
}

// sum adds a commit to the summary, and tells it when it is time.
func (v *replicateView) sum(e replicator.Event) {
	if v.tables == nil {
		v.tables = map[string]bool{}
	}
	v.commits, v.rows = v.commits+1, v.rows+e.Rows
	v.tables[e.Schema+"."+e.Table] = true
	if time.Since(v.told) < summaryEvery {
		return
	}
	source := ""
	if !e.CommitTime.IsZero() {
		source = ", up to " + e.CommitLSN + " of " + moment(e.CommitTime)
	}
	v.s.say("%s %s to %s, %s rows%s", v.s.paint(green, "ok"), plural(v.commits, "commit"), plural(len(v.tables), "table"), count(v.rows), source)
	v.told, v.commits, v.rows, v.tables = time.Now(), 0, 0, nil
}
