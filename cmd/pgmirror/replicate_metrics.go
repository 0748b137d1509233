package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pgmirror/pgmirror/internal/replicator"
)

// replicateMetrics is what a replicate tells monitoring: the tables' status, and
// sums of its events.
type replicateMetrics struct {
	addr   net.Addr
	status func() []replicator.TableStatus

	mu     sync.Mutex
	tables map[string]*replicateSums
}

// replicateSums is what this process did to a table.
type replicateSums struct {
	commits, rows, faults int64
	took                  time.Duration
	committed             time.Time // at the source
}

func newReplicateMetrics() *replicateMetrics {
	return &replicateMetrics{tables: map[string]*replicateSums{}}
}

func (m *replicateMetrics) event(e replicator.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := e.Schema + "." + e.Table
	if e.Dropped {
		delete(m.tables, name)
		return
	}
	t := m.tables[name]
	if t == nil {
		t = &replicateSums{}
		m.tables[name] = t
	}
	if e.Err != nil {
		t.faults++
		return
	}
	t.commits, t.rows, t.took = t.commits+1, t.rows+e.Rows, t.took+e.Took
	if !e.CommitTime.IsZero() {
		t.committed = e.CommitTime
	}
}

// serve answers at addr until stop is called. An address without a host is on
// this machine only.
func (m *replicateMetrics) serve(ctx context.Context, addr string, status func() []replicator.TableStatus) (stop func(), err error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, &failure{Exit: exitError, Code: "MetricsAddress", Err: fmt.Errorf("serve metrics: %w", err), Next: "pgmirror replicate --help"}
	}
	m.addr, m.status = ln.Addr(), status
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Write(m.exposition())
	})
	// One table's fault is one table's fault: the process is well while it runs.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(ln) }) // it ends by Close, and its error says only that
	return func() { server.Close(); wg.Wait() }, nil
}

// exposition is everything in Prometheus' text format.
func (m *replicateMetrics) exposition() []byte {
	list := m.status()
	m.mu.Lock()
	defer m.mu.Unlock()
	x := exposition{labels: "mode=" + label("replicate")}
	each := func(name, kind, help string, value func(replicator.TableStatus, replicateSums) any) {
		x.family(name, kind, help)
		for _, t := range list {
			table := t.Schema + "." + t.Table
			sums := replicateSums{}
			if s := m.tables[table]; s != nil {
				sums = *s
			}
			if v := value(t, sums); v != nil {
				x.sample(name, v, "table", table)
			}
		}
	}
	type st = replicator.TableStatus
	each("replicate_table_commits_total", "counter", "Commits of this process that applied files.", func(_ st, s replicateSums) any { return s.commits })
	each("replicate_table_commit_seconds_total", "counter", "Time that they took.", func(_ st, s replicateSums) any { return s.took.Seconds() })
	each("replicate_table_rows_total", "counter", "Rows in the files that they applied.", func(_ st, s replicateSums) any { return s.rows })
	each("replicate_table_faults_total", "counter", "Faults that were told.", func(_ st, s replicateSums) any { return s.faults })
	each("replicate_table_version", "gauge", "Version of the Delta table.", func(t st, _ replicateSums) any { return t.Version })
	each("replicate_table_last_file", "gauge", "Number of the last file applied.", func(t st, _ replicateSums) any { return t.LastFile })
	each("replicate_table_failed", "gauge", "1 while the table has a fault that its publisher has to mend.", func(t st, _ replicateSums) any { return truth(t.State == replicator.Failed) })
	each("replicate_table_last_sync_timestamp_seconds", "gauge", "When the last commit was made.", func(t st, _ replicateSums) any { return unixSeconds(t.LastSync) })
	each("replicate_table_last_commit_timestamp_seconds", "gauge", "When the last transaction in it committed at the source.", func(_ st, s replicateSums) any { return unixSeconds(s.committed) })
	return x.Bytes()
}

func unixSeconds(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000)
}
