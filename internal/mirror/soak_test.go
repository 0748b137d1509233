package mirror

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

var (
	soakKills = flag.Int("soak-kills", 8, "how often TestSoak kills the mirror")
	soakSeed  = flag.Uint64("soak-seed", 1, "of what TestSoak does at random")
)

// killsARound is after how many kills TestSoak lets the mirror catch up and
// compares; each round has a new database and landing zone.
const killsARound = 50

// TestSoak kills the mirror again and again: at random, and before and after
// each of its writes to OneLake and to PostgreSQL. Meanwhile every table there
// can be is written and redefined, the network is cut, PostgreSQL crashes,
// OneLake fails with and without having done what was asked, and Fabric moves and
// deletes what it has taken. After each round the mirror catches up and has to be
// equal to the source row for row. `make soak` runs it for longer.
func TestSoak(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{Superuser: "postgres", Password: "pw", Settings: map[string]string{
		"wal_level": "logical", "max_replication_slots": "20", "max_wal_senders": "20", "wal_sender_timeout": "2s", "logical_decoding_work_mem": "64kB"}})
	total := kills{}
	for round, left := 0, *soakKills; left > 0 && !t.Failed(); round++ {
		n := min(left, killsARound)
		left -= n
		seed := *soakSeed + uint64(round)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := newSoak(t, c, seed)
			w.round(n)
			total.add(w.died)
		})
	}
	t.Logf("%d kills in all:\n%s", total.sum(), total)
}

// kills counts kills by how they came and by the last event before them.
type kills map[string]int

func (k kills) add(o kills) {
	for at, n := range o {
		k[at] += n
	}
}

func (k kills) sum() (n int) {
	for _, v := range k {
		n += v
	}
	return n
}

func (k kills) String() string {
	var b strings.Builder
	for _, at := range slices.Sorted(maps.Keys(k)) {
		fmt.Fprintf(&b, "%5d  %s\n", k[at], at)
	}
	return b.String()
}

// soak is a round: a database, a landing zone behind HTTPS, and what may happen
// to them.
type soak struct {
	t       *testing.T
	cluster *localpg.Cluster
	db      string
	binary  bool // the stream is
	zone    *store.Dir
	fabric  *taker
	lake    *httptest.Server
	control *httptest.Server
	proxy   *soakProxy
	spill   string
	r       *rand.Rand
	died    kills

	faults atomic.Int64 // of a thousand requests, how many fail
	writes trigger      // at OneLake
	sends  trigger      // to PostgreSQL

	mu    sync.Mutex
	child *exec.Cmd
	last  string    // what the child said last
	await EventKind // what it has to say before something happens to it
	heard chan bool
	said  []string
}

// trigger kills at the n-th of something, before or after it is done.
type trigger struct {
	left  atomic.Int64 // 0: never
	after atomic.Bool
}

func (g *trigger) arm(n int64, after bool) {
	g.after.Store(after)
	g.left.Store(n)
}

// due says that the time has come.
func (g *trigger) due() bool { return g.left.Load() > 0 && g.left.Add(-1) == 0 }

func newSoak(t *testing.T, c *localpg.Cluster, seed uint64) *soak {
	w := &soak{t: t, cluster: c, binary: seed%2 == 0, db: fmt.Sprintf("soak%d", seed), r: rand.New(rand.NewPCG(seed, 5)), died: kills{}, spill: t.TempDir()}
	localpgtest.Exec(t, c.URL("", "", "postgres"), "CREATE DATABASE "+w.db)
	localpgtest.Exec(t, w.url(), soakTables(w.binary)...)
	w.serveLake()
	w.control = httptest.NewServer(w.fabric)
	t.Cleanup(w.control.Close)
	w.proxy = newSoakProxy(t, net.JoinHostPort(c.Host, fmt.Sprint(c.Port)), w.send)
	return w
}

func (w *soak) url() string { return w.cluster.URL("", "", w.db) }

const (
	soakWorkspace = "5c1893a3-a288-46a5-8cc2-a55c4c89b4b7"
	soakItem      = "b1b1b1b1-cccc-4ddd-8eee-f2f2f2f2f2f2"
	soakZone      = "Files/LandingZone"
)

// serveLake serves a landing zone as OneLake, with faults.
func (w *soak) serveLake() {
	root := w.t.TempDir()
	dir := filepath.Join(root, soakWorkspace, soakItem, filepath.FromSlash(soakZone))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	service, err := onelake.New(onelake.Options{Root: root})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.zone, err = store.OpenDir(dir); err != nil {
		w.t.Fatal(err)
	}
	w.fabric = newTaker(w.t, w.zone, w.r.Uint64())
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(w.r.Uint64(), 9))
	w.lake = httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fault := 0
		if chance.Int64N(1000) < w.faults.Load() {
			fault = 1 + chance.IntN(4)
		}
		mu.Unlock()
		w.request(service, fault, out, r)
	}))
	w.lake.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of each child that was killed
	w.lake.StartTLS()
	w.t.Cleanup(func() { w.lake.Close(); service.Close() })
}

