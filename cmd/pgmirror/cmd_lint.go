package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

type lintOptions struct {
	config configOptions
	dir    string
	ignore []string
	json   bool
}

func newLintCmd(s streams) *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint [LANDING-ZONE]",
		Short: "Look for faults in a landing zone, whoever writes it",
		Long: `Looks at an open mirroring landing zone in a folder, or without a folder at that
of the configured mirror in OneLake, and changes nothing. It names every file
that Fabric would stop at, skip, or read as something else than was meant, with
what to do about it. Any finding, also a warning, makes the exit code 5.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.dir = args[0]
			}
			return runLint(cmd.Context(), o, s)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	o.config.flags(cmd)
	cmd.Flags().StringSliceVar(&o.ignore, "ignore", nil, "say nothing of findings with these codes")
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout, a line a finding")
	return cmd
}

func runLint(ctx context.Context, o lintOptions, s streams) error {
	for _, code := range o.ignore {
		if !slices.ContainsFunc(landing.Rules(), func(r landing.Rule) bool { return r.Code == code }) {
			return fail(exitError, "UsageInvalid", "pgmirror lint --help", "--ignore %s: lint has no such code", code)
		}
	}
	zone, cfg, done, err := o.zone(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	v := lintView{s: s, json: o.json, ignore: o.ignore}
	v.begin(cfg)
	schema := "dbo" // Fabric's own
	if cfg != nil {
		schema = cfg.Mirror.DefaultSchema
	}
	looked, err := landing.Lint(ctx, zone, schema, v.finding)
	if err != nil {
		return err
	}
	return v.end(looked)
}

// zone opens a folder, or the landing zone of the configured mirror.
func (o lintOptions) zone(ctx context.Context, s streams) (zone store.Store, cfg *config.Config, done func(), err error) {
	if o.dir != "" {
		if _, err := os.Stat(o.dir); err != nil {
			return nil, nil, nil, err
		}
		zone, err = store.OpenDir(o.dir)
		return zone, nil, func() {}, err
	}
	if cfg, err = o.config.load(ctx, s); err != nil {
		return nil, nil, nil, err
	}
	if cfg.Mode != config.Open {
		return nil, nil, nil, fail(exitPrecondition, "NoLandingZone", "pgmirror lint FOLDER", "%s is mirrored by Fabric itself: it has no landing zone", cfg.MirrorName())
	}
	ses, err := openSession(ctx, s, cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	m, err := ses.mirror()
	if err == nil {
		zone, err = ses.files(m.ID, "Files/LandingZone")
	}
	if err != nil {
		ses.close(ctx)
		return nil, nil, nil, err
	}
	return zone, cfg, func() { ses.close(ctx) }, nil
}

// lintLine is one line of lint --json; a finding carries its rule's text.
type lintLine struct {
	Type string `json:"type"` // finding
	landing.Finding
	Sentence string `json:"sentence"`
	Remedy   string `json:"remedy"`
}

// lintView tells findings as they come, and the remedies at the end.
type lintView struct {
	s        streams
	json     bool
	ignore   []string
	met      map[string]bool // codes
	faults   int
	warnings int
	fault    error // of writing to stdout
}

func (v *lintView) begin(cfg *config.Config) {
	v.met = map[string]bool{}
	switch {
	case !v.json:
	case cfg == nil:
		v.fault = writeLines(v.s.Out, header{Type: "header", V: jsonVersion, Command: "lint"})
	default:
		v.fault = writeLines(v.s.Out, newHeader("lint", cfg))
	}
}

func (v *lintView) finding(f landing.Finding) {
	if slices.Contains(v.ignore, f.Code) || v.fault != nil {
		return
	}
	mark := v.s.paintOut(red, "x")
	if v.met[f.Code] = true; f.Severity == landing.Warning {
		v.warnings++
		mark = "-"
	} else {
		v.faults++
	}
	if v.json {
		r := lintRule(f.Code)
		v.fault = writeLines(v.s.Out, lintLine{Type: "finding", Finding: f, Sentence: r.Sentence, Remedy: r.Remedy})
		return
	}
	_, v.fault = fmt.Fprintf(v.s.Out, "  %s %-22s %s%s\n", mark, f.Code, f.Path, prefixed(": ", f.Detail))
}

func lintRule(code string) landing.Rule {
	rules := landing.Rules()
	return rules[slices.IndexFunc(rules, func(r landing.Rule) bool { return r.Code == code })]
}

func (v *lintView) end(looked landing.Linted) error {
	if v.json && v.fault == nil {
		v.fault = writeLines(v.s.Out, map[string]any{"type": "summary", "tables": looked.Tables, "files": looked.Files, "rows": looked.Rows, "errors": v.faults, "warnings": v.warnings})
	}
	if v.fault != nil {
		return v.fault
	}
	if !v.json {
		v.remedies()
		v.print("  %s, %s, %s: %s, %s\n", plural(looked.Tables, "table"), plural(looked.Files, "file"), plural(looked.Rows, "row"), plural(v.faults, "error"), plural(v.warnings, "warning"))
	}
	if v.fault != nil {
		return v.fault
	}
	if v.faults+v.warnings == 0 {
		return nil
	}
	return fail(exitMismatch, "LandingZoneFaulty", "pgmirror lint --help", "the landing zone has %s and %s", plural(v.faults, "error"), plural(v.warnings, "warning"))
}

// remedies tells each rule that was broken once, in the order of the rules.
func (v *lintView) remedies() {
	for _, r := range landing.Rules() {
		if v.met[r.Code] {
			v.print("\n  %s\n    %s\n    %s\n", r.Code, r.Sentence, strings.TrimSpace(r.Remedy))
		}
	}
	if len(v.met) > 0 {
		v.print("\n")
	}
}

// print writes to stdout, and keeps its first fault.
func (v *lintView) print(format string, args ...any) {
	if v.fault == nil {
		_, v.fault = fmt.Fprintf(v.s.Out, format, args...)
	}
}
