package setup_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// world is an emulator with a small shop that an application role owns.
type world struct {
	*emulator.Emulator
	env []string
}

const shop = `
SET ROLE pgadmin; -- who made it can act for it, also from 16 on
CREATE ROLE app LOGIN PASSWORD 'app';
RESET ROLE;
GRANT CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, created timestamptz NOT NULL DEFAULT now());
CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint REFERENCES customers, total numeric(12,2) NOT NULL);
CREATE TABLE loose (total numeric, id int PRIMARY KEY);
CREATE TABLE events (id bigint PRIMARY KEY, body jsonb);
CREATE TABLE log (at timestamptz NOT NULL, line text);
INSERT INTO customers SELECT g, 'customer ' || g FROM generate_series(1, 50) g;
INSERT INTO orders (customer, total) SELECT g, g * 1.25 FROM generate_series(1, 50) g;
INSERT INTO loose SELECT g * 0.5, g FROM generate_series(1, 10) g;
INSERT INTO events VALUES (1, '{"a": 1}');
INSERT INTO log VALUES (now(), 'hello');
RESET ROLE`

// newWorld is a world on the newest server here: from 16 on its administrator is
// no superuser, as on Azure.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, localpgtest.Servers(t)[0])
}

func newWorldOn(t *testing.T, in localpg.Install) *world {
	t.Helper()
	return newWorldWith(t, emulator.Options{PGBin: in.Bin, ProvisionDelay: 100 * time.Millisecond})
}

func newWorldWith(t *testing.T, o emulator.Options) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "setup-") // the server's user can't enter t.TempDir's parents
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o.Dir, o.NoSync, o.ScanInterval, o.Native = dir, true, 50*time.Millisecond, native
	e, err := emulator.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close the emulator: %v", err)
		}
	})
	w := &world{Emulator: e}
	for _, kv := range e.Env() {
		w.env = append(w.env, kv.Key+"="+kv.Value)
	}
	w.exec(t, shop)
	return w
}

// native does for the emulator what Fabric's engine does.
func native(ctx context.Context, n emulator.NativeSource) error {
	return mirror.Run(ctx, mirror.Config{
		Source: postgres.Endpoint{Host: n.Host, Port: n.Port, Database: n.Database, User: n.User, Password: n.Password, RootCAs: n.CAPEM},
		Slot:   n.Slot, Publications: []string{n.Publication}, Landing: n.Landing, Freshness: 20 * time.Millisecond, Workers: 1,
	})
}

// superuser is the cluster's own, whom nothing is refused.
func (w *world) superuser() string {
	c := w.Cluster()
	return c.URL(c.Superuser, c.Password, "postgres")
}

func (w *world) exec(t *testing.T, sql ...string) {
	t.Helper()
	localpgtest.Exec(t, w.superuser(), sql...)
}

// config reads a file as a user would have it, over the emulator's environment.
func (w *world) config(t *testing.T, yaml string, env ...string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pgmirror.yaml")
	if err := os.WriteFile(path, []byte("name: dev\n"+yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(t.Context(), config.Options{File: path, Environ: append(slices.Clone(w.env), env...)})
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

const nativeFile = `
mirror:
  tables: [public.customers, public.orders, public.loose, public.events]
allow: [restart, change-owner]
`

const openFile = `
mode: open
mirror: {name: pg-mirror-open}
`

// run is a set-up that counts its writes, and may be cut at one of them.
type run struct {
	mu     sync.Mutex
	writes []string
	at     int  // cut at this write, counted from 1; 0: never
	late   bool // after its effect
	cancel context.CancelFunc
	tell   func(setup.Event) // hears of everything, or nil
}

var errCut = errors.New("the process died")

// write stands around every side effect. A cut ends the run's context: a dead
// process doesn't try again.
func (r *run) write(what string, do func() error) error {
	r.mu.Lock()
	r.writes = append(r.writes, what)
	cut := len(r.writes) == r.at
	r.mu.Unlock()
	if cut && !r.late {
		r.cancel()
		return errCut
	}
	err := do()
	if cut {
		r.cancel()
		return errCut
	}
	return err
}

// transport carries HTTP requests, the writes among them through run.write.
type transport struct {
	next http.RoundTripper
	run  *run
}

func (x transport) RoundTrip(q *http.Request) (*http.Response, error) {
	if !isWrite(q) {
		return x.next.RoundTrip(q)
	}
	var resp *http.Response
	err := x.run.write(q.Method+" "+q.URL.Path, func() (err error) {
		resp, err = x.next.RoundTrip(q)
		return err
	})
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		return nil, err
	}
	return resp, nil
}

// isWrite: Fabric asks some questions by POST.
func isWrite(q *http.Request) bool {
	if q.Method == http.MethodGet || q.Method == http.MethodHead {
		return false
	}
	for _, read := range []string{"/getDefinition", "/getMirroringStatus", "/getTablesMirroringStatus"} {
		if strings.HasSuffix(q.URL.Path, read) {
			return false
		}
	}
	return true
}

// plan looks once.
func plan(t *testing.T, cfg *config.Config, how ...func(*setup.Facts)) []setup.Finding {
	t.Helper()
	return planOf(t, cfg, setup.Steps, how...)
}

func planOf(t *testing.T, cfg *config.Config, stepsOf func(*setup.Clients) []setup.Step, how ...func(*setup.Facts)) []setup.Finding {
	t.Helper()
	c, err := setup.NewClients(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var facts setup.Facts
	for _, h := range how {
		h(&facts)
	}
	found, err := setup.Plan(t.Context(), stepsOf(c), &facts)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// apply plans and applies, as a command does.
func (r *run) apply(t *testing.T, cfg *config.Config) error {
	t.Helper()
	return r.do(t, cfg, setup.Steps)
}

func (r *run) do(t *testing.T, cfg *config.Config, stepsOf func(*setup.Clients) []setup.Step) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context()) // the steps' own patience ends what hangs
	defer cancel()
	r.cancel = cancel
	c, err := setup.NewClients(ctx, cfg, setup.WithCut(r.write), setup.WithTransport(func(next http.RoundTripper) http.RoundTripper { return transport{next, r} }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var facts setup.Facts
	steps := stepsOf(c)
	approved, err := setup.Plan(ctx, steps, &facts)
	if err != nil {
		return err
	}
	return setup.Apply(ctx, steps, &facts, approved, func(e setup.Event) {
		if r.tell != nil {
			r.tell(e)
		}
	})
}

func mustApply(t *testing.T, cfg *config.Config) []string {
	t.Helper()
	r := &run{}
	if err := r.apply(t, cfg); err != nil {
		t.Fatalf("apply: %v (code %s, hint %s)", err, setup.Code(err), setup.Hint(err))
	}
	return r.writes
}

func find(t *testing.T, plan []setup.Finding, step string) setup.Finding {
	t.Helper()
	for _, f := range plan {
		if f.Step == step {
			return f
		}
	}
	t.Fatalf("no step %s", step)
	return setup.Finding{}
}

// clean fails unless every step has nothing to do.
func clean(t *testing.T, plan []setup.Finding) {
	t.Helper()
	for _, f := range plan {
		if f.Action != setup.None {
			t.Errorf("%s: %s (%s): have %s, want %s, after %s", f.Step, f.Action, f.Reason, f.Have, f.Want, f.After)
		}
	}
}

// rows reads one column of text as the superuser.
func (w *world) rows(t *testing.T, sql string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.superuser())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}
