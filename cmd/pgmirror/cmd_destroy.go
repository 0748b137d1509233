package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

type destroyOptions struct {
	apply applyOptions
	plan  bool
}

func newDestroyCmd(s streams) *cobra.Command {
	var o destroyOptions
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Take a mirror down again",
		Long: `Shows what it would take down, asks, and does it, in the reverse order of apply:
what pgmirror made goes, what it found stays and is told. No row of yours is
dropped: tables go back to the owner that was recorded when they were moved, and a
seed table or a role that somebody else uses by now is left. A run that died is
gone on with by running it again; what is taken down can be set up again.

What hurts needs its own consent: drop-mirror deletes the mirrored database and its
copy in OneLake; change-owner gives tables back; drop-slot, in open mode, drops the
replication slot and the publications, once pgmirror run has ended.

A mirrored database that pgmirror didn't make stays, and so does all that it stands
on: role, connection, owners. With several databases in the file, what they share
goes with the last one.

  pgmirror destroy --plan                                          # only show it
  pgmirror destroy --allow drop-mirror,change-owner`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDestroy(cmd.Context(), o, s) },
	}
	o.apply.config.flags(cmd)
	o.apply.config.setupFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.plan, "plan", false, "show what would be taken down, and change nothing")
	f.BoolVarP(&o.apply.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.apply.json, "json", false, "write NDJSON to stdout; needs --yes or --plan")
	f.DurationVar(&o.apply.patience, "patience", 0, "how long to wait for each step at most (default: each step's own)")
	cmd.MarkFlagsMutuallyExclusive("plan", "yes")
	return cmd
}

func runDestroy(ctx context.Context, o destroyOptions, s streams) error {
	if o.apply.json && !o.apply.yes && !o.plan {
		return fail(exitPrecondition, "NotConfirmed", "pgmirror destroy --json --yes", "--json does not ask, so it needs --yes")
	}
	cfg, err := o.apply.config.loadAll(ctx, s)
	if err != nil {
		return err
	}
	if err := s.doors.wanted(); err != nil {
		return err
	}
	all, err := planDestroy(ctx, s, cfg, o)
	if err != nil {
		return insteadOfApply("destroy", err)
	}
	defer all.close(ctx)
	if o.plan {
		return showPlan(planOptions{json: o.apply.json}, s, all, "destroy")
	}
	if err := o.apply.do(ctx, s, all, nil, "destroy"); err != nil {
		return insteadOfApply("destroy", err)
	}
	return forget(ctx, s, all)
}

// planDestroy looks at every database, the last one first: with the first, which
// comes last, goes what all share.
func planDestroy(ctx context.Context, s streams, cfg *config.Config, o destroyOptions) (planned, error) {
	each := cfg.Each()
	slices.Reverse(each)
	var all planned
	for i, one := range each {
		last := i == len(each)-1 && len(each) == len(cfg.Databases)
		ses, err := openSession(ctx, s, one, looking{patience: o.apply.patience, steps: func(c *setup.Clients) []setup.Step { return setup.UndoSteps(c, last) }})
		if err != nil {
			all.close(ctx)
			return nil, err
		}
		all = append(all, ses)
	}
	return all, nil
}

// forget takes what is gone out of azd's environment.
func forget(ctx context.Context, s streams, all planned) error {
	ses, azd := all[len(all)-1], findAzd(s)
	if azd == nil {
		return nil
	}
	var keys []string
	if ses.facts.Mirror.ID == "" && ses.cfg.Workspace != "" {
		keys = append(keys, "fabricPostgresMirrorId")
	}
	if ses.facts.Connection.ID == "" && ses.cfg.Workspace != "" {
		keys = append(keys, "fabricPostgresConnectionId")
	}
	values := ses.cfg.Forget(keys...)
	if len(values) == 0 {
		return nil
	}
	if err := s.doors.audited(inAzd(values), func() error { return azd.Set(ctx, values) }); err != nil {
		return fail(exitError, "AzdNotWritten", "azd env get-values", "the mirror is taken down, but azd's environment can't be written: %w", err)
	}
	return nil
}
