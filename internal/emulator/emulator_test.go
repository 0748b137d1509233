package emulator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/emulator/rulestest"
	"github.com/pgmirror/pgmirror/internal/localpg"
)

// world is a running emulator with what a client needs.
type world struct {
	*emulator.Emulator
	env  map[string]string
	http *http.Client
}

// book is the rules, and what the tests saw of them.
var book = rulestest.Open("rules.json", "fabric", "arm", "vault", "table", "control", "mirroring", "server", "landing")

// service names the service that a request goes to.
func (w *world) service(r *http.Request) string {
	for name, endpoint := range map[string]string{"fabric": "FABRIC_ENDPOINT", "arm": "ARM_ENDPOINT", "vault": "KEYVAULT_URL", "control": "EMULATOR_ENDPOINT"} {
		if strings.HasSuffix(w.env[endpoint], "//"+r.URL.Host) {
			return name
		}
	}
	return "onelake"
}

// shared is one emulator for the tests that don't disturb each other.
var shared = struct {
	sync.Mutex
	w   *world
	dir string
}{}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(runChild(dir))
	}
	code := m.Run()
	if shared.w != nil { // else there is no PostgreSQL here
		code = book.Finish(code)
	}
	if shared.w != nil {
		shared.w.http.CloseIdleConnections()
		if err := shared.w.Close(); err != nil {
			println("close:", err.Error())
			code = 1
		}
		os.RemoveAll(shared.dir)
	}
	if err := leaked(); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// leaked finds goroutines that stay. Those that are only ending get the time that
// they need on a slow machine; goleak alone gives them half a second.
func leaked() (err error) {
	for deadline := time.Now().Add(time.Minute); ; {
		if err = goleak.Find(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// common is the shared emulator; a test leaves its settings as it found them.
func common(t *testing.T) *world {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.w != nil {
		return shared.w
	}
	dir, err := os.MkdirTemp("", "emulator")
	if err != nil {
		t.Fatal(err)
	}
	shared.dir = dir
	shared.w = launch(t, emulator.Options{Dir: dir, PageSize: 2})
	return shared.w
}

// own is an emulator of the test's own.
func own(t *testing.T, o emulator.Options) *world {
	t.Helper()
	if o.Dir == "" {
		o.Dir = clusterDir(t)
	}
	w := launch(t, o)
	t.Cleanup(func() { w.stop(t) })
	return w
}

// clusterDir is like t.TempDir, whose parents the server's user may not enter.
func clusterDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "emulator")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func launch(t *testing.T, o emulator.Options) *world {
	t.Helper()
	o.NoSync = true
	if o.ScanInterval == 0 {
		o.ScanInterval = 50 * time.Millisecond
	}
	e, err := emulator.Start(t.Context(), o)
	if errors.Is(err, localpg.ErrNotFound) {
		t.Skip("no PostgreSQL binaries: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Emulator: e, env: map[string]string{}}
	for _, kv := range e.Env() {
		w.env[kv.Key] = kv.Value
	}
	w.http = w.client(e.CAPEM)
	return w
}

func (w *world) client(ca []byte) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Transport: book.Transport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, w.service), Timeout: time.Minute}
}

func (w *world) stop(t *testing.T) {
	t.Helper()
	w.http.CloseIdleConnections()
	if err := w.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// answer is what a raw request got.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// do sends a raw request; token "" sends none.
func (w *world) do(t *testing.T, method, url, token string, body any, header ...string) answer {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = bytes.NewReader([]byte(b))
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(a.raw, &a.body) // not every body is JSON
	return a
}

func (w *world) fabric(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return w.do(t, method, w.env["FABRIC_ENDPOINT"]+"/v1"+path, w.env["FABRIC_TOKEN"], body)
}

func (w *world) arm(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return w.do(t, method, w.env["ARM_ENDPOINT"]+w.env["POSTGRES_SERVER_ID"]+path+"?api-version=2025-08-01", w.env["ARM_TOKEN"], body)
}

func (w *world) vault(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return w.do(t, method, w.env["KEYVAULT_URL"]+path+"?api-version=2025-07-01", w.env["VAULT_TOKEN"], body)
}

// write sends an ARM write and waits until its operation is over.
func (w *world) write(t *testing.T, method, path string, body any) (status string, fault map[string]any) {
	t.Helper()
	a := w.arm(t, method, path, body) // an operation that was seen to end is in no one's way: no second try
	if a.status != http.StatusAccepted {
		t.Fatalf("%s %s: got status %d %s, want 202", method, path, a.status, a.raw)
	}
	var op answer
	eventually(t, "the operation is over", func() bool {
		op = w.do(t, "GET", a.header.Get("Azure-AsyncOperation"), w.env["ARM_TOKEN"], nil)
		return op.body["status"] != "InProgress"
	})
	fault, _ = op.body["error"].(map[string]any)
	return op.body["status"].(string), fault
}

// set changes a parameter and wants that to succeed.
func (w *world) set(t *testing.T, name, value string) {
	t.Helper()
	status, fault := w.write(t, "PUT", "/configurations/"+name, map[string]any{"properties": map[string]any{"value": value, "source": "user-override"}})
	if status != "Succeeded" {
		t.Fatalf("set %s: got %s %v, want Succeeded", name, status, fault)
	}
}

func (a answer) code() string {
	if e, ok := a.body["error"].(map[string]any); ok {
		if inner, ok := e["innererror"].(map[string]any); ok {
			return inner["code"].(string)
		}
		return e["code"].(string)
	}
	code, _ := a.body["errorCode"].(string)
	return code
}

func (a answer) want(t *testing.T, status int, code string) answer {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Fatalf("got %d %q (%s), want %d %q", a.status, a.code(), a.raw, status, code)
	}
	return a
}

// eventually polls until what holds, at most two minutes.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited too long until %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// admin connects as pgadmin with the vault's password.
func (w *world) admin(t *testing.T) *pgx.Conn {
	t.Helper()
	secret := w.vault(t, "GET", "/secrets/postgres-admin-password", nil)
	return w.connect(t, "pgadmin", secret.body["value"].(string), "postgres")
}

func (w *world) connect(t *testing.T, user, password, db string) *pgx.Conn {
	t.Helper()
	conn, err := w.tryConnect(t, user, password, db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (w *world) tryConnect(t *testing.T, user, password, db string) (*pgx.Conn, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig(w.env["POSTGRES_URL"])
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Password, cfg.Database = user, password, db
	return pgx.ConnectConfig(t.Context(), cfg)
}

func exec(t *testing.T, conn *pgx.Conn, sql ...string) {
	t.Helper()
	for _, q := range sql {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}
