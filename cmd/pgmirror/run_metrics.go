package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/store"
)

// runMetrics is what a run tells monitoring: what its events said last, and what
// the landing zone's state says of its tables.
type runMetrics struct {
	mirror string
	zone   store.Store
	addr   net.Addr
	now    func() time.Time

	mu        sync.Mutex
	tables    map[string]*tableMetrics
	slot      *mirror.Slot
	slotAt    time.Time // when it was looked at
	heard     time.Time // when it was, or a position was confirmed; at first when the run began
	confirmed landing.LSN
	snapshot  mirror.Event // the last progress
	retries   int64
	pace, lag time.Duration
	trouble   string // why the last attempt failed; "" once the next one gets on
	waits     string // what the making of the slot waits for
	lookFault error
}

type tableMetrics struct {
	phase      string
	files      int64
	rows       int64 // published by this process
	ignored    int64
	lsn        landing.LSN
	committed  time.Time
	chunks     int
	chunksDone int
}

// stateEvery is how often the state files are read: a scrape costs nothing.
const stateEvery = 30 * time.Second

// A run looks at its slot every ten seconds or so, between which it may have to wait
// a minute for Fabric.
const (
	slotFresh = 2 * time.Minute // what was seen of the slot is told that long
	slotQuiet = 5 * time.Minute // a run that hears nothing of its slot doesn't go on
)

func newRunMetrics(name string, zone store.Store) *runMetrics {
	return &runMetrics{mirror: name, zone: zone, tables: map[string]*tableMetrics{}, now: time.Now, heard: time.Now()}
}

// serve answers at addr until stop is called. An address without a host is on
// this machine only.
func (m *runMetrics) serve(ctx context.Context, addr string) (stop func(), err error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, &failure{Exit: exitError, Code: "MetricsAddress", Err: fmt.Errorf("serve metrics: %w", err), Next: "pgmirror run --metrics :0"}
	}
	m.addr = ln.Addr()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", m.serveMetrics)
	mux.HandleFunc("GET /healthz", m.serveHealth)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(ln) }) // it ends by Close, and its error says only that
	wg.Go(func() {
		for m.look(ctx); pause(ctx, stateEvery) == nil; {
			m.look(ctx)
		}
	})
	return func() { cancel(); server.Close(); wg.Wait() }, nil
}

func (m *runMetrics) table(name string) *tableMetrics {
	t := m.tables[name]
	if t == nil {
		t = &tableMetrics{}
		m.tables[name] = t
	}
	return t
}

// event takes over what happened.
func (m *runMetrics) event(e mirror.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.Kind {
	case mirror.Published:
		t := m.table(e.Table)
		t.rows += e.Rows
		t.files = e.Number
		t.lsn, t.committed = max(t.lsn, e.LSN), e.CommitTime
	case mirror.TableCopied:
		m.table(e.Table).phase = "replicating"
	case mirror.Parked:
		m.table(e.Table).phase = "parked"
	case mirror.Rebuilding:
		m.table(e.Table).phase = "rebuilding"
	case mirror.Ignored:
		m.table(e.Table).ignored += e.Rows
	case mirror.SnapshotProgress, mirror.SnapshotDone:
		m.snapshot = e
		m.waits = ""
	case mirror.SnapshotStarted, mirror.Streaming: // the slot is made; whether it goes on from there is to be seen
		m.waits = ""
	case mirror.Confirmed:
		m.confirmed = e.LSN
		m.hear()
	case mirror.SlotHealth:
		m.slot, m.slotAt = e.Slot, m.now()
		m.hear()
	case mirror.Waiting:
		if e.Table == "" {
			m.waits = e.Reason
		}
	case mirror.Paced:
		m.pace, m.lag = e.Wait, e.Took
	case mirror.Retrying:
		m.retries++
		m.trouble, m.waits = e.Reason, ""
	}
}

// hear notes a sign that the run gets on with its slot.
func (m *runMetrics) hear() { m.heard, m.trouble, m.waits = m.now(), "", "" }

// ill says why the run doesn't go on at this moment; "" when it does.
func (m *runMetrics) ill() string {
	quiet := m.now().Sub(m.heard)
	switch {
	case m.trouble != "":
		return m.trouble
	case m.waits != "":
		return "waiting for " + m.waits
	case m.slot != nil && m.slot.WALStatus == "lost":
		return "the slot is lost"
	case quiet > slotQuiet:
		return "nothing was heard of the slot for " + seconds(quiet)
	}
	return ""
}

// look reads the state files: a table's phase is seen nowhere else as a whole.
func (m *runMetrics) look(ctx context.Context) {
	st, err := mirror.Status(ctx, m.zone)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookFault = err
	if err != nil { // tried again; what is known stays
		return
	}
	m.confirmed = max(m.confirmed, st.Acked)
	known := map[string]bool{}
	for _, s := range st.Tables {
		name := s.Schema + "." + s.Name
		known[name] = true
		t := m.table(name)
		t.phase, t.files, t.chunks, t.chunksDone = s.Phase, s.Files, s.Chunks, s.ChunksDone
		t.lsn = max(t.lsn, s.Position.CommitLSN)
	}
	maps.DeleteFunc(m.tables, func(name string, _ *tableMetrics) bool { return !known[name] })
}

