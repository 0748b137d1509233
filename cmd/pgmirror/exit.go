package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// exitCode is how a command ended, for programs. 2 is never used: a Go panic
// exits 2, and so does package flag.
type exitCode int

const (
	exitOK           exitCode = 0
	exitError        exitCode = 1
	exitChanges      exitCode = 3
	exitSignIn       exitCode = 4
	exitMismatch     exitCode = 5
	exitCleanup      exitCode = 6
	exitTimeout      exitCode = 7
	exitPrecondition exitCode = 8
	exitInterrupted  exitCode = 130
)

// exitTable is what every help text and the documentation say of them.
var exitTable = []struct {
	code    exitCode
	meaning string
}{
	{exitOK, "done; also: nothing to do"},
	{exitError, "error, or declined when asked"},
	{exitChanges, "changes are pending (plan --exit-code)"},
	{exitSignIn, "sign-in needed"},
	{exitMismatch, "the mirror differs from its source (verify), or a landing zone has faults (lint)"},
	{exitCleanup, "clean-up incomplete: something that was opened may still be open; outranks all others"},
	{exitTimeout, "timed out"},
	{exitPrecondition, "a precondition is missing: consent, or an act of a person; or the plan is stale"},
	{exitInterrupted, "interrupted, after clean-up"},
}

// failure is an error as a person sees it: a stable code, one sentence, and one
// command to type next.
type failure struct {
	Exit exitCode
	Code string // one word: "SourceUnreachable"
	Err  error
	Next string // a command line, or "" when there is nothing to type
}

func (f *failure) Error() string {
	if f.Err == nil { // an outcome, not a fault: the output says it
		return fmt.Sprintf("exit %d", f.Exit)
	}
	return f.Err.Error()
}

func (f *failure) Unwrap() error { return f.Err }

func fail(exit exitCode, code, next, format string, args ...any) *failure {
	return &failure{Exit: exit, Code: code, Err: fmt.Errorf(format, args...), Next: next}
}

// usageError is a command line that we don't understand.
func usageError(cmd *cobra.Command, err error) error {
	return &failure{Exit: exitError, Code: "UsageInvalid", Err: err, Next: cmd.CommandPath() + " --help"}
}

// finish tells how a command ended, on s.Err, and gives the exit code.
func finish(ctx context.Context, s streams, cmd *cobra.Command, err error) int {
	if err == nil {
		return int(exitOK)
	}
	f := asFailure(ctx, cmd.CommandPath(), err)
	open, left := errors.AsType[*lease.UnprovedError](err)
	if !left {
		return int(s.tell(f))
	}
	if f.Err != nil && !errors.Is(f.Err, lease.ErrUnproved) { // what else went wrong is told, too
		s.tell(f)
	}
	return int(s.tell(&failure{Exit: exitCleanup, Code: "CleanupIncomplete", Err: open, Next: open.Hint()}))
}

// tell writes a failure for people, and gives its exit code.
func (s streams) tell(f *failure) exitCode {
	if f.Code != "" {
		fmt.Fprintf(s.Err, "%s %s\n", s.paint(red, "error["+f.Code+"]:"), f.Err)
	}
	if f.Next != "" {
		fmt.Fprintf(s.Err, "  next: %s\n", s.next(f.Next))
	}
	return f.Exit
}

// given is where the user said that the configuration is, and the commands that take
// that: what they type next has to say it, too.
type given struct {
	root  *cobra.Command
	flags []string
}

// next is a command line to type next, with where the configuration is.
func (s streams) next(line string) string {
	rest, ours := strings.CutPrefix(line, "pgmirror ")
	if s.given == nil || s.given.root == nil || len(s.given.flags) == 0 || !ours {
		return line
	}
	cmd := s.given.root
	for {
		word, more, _ := strings.Cut(rest, " ")
		i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
		if i < 0 {
			break
		}
		cmd, rest = cmd.Commands()[i], more
	}
	if cmd.Flags().Lookup("env-file") == nil || rest == "--help" {
		return line
	}
	return strings.TrimSpace(cmd.CommandPath() + " " + setup.ShellLine(s.given.flags...) + " " + rest)
}

// asFailure gives every error a code: its own, or one for what it is.
func asFailure(ctx context.Context, command string, err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	switch {
	case ctx.Err() != nil:
		return &failure{Exit: exitInterrupted, Code: "Interrupted", Err: errors.New("stopped as asked")}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{Exit: exitTimeout, Code: "TimedOut", Err: err, Next: command}
	}
	return &failure{Exit: exitError, Code: "Failed", Err: err, Next: command + " --help"}
}

// helpTemplate is cobra's, with what the exit codes mean at its end.
func helpTemplate() string {
	var b strings.Builder
	b.WriteString(`{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}
EXIT STATUS
`)
	for _, row := range exitTable {
		fmt.Fprintf(&b, "  %3d  %s\n", row.code, row.meaning)
	}
	return b.String()
}
