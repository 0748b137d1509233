package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

type applyOptions struct {
	config   configOptions
	yes      bool
	json     bool
	ifReady  bool
	until    string
	patience time.Duration
	file     string
}

func newApplyCmd(s streams) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply [PLAN-FILE]",
		Short: "Set up the mirror as planned",
		Long: `Shows the plan, asks, and does it: no more than was shown. Without a terminal it
needs --yes or a plan file. What hurts (a restart, a change of owner) also needs
its own consent, in the file (allow:) or by --allow. After every write it reads
back. A plan file (plan --out) is done exactly, or refused when the world moved; a
consent that it was made without may be given beside it.

A run that died is resumed by running it again. In a hook, --if-ready does what
can be done now, says what it waits for, and exits 0.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.file = args[0]
			}
			return runApply(cmd.Context(), o, s)
		},
	}
	o.config.flags(cmd)
	o.config.setupFlags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.json, "json", false, "write NDJSON to stdout; needs --yes or a plan file")
	f.BoolVar(&o.ifReady, "if-ready", false, "leave what others have to give first for a later run, and exit 0; does not ask")
	f.DurationVar(&o.patience, "patience", 0, "how long to wait for each step at most (default: each step's own)")
	untilFlag(cmd, &o.until)
	return cmd
}

func runApply(ctx context.Context, o applyOptions, s streams) error {
	o.yes = o.yes || o.ifReady
	if o.json && !o.yes && o.file == "" {
		return fail(exitPrecondition, "NotConfirmed", "pgmirror apply --json --yes", "--json does not ask, so it needs --yes or a plan file")
	}
	var file *setup.SavedPlans
	if o.file != "" {
		var allow []string
		var err error
		if file, allow, err = readPlan(o.file); err != nil {
			return err
		}
		o.config.allow = append(allow, o.config.allow...)
		o.until = file.Until
	}
	cfg, err := o.config.loadAll(ctx, s)
	if err != nil {
		return o.waiting(s, err)
	}
	if err := s.doors.wanted(); err != nil {
		return err
	}
	all, err := planAll(ctx, s, cfg, looking{until: o.until, ifReady: o.ifReady, patience: o.patience})
	if err != nil {
		return err
	}
	defer all.close(ctx)
	if err := o.do(ctx, s, all, file, "apply"); err != nil {
		return o.again(err)
	}
	return writeBack(ctx, s, all)
}

// again has a consent that a plan file lacks given beside that file: it isn't in what
// the file is held against.
func (o applyOptions) again(err error) error {
	if consent, ok := errors.AsType[*setup.ConsentError](err); ok && o.file != "" {
		return &failure{Exit: exitPrecondition, Code: "ConsentMissing", Err: err, Next: setup.ShellLine("pgmirror", "apply", o.file, "--allow", strings.Join(consent.Missing(), ","))}
	}
	return err
}

// do shows the plans, asks, and does them: first the doors, then all behind them.
func (o applyOptions) do(ctx context.Context, s streams, all planned, file *setup.SavedPlans, command string) error {
	file, err := o.open(ctx, s, all, file)
	if err != nil {
		return err
	}
	if err := o.agree(ctx, s, all, file, command); err != nil {
		return err
	}
	if setup.Pending(all.findings()) {
		for _, ses := range all {
			if err := ses.clients.Hold(ctx, &ses.facts); err != nil {
				return setupFailure(err)
			}
		}
	}
	for _, ses := range all {
		view := applyView{s: s, cfg: ses.cfg, json: o.json, begun: time.Now(), command: command}
		if err := view.run(ctx, ses); err != nil {
			return err
		}
	}
	return nil
}

// open opens the doors before which the plans end, when they are consented to,
// and looks again: there may be another one behind, and then all that has to be
// agreed to. A plan file that couldn't see so far approves no more than that.
func (o applyOptions) open(ctx context.Context, s streams, all planned, file *setup.SavedPlans) (*setup.SavedPlans, error) {
	for range maxDoors {
		if !setup.NeedsDoor(all.findings()) {
			return file, nil
		}
		if file != nil {
			if err := all.same(file); err != nil {
				return nil, setupFailure(err)
			}
			file = nil
		}
		for _, ses := range all {
			if err := ses.openDoors(ctx, s); err != nil {
				return nil, err
			}
		}
	}
	return file, nil
}

// maxDoors is more than can stand one behind the other: two of the vault, two of
// the server.
const maxDoors = 6

// agree shows the plans and gets a yes to them: from a person, a flag or a file.
func (o applyOptions) agree(ctx context.Context, s streams, all planned, file *setup.SavedPlans, command string) error {
	if !o.json {
		for _, ses := range all {
			writePlan(s.Err, s.next, command, ses.cfg, ses.plan)
		}
	}
	if file != nil {
		if err := all.same(file); err != nil {
			return setupFailure(err)
		}
	}
	plan := all.findings()
	if err := setup.Refuse(plan); err != nil {
		return setupFailure(err)
	}
	if setup.Pending(plan) && !o.yes && file == nil {
		return confirm(ctx, s)
	}
	return nil
}

// waiting makes nothing of a configuration whose inputs aren't all there yet,
// where that was expected.
func (o applyOptions) waiting(s streams, err error) error {
	var problems config.Problems
	if !o.ifReady || !errors.As(err, &problems) || !problems.OnlyMissing() {
		return err
	}
	for _, p := range problems {
		s.say("waiting for %s: %s", p.Field, p.Reason)
	}
	s.say("Nothing was done. Once it is there: %s", s.next("pgmirror apply --if-ready"))
	if o.json {
		return writeLines(s.Out, header{Type: "header", V: jsonVersion, Command: "apply"}, applyLine{Type: "waiting-for-input", What: problems[0].Field})
	}
	return nil
}

// writeBack gives azd what was found or made, so that its next hook and other
// programs have it. A failure is told: the mirror itself stands.
func writeBack(ctx context.Context, s streams, all planned) error {
	ses := all[0]
	azd := findAzd(s)
	if azd == nil {
		return nil
	}
	values := ses.cfg.WriteBack(map[string]string{
		"fabricPostgresConnectionId": ses.facts.Connection.ID,
		"fabricPostgresMirrorId":     ses.facts.Mirror.ID,
	})
	if len(values) == 0 {
		return nil
	}
	if err := s.doors.audited(inAzd(values), func() error { return azd.Set(ctx, values) }); err != nil {
		return fail(exitError, "AzdNotWritten", "azd env get-values", "the mirror is set up, but azd's environment can't be written: %w", err)
	}
	s.say("wrote %s to the azd environment", strings.Join(slices.Sorted(maps.Keys(values)), ", "))
	return nil
}

// confirm asks a person, when there is one. Ctrl-C ends the asking: a door may be
// open meanwhile.
func confirm(ctx context.Context, s streams) error {
	if !s.Asks {
		return fail(exitPrecondition, "NotConfirmed", "pgmirror apply --yes", "there is no terminal to ask on")
	}
	fmt.Fprint(s.Err, "\nDo this? Only \"yes\" is a yes: ")
	answers := make(chan string, 1)
	go func() { // it can't be waited for: nothing but an answer ends a read from a terminal
		answer, _ := bufio.NewReader(s.In).ReadString('\n') // the end of input is a no
		answers <- answer
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case answer := <-answers:
		if strings.TrimSpace(answer) != "yes" {
			return fail(exitError, "Declined", "", "declined; nothing was changed")
		}
		return nil
	}
}

// applyView tells what apply does while it does it.
type applyView struct {
	s       streams
	cfg     *config.Config
	command string
	json    bool
	begun   time.Time
	step    time.Time     // when the step in hand began
	wait    time.Duration // how long it had waited when that was told last
	done    int
	later   int   // steps left for a later run
	fault   error // of writing to stdout
}

// applyLine is one line of apply --json.
type applyLine struct {
	Type    string       `json:"type"` // checked, applying, waiting, done, later, summary
	Step    string       `json:"step,omitempty"`
	Action  setup.Action `json:"action,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	What    string       `json:"what,omitempty"`
	Seconds float64      `json:"seconds"`
	Limit   float64      `json:"limitSeconds,omitempty"`
	Changes *int         `json:"changes,omitempty"`
	Later   int          `json:"later,omitempty"`
}

