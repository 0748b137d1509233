// Package emulator answers, in one process, as Azure Resource Manager, Key
// Vault, Fabric and OneLake, over a real PostgreSQL cluster.
//
// It reads the contract for itself: nothing here knows the clients that it is
// tested with. Each service listens on a port of its own on the loopback
// interface, with a certificate of the emulator's own authority.
package emulator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
	"github.com/pgmirror/pgmirror/internal/localpg"
)

// Options says what to emulate and where. Dir is all that is needed.
type Options struct {
	// Dir holds everything: state.json (readable by its owner only, it has the
	// vault's secrets), the authority, the cluster in pg, OneLake in onelake. It
	// is made when missing; one that an earlier emulator left goes on.
	Dir string
	// Listen is host:port on the loopback interface; "" is "127.0.0.1:0". A port
	// is taken by Fabric, and the next five by ARM, vault, DFS, Blob and the
	// emulator's own endpoint. Port 0 takes those of the last time, or free ones.
	Listen string
	// Native mirrors a database into a landing zone until ctx ends, then returns
	// nil; an error is followed by another call. Nil: native mirrors say Running
	// and move nothing.
	Native func(ctx context.Context, n NativeSource) error
	PGBin  string // directory of initdb and postgres; "" is the newest installed

	// OpenMirror has an open mirrored database of this name, in the first workspace,
	// running from the start: for who only wants a landing zone. "": none.
	OpenMirror string

	ScanInterval   time.Duration // of the replicators; 0 is 1 s, Fabric's own is 15 to 20 s
	ProvisionDelay time.Duration // how long a new mirrored database is Initializing; Fabric's own is a minute
	StartDelay     time.Duration // how long a mirror is Starting; Fabric's own is up to half a minute
	ARMDelay       time.Duration // how long a write to the server takes at least
	OperationDelay time.Duration // how long a Fabric operation takes, with LongRunning
	LongRunning    bool          // Fabric answers 202 where it may
	TableLimit     int           // tables of an open mirror; 0 is Fabric's own, 1000
	PageSize       int           // of Fabric's lists; 0 is 100

	CopyOnWrite         bool    // the replicators rewrite files; else they use deletion vectors, as Fabric does
	WithoutNativeLimits bool    // native mirrors take types and names that the service refuses
	NoSync              bool    // the cluster doesn't wait for the disk: for tests
	Faults              []Fault // that are in force from the start
	Log                 *slog.Logger
	Server              ServerOptions
}

// ServerOptions describes a flexible server that is new. An emulator that goes on
// keeps what it has.
type ServerOptions struct {
	Name          string // "" is "pgmirror-emulator"
	AdminPassword string // of pgadmin; "" makes one up, the vault has it
	Tier          string // "" is GeneralPurpose
	HA            string // mode of high availability; "" is Disabled
	Public        string // publicNetworkAccess; "" is Enabled
	NoFirewall    bool   // without the rule that lets Azure's services in
	Identity      bool   // with a system-assigned identity

	// ClientFirewall makes public access and the firewall hold for the
	// administrator's sign-ins, too, not only for Fabric's.
	ClientFirewall bool
}

func (s ServerOptions) check() error {
	for _, c := range []struct {
		what, value string
		known       []string
	}{
		{"tier", s.Tier, []string{"GeneralPurpose", "MemoryOptimized", "Burstable"}},
		{"high availability", s.HA, []string{"Disabled", "SameZone", "ZoneRedundant"}},
		{"public access", s.Public, []string{"Enabled", "Disabled"}},
	} {
		if c.value != "" && !slices.Contains(c.known, c.value) {
			return fmt.Errorf("the server's %s is one of %s, not %q", c.what, strings.Join(c.known, ", "), c.value)
		}
	}
	return nil
}

// Emulator is a running one.
type Emulator struct {
	CAPEM []byte // the authority that signed every certificate here

	o        Options
	state    *stateFile
	faults   *faults
	advanced atomic.Int64 // the state's World.Advanced
	db       *cluster
	tasks    *tasks
	lake     *onelake.Service
	servers  []*http.Server
	serving  sync.WaitGroup
	closing  sync.Once
	closeErr error

	listeners map[string]net.Listener
	base      map[string]string // service → https://127.0.0.1:port; control has no TLS
}

// KV is a line of the environment.
type KV struct{ Key, Value string }

const caFile = "ca.pem"

// Start begins to answer and returns once every service does. The first start
// in a directory makes the cluster.
func Start(ctx context.Context, o Options) (*Emulator, error) {
	o = o.withDefaults()
	dir, err := filepath.Abs(o.Dir)
	if err != nil || o.Dir == "" {
		return nil, errors.Join(errors.New("the emulator needs a directory"), err)
	}
	o.Dir = dir
	if err := o.Server.check(); err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the emulator's directory: %w", err)
	}
	e := &Emulator{o: o, tasks: newTasks(), faults: &faults{}, listeners: map[string]net.Listener{}, base: map[string]string{}}
	e.faults.now = e.now
	if err := e.faults.set(o.Faults, false); err != nil {
		return nil, err
	}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// makeDir makes the directory unless it is there. Others may pass through it: as
