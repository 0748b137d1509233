package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/mirror"
)

func (d *demo) planNative(ctx context.Context) error {
	return d.command(ctx, exitChanges, append([]string{"plan", "--exit-code"}, d.mirrorFlags("native")...)...)
}

// applyNative gives the consents that the plan has asked for, and no others.
func (d *demo) applyNative(ctx context.Context) error {
	ses, err := d.session(ctx, "native")
	if err != nil {
		return err
	}
	d.native = ses
	return d.apply(ctx, "native", missingConsents(ses.plan))
}

func (d *demo) apply(ctx context.Context, name string, consents []string) error {
	args := append([]string{"apply", "--yes"}, d.mirrorFlags(name)...)
	if len(consents) > 0 {
		args = append(args, "--allow", strings.Join(consents, ","))
	}
	return d.command(ctx, exitOK, args...)
}

func (d *demo) applyAgain(ctx context.Context) error {
	if err := d.command(ctx, exitOK, append([]string{"plan", "--exit-code"}, d.mirrorFlags("native")...)...); err != nil {
		return err
	}
	return d.apply(ctx, "native", nil)
}

// applyOpen leaves the plan to apply, which shows it.
func (d *demo) applyOpen(ctx context.Context) error {
	ses, err := d.session(ctx, "open")
	if err != nil {
		return err
	}
	d.open = ses
	if err := d.apply(ctx, "open", missingConsents(ses.plan)); err != nil {
		return err
	}
	for _, ses := range []*session{d.native, d.open} {
		if err := ses.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runFacts is what a run told of its snapshot.
type runFacts struct {
	rows int64
	took time.Duration
}

// startRun runs `pgmirror run` beside the demo and waits until Fabric shows
// every table.
func (d *demo) startRun(ctx context.Context) error {
	args := append([]string{"run", "--json"}, d.mirrorFlags("open")...)
	d.s.say("  %s", d.s.paint(bold, "$ pgmirror "+strings.Join(args, " ")+" &"))
	copied := make(chan runFacts, 1)
	d.run = d.start(ctx, "pgmirror run", func(ctx context.Context) error { return d.follow(ctx, args, copied) })
	begun := time.Now()
	var facts runFacts
	select {
	case facts = <-copied:
	case <-ctx.Done():
		return ctx.Err()
	}
	d.s.say("  the snapshot: %s rows in %s, %s rows/s, as PostgreSQL → Parquet → OneLake", count(facts.rows), seconds(facts.took), count(perSecond(facts.rows, facts.took)))
	tables := 0
	err := await(ctx, "every table replicates in the open mirror", 5*time.Minute, func(ctx context.Context) (bool, error) {
		st, err := d.open.status(ctx)
		tables = len(st.tables)
		for _, t := range st.tables {
			if t.ErrorCode != "" {
				return false, fmt.Errorf("%s.%s: %s", t.Schema, t.Table, t.ErrorMessage)
			}
			if t.Status != "Replicating" {
				return false, nil
			}
		}
		return tables >= len(d.open.facts.Picked), err
	})
	if err != nil {
		return err
	}
	d.s.say("  %s as Delta tables %s after the start", plural(tables, "table"), seconds(time.Since(begun)))
	return nil
}

// follow runs a run in this process and reads its events.
func (d *demo) follow(ctx context.Context, args []string, copied chan<- runFacts) error {
	out, in := io.Pipe()
	s := d.streams()
	var faults strings.Builder
	s.Out, s.Err = in, &faults
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, args, s)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e mirror.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			out.CloseWithError(err)
			break
		}
		d.tellRun(e, copied)
	}
	out.Close()
	if got := <-code; got != 0 && ctx.Err() == nil {
		return fmt.Errorf("exit code %d: %s", got, strings.TrimSpace(faults.String()))
	}
	return lines.Err()
}

// tellRun passes on the snapshot's figures, and whatever has a reason: a run
// that goes well gives none.
func (d *demo) tellRun(e mirror.Event, copied chan<- runFacts) {
	switch {
	case e.Kind == mirror.SnapshotDone:
		copied <- runFacts{e.Rows, e.Took}
	case e.Reason != "":
		d.s.say("  run: %s %s %s", e.Kind, e.Table, e.Reason)
	}
}
