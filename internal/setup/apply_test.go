package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

// lagging is a world whose reads lag behind its writes.
type lagging struct {
	done  map[string]bool
	stale int // reads that still see the old value
	calls []string
}

type fakeStep struct {
	name, needs, consent string
	w                    *lagging
	never                bool // its write is never seen
	early                int  // its first writes come too early
}

func (s fakeStep) Name() string { return s.name }

func (s fakeStep) Check(context.Context, *Facts) (Finding, error) {
	if s.w.stale > 0 {
		s.w.stale--
		return Finding{Action: Create, Reason: "Missing", Items: []string{s.name}}, nil
	}
	if s.w.done[s.name] && !s.never {
		return asWanted(""), nil
	}
	f := Finding{Action: Create, Reason: "Missing", Items: []string{s.name}, Consent: s.consent}
	if s.needs != "" && !s.w.done[s.needs] {
		f.After = s.needs
	}
	return f, nil
}

func (s fakeStep) Apply(context.Context, *Facts) error {
	s.w.calls = append(s.w.calls, s.name)
	if len(s.w.calls) <= s.early {
		return fmt.Errorf("start: %w", &fabric.Error{Status: 400, Code: "MirroredDatabaseNotReady"})
	}
	s.w.done[s.name], s.w.stale = true, 3
	return nil
}

func fakes() (*lagging, []Step) {
	w := &lagging{done: map[string]bool{}}
	return w, []Step{fakeStep{name: "identity", w: w}, fakeStep{name: "secret", needs: "identity", w: w}, fakeStep{name: "role", needs: "secret", w: w}}
}

// TestApplyWaitsUntilSeen: no step begins before the one ahead of it was seen, and
// none is written twice because a read lagged.
func TestApplyWaitsUntilSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, steps := fakes()
		approved, err := Plan(t.Context(), steps, &Facts{})
		if err != nil {
			t.Fatal(err)
		}
		last := map[string]Action{}
		if err := Apply(t.Context(), steps, &Facts{}, approved, func(e Event) { last[e.Step] = e.Finding.Action }); err != nil {
			t.Fatal(err)
		}
		if want := []string{"identity", "secret", "role"}; !slices.Equal(w.calls, want) {
			t.Errorf("writes: got %q, want %q", w.calls, want)
		}
		for _, s := range steps {
			if last[s.Name()] != None {
				t.Errorf("%s was last seen as %q", s.Name(), last[s.Name()])
			}
		}
	})
}

func TestApplyRefusesWhatWasNotShown(t *testing.T) {
	w, steps := fakes()
	w.done = map[string]bool{"identity": true, "secret": true, "role": true}
	approved, err := Plan(t.Context(), steps, &Facts{})
	if err != nil {
		t.Fatal(err)
	}
	delete(w.done, "role") // somebody dropped it while the plan was on the screen
	var stale *NotApprovedError
	err = Apply(t.Context(), steps, &Facts{}, approved, func(Event) {})
	if !errors.As(err, &stale) || stale.Now.Step != "role" || Code(err) != "PlanStale" || len(w.calls) > 0 {
		t.Errorf("got %v and writes %q, want a refusal", err, w.calls)
	}
}

func TestApplyGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &lagging{done: map[string]bool{}}
		steps := []Step{fakeStep{name: "deaf", w: w, never: true}}
		approved, err := Plan(t.Context(), steps, &Facts{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var late *TimeoutError
		err = Apply(t.Context(), steps, &Facts{}, approved, func(Event) {})
		if !errors.As(err, &late) || len(w.calls) != 1 || time.Since(start) < 3*time.Minute {
			t.Errorf("got %v after %v and writes %q, want a timeout after one write", err, time.Since(start), w.calls)
		}
	})
}

// TestApplyAsksAgain: what Fabric isn't ready for yet is asked for again, as long
// as the step's patience lasts.
func TestApplyAsksAgain(t *testing.T) {
	for early, want := range map[int]string{4: "", 1 << 30: "TimedOut"} {
		synctest.Test(t, func(t *testing.T) {
			w := &lagging{done: map[string]bool{}}
			steps := []Step{fakeStep{name: "start", w: w, early: early}}
			approved, err := Plan(t.Context(), steps, &Facts{})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err = Apply(t.Context(), steps, &Facts{}, approved, func(Event) {})
			if Code(err) != want || want == "" && len(w.calls) != early+1 || time.Since(start) > 4*time.Minute {
				t.Errorf("too early %d times: got %v after %v and %d writes, want %q", early, err, time.Since(start), len(w.calls), want)
			}
		})
	}
}

