package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/mirror"
)

func TestRunMetrics(t *testing.T) {
	m := newRunMetrics(`sh"op`, openDir(t, t.TempDir()))
	stop, err := m.serve(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if !strings.HasPrefix(m.addr.String(), "127.0.0.1:") {
		t.Errorf("an address without a host listens at %s", m.addr)
	}
	at := time.UnixMilli(1_700_000_000_250)
	for _, e := range []mirror.Event{
		{Kind: mirror.SnapshotProgress, Rows: 500, Bytes: 9000, Took: 2 * time.Second},
		{Kind: mirror.TableCopied, Table: "public.orders", Rows: 500},
		{Kind: mirror.Published, Table: "public.orders", Number: 7, Rows: 3, LSN: 0x10, CommitTime: at},
		{Kind: mirror.Published, Table: "public.orders", Number: 8, Rows: 4, LSN: 0x20, CommitTime: at},
		{Kind: mirror.Parked, Table: "public.odd", Reason: "x"},
		{Kind: mirror.Confirmed, LSN: 0x20},
		{Kind: mirror.Paced, Wait: 15 * time.Second, Took: 5 * time.Minute},
		{Kind: mirror.SlotHealth, Slot: &mirror.Slot{WALStatus: "extended", RetainedBytes: 99, SafeWALSize: -1}},
	} {
		m.event(e)
	}
	_, text := get(t, m, "/metrics")
	for _, want := range []string{
		`pgmirror_table_rows_published_total{mirror="sh\"op",table="public.orders"} 7`,
		`pgmirror_table_files{mirror="sh\"op",table="public.orders"} 8`,
		`pgmirror_table_last_commit_timestamp_seconds{mirror="sh\"op",table="public.orders"} 1700000000.250`,
		`pgmirror_table_last_lsn_bytes{mirror="sh\"op",table="public.orders"} 32`,
		`pgmirror_table_phase{mirror="sh\"op",table="public.odd",phase="parked"} 1`,
		`pgmirror_confirmed_lsn_bytes{mirror="sh\"op"} 32`,
		`pgmirror_slot_retained_wal_bytes{mirror="sh\"op"} 99`,
		`pgmirror_slot_wal_status{mirror="sh\"op",status="extended"} 1`,
		`pgmirror_snapshot_rows_per_second{mirror="sh\"op"} 250`,
		`pgmirror_coalescing_seconds{mirror="sh\"op"} 15`,
		`pgmirror_fabric_lag_seconds{mirror="sh\"op"} 300`,
		`pgmirror_retries_total{mirror="sh\"op"} 0`,
		`pgmirror_healthy{mirror="sh\"op"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	m.mu.Lock()
	m.now = func() time.Time { return time.Now().Add(slotFresh + time.Second) }
	m.mu.Unlock()
	if _, later := get(t, m, "/metrics"); strings.Contains(later, "pgmirror_slot_") || !strings.Contains(later, "pgmirror_confirmed_lsn_bytes") {
		t.Error("what was seen of the slot is told for ever")
	}
	if strings.Contains(text, "safe_wal") {
		t.Error("a safe_wal_size is told where the server has no limit")
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) pgmirror_[a-z_]+ .+|pgmirror_[a-z_]+\{([a-z]+="(\\.|[^"\\])*",?)+\} [0-9.]+)$`)
	for l := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if !line.MatchString(l) {
			t.Errorf("not in the text format: %s", l)
		}
	}
}

// TestHealth: it turns when an attempt fails, when a slot can't be made, and when
// nothing is heard of it; and back by a sign of the slot.
func TestHealth(t *testing.T) {
	m := newRunMetrics("shop", openDir(t, t.TempDir()))
	stop, err := m.serve(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	began, good := time.Now(), &mirror.Slot{WALStatus: "reserved"}
	for _, step := range []struct {
		event mirror.Event
		after time.Duration
		code  int
		says  string
	}{
		{mirror.Event{Kind: mirror.Waiting, Reason: "a transaction to end"}, 0, 503, "waiting for a transaction to end\n"},
		{mirror.Event{Kind: mirror.SnapshotStarted}, 0, 200, "ok\n"},
		{mirror.Event{Kind: mirror.Streaming}, 0, 200, "ok\n"},
		{mirror.Event{Kind: mirror.Parked, Table: "public.odd", Reason: "one table's fault"}, 0, 200, "ok\n"},
		{mirror.Event{Kind: mirror.Waiting, Table: "public.odd", Reason: "its lock"}, 0, 200, "ok\n"},
		{mirror.Event{Kind: mirror.Retrying, Reason: "the server is gone"}, 0, 503, "the server is gone\n"},
		{mirror.Event{Kind: mirror.Streaming}, 0, 503, "the server is gone\n"}, // it may fail just after
		{mirror.Event{Kind: mirror.SlotHealth, Slot: good}, 0, 200, "ok\n"},
		{mirror.Event{Kind: mirror.Retrying, Reason: "again"}, 0, 503, "again\n"},
		{mirror.Event{Kind: mirror.Confirmed, LSN: 1}, 0, 200, "ok\n"},
		{mirror.Event{Kind: mirror.Published, Table: "public.orders"}, slotQuiet + time.Minute, 503, "nothing was heard of the slot for 6m00s\n"},
		{mirror.Event{Kind: mirror.SlotHealth, Slot: good}, slotQuiet + time.Minute, 200, "ok\n"},
		{mirror.Event{Kind: mirror.SlotHealth, Slot: &mirror.Slot{WALStatus: "lost"}}, slotQuiet + time.Minute, 503, "the slot is lost\n"},
	} {
		m.mu.Lock()
		m.now = func() time.Time { return began.Add(step.after) }
		m.mu.Unlock()
		m.event(step.event)
		if code, says := get(t, m, "/healthz"); code != step.code || says != step.says {
			t.Errorf("after %s: %d %q, want %d %q", step.event.Kind, code, says, step.code, step.says)
		}
	}
	if _, err := newRunMetrics("shop", nil).serve(t.Context(), m.addr.String()); err == nil {
		t.Error("an address in use was taken")
	}
}

func get(t *testing.T, m *runMetrics, path string) (code int, body string) {
	t.Helper()
	r, err := http.Get("http://" + m.addr.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}
