//go:build unix

package localpg

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// signal asks the postmaster to shut down
// (https://www.postgresql.org/docs/current/server-shutdown.html).
func (c *Cluster) signal(p *process, mode shutdown) error {
	sig := syscall.SIGINT
	if mode == immediate {
		sig = syscall.SIGQUIT
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// quit ends a postmaster with its children, which a plain SIGKILL would leave;
// one that does not listen is killed after all.
func quit(p *os.Process) error {
	if err := p.Signal(syscall.SIGQUIT); err != nil {
		return err
	}
	time.AfterFunc(stopTimeout, func() { _ = p.Kill() }) // an error means that it has ended
	return nil
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
