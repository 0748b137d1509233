package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// prepareDir makes the cluster's directory and sees to it that the user who
// runs the server can get there.
func (c *Cluster) prepareDir() error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if err := c.owner.own(c.Dir); err != nil {
		return err
	}
	if err := c.owner.enter(filepath.Dir(c.Dir)); err != nil {
		return err
	}
	c.chooseSocket()
	return nil
}

// socketMax is how long a directory of sockets may be: macOS has room for 103
// bytes, of which the socket's own name takes up to 17.
const socketMax = 103 - len("/.s.PGSQL.65535.lock")

// chooseSocket puts the socket beside the data. Where that path is too long for
// a socket there is none: a killed process would leave one elsewhere behind.
func (c *Cluster) chooseSocket() {
	if runtime.GOOS != "windows" && len(c.Dir) <= socketMax {
		c.Socket = c.Dir
	}
}

// initialize runs initdb unless the data directory is there. A directory that
// a killed initdb left behind is made anew.
func (c *Cluster) initialize(ctx context.Context) error {
	if c.exists() {
		return c.checkVersion()
	}
	if err := os.RemoveAll(c.newData()); err != nil {
		return err
	}
	pwfile := filepath.Join(c.Dir, "initdb.password")
	defer os.Remove(pwfile) // Start may fail before it is there
	if err := c.write(pwfile, []byte(c.Password+"\n")); err != nil {
		return err
	}
	cmd := exec.Command(tool(c.opts.Bin, "initdb"), "-D", c.newData(), "-U", c.Superuser, "--pwfile", pwfile, "-A", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	if err := c.run(ctx, cmd); err != nil {
		return err
	}
	if err := c.include(); err != nil {
		return err
	}
	return os.Rename(c.newData(), c.data())
}

// newData is where initdb works: the data directory appears whole or not at all.
func (c *Cluster) newData() string { return filepath.Join(c.Dir, "data.new") }

func (c *Cluster) checkVersion() error {
	b, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(b)); got != fmt.Sprint(c.Version) {
		return fmt.Errorf("the data in %s are of version %s, the binaries in %s of version %d", c.data(), got, c.opts.Bin, c.Version)
	}
	return nil
}

// run runs a tool to its end and shows what it said if it failed.
func (c *Cluster) run(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := c.spawn(cmd)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), p.err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// Our settings are in a file of their own, which postgresql.conf includes, so
// that each Start can write them anew. ALTER SYSTEM wins over both.
const confFile = "localpg.conf"

func (c *Cluster) include() error {
	f, err := os.OpenFile(filepath.Join(c.newData(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "\ninclude_if_exists '%s'\n", confFile)
	return errors.Join(err, f.Close())
}

// configure writes what the options say: settings, who may sign in, certificate.
func (c *Cluster) configure() error {
	settings := map[string]string{"timezone": "UTC", "log_timezone": "UTC", "password_encryption": "scram-sha-256", "ssl": "off"}
	if c.opts.CertPEM != nil {
		maps.Copy(settings, map[string]string{"ssl": "on", "ssl_cert_file": "localpg.crt", "ssl_key_file": "localpg.key"})
	}
	maps.Copy(settings, c.opts.Settings)
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = %s\n", name, confQuote(settings[name]))
	}
	files := map[string][]byte{confFile: []byte(conf.String()), "pg_hba.conf": []byte(c.hba())}
	if c.opts.CertPEM != nil {
		files["localpg.crt"], files["localpg.key"] = c.opts.CertPEM, c.opts.KeyPEM
	}
	for name, body := range files {
		if err := c.write(filepath.Join(c.data(), name), body); err != nil {
			return err
		}
	}
	return nil
}

// hba lets everybody in who has a password, from this machine only.
func (c *Cluster) hba() string {
	lines := slices.Clone(c.opts.HBA)
	for _, from := range []string{"local %s all", "host %s all 127.0.0.1/32"} {
		if runtime.GOOS == "windows" && strings.HasPrefix(from, "local") {
			continue
		}
		lines = append(lines, fmt.Sprintf(from, "all")+" scram-sha-256", fmt.Sprintf(from, "replication")+" scram-sha-256")
	}
	return strings.Join(lines, "\n") + "\n"
}

// write makes a file that only the server's user can read.
func (c *Cluster) write(name string, body []byte) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(name, body, 0o600); err != nil {
		return err
	}
	return c.owner.own(name)
}

func confQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}