// slowStep takes longer to look at than one is ready to wait for it.
type slowStep struct{ *Clients }

func (slowStep) Name() string { return "slow" }

func (slowStep) Check(ctx context.Context, _ *Facts) (Finding, error) {
	if err := pause(ctx, 10*time.Second); err != nil {
		return Finding{}, err
	}
	return Finding{Action: Wait, Reason: "NotThere", Have: "what a person has to do", Code: "EnableFailed"}, nil
}

func (slowStep) Apply(context.Context, *Facts) error { return nil }

// TestShortPatienceStillLooks: a time-out tells what was seen, also when one look
// takes longer than the patience.
func TestShortPatienceStillLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := slowStep{&Clients{limit: 3 * time.Second}}
		start := time.Now()
		err := Apply(t.Context(), []Step{step}, &Facts{}, []Finding{{Step: "slow", Action: Wait}}, func(Event) {})
		if Code(err) != "EnableFailed" || time.Since(start) != 10*time.Second {
			t.Errorf("got %v, code %q, after %v; want what the first look saw", err, Code(err), time.Since(start))
		}
	})
}

func TestConsentIsAskedBeforeAnyWrite(t *testing.T) {
	w := &lagging{done: map[string]bool{}}
	steps := []Step{fakeStep{name: "harmless", w: w}, fakeStep{name: "restart", consent: "restart", w: w}}
	approved, err := Plan(t.Context(), steps, &Facts{})
	if err != nil {
		t.Fatal(err)
	}
	var consent *ConsentError
	if err := Apply(t.Context(), steps, &Facts{}, approved, func(Event) {}); !errors.As(err, &consent) || len(w.calls) > 0 {
		t.Errorf("got %v and writes %q", err, w.calls)
	}
}

func TestCovers(t *testing.T) {
	for name, tt := range map[string]struct {
		want, now Finding
		ok        bool
	}{
		"less":              {Finding{Action: Create}, Finding{Action: None}, true},
		"create for update": {Finding{Action: Update}, Finding{Action: Create}, true},
		"nothing approved":  {Finding{Action: None}, Finding{Action: Update}, false},
		"not judged":        {Finding{Action: Wait}, Finding{Action: Create}, false},
		"restart":           {Finding{Action: Update}, Finding{Action: Restart}, false},
		"fewer items":       {Finding{Action: Update, Items: []string{"a", "b"}}, Finding{Action: Update, Items: []string{"b"}}, true},
		"another item":      {Finding{Action: Update, Items: []string{"a"}}, Finding{Action: Update, Items: []string{"a", "c"}}, false},
		"new consent":       {Finding{Action: Update}, Finding{Action: Update, Consent: "reseed", Allowed: true}, false},
		"blocked":           {Finding{Action: Create}, Finding{Action: Blocked}, false},
	} {
		if got := covers(tt.want, tt.now); got != tt.ok {
			t.Errorf("%s: got %t, want %t", name, got, tt.ok)
		}
	}
}

// TestEveryCodeIsExplained reads the sources: a code that is given without an
// explanation, or explained and never given, is a fault.
func TestEveryCodeIsExplained(t *testing.T) {
	given := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`"([A-Z][A-Za-z]+)"`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if file == "codes.go" || strings.HasSuffix(file, "_test.go") { // tests name the services' own codes too
			continue
		}
		for _, m := range word.FindAllStringSubmatch(string(text), -1) {
			given[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`(?:blocked\(|, Code: )"([A-Za-z]+)"`).FindAllStringSubmatch(string(text), -1) {
			if _, ok := Explain(m[1]); !ok {
				t.Errorf("%s gives %s, which nothing explains", file, m[1])
			}
		}
	}
	for _, c := range Codes() {
		if !given[c] {
			t.Errorf("%s is explained and never given", c)
		}
		if x, _ := Explain(c); x.Sentence == "" || x.Remedy == "" {
			t.Errorf("%s lacks a sentence or a remedy", c)
		}
	}
}

func TestNativeTypes(t *testing.T) {
	for typmod, want := range map[int32]string{-1: "NumericLosesFraction", 12<<16 | 2 + 4: "", 40<<16 | 2 + 4: "NumericBecomesNull"} {
		got := ""
		if notes := numericLoss("c", typmod); len(notes) > 0 {
			got = notes[0].Code
		}
		if got != want {
			t.Errorf("numeric of modifier %d: got %q, want %q", typmod, got, want)
		}
	}
}
