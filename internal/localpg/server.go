package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// launch starts the server and waits until it answers. A free port may be taken
// by somebody else before the server has it: then another one is tried, unless
// the port is given or was in use before.
func (c *Cluster) launch(ctx context.Context) error {
	if c.proc != nil && !c.proc.ended() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c.awaitPredecessor(ctx)
	chosen := c.Port != 0
	giveUp := time.Now().Add(portTimeout)
	for {
		if !chosen {
			port, err := freePort()
			if err != nil {
				return err
			}
			c.Port = port
		}
		err := c.attempt(ctx)
		if err == nil || !portWasTaken(err) || time.Now().After(giveUp) {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// awaitPredecessor gives a server of a killed process the moment that it needs
// to end. If it does not, PostgreSQL says so better than we can.
func (c *Cluster) awaitPredecessor(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		pid, _ := c.pidFile()
		if pid == 0 || !alive(pid) || pause(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

// attempt starts the server once. An attempt that fails leaves none running.
func (c *Cluster) attempt(ctx context.Context) error {
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own handle
	cmd := exec.Command(tool(c.opts.Bin, "postgres"), "-D", c.data(), "-p", strconv.Itoa(c.Port),
		"-c", "listen_addresses="+c.Host, "-c", "unix_socket_directories="+c.Socket, "-c", "unix_socket_permissions=0700")
	cmd.Stderr = log
	if c.opts.Log != nil {
		cmd.Stderr = io.MultiWriter(log, c.opts.Log)
		cmd.WaitDelay = stopTimeout // a backend that outlives the postmaster may hold the pipe
	}
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	p, err := c.spawn(cmd)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := c.awaitReady(ctx, p); err != nil {
		return fmt.Errorf("start PostgreSQL: %w\n%s", err, c.logSince(from))
	}
	c.proc = p
	return nil
}

func (c *Cluster) openLog() (*os.File, error) {
	return os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

func (c *Cluster) logFile() string { return filepath.Join(c.Dir, "postgres.log") }

// logSince is the end of the log from an offset on, at most 2 KB of it.
func (c *Cluster) logSince(from int64) string {
	b, err := os.ReadFile(c.logFile())
	if err != nil || from > int64(len(b)) {
		return "" // only a better message is lost
	}
	b = b[from:]
	return string(bytes.TrimSpace(b[max(0, len(b)-2048):]))
}

// awaitReady waits until the postmaster writes into its pid file that it takes
// connections, which is also what pg_ctl goes by. It kills one that does not.
func (c *Cluster) awaitReady(ctx context.Context, p *process) error {
	for {
		if pid, status := c.pidFile(); pid == p.cmd.Process.Pid && status == "ready" {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the server ended: %v", p.err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), p.kill())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pidFile reads the postmaster's process id and status; 0 when there is none
// (https://www.postgresql.org/docs/current/storage-file-layout.html).
func (c *Cluster) pidFile() (pid int, status string) {
	b, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) >= 8 {
		status = strings.TrimSpace(lines[7])
	}
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0])) // half written: not ready
	return pid, status
}

type shutdown string // a mode of pg_ctl

const (
	fast      shutdown = "fast"      // rolls back and disconnects
	immediate shutdown = "immediate" // as a crash
)

// halt ends the server; a fast shutdown that takes too long is followed by an
// immediate one.
func (c *Cluster) halt(ctx context.Context, mode shutdown) error {
	p := c.proc
	if p == nil {
		return nil
	}
	if !p.ended() {
		if err := c.signal(p, mode); err != nil {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		if err := p.kill(); err != nil {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
	}
	c.proc = nil
	return nil
}

// freePort picks a port that nobody listens on. It stays below the range from
// which systems take the ports of outgoing connections, so that a server that
// restarts finds its port again.
func freePort() (int, error) {
	for range 100 {
		if port := 20000 + rand.IntN(12000); !portTaken(port) {
			return port, nil
		}
	}
	return 0, errors.New("found no free port between 20000 and 32000")
}

func portTaken(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return true
	}
	return l.Close() != nil
}

// portWasTaken goes by what the server said: whoever had the port may have let it
// go by now. Its messages are in English, as its environment says.
func portWasTaken(err error) bool { return strings.Contains(err.Error(), "could not bind") }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
