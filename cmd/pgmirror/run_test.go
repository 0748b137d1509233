package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
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
		{mirror.Event{Kind: mirror.Parked, Table: "public.odd name", Reason: "NaN"}, "next: pgmirror tables resync 'public.odd name'"},
		{mirror.Event{Kind: mirror.Parked, Table: "public.t", Reason: mirror.ReasonUnpublished}, "next: pgmirror tables remove public.t"},
		{mirror.Event{Kind: mirror.Parked, Table: "public.t", Reason: mirror.ReasonPaused}, "next: pgmirror tables resume public.t"},
		{mirror.Event{Kind: mirror.Parked, Table: "public.t", Reason: mirror.ReasonForgotten}, "public.t is taken out, as asked\n"},
		{mirror.Event{Kind: mirror.Paced, Wait: 15 * time.Second, Took: 300 * time.Second}, "behind: changes wait up to 15.0 s"},
		{mirror.Event{Kind: mirror.SpillFull, Reason: "no room to keep a transaction"}, "no room to keep a transaction; from now on the server keeps large transactions"},
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

// TestPrepares: a run that is long at its beginning says so, and one that has begun
// doesn't.
func TestPrepares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, begins := range []bool{false, true} {
			var told bytes.Buffer
			v := &runView{s: streams{Err: &told}}
			stop := v.prepares(prepareQuietly)
			if begins {
				v.event(mirror.Event{Kind: mirror.Published})
			}
			time.Sleep(2 * prepareQuietly)
			stop()
			if got := strings.Contains(told.String(), "preparing: "); got == begins {
				t.Errorf("with an event %v: told %q", begins, told.String())
			}
		}
	})
}

// TestParkedOnce: a table's parking is told once a run, and again when it is news.
func TestParkedOnce(t *testing.T) {
	parked := func(table, why string) mirror.Event {
		return mirror.Event{Kind: mirror.Parked, Table: table, Reason: why}
	}
	for _, json := range []bool{false, true} {
		var out, told bytes.Buffer
		v := &runView{s: streams{Out: &out, Err: &told}, json: json}
		for i, step := range []struct {
			event mirror.Event
			news  bool
		}{
			{parked("public.a", "NaN"), true},
			{parked("public.b", "NaN"), true},
			{parked("public.a", "NaN"), false}, // another round
			{parked("public.a", "a key is NULL"), true},
			{parked("public.b", "NaN"), false},
			{mirror.Event{Kind: mirror.Rebuilding, Table: "public.b"}, true},
			{parked("public.b", "NaN"), true},
		} {
			out.Reset()
			told.Reset()
			v.event(step.event)
			if got := out.Len()+told.Len() > 0; got != step.news {
				t.Errorf("json %v, step %d: told %v, want %v", json, i, got, step.news)
			}
		}
	}
}

// TestRefusedPassword: a password that is refused as it is kept is told once.
func TestRefusedPassword(t *testing.T) {
	var told bytes.Buffer
	v := &runView{s: streams{Err: &told}}
	v.refused("old", "new") // it was changed: tried first
	if told.Len() > 0 {
		t.Errorf("told %q of a password that is new", told.String())
	}
	v.refused("new", "new")
	v.refused("new", "new")
	if got := told.String(); strings.Count(got, "warning[RolePasswordWrong]: ") != 1 || !strings.Contains(got, "  next: pgmirror doctor\n") || strings.Contains(got, "new\n") {
		t.Errorf("told %q", got)
	}
}

// TestRunFailed: what ends a run is the last line for programs, too.
func TestRunFailed(t *testing.T) {
	var out bytes.Buffer
	v := &runView{s: streams{Out: &out}, json: true}
	err := fail(exitPrecondition, "SlotLost", "pgmirror run --reseed", "the slot is gone")
	if got := v.failed(t.Context(), err); got != err {
		t.Errorf("got %v, want the same error", got)
	}
	want := `^{"type":"event","time":"[^"]+","kind":"failed","code":"SlotLost","reason":"the slot is gone","next":"pgmirror run --reseed"}\n$`
	if !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("got %s", out.String())
	}
}

// docs/commands.md lists every kind of event.
func TestRunKindsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("../../internal/mirror/event.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `run` \\|.*$").FindString(string(doc))
	kinds := regexp.MustCompile(`EventKind = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) < 20 {
		t.Fatalf("found %d kinds", len(kinds))
	}
	for _, k := range append(kinds, []string{"", "failed"}) {
		if !regexp.MustCompile(`[ ,]` + k[1] + `[,;)]`).MatchString(row) {
			t.Errorf("docs/commands.md lacks run's kind %s", k[1])
		}
	}
}
