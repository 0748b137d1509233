package localpg

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// process is a child that ends with this process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; valid once done is closed
}

// spawn starts a tool as the cluster's owner. The thread that starts it stays
// until it has ended: Linux takes the end of that thread for the end of the
// parent.
func (c *Cluster) spawn(cmd *exec.Cmd) (*process, error) {
	cmd.Dir = c.Dir
	cmd.Env = environ()
	bind(cmd, c.owner)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		release := func() {}
		if err == nil {
			if release, err = guard(cmd.Process.Pid); err != nil {
				_ = cmd.Process.Kill() // guard's error is told; Wait reaps it
			}
		}
		started <- err
		if cmd.Process != nil {
			p.err = cmd.Wait()
			release()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

// environ leaves out variables that would lead the server to other settings.
func environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			env = append(env, kv)
		}
	}
	return append(env, "LC_ALL=C")
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process now, by force, and waits for that.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	err := quit(p.cmd.Process)
	if err == nil || p.ended() {
		<-p.done
		return nil
	}
	return err
}
