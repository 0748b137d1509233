package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/mirror"
)

// TestRunView: every event that has something to say says it to people.
func TestRunView(t *testing.T) {
	for _, test := range []struct {
		event mirror.Event
		says  string
	}{
		{mirror.Event{Kind: mirror.Rebuilding, Table: "public.t", Reason: "a column's type changed"}, "public.t is built anew: a column's type changed"},
		{mirror.Event{Kind: mirror.Ignored, Table: "public.t", Rows: 2, Reason: "no key"}, "public.t: 2 changes ignored: no key"},
		{mirror.Event{Kind: mirror.Waiting, Reason: "the transaction of pid 7 to end"}, "waiting for the transaction of pid 7 to end"},
		{mirror.Event{Kind: mirror.Reseeding, Reason: "the slot is gone"}, "every table is copied anew: the slot is gone"},
		{mirror.Event{Kind: mirror.Parked, Table: "public.t", Reason: "NaN"}, "next: pgmirror tables resync public.t"},
		{mirror.Event{Kind: mirror.Paced, Wait: 15 * time.Second, Took: 300 * time.Second}, "behind: changes wait up to 15.0 s"},
		{mirror.Event{Kind: mirror.NoLook, Reason: "503"}, "Fabric could not be asked how its tables are: 503"},
		{mirror.Event{Kind: mirror.Retrying, Reason: "the server is gone", Wait: 2 * time.Second}, "the server is gone; trying again in 2.0 s"},
		{mirror.Event{Kind: mirror.SlotHealth, Slot: &mirror.Slot{WALStatus: "unreserved", RetainedBytes: 2048}}, "holds 2.0 KiB of WAL (unreserved)"},
		{mirror.Event{Kind: "newer", Table: "public.t", Reason: "why"}, "newer public.t: why"},
	} {
		var out, told bytes.Buffer
		v := &runView{s: streams{Out: &out, Err: &told}}
		v.event(test.event)
		if !strings.Contains(told.String(), test.says) || out.Len() > 0 {
			t.Errorf("%s: said %q to people and %q to programs, want %q to people", test.event.Kind, told.String(), out.String(), test.says)
		}
	}
}
