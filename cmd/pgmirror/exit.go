package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmirror/pgmirror/internal/config"
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

// given is what the user typed: what they type next has to say the same of the
// configuration, and of the same command what they have agreed to.
type given struct {
	cmd  *cobra.Command // nil: it wasn't understood
	read bool           // the configuration; a --set that holds a secret isn't
}

// next is a command line to type next, with what of the one that was typed holds for it.
func (s streams) next(line string) string {
	rest, ours := strings.CutPrefix(line, "pgmirror ")
	if s.given == nil || s.given.cmd == nil || !ours {
		return line
	}
	cmd := s.given.cmd.Root()
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
	again := s.given.where(cmd)
	if cmd == s.given.cmd {
		again, rest = s.given.agreed(again, rest)
	}
	return strings.TrimSpace(strings.TrimSpace(cmd.CommandPath()+" "+setup.ShellLine(again...)) + " " + rest)
}

// where are the flags that say what the configuration is, as far as cmd takes them.
func (g *given) where(cmd *cobra.Command) []string {
	names := []string{"config", "env-file"}
	if g.read {
		names = append(names, "set", "connection-id")
	}
	var out []string
	for _, name := range names {
		if cmd.Flags().Lookup(name) == nil {
			continue
		}
		for _, value := range g.values(name) {
			path, text, _ := strings.Cut(value, "=")
			if u, err := url.Parse(text); err == nil && u.User != nil {
				value = path + "=…" // no address of ours has a password in it; a mistaken one may
			}
			if name != "config" || value != config.DefaultFile {
				out = append(out, "--"+name, value)
			}
		}
	}
	return out
}

// agreed adds how far the same command may go; the consents are joined with those that
// rest asks for.
func (g *given) agreed(again []string, rest string) ([]string, string) {
	for _, name := range []string{"allow", "yes", "until"} {
		values := g.values(name)
		before, after, there := strings.Cut(" "+rest, " --"+name)
		switch {
		case len(values) == 0:
		case there && name == "allow":
			rest = strings.TrimSpace(before + " --allow " + strings.Join(values, ",") + "," + strings.TrimSpace(after))
		case there:
		case name == "yes":
			again = append(again, "--yes")
		default:
			again = append(again, "--"+name, strings.Join(values, ","))
		}
	}
	return again, rest
}

// values are what a flag was given.
func (g *given) values(name string) []string {
	f := g.cmd.Flags().Lookup(name)
	if f == nil || !f.Changed {
		return nil
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
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
