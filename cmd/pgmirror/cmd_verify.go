package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/setup"
	"github.com/pgmirror/pgmirror/internal/store"
	"github.com/pgmirror/pgmirror/internal/verify"
)

type verifyOptions struct {
	config  configOptions
	tables  []string
	settle  time.Duration
	delta   string
	receipt string
	resume  bool
	workers int
	memory  int // MiB
	repairs bool
	wait    time.Duration // for the repair
	json    bool
}

func newVerifyCmd(s streams) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [TABLE...]",
		Short: "Prove that the mirror holds what PostgreSQL holds",
		Long: `Compares source and mirror row for row, while both go on. A row that differs is
looked at again until it had time to arrive: equal then, it was in flight;
unchanged at the source and still different, it is named and the exit code is 5.
It reads the Delta tables as Fabric's readers do, and nothing of our own.

With --repair the rows that differ in an open mirror are read from the source by
the pgmirror run that is running, published anew, and then compared again: the
exit code is about how they are in the end. Nothing else is touched, and nothing
at the source.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.tables = args
			return runVerify(cmd.Context(), o, s)
		},
	}
	o.config.flags(cmd)
	cmd.Flags().DurationVar(&o.settle, "settle", 0, "how long a row must differ before it counts (default: from the observed lag)")
	cmd.Flags().StringVar(&o.delta, "delta", "", "compare the Delta tables in this folder, as <schema>/<table>, instead of the mirror's")
	cmd.Flags().StringVar(&o.receipt, "receipt", "", "write the receipt, as JSON, to this file, anew after every table")
	cmd.Flags().BoolVar(&o.resume, "resume", false, "go on from the file of --receipt, if it is of a run that was interrupted")
	cmd.Flags().IntVar(&o.workers, "workers", 2, "tables to compare at once")
	cmd.Flags().IntVar(&o.memory, "memory", 256, "MiB that all of them together may take, and a Delta file each")
	cmd.Flags().BoolVar(&o.repairs, "repair", false, "have a running pgmirror run publish the rows that differ anew, and compare again")
	cmd.Flags().DurationVar(&o.wait, "wait", 2*time.Minute, "with --repair: wait at most this long until it has, and as long again until Fabric has merged them")
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout, a line a table")
	cmd.MarkFlagDirname("delta")
	return cmd
}

// check refuses flags that can't be meant.
func (o verifyOptions) check() error {
	switch {
	case o.settle < 0:
		return fail(exitError, "UsageInvalid", "pgmirror verify --help", "--settle is a time, like 10s")
	case o.workers < 1 || o.memory < 1:
		return fail(exitError, "UsageInvalid", "pgmirror verify --help", "--workers and --memory are at least 1")
	case o.resume && o.receipt == "":
		return fail(exitError, "UsageInvalid", "pgmirror verify --help", "--resume goes with --receipt FILE")
	case o.wait <= 0:
		return fail(exitError, "UsageInvalid", "pgmirror verify --help", "--wait is a time, like 2m")
	}
	return nil
}

func runVerify(ctx context.Context, o verifyOptions, s streams) error {
	if err := o.check(); err != nil {
		return err
	}
	if err := o.writable(); err != nil {
		return err
	}
	before, err := o.former()
	if err != nil {
		return err
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
	if err := o.repairable(cfg); err != nil {
		return err
	}
	tables, place, err := o.deltaTables(ses)
	if err != nil {
		return err
	}
	view := verifyView{s: s, json: o.json, wanted: o.wanted(ses)}
	view.told = time.Now()
	view.begin(cfg)
	look := verify.Config{
		Source: named(ses.clients.Endpoint(&ses.facts), "pgmirror verify"), Tables: tables, Mirror: place, Only: o.tables, Settle: o.settle,
		Native: cfg.Mode == config.Native, Events: view.event, Workers: o.workers, Memory: int64(o.memory) << 20,
		Resume: before, Save: o.writeReceipt,
	}
	if cfg.Mode == config.Open {
		look.Called = fabricName
		if look.Publications, err = ses.publications(ctx); err != nil {
			return connectFailure(look.Source, err)
		}
	}
	receipt, err := verify.Run(ctx, look)
	if errors.Is(err, verify.ErrReceipt) {
		return o.unusable(err)
	}
	if err != nil && ctx.Err() != nil && o.receipt != "" {
		return &failure{Exit: exitInterrupted, Code: "Interrupted", Err: errors.New("stopped as asked; the receipt has what was compared"), Next: o.again("--resume", "--receipt", o.receipt)}
	}
	if err != nil {
		return connectFailure(look.Source, err)
	}
	var unmended error
	if o.repairs && receipt.Mismatch() {
		unmended = o.mend(ctx, ses, look, receipt, s)
	}
	if err := errors.Join(view.end(receipt), o.writeReceipt(receipt)); err != nil {
		return err
	}
	return outcome(ctx, verdict(receipt, view.wanted, func(tables []string) string { return o.mendBy(cfg, tables) }), unmended)
}

// outcome is what the command ends with when rows could not be mended: that they
// differ outranks why, unless somebody stopped it.
func outcome(ctx context.Context, verdict, unmended error) error {
	f, differs := errors.AsType[*failure](verdict)
	if unmended == nil || !differs || ctx.Err() != nil {
		return cmp.Or(unmended, verdict)
	}
	return &failure{Exit: f.Exit, Code: f.Code, Err: fmt.Errorf("%w; not repaired: %w", f.Err, unmended), Next: f.Next}
}

// again is this command with other flags.
func (o verifyOptions) again(flags ...string) string {
	words := append([]string{"pgmirror", "verify"}, flags...)
	return setup.ShellLine(append(words, o.tables...)...)
}

// mendBy is what to type when rows of tables differ.
func (o verifyOptions) mendBy(cfg *config.Config, tables []string) string {
	switch {
	case cfg.Mode != config.Open || o.delta != "":
		return "pgmirror status"
	case o.repairs: // that was tried
		return setup.ShellLine(append([]string{"pgmirror", "tables", "resync"}, tables...)...)
	}
	return o.again("--repair")
}

// writable refuses a place where the receipt can't be written, before hours are
// spent on what it is to hold.
func (o verifyOptions) writable() error {
	if o.receipt == "" {
		return nil
	}
	info, err := os.Stat(o.receipt)
	if err == nil && info.IsDir() {
		err = errors.New("it is a folder")
	} else if err == nil || errors.Is(err, os.ErrNotExist) {
		var f *os.File
		if f, err = os.CreateTemp(filepath.Dir(o.receipt), "."+filepath.Base(o.receipt)+"-"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return fail(exitError, "ReceiptUnwritable", "pgmirror verify --receipt FILE", "the receipt can't be written to %s: %w", o.receipt, err)
	}
	return nil
}

// deltaTables are the mirror's Delta tables, or those of a folder, and where they are.
func (o verifyOptions) deltaTables(ses *session) (tables store.Store, place string, err error) {
	if o.delta != "" {
		if _, err := os.Stat(o.delta); err != nil {
			return nil, "", err
		}
		if place, err = filepath.Abs(o.delta); err != nil {
			return nil, "", err
		}
		tables, err = store.OpenDir(o.delta)
		return tables, place, err
	}
	m, err := ses.mirror()
	if err != nil {
		return nil, "", err
	}
	tables, err = ses.files(m.ID, "Tables")
	return tables, ses.cfg.Workspace + "/" + m.ID, err
}

// wanted tells which tables must be in the mirror: those named on the command
// line, and all that set-up picked.
func (o verifyOptions) wanted(ses *session) func(verify.TableResult) bool {
	picked := func(name string) bool {
		return slices.ContainsFunc(ses.facts.Picked, func(p postgres.Table) bool { return p.String() == name })
	}
	return func(t verify.TableResult) bool {
		name := t.Schema + "." + t.Name
		return slices.Contains(o.tables, t.Name) || slices.Contains(o.tables, name) ||
			picked(name) || picked(ses.facts.Within[name]) // and its table isn't in the mirror, else it were compared with that
	}
}

// former is the receipt to go on from; nil when there is none.
func (o verifyOptions) former() (*verify.Receipt, error) {
	if !o.resume {
		return nil, nil
	}
	body, err := os.ReadFile(o.receipt)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := verify.ReadReceipt(body)
	if err != nil {
		return nil, o.unusable(err)
	}
	return r, nil
}

func (o verifyOptions) unusable(err error) error {
	return fail(exitError, "ReceiptUnusable", setup.ShellLine("pgmirror", "verify", "--receipt", o.receipt), "%s: %w", o.receipt, err)
}

// writeReceipt replaces the file: an interrupted run leaves a whole one.
func (o verifyOptions) writeReceipt(r *verify.Receipt) error {
	if o.receipt == "" {
		return nil
	}
	body, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(o.receipt, append(body, '\n'))
}

func replaceFile(name string, body []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once it is renamed there is nothing to remove
	_, err = f.Write(body)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// verdict is what a receipt means for the exit code, and what mends rows that differ.
func verdict(r *verify.Receipt, wanted func(verify.TableResult) bool, mendBy func(tables []string) string) error {
	var differ, missing, unreadable []string
	for _, t := range r.Tables {
		name := t.Schema + "." + t.Name
		switch {
		case t.State == verify.Differs:
			differ = append(differ, name)
		case t.State == verify.Unreadable:
			unreadable = append(unreadable, name)
		case t.State == verify.NotMirrored && wanted(t):
			missing = append(missing, name)
		}
	}
	switch {
	case len(differ) > 0:
		return fail(exitMismatch, "RowsDiffer", mendBy(differ), "%s: the mirror differs from its source", strings.Join(differ, ", "))
	case len(missing) > 0:
		return fail(exitMismatch, "TableMissing", "pgmirror status", "%s: the mirror has no such table", strings.Join(missing, ", "))
	case len(unreadable) > 0:
		return fail(exitError, "TableUnreadable", "pgmirror status", "%s could not be read", strings.Join(unreadable, ", "))
	case len(r.Tables) == 0:
		return fail(exitError, "NothingToCompare", "pgmirror status", "there is no table to compare")
	}
	return nil
}

// verifyView tells what verify found, table by table.
type verifyView struct {
	s      streams
	json   bool
	wanted func(verify.TableResult) bool
	others []string  // tables that the mirror needn't have, and has not
	told   time.Time // when it was last said what is waited for
	fault  error     // of writing to stdout
}

func (v *verifyView) begin(cfg *config.Config) {
	if v.json {
		v.fault = writeLines(v.s.Out, newHeader("verify", cfg))
	}
}

func (v *verifyView) event(e verify.Event) {
	if e.Type == "looking-again" && e.Differ > 0 && !v.json && time.Since(v.told) > 2*time.Second {
		v.told = time.Now()
		v.s.say("  … %s.%s: looking again at %s", e.Schema, e.Table, plural(e.Differ, "row"))
	}
	if e.Type != "compared" || v.fault != nil {
		return
	}
	if v.json {
		line, err := typed("table", e.Result)
		if v.fault = err; err == nil {
			v.fault = writeLines(v.s.Out, line)
		}
		return
	}
	if e.Result.State == verify.NotMirrored && !v.wanted(*e.Result) {
		v.others = append(v.others, e.Schema+"."+e.Table)
		return
	}
	v.table(*e.Result)
}

// shownDifferences is how many differing rows a person is shown; the receipt has more.
const shownDifferences = 10

func (v *verifyView) table(t verify.TableResult) {
	mark, text := v.s.paintOut(green, "ok"), string(t.State)
	if t.State == verify.Differs || t.State == verify.Unreadable {
		mark = v.s.paintOut(red, "x ")
	} else if t.State != verify.Equal {
		mark = "- "
	}
	fmt.Fprintf(v.s.Out, "  %s %-32s %11s rows  %-12s %s%s\n", mark, t.Schema+"."+t.Name, count(t.Rows), text, seconds(time.Duration(t.Seconds*float64(time.Second))), v.aside(t))
	for _, d := range t.Differences[:min(len(t.Differences), shownDifferences)] {
		fmt.Fprintf(v.s.Out, "       %s: %s%s\n", d.Kind, d.Key, prefixed("  differs in ", strings.Join(d.Columns, ", ")))
	}
	if more := t.Differing - shownDifferences; more > 0 {
		fmt.Fprintf(v.s.Out, "       and %s\n", plural(more, "more row"))
	}
}

// aside is what else there is to say of a table.
func (v *verifyView) aside(t verify.TableResult) string {
	var parts []string
	if t.InFlight > 0 {
		parts = append(parts, plural(t.InFlight, "row")+" in flight")
	}
	if t.Moving > 0 {
		parts = append(parts, plural(t.Moving, "row")+" moving")
	}
	for _, l := range slices.Concat(t.Lossy, t.LeftOut) {
		parts = append(parts, l.Column+": "+l.Why)
	}
	if t.Reason != "" {
		parts = append(parts, t.Reason)
	}
	return prefixed("  ", strings.Join(parts, "; "))
}

func (v *verifyView) end(r *verify.Receipt) error {
	var rows int64
	for _, t := range r.Tables {
		rows += t.Rows
	}
	took := r.Finished.Sub(r.Started)
	if v.json {
		if v.fault == nil {
			v.fault = writeLines(v.s.Out, map[string]any{"type": "summary", "tables": len(r.Tables), "equal": r.Count(verify.Equal), "lossy": r.Count(verify.Lossy),
				"moving": r.Count(verify.Moving), "notMirrored": r.Count(verify.NotMirrored), "unreadable": r.Count(verify.Unreadable), "differs": r.Count(verify.Differs), "rows": rows, "seconds": took.Seconds()})
		}
		return v.fault
	}
	if len(v.others) > 0 {
		fmt.Fprintf(v.s.Out, "  -  not in this mirror: %s\n", strings.Join(v.others, ", "))
	}
	fmt.Fprintf(v.s.Out, "  %s: %d equal, %d lossy, %d moving, %d not mirrored, %d unreadable, %d differ; %s rows in %s\n", plural(len(r.Tables), "table"),
		r.Count(verify.Equal), r.Count(verify.Lossy), r.Count(verify.Moving), r.Count(verify.NotMirrored), r.Count(verify.Unreadable), r.Count(verify.Differs), count(rows), seconds(took))
	return nil
}
