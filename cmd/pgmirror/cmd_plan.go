package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

type planOptions struct {
	config   configOptions
	exitCode bool
	json     bool
	explain  bool
	sql      bool
	out      string
	until    string
}

func newPlanCmd(s streams) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what setting up the mirror would do, and change nothing",
		Long: `Looks at the server, the vault and the workspace, and shows what apply would do:
what is missing, what restarts, what needs your consent, and what of your data
the mirror can't hold. It changes nothing.

  pgmirror plan --out shop.plan && pgmirror apply shop.plan   # exactly that plan, or none
  pgmirror plan --sql >shop.sql                               # for a DBA to run instead`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPlan(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	o.config.setupFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.exitCode, "exit-code", false, "exit 3 when there is something to do")
	f.BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	f.BoolVar(&o.explain, "explain-config", false, "show each value of the configuration and where it comes from, and look at nothing")
	f.BoolVar(&o.sql, "sql", false, "write the SQL for a DBA to run with psql; it holds no password")
	f.StringVar(&o.out, "out", "", "write the plan to this file, for apply FILE")
	untilFlag(cmd, &o.until)
	cmd.MarkFlagsMutuallyExclusive("sql", "json", "explain-config")
	return cmd
}

func untilFlag(cmd *cobra.Command, until *string) {
	cmd.Flags().StringVar(until, "until", "", "go no further than this step; prepare: all of the server, nothing of Fabric")
}

func runPlan(ctx context.Context, o planOptions, s streams) error {
	cfg, err := o.config.loadAll(ctx, s)
	if cfg != nil && o.explain {
		return writeConfig(s.Out, cfg)
	}
	if err != nil {
		return err
	}
	all, err := planAll(ctx, s, cfg, looking{until: o.until})
	if err != nil {
		return err
	}
	defer all.close(ctx)
	if o.sql {
		for _, ses := range all {
			if err := writeSQL(ctx, s.Out, ses); err != nil {
				return err
			}
		}
		return nil
	}
	return showPlan(o, s, all, "plan")
}

// showPlan writes the plan, and tells by its error what a plan is for: blocked,
// changes pending (when asked), or neither.
func showPlan(o planOptions, s streams, all planned, command string) error {
	for _, ses := range all {
		if !o.json {
			writePlan(s.Out, s.next, command, ses.cfg, ses.plan)
		} else if err := writePlanJSON(s.Out, command, ses.cfg, ses.plan); err != nil {
			return err
		}
	}
	plan := all.findings()
	if summarize(plan).Blocked > 0 {
		return setupFailure(setup.Refuse(plan))
	}
	if o.out != "" {
		if err := all.save(o.out, o.until); err != nil {
			return fmt.Errorf("write the plan: %w", err)
		}
		s.say("wrote %s; apply it with: %s", o.out, s.next(setup.ShellLine("pgmirror", "apply", o.out)))
	}
	if o.exitCode && setup.Pending(plan) {
		return &failure{Exit: exitChanges} // the plan itself says it
	}
	return nil
}

// writeConfig lists every value that is set, with its source; secrets are masked.
func writeConfig(w io.Writer, cfg *config.Config) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range cfg.Explain() {
		fmt.Fprintf(table, "%s\t%s\t%s\n", v.Path, v.Value, v.Source)
	}
	return table.Flush()
}
