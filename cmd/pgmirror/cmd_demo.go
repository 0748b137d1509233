package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/setup"
)

type demoOptions struct {
	dir    string
	export string
	keep   bool
	trade  time.Duration
}

func newDemoCmd(s streams) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See all of it in a minute, with no cloud account",
		Long: `Starts a private PostgreSQL with a shop that is in business, and Azure, Key Vault,
Fabric and OneLake on this machine; sets up two mirrors of the shop's database, a
native and an open one; lets the shop trade; and proves that the mirrors hold what
PostgreSQL holds. It shows every command, so that you can type it yourself.

It ends by itself and leaves nothing, unless --dir or --keep asks for that.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), o, s) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "keep the files in this directory, which must be new or empty")
	f.BoolVar(&o.keep, "keep", false, "leave everything running at the end, until Ctrl-C")
	f.DurationVar(&o.trade, "trade", 5*time.Second, "how long the shop trades before the proof")
	f.StringVar(&o.export, "export", "", "write what PostgreSQL holds into this directory, to compare it with other readers of the Delta tables")
	cmd.MarkFlagDirname("dir")
	cmd.MarkFlagDirname("export")
	return cmd
}

// demoStep is one step of the walk.
type demoStep struct {
	title string
	do    func(*demo, context.Context) error
}

// demoWalk is the demo, in order.
func demoWalk() []demoStep {
	return []demoStep{
		{"Azure, Key Vault, Fabric and OneLake on this machine, over a private PostgreSQL", (*demo).startEmulator},
		{"A shop opens: its application owns the tables and goes on using them", (*demo).openShop},
		{"Two mirrors of its database, as files", (*demo).writeConfigs},
		{"Native: what is missing?", (*demo).planNative},
		{"Native: do it", (*demo).applyNative},
		{"Native: do it again, and nothing happens", (*demo).applyAgain},
		{"Open: a second mirror, of all tables", (*demo).applyOpen},
		{"Open: copy the tables, then follow the changes", (*demo).startRun},
		{"The shop trades", (*demo).tradeAndMeasure},
		{"How are the mirrors doing?", (*demo).showStatus},
		{"Does the mirror hold what PostgreSQL holds? The busiest tables, while the shop goes on", (*demo).verifyUnderLoad},
		{"The shop closes: the same proof of all tables, in both mirrors", (*demo).verifyAtRest},
		{"Would verify notice? One value is flipped in a copy", (*demo).flipAndVerify},
		{"Read it yourself", (*demo).tellReaders},
	}
}

func runDemo(ctx context.Context, o demoOptions, s streams) error {
	dir, remove, err := demoDir(o)
	if err != nil {
		return err
	}
	defer remove()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &demo{o: o, s: s, dir: dir, fail: cancel}
	defer d.stop()
	begun := time.Now()
	walk := demoWalk()
	for i, step := range walk {
		s.say("\n%s", s.paint(bold, fmt.Sprintf("[%d/%d] %s", i+1, len(walk), step.title)))
		start := time.Now()
		if err := step.do(d, ctx); err != nil {
			return d.cause(ctx, fmt.Errorf("demo step %d: %w", i+1, err))
		}
		s.say("  %s", s.paint(dim, seconds(time.Since(start))))
	}
	s.say("\nThat was all of it, in %s.", seconds(time.Since(begun)))
	if !o.keep {
		return nil
	}
	return d.keepRunning(ctx)
}

// demoDir is where the demo works, and how to clean up after it.
func demoDir(o demoOptions) (dir string, remove func(), err error) {
	if o.dir == "" {
		if dir, err = os.MkdirTemp("", "pgmirror-demo-"); err != nil {
			return "", nil, err
		}
		return dir, func() { os.RemoveAll(dir) }, nil // a leftover in the temporary directory hurts nobody
	}
	if dir, err = filepath.Abs(o.dir); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, err
	}
	if len(entries) > 0 {
		return "", nil, fail(exitError, "DirNotEmpty", setup.ShellLine("pgmirror", "demo", "--dir", o.dir+"-2"), "the directory %s is not empty", o.dir)
	}
	return dir, func() {}, nil
}
