package lease_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/localpg"
)

// world is an emulator whose doors are all closed, and settings around them that
// nobody may touch.
type world struct {
	env    map[string]string
	http   *http.Client
	server string // ARM ids
	vault  string
	before map[string]any
}

const (
	office = `{"bypass":"None","defaultAction":"Deny","ipRules":[{"value":"198.51.100.0/24"}],"virtualNetworkRules":[{"id":"/subnet/a","ignoreMissingVnetServiceEndpoint":true}]}`
	closed = `{"tags":{"env":"dev","owner":"data"},"properties":{"publicNetworkAccess":"disabled","networkAcls":` + office + `}}`
)

// worlds are used again by one test after another; three at a time.
var worlds struct {
	free  chan *world // nil: to be made
	mu    sync.Mutex
	close []func() error
}

func init() {
	worlds.free = make(chan *world, 3)
	for range cap(worlds.free) {
		worlds.free <- nil
	}
}

// newWorld is a world for one test, with every door closed.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := <-worlds.free
	t.Cleanup(func() { worlds.free <- w })
	if w == nil {
		w = startWorld(t)
	}
	w.close(t)
	return w
}

func startWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "lease-") // the server's user can't enter t.TempDir's parents
	if err != nil {
		t.Fatal(err)
	}
	e, err := emulator.Start(context.Background(), emulator.Options{
		Dir: dir, NoSync: true, PGBin: os.Getenv("PGMIRROR_TEST_PGBIN"), Server: emulator.ServerOptions{NoFirewall: true, Public: "Disabled"},
	})
	if errors.Is(err, localpg.ErrNotFound) {
		t.Skip("no PostgreSQL binaries: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, kv := range e.Env() {
		env[kv.Key] = kv.Value
	}
	w := worldOf(t, env)
	worlds.mu.Lock()
	defer worlds.mu.Unlock()
	worlds.close = append(worlds.close, func() error {
		w.http.CloseIdleConnections()
		return errors.Join(e.Close(), os.RemoveAll(dir))
	})
	return w
}

