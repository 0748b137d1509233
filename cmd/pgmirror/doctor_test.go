package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
)

func TestJudgeMirror(t *testing.T) {
	table := func(status string, rows int64) fabric.TableStatus {
		return fabric.TableStatus{Schema: "public", Table: "t", Status: status, ProcessedRows: rows}
	}
	failed := table("Replicating", 9)
	failed.ErrorCode = "UserError"
	for _, test := range []struct {
		name   string
		status string
		tables []fabric.TableStatus
		state  checkState
		code   string
	}{
		{"well", "Running", []fabric.TableStatus{table("Replicating", 5)}, checkOK, ""},
		{"no table", "Running", nil, checkBlocking, "RunningButEmpty"},
		{"tables without rows", "Running", []fabric.TableStatus{table("Replicating", 0), table("Initialized", 0)}, checkBlocking, "RunningButEmpty"},
		{"one is behind", "Running", []fabric.TableStatus{table("Replicating", 5), table("Snapshotting", 0)}, checkWarning, "TablesBehind"},
		{"failed while it says Replicating", "Running", []fabric.TableStatus{table("Replicating", 5), failed}, checkBlocking, "TableFailed"},
		{"failed", "Running", []fabric.TableStatus{table("Failed", 5)}, checkBlocking, "TableFailed"},
		{"paused", "Paused", []fabric.TableStatus{table("Replicating", 5)}, checkBlocking, "MirrorPaused"},
		{"stopped", "Stopped", []fabric.TableStatus{table("Stopped", 5)}, checkBlocking, "MirrorStopped"},
		{"starting", "Starting", nil, checkWarning, "MirrorStarting"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := judgeMirror(config.Native, fabric.MirroringStatus{Status: test.status}, test.tables)
			if got.State != test.state || got.Code != test.code || got.State != checkOK && got.Next == "" {
				t.Errorf("got %+v, want %s %s with something to do next", got, test.state, test.code)
			}
		})
	}
}

// TestRanked: what blocks comes first, and of that what others depend upon.
func TestRanked(t *testing.T) {
	r := report{found: []diagnosis{{Check: "a", State: checkOK}, {Check: "b", State: checkBlocking}, {Check: "c", State: checkSkipped},
		{Check: "d", State: checkWarning}, {Check: "e", State: checkBlocking}}}
	var got []string
	for _, d := range r.ranked() {
		got = append(got, d.Check)
	}
	if diff := cmp.Diff([]string{"b", "e", "d", "c", "a"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
