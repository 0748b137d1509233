package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/lease"
)

func TestExitTable(t *testing.T) {
	seen := map[exitCode]bool{}
	for _, row := range exitTable {
		if row.code == 2 {
			t.Error("exit code 2 is in use; a panic exits 2")
		}
		if seen[row.code] {
			t.Errorf("exit code %d is in the table twice", row.code)
		}
		seen[row.code] = true
	}
	for _, code := range []exitCode{exitOK, exitError, exitChanges, exitSignIn, exitMismatch, exitCleanup, exitTimeout, exitPrecondition, exitInterrupted} {
		if !seen[code] {
			t.Errorf("exit code %d is not in the table", code)
		}
	}
}

// TestExitDocs holds that the documentation has the same table.
func TestExitDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range exitTable {
		want := fmt.Sprintf("| %d | %s |\n", row.code, row.meaning)
		if !strings.Contains(strings.ReplaceAll(string(text), "`", ""), want) {
			t.Errorf("docs/commands.md has no row %q", want)
		}
	}
}

func TestFinish(t *testing.T) {
	open := &lease.UnprovedError{Lease: lease.Lease{ID: "abc", Kind: lease.VaultAccess, Resource: "/x/kv"}, Err: errors.New("no answer")}
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		code int
		says string
	}{
		{"nothing", context.Background(), nil, 0, ""},
		{"a plain error", context.Background(), errors.New("the disk is full"), 1, "error[Failed]: the disk is full"},
		{"a failure, wrapped", context.Background(), fmt.Errorf("outer: %w", fail(exitMismatch, "RowsDiffer", "pgmirror verify", "2 rows differ")), 5, "error[RowsDiffer]: 2 rows differ\n  next: pgmirror verify"},
		{"interrupted", interrupted, fmt.Errorf("copy: %w", interrupted.Err()), 130, "error[Interrupted]"},
		{"a deadline", context.Background(), fmt.Errorf("wait: %w", context.DeadlineExceeded), 7, "error[TimedOut]"},
		{"an open door, and a failure", context.Background(), errors.Join(fail(exitTimeout, "TimedOut", "", "too slow"), open), 6, "error[TimedOut]: too slow\nerror[CleanupIncomplete]: public access of kv (lease abc) is not proved closed: no answer; close it by hand with: "},
		{"an open door, while interrupted", interrupted, errors.Join(interrupted.Err(), open), 6, "error[Interrupted]: stopped as asked\nerror[CleanupIncomplete]"},
		{"a failure while interrupted", interrupted, fail(exitCleanup, "CleanupIncomplete", "", "a firewall rule may be open"), 6, "error[CleanupIncomplete]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			got := finish(test.ctx, streams{Err: &out}, &cobra.Command{Use: "pgmirror"}, test.err)
			if got != test.code {
				t.Errorf("exit code %d, want %d", got, test.code)
			}
			if !strings.HasPrefix(out.String(), test.says) {
				t.Errorf("said %q, want it to begin %q", out.String(), test.says)
			}
		})
	}
}

// TestNextSaysWhere: what is to be typed next finds the configuration that was given.
func TestNextSaysWhere(t *testing.T) {
	if got := ranAs(t, "run").next("pgmirror run"); got != "pgmirror run" {
		t.Errorf("without flags: got %q", got)
	}
	s := ranAs(t, "run", "-c", "my shop.yaml", "--env-file", "fabric.env")
	const where = " --config 'my shop.yaml' --env-file fabric.env"
	for line, want := range map[string]string{
		"pgmirror run":                        "pgmirror run" + where,
		"pgmirror run --reseed":               "pgmirror run" + where + " --reseed",
		"pgmirror tables resync 'public.a b'": "pgmirror tables resync" + where + " 'public.a b'",
		"pgmirror apply shop.plan":            "pgmirror apply" + where + " shop.plan",
		"pgmirror explain SlotLost":           "pgmirror explain SlotLost",
		"pgmirror version":                    "pgmirror version",
		"pgmirror run --help":                 "pgmirror run --help",
		"az login":                            "az login",
		"":                                    "",
	} {
		if got := s.next(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// ranAs are the streams of a command that read its configuration.
func ranAs(t *testing.T, args ...string) streams {
	t.Helper()
	cmd, rest, err := newRootCmd(streams{}).Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return streams{given: &given{cmd: cmd, read: true}}
}

// TestNextSaysAgain: no flag that decides what is done, or that agreed to it, is lost on
// the way from one line to the next.
func TestNextSaysAgain(t *testing.T) {
	apply := ranAs(t, "apply", "--yes", "--until", "prepare", "--allow", "open-vault,restart", "--connection-id", "id", "--set", "server.database=crm", "--set", "mode=open")
	const where = " --set server.database=crm --set mode=open"
	for line, want := range map[string]string{
		"pgmirror apply":                        "pgmirror apply" + where + " --connection-id id --allow open-vault,restart --yes --until prepare",
		"pgmirror apply --yes":                  "pgmirror apply" + where + " --connection-id id --allow open-vault,restart --until prepare --yes",
		"pgmirror apply --allow open-server":    "pgmirror apply" + where + " --connection-id id --yes --until prepare --allow open-vault,restart,open-server",
		"pgmirror apply --until sign-in-modes":  "pgmirror apply" + where + " --connection-id id --allow open-vault,restart --yes --until sign-in-modes",
		"pgmirror apply my.plan --allow reseed": "pgmirror apply" + where + " --connection-id id --yes --until prepare my.plan --allow open-vault,restart,reseed",
		"pgmirror plan":                         "pgmirror plan" + where + " --connection-id id",
		"pgmirror run":                          "pgmirror run" + where,
	} {
		if got := apply.next(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
	masked := ranAs(t, "plan", "--set", "endpoints.arm=https://me:pw@arm")
	if got, want := masked.next("pgmirror plan"), "pgmirror plan --set 'endpoints.arm=…'"; got != want {
		t.Errorf("an address with a password: got %q, want %q", got, want)
	}
	apply.given.read = false // as where --set admin.password=… was refused
	if got, want := apply.next("pgmirror plan"), "pgmirror plan"; got != want {
		t.Errorf("before the configuration is read: got %q, want %q", got, want)
	}
}

// TestHelp holds that every command explains itself and the exit codes.
func TestHelp(t *testing.T) {
	root := newRootCmd(streams{})
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		var out bytes.Buffer
		cmd.SetOut(&out)
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.Name())
		}
		if err := cmd.Help(); err != nil {
			t.Errorf("%s: %v", cmd.Name(), err)
		}
		if !strings.Contains(out.String(), "\nEXIT STATUS\n") {
			t.Errorf("the help of %s does not tell the exit codes:\n%s", cmd.Name(), out.String())
		}
	}
}
