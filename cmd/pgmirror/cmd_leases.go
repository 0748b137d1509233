package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
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
	cmd, o := leasesCmd(s, "leases", "Show and take back what was opened for a short time", `Shows what pgmirror has opened for a short time on the server and the vault: by
this machine's journals, and by the tags and rule names that are on the resources
themselves, so that any machine can see and close what another one left open.

Every command first closes what runs on this machine left open when they died.`, runLeasesList)
	list, listed := leasesCmd(s, "list", "Show what is open, for whom and until when", "", runLeasesList)
	for c, json := range map[*cobra.Command]*bool{cmd: &o.json, list: &listed.json} {
		c.Flags().BoolVar(json, "json", false, "write NDJSON to stdout")
	}
	shut, shuts := leasesCmd(s, "close ID", "Close what a run left open, from whichever machine it was opened",
		`Closes the door of a lease and puts the setting back to what it was, reads that
back, and removes the lease's tag. A lease that hasn't expired may still be in
use on another machine: --force closes it all the same.`, runLeasesClose)
	shut.Flags().BoolVar(&shuts.force, "force", false, "also one that hasn't expired")
	forget, _ := leasesCmd(s, "forget ID", "Strike a lease from this machine's journals, and close nothing",
		`For a resource that can't be reached any more, such as one in a cloud or a
subscription that is gone: every later command would try to close it, and end
with exit 6.`, runLeasesForget)
	cmd.AddCommand(list, shut, forget)
	return cmd
}

// leasesCmd is one of these commands, and its options.
func leasesCmd(s streams, use, short, long string, run func(context.Context, leasesOptions, streams) error) (*cobra.Command, *leasesOptions) {
	o := new(leasesOptions)
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs}
	if strings.HasSuffix(use, " ID") {
		cmd.Args = cobra.ExactArgs(1)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.id = strings.Join(args, "")
		return run(cmd.Context(), *o, s)
	}
	o.config.flags(cmd)
	return cmd, o
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
