package setup

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/lease"
)

// Apply brings every step to None. It may do less than approved, never more: a
// plan that is blocked, or lacks a consent, is refused before the first write.
// It blocks until the mirror is proved to run. emit is called in order, from
// this goroutine.
func Apply(ctx context.Context, steps []Step, facts *Facts, approved []Finding, emit func(Event)) error {
	if len(approved) < len(steps) {
		return errors.New("the plan doesn't cover all steps")
	}
	if err := Refuse(approved[:len(steps)]); err != nil {
		return err
	}
	for i, s := range steps {
		r := runner{s, facts, emit, time.Now(), patience(s)}
		if err := r.bring(ctx, approved[i]); err != nil {
			return err
		}
	}
	return nil
}

// patience is how long a step may take to be seen as done.
func patience(s Step) time.Duration {
	if p, ok := s.(interface{ patienceLimit() time.Duration }); ok && p.patienceLimit() > 0 {
		return p.patienceLimit()
	}
	if p, ok := s.(interface{ Patience() time.Duration }); ok {
		return p.Patience()
	}
	return 3 * time.Minute
}

// runner sees one step through.
type runner struct {
	step  Step
	facts *Facts
	emit  func(Event)
	start time.Time
	limit time.Duration
}

// bring looks, writes if it may, and looks until the change is seen. A step may
// need several writes, each seen before the next; the same one is never made
// twice.
func (r *runner) bring(ctx context.Context, approved Finding) error {
	for written := ""; ; {
		f, err := r.look(ctx, func(f Finding) bool {
			return f.Action == Await || f.Action != Wait && f.After == "" && f.unready == "" && (f.Action == None || f.Reason != written)
		})
		if err != nil {
			return err
		}
		if f.Action == Await {
			r.tell(Later, f)
			return nil
		}
		if f.Action == None {
			r.tell(last(written), f)
			return nil
		}
		r.tell(Checked, f)
		if err := mayWrite(approved, f); err != nil {
			return err
		}
		r.tell(Applying, f)
		if err := r.apply(ctx, f); err != nil {
			return &StepError{r.step.Name(), "apply", err}
		}
		written, r.start = f.Reason, time.Now()
	}
}

// apply writes, and notes it in the audit log when there is one. What Fabric
// isn't ready for yet had no effect, and is asked for again.
func (r *runner) apply(ctx context.Context, f Finding) error {
	do := func() error {
		_, err := r.await(ctx, f, func(context.Context) (Finding, bool, error) {
			err := r.step.Apply(ctx, r.facts)
			if fabric.IsNotReady(err) {
				f.Action, f.Have = Wait, "Fabric isn't ready for it yet"
				return f, false, nil
			}
			return f, true, err
		})
		return err
	}
	c, ok := r.step.(interface {
		doors() *Doors
		resourceOf(step string) string
	})
	if !ok {
		return do()
	}
	change := lease.Change{What: "step " + f.Step, Resource: c.resourceOf(f.Step), Detail: strings.Join(append([]string{f.Reason}, f.Items...), " ")}
	return c.doors().Audited(change, do)
}

func last(written string) EventKind {
	if written == "" {
		return Checked
	}
	return Done
}

// mayWrite refuses what was not approved.
func mayWrite(approved, now Finding) error {
	switch {
	case now.Action == Blocked:
		return &BlockedError{[]Finding{now}}
	case now.Consent != "" && !now.Allowed:
		return &ConsentError{[]Finding{now}}
	case !covers(approved, now):
		return &NotApprovedError{approved, now}
	}
	return nil
}

// look checks until it sees what it waits for: Azure and Fabric answer reads from
// replicas that lag behind a write, and some of what they accept takes minutes.
func (r *runner) look(ctx context.Context, seen func(Finding) bool) (Finding, error) {
	known := Finding{Step: r.step.Name(), Action: Wait, Have: "not seen yet"}
	return r.await(ctx, known, func(ctx context.Context) (Finding, bool, error) {
		f, err := check(ctx, r.step, r.facts)
		return f, err == nil && seen(f), err
	})
}

// await tries until it is done, or a try fails. This is the only place that waits
// for the world. The limit is for the world to change: a first try that our own
// calls make slow is let come to its end.
func (r *runner) await(ctx context.Context, known Finding, try func(context.Context) (f Finding, done bool, err error)) (Finding, error) {
	limit, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	first, cancelFirst := context.WithTimeout(ctx, max(r.limit, firstLook))
	defer cancelFirst()
	trying := first
	for delay := 20 * time.Millisecond; ; delay = min(delay*2, 3*time.Second) {
		f, done, err := try(trying)
		if done || err != nil && !(trying.Err() != nil && ctx.Err() == nil) {
			return f, err
		}
		if err == nil {
			known = f.meanwhile()
		}
		trying = limit
		if delay > 20*time.Millisecond {
			r.emit(Event{Kind: Waiting, Step: r.step.Name(), Finding: known, What: known.Have, Elapsed: time.Since(r.start), Limit: r.limit})
		}
		if pause(limit, delay) != nil {
			if ctx.Err() != nil {
				return known, &StepError{r.step.Name(), "settle", ctx.Err()}
			}
			return known, &TimeoutError{known, r.limit} // a try that was cut short says nothing
		}
	}
}

// firstLook is what the first try of a step may take at least.
const firstLook = time.Minute

func (r *runner) tell(kind EventKind, f Finding) {
	r.emit(Event{Kind: kind, Step: r.step.Name(), Finding: f})
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