// serveHealth says 200 while the mirror goes on, 503 with the reason while it
// doesn't. A parked table is one table's fault and doesn't count.
func (m *runMetrics) serveHealth(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	trouble := m.ill()
	m.mu.Unlock()
	if trouble != "" {
		http.Error(w, trouble, http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ok\n")
}

func (m *runMetrics) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(m.exposition())
}

// exposition is everything in Prometheus' text format.
func (m *runMetrics) exposition() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := exposition{labels: "mirror=" + label(m.mirror)}
	m.writeTables(&x)
	m.writeSlot(&x)
	x.one("snapshot_rows", "gauge", "Rows copied by the snapshot that runs or ran last.", m.snapshot.Rows)
	x.one("snapshot_bytes", "gauge", "Bytes copied by it.", m.snapshot.Bytes)
	x.one("snapshot_rows_per_second", "gauge", "Its rate so far.", perSecond(m.snapshot.Rows, m.snapshot.Took))
	x.one("coalescing_seconds", "gauge", "How long changes wait for others to share their file; 0 before the first look.", m.pace.Seconds())
	x.one("fabric_lag_seconds", "gauge", "How late Fabric says that its last changes were, when the above last changed.", m.lag.Seconds())
	x.one("retries_total", "counter", "Attempts that failed and were made again.", m.retries)
	x.one("healthy", "gauge", "0 while /healthz says 503: the run doesn't go on.", truth(m.ill() == ""))
	x.one("state_readable", "gauge", "0 when the landing zone's state could not be read: phases are old then.",
		truth(m.lookFault == nil || errors.Is(m.lookFault, mirror.ErrNoMirror)))
	return x.Bytes()
}

func (m *runMetrics) writeTables(x *exposition) {
	names := slices.Sorted(maps.Keys(m.tables))
	each := func(name, kind, help string, value func(*tableMetrics) any) {
		x.family(name, kind, help)
		for _, table := range names {
			if v := value(m.tables[table]); v != nil {
				x.sample(name, v, "table", table)
			}
		}
	}
	each("table_rows_published_total", "counter", "Rows published by this process, of snapshots and of changes.", func(t *tableMetrics) any { return t.rows })
	each("table_files", "gauge", "Files published since the table was last built.", func(t *tableMetrics) any { return t.files })
	each("table_changes_ignored_total", "counter", "Updates and deletes of a table without a key.", func(t *tableMetrics) any { return t.ignored })
	each("table_last_commit_timestamp_seconds", "gauge", "When the last published transaction committed in PostgreSQL.", func(t *tableMetrics) any {
		if t.committed.IsZero() {
			return nil
		}
		return fmt.Sprintf("%.3f", float64(t.committed.UnixMilli())/1000)
	})
	each("table_last_lsn_bytes", "gauge", "Position of the last published transaction.", func(t *tableMetrics) any { return uint64(t.lsn) })
	each("table_snapshot_chunks", "gauge", "Chunks of the table's snapshot.", func(t *tableMetrics) any { return t.chunks })
	each("table_snapshot_chunks_done", "gauge", "Chunks of it that are published.", func(t *tableMetrics) any { return t.chunksDone })
	x.family("table_phase", "gauge", "1 for the phase that the table is in.")
	for _, table := range names {
		if p := m.tables[table].phase; p != "" {
			x.sample("table_phase", 1, "table", table, "phase", p)
		}
	}
}

func (m *runMetrics) writeSlot(x *exposition) {
	x.one("confirmed_lsn_bytes", "gauge", "What the slot was told is durable.", uint64(m.confirmed))
	if m.slot == nil || m.now().Sub(m.slotAt) > slotFresh {
		return // an old look would be taken for the slot as it is
	}
	x.one("slot_retained_wal_bytes", "gauge", "WAL that the server keeps for the slot.", m.slot.RetainedBytes)
	if m.slot.SafeWALSize >= 0 { // the server has a limit
		x.one("slot_safe_wal_bytes", "gauge", "WAL that may be written before the slot is in danger.", m.slot.SafeWALSize)
	}
	x.family("slot_wal_status", "gauge", "1 for the state that the slot's WAL is in.")
	x.sample("slot_wal_status", 1, "status", m.slot.WALStatus)
}

// exposition is metrics in Prometheus' text format 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/
type exposition struct {
	bytes.Buffer
	labels string // of every sample
}

func (x *exposition) family(name, kind, help string) {
	fmt.Fprintf(x, "# HELP pgmirror_%s %s\n# TYPE pgmirror_%s %s\n", name, help, name, kind)
}

func (x *exposition) sample(name string, value any, labels ...string) {
	fmt.Fprintf(x, "pgmirror_%s{%s", name, x.labels)
	for i := 0; i+1 < len(labels); i += 2 {
		fmt.Fprintf(x, ",%s=%s", labels[i], label(labels[i+1]))
	}
	fmt.Fprintf(x, "} %v\n", value)
}

// one is a family of one sample.
func (x *exposition) one(name, kind, help string, value any) {
	x.family(name, kind, help)
	x.sample(name, value)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// label quotes a label's value.
func label(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(v) + `"`
}
