package main

import (
	"context"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/replicator"
	"github.com/pgmirror/pgmirror/internal/store"
)

type replicateOptions struct {
	landing, tables string
	schema          string
	follow          bool
	json            bool
}

func newReplicateCmd(s streams) *cobra.Command {
	var o replicateOptions
	cmd := &cobra.Command{
		Use:   "replicate LANDING-ZONE TABLES",
		Short: "Turn a landing zone in a folder into Delta tables, as Fabric does",
		Long: `Applies every file of an open mirroring landing zone in a folder to Delta tables
in another folder, as TABLES/<schema>/<table>. Run again it applies what is new.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.landing, o.tables = args[0], args[1]
			return runReplicate(cmd.Context(), o, s)
		},
	}
	cmd.Flags().StringVar(&o.schema, "default-schema", "dbo", "schema of tables whose folders lie in no schema folder")
	cmd.Flags().BoolVar(&o.follow, "follow", false, "go on until Ctrl-C")
	cmd.Flags().BoolVar(&o.json, "json", false, "write every commit as NDJSON to stdout")
	return cmd
}

// replicateLine is one line of replicate --json: a commit to a Delta table, or
// the failure of one.
type replicateLine struct {
	Type    string  `json:"type"` // commit, failed
	Schema  string  `json:"schema"`
	Table   string  `json:"table"`
	Version int64   `json:"version"`
	First   int64   `json:"firstFile,omitempty"`
	Last    int64   `json:"lastFile,omitempty"`
	Rows    int64   `json:"rows"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

func runReplicate(ctx context.Context, o replicateOptions, s streams) error {
	zone, err := store.OpenDir(o.landing)
	if err != nil {
		return err
	}
	tables, err := store.OpenDir(o.tables)
	if err != nil {
		return err
	}
	view := replicateView{s: s, json: o.json}
	if o.json {
		view.fault = writeLines(s.Out, header{Type: "header", V: jsonVersion, Command: "replicate"})
	}
	r := replicator.New(replicator.Config{
		Landing: zone, Tables: tables, DefaultSchema: o.schema, AppID: "pgmirror-replicate", ScanInterval: time.Second,
		CopyOnWrite: true, Events: view.event,
	})
	if o.follow {
		err = r.Run(ctx)
	} else {
		err = r.Once(ctx)
	}
	if err == nil {
		err = view.fault
	}
	if err != nil {
		return err
	}
	return failedTables(r.Status())
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

// replicateView tells commits as they happen, from several goroutines.
type replicateView struct {
	s     streams
	json  bool
	mu    sync.Mutex
	fault error
}

func (v *replicateView) event(e replicator.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := replicateLine{Type: "commit", Schema: e.Schema, Table: e.Table, Version: e.Version, First: e.First, Last: e.Last, Rows: e.Rows, Seconds: e.Took.Seconds()}
	if e.Err != nil {
		line.Type, line.Error = "failed", e.Err.Error()
	}
	switch {
	case v.json:
		if v.fault == nil {
			v.fault = writeLines(v.s.Out, line)
		}
	case e.Err != nil:
		v.s.say("%s %s.%s: %v", v.s.paint(red, "!"), e.Schema, e.Table, e.Err)
	case e.Dropped:
		v.s.say("%s %s.%s: dropped", v.s.paint(green, "ok"), e.Schema, e.Table)
	default:
		v.s.say("%s %s.%s: files %d to %d, %s rows, version %d  %s", v.s.paint(green, "ok"), e.Schema, e.Table, e.First, e.Last, count(e.Rows), e.Version, seconds(e.Took))
	}
}
