package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
)

type doctorOptions struct {
	config  configOptions
	json    bool
	list    bool
	verbose bool
	names   []string
}

func newDoctorCmd(s streams) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [CHECK...]",
		Short: "Find out why a mirror does not work",
		Long: `Looks at everything at once, from this machine and as the mirror's own role: the
sign-in to each service, the network, every step of setting up, the replication
slot, the landing zone, and what Fabric says of the mirror. It never stops at the
first fault, changes nothing, and ranks what it finds: mend the first one first,
others may follow from it. With names it runs only those checks.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runDoctor(cmd.Context(), o, s)
		},
	}
	o.config.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	f.BoolVar(&o.list, "list", false, "list the checks and run none")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show also what is as it should be")
	return cmd
}

func runDoctor(ctx context.Context, o doctorOptions, s streams) error {
	begun := time.Now()
	cfg, err := o.config.load(ctx, s)
	if err != nil {
		return sick(err)
	}
	all := checks(cfg)
	if o.list {
		return listChecks(s, all)
	}
	chosen, err := choose(all, o.names)
	if err != nil {
		return err
	}
	found, err := examine(ctx, cfg, chosen)
	if err != nil {
		return err
	}
	r := report{cfg, found, time.Since(begun)}
	if o.json {
		err = r.writeJSON(s)
	} else {
		r.write(s, o.verbose || len(o.names) > 0)
	}
	if err == nil && r.count(checkBlocking) > 0 {
		err = &failure{Exit: exitPrecondition} // the report says it
	}
	return err
}

// sick makes a configuration that can't be used a blocking fault: there is
// nothing else to look at.
func sick(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return &failure{Exit: exitPrecondition, Code: f.Code, Err: f.Err, Next: f.Next}
	}
	return err
}

func choose(all []doctorCheck, names []string) ([]doctorCheck, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []doctorCheck
	for _, name := range names {
		i := slices.IndexFunc(all, func(c doctorCheck) bool { return c.name == name })
		if i < 0 {
			return nil, fail(exitError, "CheckUnknown", "pgmirror doctor --list", "there is no check %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func listChecks(s streams, all []doctorCheck) error {
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.name, c.source, c.about)
	}
	return w.Flush()
}

// report is what a doctor's visit found, what blocks first.
type report struct {
	cfg   *config.Config
	found []diagnosis
	took  time.Duration
}

func (r report) count(state checkState) (n int) {
	for _, d := range r.found {
		if d.State == state {
			n++
		}
	}
	return n
}

// severity is the order of a report; within one, checks keep theirs.
var severity = []checkState{checkBlocking, checkWarning, checkSkipped, checkOK}

var checkSigns = map[checkState]string{checkOK: "ok", checkWarning: "!", checkBlocking: "x", checkSkipped: "-"}

func (r report) ranked() []diagnosis {
	out := slices.Clone(r.found)
	slices.SortStableFunc(out, func(a, b diagnosis) int { return slices.Index(severity, a.State) - slices.Index(severity, b.State) })
	return out
}

// write shows people what is wrong; what is right only when they want it.
func (r report) write(s streams, all bool) {
	for _, d := range r.ranked() {
		if !all && (d.State == checkOK || d.State == checkSkipped) {
			continue
		}
		fmt.Fprintf(s.Out, "  %-2s %s (%s): %s%s\n", checkSigns[d.State], d.Check, d.Source, d.Text, bracketed(d.Code))
		if d.Next != "" {
			fmt.Fprintf(s.Out, "       next: %s\n", s.next(d.Next))
		}
	}
	blocking, warnings := r.count(checkBlocking), r.count(checkWarning)
	switch {
	case blocking > 0:
		fmt.Fprintf(s.Out, "%s: %d blocking, %s, %d not to be judged yet; mend the first one first, others may follow from it (%s, %s).\n", r.cfg.MirrorName(),
			blocking, plural(warnings, "warning"), r.count(checkSkipped), plural(len(r.found), "check"), seconds(r.took))
	case warnings > 0 || r.count(checkSkipped) > 0:
		fmt.Fprintf(s.Out, "%s: nothing blocks, %s, %d not to be judged yet (%s, %s).\n", r.cfg.MirrorName(),
			plural(warnings, "warning"), r.count(checkSkipped), plural(len(r.found), "check"), seconds(r.took))
	default:
		fmt.Fprintf(s.Out, "%s is well (%s, %s). That its rows are the right ones is for verify to say.\n", r.cfg.MirrorName(), plural(len(r.found), "check"), seconds(r.took))
	}
}

func bracketed(code string) string {
	if code == "" {
		return ""
	}
	return " [" + code + "]"
}

func (r report) writeJSON(s streams) error {
	lines := []any{newHeader("doctor", r.cfg)}
	for _, d := range r.ranked() {
		line, err := typed("check", d)
		if err != nil {
			return err
		}
		lines = append(lines, line)
	}
	end, err := typed("summary", struct {
		OK       int     `json:"ok"`
		Blocking int     `json:"blocking"`
		Warnings int     `json:"warnings"`
		Skipped  int     `json:"skipped"`
		Seconds  float64 `json:"seconds"`
	}{r.count(checkOK), r.count(checkBlocking), r.count(checkWarning), r.count(checkSkipped), r.took.Seconds()})
	if err != nil {
		return err
	}
	return writeLines(s.Out, append(lines, end)...)
}
