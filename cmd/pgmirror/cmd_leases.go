package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/lease"
)

type leasesOptions struct {
	config configOptions
	json   bool
	force  bool
	id     string
}

func newLeasesCmd(s streams) *cobra.Command {
	var o leasesOptions
	cmd := &cobra.Command{
		Use:   "leases",
		Short: "Show and take back what was opened for a short time",
		Long: `Shows what pgmirror has opened for a short time on the server and the vault: by
this machine's journals, and by the tags and rule names that are on the resources
themselves, so that any machine can see and close what another one left open.

Every command first closes what runs on this machine left open when they died.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLeasesList(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	cmd.AddCommand(newLeasesListCmd(s), newLeasesCloseCmd(s), newLeasesForgetCmd(s))
	return cmd
}

func newLeasesListCmd(s streams) *cobra.Command {
	var o leasesOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show what is open, for whom and until when",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runLeasesList(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	return cmd
}

func newLeasesCloseCmd(s streams) *cobra.Command {
	var o leasesOptions
	cmd := &cobra.Command{
		Use:   "close ID",
		Short: "Close what a run left open, from whichever machine it was opened",
		Long: `Closes the door of a lease and puts the setting back to what it was, reads that
back, and removes the lease's tag. A lease that hasn't expired may still be in
use on another machine: --force closes it all the same.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runLeasesClose(cmd.Context(), o, s)
		},
	}
	o.config.flags(cmd)
	cmd.Flags().BoolVar(&o.force, "force", false, "also one that hasn't expired")
	return cmd
}

func newLeasesForgetCmd(s streams) *cobra.Command {
	var o leasesOptions
	cmd := &cobra.Command{
		Use:   "forget ID",
		Short: "Strike a lease from this machine's journals, and close nothing",
		Long: `For a resource that can't be reached any more, such as one in a cloud or a
subscription that is gone: every later command would try to close it, and end
with exit 6.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runLeasesForget(cmd.Context(), o, s)
		},
	}
	o.config.flags(cmd)
	return cmd
}

// leaseLine is one line of leases --json.
type leaseLine struct {
	Type     string            `json:"type"` // lease
	ID       string            `json:"id"`
	Kind     lease.Kind        `json:"kind"`
	State    lease.State       `json:"state"`
	Resource string            `json:"resource"`
	Until    time.Time         `json:"until"`
	Run      string            `json:"run"`
	Who      string            `json:"who"`
	Undo     map[string]string `json:"undo"`
}

func runLeasesList(ctx context.Context, o leasesOptions, s streams) error {
	cfg, err := o.config.loadAll(ctx, s)
	if err != nil {
		return err
	}
	if err := s.doors.wanted(); err != nil {
		return err
	}
	found, err := s.doors.doors.List(ctx)
	if err != nil {
		return setupFailure(err)
	}
	if o.json {
		lines := []any{newHeader("leases", cfg)}
		for _, f := range found {
			lines = append(lines, leaseLine{"lease", f.ID, f.Kind, f.State, f.Resource, f.Until, f.Run, f.Who, f.Params})
		}
		return writeLines(s.Out, lines...)
	}
	if len(found) == 0 {
		fmt.Fprintln(s.Out, "Nothing is open.")
		return nil
	}
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tSTATE\tUNTIL\tBY\tRESOURCE")
	for _, f := range found {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.ID, f.Kind, f.State, f.Until.UTC().Format(time.RFC3339), cmp.Or(f.Who, f.Run), f.Resource)
	}
	return w.Flush()
}

func runLeasesClose(ctx context.Context, o leasesOptions, s streams) error {
	if _, err := o.config.loadAll(ctx, s); err != nil {
		return err
	}
	if err := s.doors.wanted(); err != nil {
		return err
	}
	err := s.doors.doors.CloseOne(ctx, o.id, o.force)
	if errors.Is(err, lease.ErrNoLease) && s.doors.doors.Recovered(o.id) { // as every command does at its start
		err = nil
	}
	if err != nil {
		return o.failure(err)
	}
	s.say("closed %s", o.id)
	return nil
}

func runLeasesForget(ctx context.Context, o leasesOptions, s streams) error {
	if _, err := o.config.loadAll(ctx, s); err != nil {
		return err
	}
	if err := s.doors.wanted(); err != nil {
		return err
	}
	if err := s.doors.doors.Forget(o.id); err != nil {
		return o.failure(err)
	}
	s.doors.unshut = nil // that is what is forgotten
	s.say("forgotten: %s; whatever it had opened is left as it is", o.id)
	return nil
}

func (o leasesOptions) failure(err error) error {
	if held, ok := errors.AsType[*lease.HeldError](err); ok {
		return &failure{Exit: exitPrecondition, Code: "Held", Err: err, Next: "pgmirror leases close --force " + held.By.ID}
	}
	if errors.Is(err, lease.ErrNoLease) {
		return &failure{Exit: exitError, Code: "LeaseMissing", Err: err, Next: "pgmirror leases list"}
	}
	return setupFailure(err)
}
