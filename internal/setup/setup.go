// Package setup makes a PostgreSQL server ready to be mirrored.
//
// Everything that it knows about the outside world it learns from Step.Check:
// plan, apply and reading back are ways of calling it. There is no state file.
// The world is the state, and a run that died is resumed by running again.
package setup

import (
	"context"
	"time"
)

// Step is one thing that has to be true before a database is mirrored.
type Step interface {
	Name() string

	// Check looks and does not touch. An error means that it could not look; a
	// difference between have and want is a Finding, not an error. Check is the
	// only place that fills Facts.
	Check(context.Context, *Facts) (Finding, error)

	// Apply makes a later Check return None. It may be called again after a
	// failure at any point inside it. It is never called for None, Wait or
	// Blocked.
	Apply(context.Context, *Facts) error
}

// Event is what Apply tells while it works.
type Event struct {
	Kind    EventKind     `json:"kind"`
	Step    string        `json:"step"`
	Finding Finding       `json:"finding"`           // what was last seen of the step
	What    string        `json:"what,omitempty"`    // Waiting: what for
	Elapsed time.Duration `json:"elapsed,omitempty"` // Waiting: since when
	Limit   time.Duration `json:"limit,omitempty"`   // Waiting: until when at most
}

// EventKind is the kind of an Event.
type EventKind string

const (
	Checked  EventKind = "checked"  // a step was looked at
	Applying EventKind = "applying" // a step's writes begin
	Waiting  EventKind = "waiting"  // the world has to catch up
	Done     EventKind = "done"     // a step was changed, and the change was seen
	Later    EventKind = "later"    // a step is left for a later run
)

// Plan checks every step, in order, and changes nothing. It goes on past blocked
// steps, so that all of them are told at once; the error is a *StepError or a
// *TimeoutError, and the findings until then come with it. It blocks while the
// server restarts, for some minutes at most.
func Plan(ctx context.Context, steps []Step, facts *Facts) ([]Finding, error) {
	var plan []Finding
	for _, s := range steps {
		r := runner{s, facts, func(Event) {}, time.Now(), passingPatience}
		f, err := r.look(ctx, func(f Finding) bool { return !f.passing })
		if err != nil {
			return plan, err
		}
		plan = append(plan, f)
	}
	return plan, nil
}

// passingPatience is how long a plan waits for a server that is restarting: until
// it answers, nothing that it holds can be judged.
const passingPatience = 5 * time.Minute

func check(ctx context.Context, s Step, facts *Facts) (Finding, error) {
	f, err := s.Check(ctx, facts)
	if err != nil {
		return Finding{}, &StepError{s.Name(), "check", err}
	}
	f.Step = s.Name()
	if facts.IfReady && (f.awaited() || facts.waiting[f.After]) {
		f.Action, facts.waiting = Await, with(facts.waiting, f.Step)
	}
	facts.note(f.Step, f.Action != None)
	return f, nil
}
