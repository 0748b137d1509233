package localpg

import (
	"os/exec"
	"syscall"
)

// bind has the kernel end the child when this process ends, whatever ends it.
// The child is in a session of its own, so that a Ctrl-C reaches only us.
func bind(cmd *exec.Cmd, o *owner) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT, Credential: o.credential()}
}

func guard(int) (release func(), err error) { return func() {}, nil }