// request is served, unless it fails: with 503 or 429 and nothing done, with 500
// and yet done, or with no answer at all and done.
func (w *soak) request(service http.Handler, fault int, out http.ResponseWriter, r *http.Request) {
	change := r.Method != http.MethodGet && r.Method != http.MethodHead
	kill := change && w.writes.due()
	what := "onelake " + r.Method
	if kill && !w.writes.after.Load() {
		w.kill("before " + what)
		panic(http.ErrAbortHandler)
	}
	switch fault {
	case 1:
		refuse(out, http.StatusServiceUnavailable, "ServerBusy")
		return
	case 2:
		refuse(out, http.StatusTooManyRequests, "TooManyRequests")
		return
	}
	if change {
		w.fabric.mu.Lock()
		defer w.fabric.mu.Unlock()
	}
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, r)
	switch {
	case kill:
		w.kill("after " + what)
		panic(http.ErrAbortHandler)
	case fault == 3 && change:
		refuse(out, http.StatusInternalServerError, "InternalError")
		return
	case fault == 4 && change:
		panic(http.ErrAbortHandler)
	}
	maps.Copy(out.Header(), answer.Header())
	out.WriteHeader(answer.Code)
	_, _ = out.Write(answer.Body.Bytes()) // the one who asked may have been killed
}

func refuse(out http.ResponseWriter, status int, code string) {
	out.Header().Set("x-ms-error-code", code)
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	fmt.Fprintf(out, `{"error":{"code":%q,"message":"a fault of the test"}}`, code)
}

// send is asked for each piece that goes to PostgreSQL; it says whether to kill
// after it.
func (w *soak) send() (drop bool, then func()) {
	if !w.sends.due() {
		return false, func() {}
	}
	if !w.sends.after.Load() {
		w.kill("before a send to PostgreSQL")
		return true, func() {}
	}
	return false, func() { w.kill("after a send to PostgreSQL") }
}

// kill ends the child at once and counts that. The child has ended when it
// returns.
func (w *soak) kill(how string) {
	w.mu.Lock()
	child, last := w.child, w.last
	w.child = nil
	if child != nil {
		w.died[how+", last event "+last]++
		w.said = append(w.said, "--- killed "+how)
	}
	w.mu.Unlock()
	if child != nil {
		_ = child.Process.Kill() // one that has just ended is as dead
	}
}

// round kills the mirror n times, lets it catch up and compares.
func (w *soak) round(n int) {
	stopFabric := w.takeMeanwhile()
	defer stopFabric()
	halt := soakTraffic(w.t, w.url(), w.r.Uint64(), w.binary)
	halted := false
	defer func() {
		if !halted {
			halt()
		}
	}()
	w.faults.Store(10)
	for w.died.sum() < n && !w.t.Failed() {
		w.life()
	}
	halted = true
	halt()
	w.faults.Store(0)
	w.settle()
}

// life is a child from its start to its end, with what happens to it: when it has
// said a certain event, the next, or one of the next, of its writes or sends
// kills it, or some time later something else happens.
func (w *soak) life() {
	w.writes.arm(0, false)
	w.sends.arm(0, false)
	heard := make(chan bool, 1)
	w.mu.Lock()
	w.await, w.heard = []EventKind{"", "", SnapshotStarted, SnapshotProgress, TableCopied, SnapshotDone, Streaming, Streaming, Published, Published, Published, Confirmed, Confirmed, Rebuilding}[w.r.IntN(14)], heard
	if w.await == "" {
		heard <- true
	}
	w.mu.Unlock()
	ended := w.start()
	late := time.After(8 * time.Second)
	var at <-chan time.Time
	for {
		select {
		case <-ended:
			return
		case <-heard:
			switch n, after := 1+w.r.Int64N(1+w.r.Int64N(40)), w.r.IntN(2) == 0; w.r.IntN(4) {
			case 0, 1:
				w.writes.arm(n, after)
				at = time.After(5 * time.Second)
			case 2:
				w.sends.arm(n, after)
				at = time.After(5 * time.Second)
			default:
				at = time.After(time.Duration(w.r.IntN(1000)) * time.Millisecond)
			}
		case <-late: // what it waits for doesn't come
			w.kill("at random")
		case <-at:
			switch w.r.IntN(10) {
			case 0:
				w.proxy.cut()
			case 1:
				w.crash()
			case 2:
				w.ask()
			default:
				w.kill("at random")
			}
			at = time.After(time.Duration(w.r.IntN(1500)) * time.Millisecond)
		}
	}
}