func (v *applyView) run(ctx context.Context, ses *session) error {
	if v.json {
		v.fault = writeLines(v.s.Out, newHeader(v.command, v.cfg))
	}
	err := setup.Apply(ctx, ses.steps, &ses.facts, ses.plan, v.event)
	if err != nil {
		return setupFailure(err)
	}
	if v.json {
		v.line(applyLine{Type: "summary", Seconds: time.Since(v.begun).Seconds(), Changes: &v.done, Later: v.later})
		return v.fault
	}
	if v.later > 0 {
		v.s.say("%s: %s, %s left for later. Go on with: %s", v.cfg.MirrorName(), plural(v.done, "change"), plural(v.later, "step"), v.s.next("pgmirror apply"))
		return nil
	}
	if v.done == 0 {
		v.s.say("Nothing was written: %s is %s.", v.cfg.MirrorName(), asWanted[v.command])
		return nil
	}
	v.s.say("%s is %s: %s in %s.", v.cfg.MirrorName(), outcomes[v.command], plural(v.done, "change"), seconds(time.Since(v.begun)))
	return nil
}

// outcomes are what a command has made of a mirror.
var outcomes = map[string]string{"apply": "set up", "rotate": "rotated, and proved", "destroy": "taken down"}

// asWanted is what a mirror is of which a command has nothing to make.
var asWanted = map[string]string{"apply": "as wanted", "rotate": "as wanted", "destroy": "taken down, but for what stays"}

func (v *applyView) event(e setup.Event) {
	switch e.Kind {
	case setup.Applying:
		v.step, v.wait = time.Now(), 0
	case setup.Done:
		v.done++
	case setup.Later:
		v.later++
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
