//go:build !windows

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	standStill = func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
			panic(err)
		}
	}
}

// TestTwoApplies: of two at once on one server, from two machines, one goes, and
// the other says who it is. When that one dies, its tag still says so.
func TestTwoApplies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts servers")
	}
	k := newKilling(t)
	k.unsettle()
	const there = "before grant CREATE on schema public"
	first, told := k.process(k.state, 0, "apply", "--yes")
	first.Env = append(first.Env, "KILL_STOP="+there)
	k.Check(first.Start())
	k.Check(await(t.Context(), there, 2*time.Minute, func(context.Context) (bool, error) {
		text, err := os.ReadFile(told)
		return strings.Contains(string(text), there), err
	}))
	elsewhere := filepath.Join(k.dir, "elsewhere")
	k.refused(elsewhere, "another pgmirror is at work on postgres: ")
	k.Check(first.Process.Kill())
	_ = first.Wait() // it was killed
	k.refused(elsewhere, "is held by ")
	k.must(k.state, "apply", "--yes")
	k.same("the death of the first, and one more apply")
}

// refused wants an apply to be told who is at work.
func (k *killing) refused(state, who string) {
	k.t.Helper()
	cmd, _ := k.process(state, 0, "apply", "--yes")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != int(exitPrecondition) || !strings.Contains(string(out), "error[Held]") || !strings.Contains(string(out), who) {
		k.t.Errorf("beside another apply: %v, want exit %d, and %q in\n%s", err, exitPrecondition, who, out)
	}
}