// crash ends PostgreSQL and starts it again.
func (w *soak) crash() {
	end := w.cluster.Kill
	if w.r.IntN(2) == 0 {
		end = w.cluster.Stop
	}
	if err := errors.Join(end(context.Background()), w.cluster.Resume(context.Background())); err != nil {
		w.t.Fatalf("restart PostgreSQL: %v", err)
	}
}

// ask has a table built anew, if there is one.
func (w *soak) ask() {
	r := Request{Kind: Resync, Schema: "public", Table: []string{"pair", "log", "parted"}[w.r.IntN(3)]}
	if err := Ask(context.Background(), w.zone, r); err != nil && !errors.Is(err, ErrNoTable) {
		w.t.Fatal(err)
	}
}

// start starts a child; ended is closed when it has ended and everything that it
// said was heard.
func (w *soak) start() (ended chan bool) {
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.lake.Certificate().Raw})
	settings, err := json.Marshal(soakChild{Port: w.proxy.port, DB: w.db, Lake: w.lake.URL, CA: string(cert), Fabric: w.control.URL, Spill: w.spill})
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MIRROR_TEST_SOAK="+string(settings))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.said = append(w.said, "--- started")
	w.child, w.last = cmd, "none"
	w.mu.Unlock()
	ended = make(chan bool)
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			w.hear(lines.Text())
		}
		_ = cmd.Wait() // killed, or it said why
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.child == cmd {
			w.child = nil
		}
	}()
	return ended
}

func (w *soak) hear(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kind, _, _ := strings.Cut(line, " ")
	w.last = kind
	w.said = append(w.said, time.Now().Format("15:04:05.000 ")+line)
	if kind == string(w.await) {
		select {
		case w.heard <- true:
		default:
		}
		w.await = ""
	}
	if kind == "fault" {
		w.t.Errorf("the mirror gave up: %s", line)
	}
}

// takeMeanwhile has Fabric take files until stop is called.
func (w *soak) takeMeanwhile() (stop func()) {
	done := make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				w.fabric.takeAll()
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// settle lets a child catch up with a source that is quiet, and compares. Tables
// that were parked because their definition changed too often are asked for
// again.
func (w *soak) settle() {
	w.writes.arm(0, false)
	w.sends.arm(0, false)
	ended := w.start()
	conn, err := pgx.Connect(context.Background(), w.url())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	defer func() {
		w.mu.Lock()
		child := w.child
		w.mu.Unlock()
		if child != nil {
			_ = child.Process.Kill()
		}
		<-ended
		if w.t.Failed() {
			w.t.Logf("the mirrors said last:\n%s", strings.Join(w.said[max(0, len(w.said)-400):], "\n"))
		}
	}()
	const patience = 4 * time.Minute // as long as nothing changes
	deadline := time.Now().Add(patience)
	why := ""
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		select {
		case <-ended:
			ended = w.start() // a wrong moment to begin, as while PostgreSQL recovers
		default:
		}
		now := w.behind(conn)
		if now == "" { // what the slot was told last may have had a table built anew after we had looked at it
			now = w.behind(conn)
		}
		if now == "" {
			break
		}
		if now != why {
			why, deadline = now, time.Now().Add(patience)
		}
		if time.Now().After(deadline) || w.t.Failed() {
			w.t.Fatalf("waited in vain: %s", why)
		}
	}
	w.compare(conn)
}

// behind says what the mirror lacks, "" when nothing.
func (w *soak) behind(conn *pgx.Conn) string {
	ctx := context.Background()
	st, err := Status(ctx, w.zone)
	if err != nil {
		return err.Error()
	}
	published, err := postgres.PublishedTables(ctx, conn, soakPublications, postgres.WithLeaves)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, src := range published {
		i := slices.IndexFunc(st.Tables, func(x TableState) bool { return x.Schema == src.Schema && x.Name == src.Name })
		if i < 0 {
			return src.String() + " is not known yet"
		}
		x := st.Tables[i]
		if x.Phase == string(phaseParked) && strings.Contains(x.Reason, "it was built anew") {
			if err := Ask(ctx, w.zone, Request{Kind: Resync, Schema: src.Schema, Table: src.Name}); err != nil {
				w.t.Fatal(err)
			}
		} else if x.Phase == string(phaseParked) {
			w.t.Errorf("%s is parked: %s", &src, x.Reason)
		}
		if x.Phase != string(phaseReplicating) {
			return fmt.Sprintf("%s is %s: %s", &src, x.Phase, x.Reason)
		}
		s, err := load[tableState](ctx, w.zone, tableFile(src.Schema, src.Name))
		if err != nil {
			return err.Error()
		}
		if slices.ContainsFunc(s.value.Late, func(l lateLeaf) bool { return !l.Read }) {
			return fmt.Sprintf("%s has a partition that isn't read", &src)
		}
		w.fabric.mu.Lock()
		t := w.fabric.tables[landing.TableDir(src.Schema, src.Name)]
		untaken := t == nil || t.files < s.value.Number
		w.fabric.mu.Unlock()
		if untaken {
			return fmt.Sprintf("%s has files that aren't taken", &src)
		}
	}
	// The last change of the quiet source lies before what the slot has confirmed.
	var behind bool
	var at string
	if err := conn.QueryRow(ctx, `SELECT confirmed_flush_lsn < (SELECT max(lsn) FROM soak_end), confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, "s_"+w.db).Scan(&behind, &at); err != nil {
		if _, err := conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS soak_end AS SELECT pg_current_wal_lsn() AS lsn`); err != nil {
			w.t.Fatal(err)
		}
		return "the end is not noted"
	}
	if behind {
		_, _ = conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'soak', '')")
		return "the slot is behind, at " + at
	}
	return ""
}

