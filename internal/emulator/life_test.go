package emulator_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	sh "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

// childEnv makes the test binary an emulator in the named directory, which says
// so on stdout and waits to be killed.
const childEnv = "EMULATOR_TEST_CHILD"

func runChild(dir string) int {
	e, err := emulator.Start(context.Background(), emulator.Options{Dir: dir, NoSync: true, ScanInterval: 50 * time.Millisecond})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	for _, kv := range e.Env() {
		fmt.Println(kv.Key + "=" + kv.Value)
	}
	fmt.Println("ready")
	select {}
}

// child starts an emulator as a process of its own. Its home and its directory
// for temporary files are in dir.
func child(t *testing.T, dir string) (w *world, p *sh.Cmd) {
	t.Helper()
	p = sh.Command(os.Args[0])
	p.Env = append(os.Environ(), childEnv+"="+filepath.Join(dir, "emulator"), "HOME="+filepath.Join(dir, "home"), "TMPDIR="+filepath.Join(dir, "tmp"))
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	w = &world{env: map[string]string{}}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		key, value, _ := strings.Cut(lines.Text(), "=")
		w.env[key] = value
	}
	ca, err := os.ReadFile(w.env["CA_FILE"])
	if err != nil {
		t.Fatalf("the child says %v: %v", w.env, err)
	}
	w.http = w.client(ca)
	t.Cleanup(w.http.CloseIdleConnections)
	return w, p
}

func serverPID(t *testing.T, dir string) (pid int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "emulator", "pg", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(string(b), &pid)
	return pid
}

// wantEnv wants the environment that was before a restart. A port that somebody else
// has taken meanwhile may be another one.
func (w *world) wantEnv(t *testing.T, before map[string]string) {
	t.Helper()
	after := maps.Clone(w.env)
	for _, name := range []string{"FABRIC_ENDPOINT", "ARM_ENDPOINT", "KEYVAULT_URL", "ONELAKE_DFS_ENDPOINT", "ONELAKE_BLOB_ENDPOINT", "EMULATOR_ENDPOINT", "IDENTITY_ENDPOINT", "POSTGRES_URL"} {
		u, err := url.Parse(before[name])
		if err != nil {
			t.Fatal(err)
		}
		if before[name] == after[name] {
			continue
		}
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", u.Port())); err == nil {
			l.Close() // nobody has it
			continue
		}
		now, err := url.Parse(after[name])
		if err != nil {
			t.Fatal(err)
		}
		after[name] = strings.Replace(after[name], now.Host, u.Host, 1)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("environment after the restart (-before +after): %s", diff)
	}
}

// TestKilled: whatever ends the process, its cluster ends with it, nothing is
// left outside its directory, and the next start there goes on.
func TestKilled(t *testing.T) {
	common(t) // skips where there is no PostgreSQL
	dir := clusterDir(t)
	if err := os.Chmod(dir, 0o711); err != nil { // the server's user passes through it
		t.Fatal(err)
	}
	for _, d := range []string{"home", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	w, p := child(t, dir)
	id := w.fabric(t, "POST", w.mirrors(), mirrorBody("shop", openDefinition("dbo"))).want(t, 201, "").body["id"].(string)
	z := w.zone(id, "orders")
	z.metadata(t, `{"keyColumns":["id"]}`)
	z.file(t, 1, rows(t, "- 1 a", "- 2 b"))
	w.start(t, id)
	eventually(t, "the table is there", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	z.w.put(t, z.path+"/_draft", rows(t, "4 2 B", "4 3 c"))
	before, pid := w.env, serverPID(t, dir)
	ca, err := os.ReadFile(before["CA_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	w.http.CloseIdleConnections()

	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // it was killed
	eventually(t, "its PostgreSQL has ended", func() bool { return syscall.Kill(pid, 0) != nil })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for key, at := range before {
		if host, ok := strings.CutPrefix(at, "https://"); ok {
			if c, err := tls.Dial("tcp", host, &tls.Config{RootCAs: roots}); err == nil { // who has the port now has another authority
				c.Close()
				t.Errorf("%s still answers", key)
			}
		}
	}
	for _, d := range []string{"home", "tmp"} {
		if left, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(left) > 0 {
			t.Errorf("left outside its directory, in %s: %v %v", d, left, err)
		}
	}

	began := time.Now()
	w, p = child(t, dir)
	t.Logf("started again in %s, after a crash", time.Since(began))
	w.wantEnv(t, before)
	if a := w.rename(t, z.path+"/_draft", z.path+"/00000000000000000002.parquet"); a.status != http.StatusCreated {
		t.Fatalf("publish what was uploaded before: got %d %s", a.status, a.raw)
	}
	become(t, w, filepath.Join(dir, "emulator"), id, "public/orders", "1 a", "2 B", "3 c")
	book.Proved("server.killed")
	pid = serverPID(t, dir)
	_ = p.Process.Kill()
	_ = p.Wait()
	eventually(t, "its PostgreSQL has ended again", func() bool { return syscall.Kill(pid, 0) != nil })
}
