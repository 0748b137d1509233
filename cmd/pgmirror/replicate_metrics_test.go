package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/replicator"
)

func TestReplicateMetrics(t *testing.T) {
	m := newReplicateMetrics()
	stop, err := m.serve(t.Context(), ":0", func() []replicator.TableStatus {
		return []replicator.TableStatus{{Schema: "public", Table: `a"b`, State: replicator.Failed, Version: 7, LastFile: 9}}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if !strings.HasPrefix(m.addr.String(), "127.0.0.1:") {
		t.Errorf("listens at %s, want loopback", m.addr)
	}
	m.event(replicator.Event{Schema: "public", Table: `a"b`, Rows: 5, Took: time.Second, CommitTime: time.Unix(1e9, 0)})
	m.event(replicator.Event{Schema: "public", Table: `a"b`, Err: io.EOF})
	resp, err := http.Get("http://" + m.addr.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`pgmirror_replicate_table_commits_total{mode="replicate",table="public.a\"b"} 1`,
		`pgmirror_replicate_table_commit_seconds_total{mode="replicate",table="public.a\"b"} 1`,
		`pgmirror_replicate_table_rows_total{mode="replicate",table="public.a\"b"} 5`,
		`pgmirror_replicate_table_faults_total{mode="replicate",table="public.a\"b"} 1`,
		`pgmirror_replicate_table_version{mode="replicate",table="public.a\"b"} 7`,
		`pgmirror_replicate_table_failed{mode="replicate",table="public.a\"b"} 1`,
		`pgmirror_replicate_table_last_commit_timestamp_seconds{mode="replicate",table="public.a\"b"} 1000000000.000`,
	} {
		if !strings.Contains(string(body), want+"\n") {
			t.Errorf("%s is not in\n%s", want, body)
		}
	}
}