var soakPublications = []string{"p", "p_log"}

// compare holds every table's rows against the source's.
func (w *soak) compare(conn *pgx.Conn) {
	ctx := context.Background()
	published, err := postgres.PublishedTables(ctx, conn, soakPublications, postgres.WithLeaves)
	if err != nil {
		w.t.Fatal(err)
	}
	rows := 0
	for _, src := range published {
		wrong, n := w.fabric.differs(w.endpoint(), src)
		rows += n
		for _, what := range wrong {
			w.t.Error(what)
		}
	}
	w.t.Logf("%d tables with %d rows are equal: %t, after %d kills", len(published), rows, !w.t.Failed(), w.died.sum())
}

func (w *soak) endpoint() postgres.Endpoint {
	return postgres.Endpoint{Host: w.cluster.Host, Port: w.cluster.Port, Database: w.db, User: "postgres", Password: "pw", SSLMode: "disable"}
}

// soakProxy stands between the child and PostgreSQL.
type soakProxy struct {
	port int
	to   string
	send func() (drop bool, then func())

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newSoakProxy(t *testing.T, to string, send func() (bool, func())) *soakProxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &soakProxy{port: ln.Addr().(*net.TCPAddr).Port, to: to, send: send, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { ln.Close(); p.cut() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *soakProxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, client)
		delete(p.conns, server)
		p.mu.Unlock()
	}()
	go func() {
		_, _ = io.Copy(client, server)
		client.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 {
			drop, then := p.send()
			if drop {
				return
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
			then()
		}
		if err != nil {
			return
		}
	}
}

// cut cuts every connection that there is.
func (p *soakProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// soakChild is what a child needs to know.
type soakChild struct {
	Port      int
	DB        string
	Lake, CA  string
	Fabric    string
	Spill     string
	Freshness time.Duration
}

type soakToken struct{}

func (soakToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// runSoakChild is the mirror that is killed. It ends by itself when it can't
// begin, as while PostgreSQL recovers.
func runSoakChild(settings string) {
	var o soakChild
	if err := json.Unmarshal([]byte(settings), &o); err != nil {
		fmt.Println("fault", err)
		os.Exit(1)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(o.CA))
	zone, err := fabric.NewOneLake(fabric.OneLakeOptions{Endpoint: o.Lake, Credential: soakToken{}, Workspace: soakWorkspace, Item: soakItem, Path: soakZone,
		HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}})
	if err != nil {
		fmt.Println("fault", err)
		os.Exit(1)
	}
	said := func(ctx context.Context) (out []FabricTable, err error) {
		r, err := http.Get(o.Fabric)
		if err != nil {
			return nil, err
		}
		defer r.Body.Close()
		return out, json.NewDecoder(r.Body).Decode(&out)
	}
	cfg := Config{
		Source: postgres.Endpoint{Host: "127.0.0.1", Port: o.Port, Database: o.DB, User: "postgres", Password: "pw", SSLMode: "disable"},
		Slot:   "s_" + o.DB, Publications: soakPublications, Landing: zone, Freshness: 20 * time.Millisecond, Workers: 3, Budget: 2 << 20,
		Spill:  &postgres.Spill{Dir: o.Spill, MemoryBytes: 64 << 10, MaxBytes: 64 << 20},
		Events: func(e Event) { fmt.Println(e.Kind, e.Table, e.Number, e.Rows, e.LSN, e.Reason) },
		Fabric: said,
		retry:  func(int) time.Duration { return 20 * time.Millisecond }, Watch: 300 * time.Millisecond, idle: 100 * time.Millisecond,
	}
	err = Run(context.Background(), cfg)
	var fault *Fault
	if errors.As(err, &fault) {
		fmt.Println("fault", fault.Code, err)
		os.Exit(1)
	}
	fmt.Println("ended", err)
	os.Exit(0)
}
