//go:build !windows

package main

import (
	"bytes"
	"context"
	"os"
	osexec "os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	standStill = func() {
		goesOn := make(chan os.Signal, 1)
		signal.Notify(goesOn, syscall.SIGCONT)
		if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
			panic(err)
		}
		<-goesOn // the signal may stop another thread first, and this one would go on for a while
	}
}

// TestGivenUp: an apply that is held off, that is interrupted, or whose lease ends
// under its hands says so, and leaves no door open.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts servers")
	}
	k := newKilling(t)
	k.heldOff()
	k.interrupted()
	k.expired()
	k.must(k.state, "apply", "--yes")
	k.same("one more apply")
}

// heldOff: of two at once on one server, from two machines, one goes, and the other
// says who it is. When that one dies, its tag still says so.
func (k *killing) heldOff() {
	first := k.standing()
	elsewhere := filepath.Join(k.dir, "elsewhere")
	k.refused(elsewhere, "another pgmirror is at work on postgres: ")
	k.Check(first.Process.Kill())
	_ = first.Wait() // it was killed
	k.gone()
	k.refused(elsewhere, "is held by ")
	k.must(k.state, "apply", "--yes")
	k.same("the death of the first, and one more apply")
}

// interrupted: Ctrl-C while the doors are open.
func (k *killing) interrupted() {
	apply := k.standing()
	if settings(k, k.cfg) == k.before {
		k.t.Error("no door is open: nothing is proved")
	}
	k.Check(apply.Process.Signal(os.Interrupt))
	k.Check(apply.Process.Signal(syscall.SIGCONT))
	k.gaveUp(apply, exitInterrupted, "Interrupted")
}

// expired: Fabric doesn't answer any more, and meanwhile the lease ends.
func (k *killing) expired() {
	begun := time.Now()
	k.must(k.state, "apply", "--yes")
	life := 3*time.Second + 3*time.Since(begun) // the doors are open before it ends, however slow this machine is
	k.unsettle()
	k.Check(putFaults(k.emu, `[{"service":"fabric","method":"GET","path":"/v1/connections","after":2,"latency":"1h"}]`))
	apply, _ := k.process(k.state, 0, "apply", "--yes")
	apply.Env = append(apply.Env, "KILL_LIFE="+life.String())
	var out bytes.Buffer
	apply.Stdout, apply.Stderr = &out, &out
	k.Check(apply.Start())
	k.gaveUp(apply, exitError, "LeaseExpired")
	k.Check(putFaults(k.emu, "[]"))
	if !strings.Contains(out.String(), "opening: ") {
		k.t.Errorf("no door was opened: nothing is proved\n%s", &out)
	}
}

// standing is an apply that stands still with open doors, about to write.
func (k *killing) standing() *osexec.Cmd {
	k.t.Helper()
	k.unsettle()
	const there = "before grant CREATE on schema public"
	apply, told := k.process(k.state, 0, "apply", "--yes")
	apply.Env = append(apply.Env, "KILL_STOP="+there)
	apply.Stderr = new(bytes.Buffer)
	k.Check(apply.Start())
	k.Check(await(k.t.Context(), there, 5*time.Minute, func(context.Context) (bool, error) {
		text, err := os.ReadFile(told)
		return strings.Contains(string(text), there), err
	}))
	k.Check(await(k.t.Context(), "it stands still", 5*time.Minute, func(context.Context) (bool, error) { // a SIGCONT before that is lost
		var now syscall.WaitStatus
		_, err := syscall.Wait4(apply.Process.Pid, &now, syscall.WNOHANG|syscall.WUNTRACED, nil)
		return now.Stopped(), err
	}))
	return apply
}

// gaveUp wants a command to end so, with nothing open and nothing left to close.
func (k *killing) gaveUp(cmd *osexec.Cmd, want exitCode, code string) {
	k.t.Helper()
	limit := time.AfterFunc(10*time.Minute, func() { cmd.Process.Kill() })
	_ = cmd.Wait() // its exit code tells
	limit.Stop()
	if got := cmd.ProcessState.ExitCode(); got != int(want) || !strings.Contains(cmd.Stderr.(*bytes.Buffer).String(), "error["+code+"]") {
		k.t.Errorf("exit %d, want %d, and %s in\n%s", got, want, code, cmd.Stderr)
	}
	k.same(code)
	left, err := filepath.Glob(filepath.Join(k.state, "leases", "*.jsonl"))
	k.Check(err)
	if len(left) > 0 {
		k.t.Errorf("after %s there are journals: %q", code, left)
	}
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
