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
}

func newPlanCmd(s streams) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what setting up the mirror would do, and change nothing",
		Long: `Looks at the server, the vault and the workspace, and shows what apply would do:
what is missing, what restarts, what needs your consent, and what of your data
the mirror can't hold. It changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPlan(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	o.config.allowFlag(cmd)
	cmd.Flags().BoolVar(&o.exitCode, "exit-code", false, "exit 3 when there is something to do")
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	cmd.Flags().BoolVar(&o.explain, "explain-config", false, "show each value of the configuration and where it comes from, and look at nothing")
	return cmd
}

func runPlan(ctx context.Context, o planOptions, s streams) error {
	cfg, err := o.config.load(ctx, s)
	if cfg != nil && o.explain {
		return writeConfig(s.Out, cfg)
	}
	if err != nil {
		return err
	}
	ses, err := openSession(ctx, s, cfg)
	if err != nil {
		return err
	}
	defer ses.close(ctx)
	return showPlan(o, s, cfg, ses.plan)
}

// showPlan writes the plan, and tells by its error what a plan is for: blocked,
// changes pending (when asked), or neither.
func showPlan(o planOptions, s streams, cfg *config.Config, plan []setup.Finding) error {
	if o.json {
		if err := writePlanJSON(s.Out, cfg, plan); err != nil {
			return err
		}
	} else {
		writePlan(s.Out, cfg, plan)
	}
	if summarize(plan).Blocked > 0 {
		return setupFailure(setup.Refuse(plan))
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
