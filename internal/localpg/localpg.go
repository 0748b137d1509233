// Package localpg runs a private PostgreSQL cluster from installed binaries.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Options says what cluster to run and where. Dir is all that is needed.
type Options struct {
	Dir       string            // the cluster's own directory: missing, empty, or made by an earlier Start
	Bin       string            // directory of initdb and postgres; "" is the newest that Find finds
	Superuser string            // of the cluster; "" is "postgres"
	Password  string            // of the superuser; "" makes one up, which only works for a directory that is new
	Settings  map[string]string // lines of postgresql.conf; what Set said wins over them
	CertPEM   []byte            // with KeyPEM: the server takes TLS connections
	KeyPEM    []byte
	Port      int       // on 127.0.0.1; 0 picks a free one
	HBA       []string  // lines of pg_hba.conf that come before ours
	Log       io.Writer // gets what the server logs, besides the file postgres.log in Dir
}

// Cluster is a PostgreSQL cluster that belongs to this process and ends with
// it, also when this process is killed. Its methods block and may be called
// from several goroutines.
type Cluster struct {
	Host      string // "127.0.0.1"
	Port      int
	Dir       string // absolute; the data directory is "data" in it
	Socket    string // directory of the unix socket; "" where there is none: on Windows, and when Dir's name is too long
	Version   int    // major, like 15
	Superuser string
	Password  string // of Superuser

	opts  Options
	owner *owner // whom the files and processes belong to; nil: this process's user

	mu   sync.Mutex
	proc *process // nil when it was stopped
}

// How long the server may take. Starting includes crash recovery.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 10 * time.Second // for a shutdown that lets sessions end, before one that does not
	portTimeout  = 10 * time.Second // for a port that somebody took while the server was down
)

// Start makes the cluster in o.Dir unless it is there, starts it and returns
// once it answers. As root it runs the server as the user postgres, or nobody.
// It fails with ErrNotFound when no binaries are installed.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c, err := newCluster(o)
	if err != nil {
		return nil, err
	}
	if err := c.prepareDir(); err != nil {
		return nil, fmt.Errorf("prepare directory %s: %w", c.Dir, err)
	}
	if err := c.initialize(ctx); err != nil {
		return nil, fmt.Errorf("make PostgreSQL cluster: %w", err)
	}
	if err := c.configure(); err != nil {
		return nil, fmt.Errorf("configure PostgreSQL cluster: %w", err)
	}
	if err := c.Resume(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func newCluster(o Options) (*Cluster, error) {
	if o.Dir == "" {
		return nil, errors.New("a local PostgreSQL cluster needs a directory")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	version := 0
	if o.Bin == "" {
		o.Bin, version, err = Find("")
	} else {
		version, err = binVersion(o.Bin)
	}
	if err != nil {
		return nil, err
	}
	owner, err := findOwner()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Host: "127.0.0.1", Port: o.Port, Dir: dir, Version: version, Superuser: o.Superuser, Password: o.Password, opts: o, owner: owner}
	if c.Superuser == "" {
		c.Superuser = "postgres"
	}
	if c.Password == "" {
		if c.exists() {
			return nil, fmt.Errorf("the cluster in %s is there already: its superuser's password is needed", dir)
		}
		c.Password = rand.Text()
	}
	return c, nil
}

// URL is a connection string for TCP on the loopback interface. User "" is the
// superuser with its password.
func (c *Cluster) URL(user, password, db string) string {
	if user == "" {
		user, password = c.Superuser, c.Password
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: c.Host + ":" + strconv.Itoa(c.Port), Path: "/" + db}
	u.RawQuery = "sslmode=disable"
	if c.opts.CertPEM != nil {
		u.RawQuery = "sslmode=require"
	}
	return u.String()
}

// Stop shuts the server down and returns when it has ended. Sessions are
// dropped; one that does not end in ten seconds, or before ctx does, is cut off
// hard. A server that is not running is no error.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.halt(ctx, fast)
}

// Kill ends the server at once, as a crash does: the next Resume recovers from
// the write-ahead log. A server that is not running is no error.
func (c *Cluster) Kill(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.halt(ctx, immediate)
}

// Resume starts the server again, on the same port, after Stop, Kill or a crash
// of its own, and returns once it answers. A running server is no error.
func (c *Cluster) Resume(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.launch(ctx)
}

// Restart is Stop and Resume.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.halt(ctx, fast); err != nil {
		return err
	}
	return c.launch(ctx)
}

func (c *Cluster) data() string { return filepath.Join(c.Dir, "data") }

func (c *Cluster) exists() bool {
	_, err := os.Stat(filepath.Join(c.data(), "PG_VERSION"))
	return err == nil
}
