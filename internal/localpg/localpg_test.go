//go:build unix

package localpg_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
)

// childEnv makes the test binary start a cluster in the named directory, say so
// on stdout, and wait to be killed.
const childEnv = "LOCALPG_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		c, err := localpg.Start(context.Background(), localpg.Options{Dir: dir, Password: "child"})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(c.URL("", "", "postgres"))
		select {}
	}
	os.Exit(m.Run())
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var s string
	if err := conn.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func TestLifecycle(t *testing.T) {
	ctx := t.Context()
	c := localpgtest.Start(t, localpg.Options{Superuser: "boss", Password: `it's "s3cret"`, Settings: map[string]string{"work_mem": "5MB"}})
	url := c.URL("", "", "postgres")
	if got, want := query(t, url, "SELECT current_user || ' ' || current_setting('work_mem')"), "boss 5MB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := query(t, url, "SHOW server_version_num"), strconv.Itoa(c.Version); !strings.HasPrefix(got, want) {
		t.Errorf("got server version %s, want %s", got, want)
	}
	localpgtest.Exec(t, url, "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")

	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"resume a running one", c.Resume}, {"stop", c.Stop}, {"stop again", c.Stop}, {"resume", c.Resume}, {"restart", c.Restart},
		{"kill", c.Kill}, {"kill again", c.Kill}, {"resume", c.Resume},
	}
	for _, s := range steps {
		port := c.Port
		if err := s.do(ctx); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if c.Port != port {
			t.Errorf("%s: the port changed from %d to %d", s.name, port, c.Port)
		}
	}
	if got := query(t, url, "SELECT sum(i)::text FROM t"); got != "1" {
		t.Errorf("after a crash got %s, want 1", got)
	}
}

func TestNoPasswordNoEntry(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{})
	if conn, err := pgx.Connect(t.Context(), c.URL(c.Superuser, "wrong", "postgres")); err == nil {
		conn.Close(t.Context())
		t.Error("signed in with a wrong password over TCP")
	}
	socket := fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", c.Socket, c.Port, c.Superuser)
	if conn, err := pgx.Connect(t.Context(), socket+" password=wrong"); err == nil {
		conn.Close(t.Context())
		t.Error("signed in with a wrong password over the socket")
	}
	if got := query(t, socket+" password="+c.Password, "SELECT 'ok'"); got != "ok" {
		t.Errorf("got %s over the socket", got)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "initdb.password")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the password file of initdb is still there: %v", err)
	}
	info, err := os.Stat(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %o, want 700", info.Mode().Perm())
	}
}

func TestSet(t *testing.T) {
	ctx := t.Context()
	c := localpgtest.Start(t, localpg.Options{Settings: map[string]string{"wal_level": "replica", "work_mem": "5MB"}})
	url := c.URL("", "", "postgres")
	for _, s := range []struct{ name, value, shows string }{
		{"work_mem", "7MB", "7MB"},
		{"search_path", "a, b", `a, b`},
		{"azure.mirror_databases", "a,'b'", "a,'b'"},
		{"log_line_prefix", "", ""},
	} {
		if err := c.Set(ctx, s.name, s.value); err != nil {
			t.Fatal(err)
		}
		if got := query(t, url, "SHOW "+s.name); got != s.shows {
			t.Errorf("%s: got %q, want %q", s.name, got, s.shows)
		}
	}
	if err := c.Set(ctx, "work_mem", "lots"); err == nil {
		t.Error("set work_mem to lots")
	}
	if err := c.Set(ctx, "wal_level", "logical"); err != nil {
		t.Fatal(err)
	}
	if got := query(t, url, "SHOW wal_level"); got != "replica" {
		t.Errorf("got wal_level %s before the restart", got)
	}
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if got := query(t, url, "SHOW wal_level"); got != "logical" {
		t.Errorf("got wal_level %s after the restart", got)
	}
}

