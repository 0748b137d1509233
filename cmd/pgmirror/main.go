// Command pgmirror mirrors a PostgreSQL database into Microsoft Fabric, and
// proves that the mirror is true.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/lease"
)

func main() { os.Exit(runMain()) }

// runMain is main with an exit code, so that what was deferred runs and a test
// can be the program. The first signal ends the context and everything winds
// down; a second one ends the process at once.
func runMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return execute(ctx, os.Args[1:], standard())
}

// streams are where a command reads and writes (data on Out, everything for
// people on Err) and the environment that it sees.
type streams struct {
	In       io.Reader
	Out, Err io.Writer
	Asks     bool // In and Err are a terminal: a person can be asked
	Colour   bool // Err is a terminal and NO_COLOR is not set
	Painted  bool // and so is Out
	Environ  []string
	doors    *keeper // of the command
	given    *given
}

func standard() streams {
	term := isTerminal(os.Stderr)
	return streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Asks:    term && isTerminal(os.Stdin),
		Colour:  term && os.Getenv("NO_COLOR") == "",
		Painted: isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "",
		Environ: os.Environ(),
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || f.Name() == os.DevNull {
		return false
	}
	null, err := os.Stat(os.DevNull) // what a shell has redirected keeps its own name
	return err != nil || !os.SameFile(info, null)
}

// execute runs one command line and returns its exit code. What the command
// opened is closed last.
func execute(ctx context.Context, args []string, s streams) int {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.doors, s.given = &keeper{stop: stop}, &given{}
	root := newRootCmd(s)
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { s.given.cmd = cmd }
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(working)
	if cause := context.Cause(working); errors.Is(cause, lease.ErrExpired) && err != nil {
		err = setupFailure(cause)
	}
	err = errors.Join(err, s.doors.end(ctx))
	return finish(ctx, s, cmd, err)
}

func newRootCmd(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "pgmirror",
		Short: "Mirror a PostgreSQL database into Microsoft Fabric, and prove it",
		Long: `pgmirror mirrors a PostgreSQL database into Microsoft Fabric, and proves that the
mirror is true. See it on this machine, with no cloud account: pgmirror demo`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	root.SetHelpTemplate(helpTemplate())
	for _, group := range commandGroups() {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, newCmd := range group.commands {
			cmd := newCmd(s)
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	checkArgs(root)
	return root
}

// commandGroup is commands under one heading of the help.
type commandGroup struct {
	id, title string
	commands  []func(streams) *cobra.Command
}

// commandGroups is the command surface, in the order of the help.
func commandGroups() []commandGroup {
	return []commandGroup{
		{"mirror", "Mirror a database:", []func(streams) *cobra.Command{
			newInitCmd, newPlanCmd, newApplyCmd, newConnectionCmd, newDoctorCmd, newRunCmd, newStatusCmd, newTablesCmd, newVerifyCmd, newRotateCmd, newLeasesCmd, newDestroyCmd, newExplainCmd,
		}},
		{"see", "On this machine:", []func(streams) *cobra.Command{
			newDemoCmd, newEmulatorCmd, newReplicateCmd, newLintCmd, newVersionCmd,
		}},
	}
}

// checkArgs makes a wrong number of arguments the same kind of failure as an
// unknown flag, all the way down.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError(cmd, err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}
