//go:build unix && !linux

package localpg

import (
	"os/exec"
	"strconv"
	"syscall"
)

// bind puts the child in a session of its own, so that a Ctrl-C reaches only us.
func bind(cmd *exec.Cmd, o *owner) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: o.credential()}
}

// guard starts a shell that ends the child when this process ends, whatever
// ends it: only we hold the other end of the pipe that it reads from.
func guard(pid int) (release func(), err error) {
	cmd := exec.Command("/bin/sh", "-c", `read -r line; test "$line" = done || kill -QUIT "$1"`, "sh", strconv.Itoa(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_, _ = in.Write([]byte("done\n")) // the shell may have been killed; then there is nothing to call off
		_ = cmd.Wait()
	}, nil
}
