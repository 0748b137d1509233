package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/setup"
)

func TestMain(m *testing.M) {
	lookEvery = 500 * time.Millisecond
	testscript.Main(m, map[string]func(){
		"pgmirror": func() { mortal(); main() },
	})
}

// raceOptions keep the race detector from sleeping a second at the end of every
// process.
const raceOptions = "atexit_sleep_ms=20"

// TestScripts runs testdata/*.txtar, each a session that a user could type.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// A server that root starts runs as another user, who must get to it.
			dir := t.TempDir()
			env.Setenv("TMPDIR", filepath.Dir(filepath.Dir(dir)))
			env.Setenv("SERVERS", dir)
			env.Setenv("PGMIRROR_STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("GORACE", raceOptions)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"await": awaitFile,
			"sql":   runSQL,
			"until": until,
		},
	})
}

// awaitFile waits until a file is there: `await FILE`.
func awaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	err := await(context.Background(), args[0]+" appears", 5*time.Minute, func(context.Context) (bool, error) {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil, nil
	})
	ts.Check(err)
}

// runSQL runs a file as the server's administrator: `sql ENV-FILE SQL-FILE`.
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql ENV-FILE SQL-FILE")
	}
	ctx := context.Background()
	env, err := config.ReadEnv(ts.MkAbs(args[0]))
	ts.Check(err)
	cfg, err := config.Load(ctx, config.Options{Environ: env})
	ts.Check(err)
	clients, err := setup.NewClients(ctx, cfg)
	ts.Check(err)
	defer clients.Close(ctx)
	password, _, err := clients.Vault.Secret(ctx, cfg.Admin.Secret)
	ts.Check(err)
	conn, err := postgres.Endpoint{Host: cfg.Server.Host, Port: cfg.Server.Port, Database: "postgres",
		User: cfg.Admin.User, Password: password, RootCAs: clients.Roots}.Connect(ctx)
	ts.Check(err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, ts.ReadFile(args[1]))
	ts.Check(err)
}

// until runs a command again and again until a line that it writes matches:
// `until PATTERN COMMAND [ARG...]`. One that had no time left to ask is run again.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND [ARG...]")
	}
	line := regexp.MustCompile("(?m)" + args[0])
	err := await(context.Background(), args[0]+" in what "+args[1]+" says", 5*time.Minute, func(context.Context) (bool, error) {
		err := ts.Exec(args[1], args[2:]...)
		if exitOf(err) == int(exitTimeout) {
			return false, nil
		}
		return err == nil && line.MatchString(ts.ReadFile("stdout")), err
	})
	ts.Check(err)
}

// exits runs pgmirror and wants an exit code: `exits 3 pgmirror plan`. What it
// wrote can be looked at by stdout and stderr as after exec.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := exitOf(err)
	if code < 0 {
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("%v: exit %s, want %s", args[1:], got, args[0])
	}
}

// exitOf is the exit code of a command that ended with err; -1 of one that didn't end
// by itself.
func exitOf(err error) int {
	var exit interface{ ExitCode() int } // *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
