package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/mirror"
)

func TestGone(t *testing.T) {
	list := func(context.Context) ([]mirror.FabricTable, error) {
		return []mirror.FabricTable{{Schema: "Public", Table: "orders"}}, nil
	}
	for table, want := range map[string]bool{"orders": false, "Orders": false, "order": true} {
		if got, err := gone(list)(t.Context(), "public", table); got != want || err != nil {
			t.Errorf("%s is gone: %t, %v; want %t", table, got, err, want)
		}
	}
	silent := func(context.Context) ([]mirror.FabricTable, error) { return nil, errors.New("no answer") }
	if got, err := gone(silent)(t.Context(), "public", "orders"); got || err == nil {
		t.Error("a table counts as gone when Fabric doesn't answer")
	}
}

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
