package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

type runOptions struct {
	config configOptions
	json   bool
}

func newRunCmd(s streams) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Mirror a database into an open mirrored database, until Ctrl-C",
		Long: `Copies every table that the mirror's publications list, then follows the
database's changes, into the landing zone of an open mirrored database. It runs
until Ctrl-C. The landing zone holds the only state: a run that died, here or on
another machine, is continued by running it again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRun(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "write what happens as NDJSON to stdout")
	return cmd
}

func runRun(ctx context.Context, o runOptions, s streams) error {
	cfg, err := o.config.load(ctx, s)
	if err != nil {
		return err
	}
	view := newRunView(s, cfg, o.json)
	if err := pushMirror(ctx, s, cfg, view.event); err != nil {
		return err
	}
	return view.end()
}

// pushMirror mirrors until ctx ends. It refuses a mirror that isn't set up.
func pushMirror(ctx context.Context, s streams, cfg *config.Config, events func(mirror.Event)) error {
	if cfg.Mode != config.Open {
		return fail(exitError, "ModeNative", "pgmirror status", "in native mode Fabric moves the data itself: there is nothing to run")
	}
	push, err := pushConfig(ctx, s, cfg)
	if err != nil {
		return err
	}
	push.Events = events
	return mirrorFailure(mirror.Run(ctx, push))
}

// pushConfig asks the set-up plane where the mirror is and how to sign in.
func pushConfig(ctx context.Context, s streams, cfg *config.Config) (mirror.Config, error) {
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
	return mirror.Config{
		Source: named(ses.clients.Endpoint(&ses.facts), "pgmirror run"), Slot: cfg.Slot(), Publications: publications, Landing: zone,
		Freshness: cfg.Run.Freshness, Workers: cfg.Run.Workers, Budget: int64(cfg.Run.Budget),
	}, nil
}

func named(e postgres.Endpoint, app string) postgres.Endpoint {
	e.AppName = app
	return e
}

// publications are those of the mirror that exist: the one of the tables
// without a key is made only when there are such tables.
func (ses *session) publications(ctx context.Context) ([]string, error) {
	conn, err := ses.clients.Endpoint(&ses.facts).Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var names []string
	err = conn.QueryRow(ctx, `SELECT array_agg(pubname::text ORDER BY pubname) FROM pg_publication WHERE pubname = ANY ($1)`,
		[]string{ses.cfg.Publication(), ses.cfg.InsertOnlyPublication()}).Scan(&names)
	return names, err
}

// mirrorFailure gives a fault of the data plane its code and its next command.
func mirrorFailure(err error) error {
	var fault *mirror.Fault
	if errors.As(err, &fault) {
		return &failure{Exit: exitPrecondition, Code: fault.Code, Err: err, Next: fault.Next}
	}
	return err
}