func TestMain(m *testing.M) {
	if os.Getenv("LEASE_CHILD") != "" {
		child()
	}
	code := m.Run()
	for _, c := range worlds.close {
		if err := c(); err != nil {
			println("close the emulator:", err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// worldOf reaches an emulator by its environment, as another process does.
func worldOf(t testing.TB, env map[string]string) *world {
	pem, err := os.ReadFile(env["CA_FILE"])
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		fatal(t, "the emulator's authority: ", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	if through := env[relayEnv]; through != "" {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, through)
		}
	}
	w := &world{env: env, server: env["POSTGRES_SERVER_ID"], http: &http.Client{Transport: transport}}
	group, _, _ := strings.Cut(w.server, "/providers/")
	w.vault = group + "/providers/Microsoft.KeyVault/vaults/kv-pgmirror"
	return w
}

func fatal(t testing.TB, args ...any) {
	if t == nil {
		panic(args)
	}
	t.Helper()
	t.Fatal(args...)
}

// close puts every setting to what it is before a test.
func (w *world) close(t *testing.T) {
	t.Helper()
	w.patch(t, w.vault, closed)
	w.patch(t, w.server, `{"tags":{"env":"dev"},"properties":{"network":{"publicNetworkAccess":"Disabled"}}}`)
	gate := w.gate(t, w.server)
	for name := range w.rules(t) {
		taken(t, func() error { return gate.DeleteRule(t.Context(), name) })
	}
	taken(t, func() error { return gate.PutRule(t.Context(), "office", "198.51.100.1", "198.51.100.9") })
	w.before = w.settings(t)
}

func (w *world) options(endpoint, token string) azure.Options {
	cred, err := azure.Token(token, endpoint)
	if err != nil {
		panic(err)
	}
	return azure.Options{Endpoint: endpoint, Credential: cred, HTTP: w.http}
}

func (w *world) gate(t testing.TB, id string) *azure.Gate {
	g, err := azure.NewGate(id, w.options(w.env["ARM_ENDPOINT"], w.env["ARM_TOKEN"]))
	if err != nil {
		fatal(t, err)
	}
	return g
}

func (w *world) patch(t *testing.T, id, body string) {
	t.Helper()
	taken(t, func() error { return w.gate(t, id).Patch(t.Context(), []byte(body)) })
}

// taken writes until the server isn't busy: a Gate tries once.
func taken(t *testing.T, write func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		err := write()
		if err == nil {
			return
		}
		if !isBusy(err) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (w *world) rules(t *testing.T) map[string][2]string {
	t.Helper()
	rules, err := w.gate(t, w.server).Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// settings are all that a lease may ever touch.
func (w *world) settings(t *testing.T) map[string]any {
	t.Helper()
	all := map[string]any{"rules": w.rules(t)}
	for _, id := range []string{w.vault, w.server} {
		body, err := w.gate(t, id).Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var d map[string]any
		if err := json.Unmarshal(body, &d); err != nil {
			t.Fatal(err)
		}
		p := d["properties"].(map[string]any)
		delete(p, "state")
		all[id] = map[string]any{"tags": d["tags"], "properties": p}
	}
	return all
}

// same fails when a door is open or a setting differs from before.
func (w *world) same(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(w.before, w.settings(t)); diff != "" {
		t.Fatalf("a setting isn't what it was before (-before +now):\n%s", diff)
	}
}

// different fails when nothing was opened.
func (w *world) different(t *testing.T) {
	t.Helper()
	if cmp.Equal(w.before, w.settings(t)) {
		t.Fatal("nothing was opened")
	}
}

var quick = lease.Timing{
	Life: time.Hour, Margin: time.Minute, Skew: time.Minute, Settle: time.Millisecond, InFlight: 20 * time.Millisecond,
	Grant: 5 * time.Minute, Close: 5 * time.Minute, Through: time.Minute, Poll: 5 * time.Millisecond,
}

// leases are those of a new run on a machine with the given state directory.
func (w *world) leases(state string, change ...func(*lease.Options)) *lease.Leases {
	o := lease.Options{
		State: state, Who: "tester@machine", Cloud: w.env["ARM_ENDPOINT"], Timing: quick,
		Resources: func(context.Context) ([]string, error) { return []string{w.vault, w.server}, nil },
		Dial:      func(id string) (lease.Resource, error) { return w.gate(nil, id), nil },
		Allows:    func(string) bool { return true },
	}
	for _, c := range change {
		c(&o)
	}
	return lease.New(o)
}

// through makes all calls of one resource go through f.
func through(wrap func(lease.Resource) lease.Resource) func(*lease.Options) {
	return func(o *lease.Options) {
		dial := o.Dial
		o.Dial = func(id string) (lease.Resource, error) {
			r, err := dial(id)
			return wrap(r), err
		}
	}
}

var errRefused = errors.New("refused")

// need is a need of each kind.
func (w *world) need(kind lease.Kind) lease.Need {
	n := lease.Need{Kind: kind, Resource: w.server, Refusal: errRefused, Message: `no pg_hba.conf entry for host "203.0.113.7", user "pgadmin"`}
	if kind == lease.VaultAccess || kind == lease.VaultRule {
		n.Resource = w.vault
		n.Message = "Client address is not authorized and caller is not a trusted service.\r\nClient address: 127.0.0.1"
	}
	return n
}

var kinds = []lease.Kind{lease.VaultAccess, lease.VaultRule, lease.ServerAccess, lease.ServerRule, lease.AzureRule, lease.Hold}

// secret reads the vault as this machine.
func (w *world) secret(ctx context.Context) error {
	v, err := azure.NewVault(w.options(w.env["KEYVAULT_URL"], w.env["VAULT_TOKEN"]))
	if err != nil {
		return err
	}
	_, _, err = v.Secret(ctx, "postgres-admin-password")
	return err
}

func environ(env map[string]string) []string {
	var out []string
	for k := range maps.Keys(env) {
		out = append(out, k+"="+env[k])
	}
	return out
}