// root, PostgreSQL runs as another user. What is secret has a mode of its own.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o711); err != nil { // whatever the umask is
			return err
		}
	}
	return os.MkdirAll(filepath.Join(dir, "onelake"), 0o700)
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.ScanInterval <= 0 {
		o.ScanInterval = time.Second
	}
	if o.PageSize <= 0 {
		o.PageSize = 100
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// start does the steps in their order; Close undoes as many as were done.
func (e *Emulator) start(ctx context.Context) error {
	steps := []func(context.Context) error{
		e.openState,   // what an earlier emulator left, or a new tenant
		e.startServer, // PostgreSQL, prepared as Azure's
		e.listen,      // ports first: addresses are in answers
		e.serve,       // the services
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startServer starts the cluster and gives a new one its administrator, whose
// password goes to the vault first: there is no moment when nobody knows it.
func (e *Emulator) startServer(ctx context.Context) (err error) {
	ca, err := openAuthority(e.o.Dir)
	if err != nil {
		return err
	}
	e.CAPEM = ca.pem
	var sv serverState
	var password, tenant string
	e.state.look(func(s *state) {
		sv, tenant = s.Server, s.Tenant
		_, secret, missing := s.Vault.version(adminSecret, "")
		if missing == nil {
			password = secret.Value
		}
	})
	if e.db, err = startCluster(ctx, e.o, ca, sv); err != nil {
		return err
	}
	if !sv.Prepared {
		if err := e.db.prepare(ctx, sv.Admin, password); err != nil {
			return err
		}
		own := ownValues()
		if sv.Principal != "" {
			own["azure.service_principal_id"], own["azure.service_principal_tenant_id"] = sv.Principal, tenant
		}
		if err := e.db.setCustom(ctx, own); err != nil {
			return err
		}
	}
	return e.state.change(func(s *state) error {
		s.Server.Port, s.Server.Prepared = e.db.pg.Port, true
		return nil
	})
}

// services are the listeners in the order of their ports.
var services = []string{"fabric", "arm", "vault", "dfs", "blob", "control"}

func (e *Emulator) listen(ctx context.Context) error {
	host, p, err := net.SplitHostPort(e.o.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", e.o.Listen, err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		return fmt.Errorf("listen on %s: the port is no number", e.o.Listen)
	}
	if !loopback(host) {
		return fmt.Errorf("listen on %s: the emulator listens on the loopback interface only; use 127.0.0.1", e.o.Listen)
	}
	for i, name := range services {
		l, err := e.listenOne(ctx, host, port, i, name)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", name, err)
		}
		e.listeners[name] = l
		e.base[name] = "https://" + l.Addr().String()
		if name == "control" {
			e.base[name] = "http://" + l.Addr().String()
		}
	}
	return e.state.change(func(s *state) error {
		for name, l := range e.listeners {
			s.Ports[name] = l.Addr().(*net.TCPAddr).Port
		}
		return nil
	})
}

func (e *Emulator) listenOne(ctx context.Context, host string, port, i int, name string) (net.Listener, error) {
	var lc net.ListenConfig
	if port != 0 {
		return lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port+i)))
	}
	var last int
	e.state.look(func(s *state) { last = s.Ports[name] })
	if last != 0 {
		if l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(last))); err == nil {
			return l, nil
		}
		// Somebody else has it now: any port will do, the environment is written anew.
	}
	return lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
}

// now is the emulated time. It is asked for while the state is held.
func (e *Emulator) now() time.Time { return time.Now().Add(time.Duration(e.advanced.Load())) }

// Cluster is the real PostgreSQL behind the flexible server.
func (e *Emulator) Cluster() *localpg.Cluster { return e.db.pg }

// Close ends all services, mirrors and the cluster, and waits. It may be called
// twice. Start in the same directory goes on.
func (e *Emulator) Close() error {
	e.closing.Do(func() {
		e.closeErr = e.closeServers()
		e.tasks.close()
		if e.lake != nil {
			e.closeErr = errors.Join(e.closeErr, e.lake.Close())
		}
		if e.db != nil {
			e.closeErr = errors.Join(e.closeErr, e.db.pg.Stop(context.Background()))
		}
	})
	return e.closeErr
}

// closeTimeout is what a request under way gets to be answered.
const closeTimeout = 2 * time.Second

func (e *Emulator) closeServers() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for _, s := range e.servers {
		if s.Shutdown(ctx) != nil {
			err = errors.Join(err, s.Close())
		}
	}
	e.serving.Wait()
	for _, l := range e.listeners {
		_ = l.Close() // those that never got a server; the others are closed
	}
	return err
}