func TestStartAgainInTheSameDirectory(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "cluster") // too long for a socket
	o := localpg.Options{Dir: dir, Password: "first"}
	c := localpgtest.Start(t, o)
	localpgtest.Exec(t, c.URL("", "", "postgres"), "CREATE TABLE t AS SELECT 1 AS i")
	if c.Socket != "" {
		t.Errorf("a socket in %s, want none", c.Socket)
	}
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := localpg.Start(ctx, localpg.Options{Dir: dir}); err == nil {
		t.Error("started an existing cluster without its password")
	}
	again := localpgtest.Start(t, o)
	if got := query(t, again.URL("", "", "postgres"), "SELECT i::text FROM t"); got != "1" {
		t.Errorf("got %s, want 1", got)
	}
}

func TestTakenPort(t *testing.T) {
	l := listen(t)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := localpg.Start(ctx, localpg.Options{Dir: dir, Password: "x", Port: l.Addr().(*net.TCPAddr).Port}); err == nil {
		t.Fatal("started on a port that is taken")
	}
	time.AfterFunc(200*time.Millisecond, func() { l.Close() })
	c := localpgtest.Start(t, localpg.Options{Dir: dir, Password: "x", Port: l.Addr().(*net.TCPAddr).Port})
	if got := query(t, c.URL("", "", "postgres"), "SELECT 'ok'"); got != "ok" {
		t.Errorf("got %s", got)
	}
}

// listen takes a port below those that systems give to outgoing connections: once it
// is let go, no other test's connection has it.
func listen(t *testing.T) net.Listener {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+mrand.IntN(12000)))
		if err == nil {
			return l
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

func TestBadSettingIsShown(t *testing.T) {
	dir := t.TempDir()
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Password: "hush-hush", Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got error %v, want one that names the setting", err)
	}
	if err != nil && strings.Contains(err.Error(), "hush-hush") {
		t.Errorf("the password is in the error: %v", err)
	}
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	c := localpgtest.Start(t, localpg.Options{CertPEM: cert, KeyPEM: key, HBA: []string{"hostnossl all all all reject"}})
	roots := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(roots, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := query(t, fmt.Sprintf("host=localhost port=%d user=%s password=%s dbname=postgres sslmode=verify-full sslrootcert=%s", c.Port, c.Superuser, c.Password, roots),
		"SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "true" {
		t.Errorf("got ssl %s, want true", got)
	}
	if got := query(t, c.URL("", "", "postgres"), "SELECT 'ok'"); got != "ok" {
		t.Errorf("got %s", got)
	}
	if conn, err := pgx.Connect(t.Context(), strings.Replace(c.URL("", "", "postgres"), "require", "disable", 1)); err == nil {
		conn.Close(t.Context())
		t.Error("the extra line of pg_hba.conf has no effect")
	}
}

func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
}

// A server ends with its parent also when that one is killed, and the next
// Start in the same directory need not wait for that to have happened.
func TestDiesWithParent(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "postgres://") {
			t.Fatalf("the child says %q: %v", line, err)
		}
		pid := postmaster(t, dir)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child was not killed")
		}
		t.Cleanup(func() {
			deadline := time.Now().Add(time.Minute)
			for syscall.Kill(pid, 0) == nil {
				if time.Now().After(deadline) {
					t.Fatalf("the server %d outlived its parent", pid)
				}
				<-time.After(10 * time.Millisecond)
			}
		})
	}
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestFind(t *testing.T) {
	bin, version, err := localpg.Find("")
	if err != nil {
		t.Fatal(err)
	}
	if got := localpg.Installed()[0]; got != (localpg.Install{Bin: bin, Version: version}) {
		t.Errorf("the newest is %v, want %s, %d", got, bin, version)
	}
	_, _, err = localpg.Find("9")
	if !errors.Is(err, localpg.ErrNotFound) || !strings.Contains(err.Error(), bin) || !strings.Contains(err.Error(), "postgresql-9") {
		t.Errorf("got error %v, want ErrNotFound that names what there is and what to install", err)
	}
}
