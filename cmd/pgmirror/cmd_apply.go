package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

type applyOptions struct {
	config configOptions
	yes    bool
	json   bool
}

func newApplyCmd(s streams) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Set up the mirror as planned",
		Long: `Shows the plan, asks, and does it: no more than was shown. Without a terminal it
needs --yes. What hurts (a restart, a change of owner) also needs its own
consent, in the file (allow:) or by --allow. After every write it reads back.

A run that died is resumed by running it again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runApply(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	o.config.allowFlag(cmd)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout; needs --yes")
	return cmd
}

func runApply(ctx context.Context, o applyOptions, s streams) error {
	if o.json && !o.yes {
		return fail(exitPrecondition, "NotConfirmed", "pgmirror apply --json --yes", "--json does not ask, so it needs --yes")
	}
	cfg, err := o.config.load(ctx, s)
	if err != nil {
		return err
	}
	ses, err := openSession(ctx, s, cfg)
	if err != nil {
		return err
	}
	defer ses.close(ctx)
	if !o.json {
		writePlan(s.Err, cfg, ses.plan)
	}
	if err := setup.Refuse(ses.plan); err != nil {
		return setupFailure(err)
	}
	if setup.Pending(ses.plan) && !o.yes {
		if err := confirm(s); err != nil {
			return err
		}
	}
	view := applyView{s: s, cfg: cfg, json: o.json, begun: time.Now()}
	return view.run(ctx, ses)
}

// confirm asks a person, when there is one.
func confirm(s streams) error {
	if !s.Asks {
		return fail(exitPrecondition, "NotConfirmed", "pgmirror apply --yes", "there is no terminal to ask on")
	}
	fmt.Fprint(s.Err, "\nDo this? Only \"yes\" is a yes: ")
	answer, _ := bufio.NewReader(s.In).ReadString('\n') // the end of input is a no
	if strings.TrimSpace(answer) != "yes" {
		return fail(exitError, "Declined", "", "declined; nothing was changed")
	}
	return nil
}

// applyView tells what apply does while it does it.
type applyView struct {
	s     streams
	cfg   *config.Config
	json  bool
	begun time.Time
	step  time.Time     // when the step in hand began
	wait  time.Duration // how long it had waited when that was told last
	done  int
	fault error // of writing to stdout
}

// applyLine is one line of apply --json.
type applyLine struct {
	Type    string       `json:"type"` // checked, applying, waiting, done, summary
	Step    string       `json:"step,omitempty"`
	Action  setup.Action `json:"action,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	What    string       `json:"what,omitempty"`
	Seconds float64      `json:"seconds"`
	Limit   float64      `json:"limitSeconds,omitempty"`
	Changes *int         `json:"changes,omitempty"`
}

func (v *applyView) run(ctx context.Context, ses *session) error {
	if v.json {
		v.fault = writeLines(v.s.Out, newHeader("apply", v.cfg))
	}
	err := setup.Apply(ctx, ses.steps, &ses.facts, ses.plan, v.event)
	if err != nil {
		return setupFailure(err)
	}
	if v.json {
		v.line(applyLine{Type: "summary", Seconds: time.Since(v.begun).Seconds(), Changes: &v.done})
		return v.fault
	}
	if v.done == 0 {
		v.s.say("Nothing was written: %s is as wanted.", v.cfg.MirrorName())
		return nil
	}
	v.s.say("%s is set up: %s in %s.", v.cfg.MirrorName(), plural(v.done, "change"), seconds(time.Since(v.begun)))
	return nil
}

func (v *applyView) event(e setup.Event) {
	switch e.Kind {
	case setup.Applying:
		v.step, v.wait = time.Now(), 0
	case setup.Done:
		v.done++
	}
	if v.json {
		v.line(applyLine{Type: string(e.Kind), Step: e.Step, Action: e.Finding.Action, Reason: e.Finding.Reason, What: e.What, Seconds: time.Since(v.begun).Seconds(), Limit: e.Limit.Seconds()})
		return
	}
	switch e.Kind {
	case setup.Done:
		v.s.say("  %s %-18s %s  %s", v.s.paint(green, "ok"), e.Step, e.Finding.Have, v.s.paint(dim, seconds(time.Since(v.step))))
	case setup.Waiting:
		if e.Elapsed-v.wait >= 5*time.Second { // a line each 5 s is enough for a log
			v.wait = e.Elapsed
			v.s.say("    … %s: waiting for %s, %s of at most %s", e.Step, e.What, seconds(e.Elapsed), seconds(e.Limit))
		}
	}
}

func (v *applyView) line(l applyLine) {
	if v.fault == nil {
		v.fault = writeLines(v.s.Out, l)
	}
}
