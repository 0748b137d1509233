package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Close gives the lease back: the door is closed, read back, the tag removed,
// and that is written down. It ends the holder's context, and goes on when ctx
// has ended. It may be called again, which tries again what failed. The error is
// ErrUnproved.
func (h *Held) Close(ctx context.Context) error {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if h.end != nil {
		h.end()
		<-h.ended
	}
	return h.shut(ctx)
}

// Close gives back all leases of the run that are still held, the newest first,
// and lets go of the journal. The error is ErrUnproved.
func (l *Leases) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, h := range slices.Backward(slices.Clone(l.held)) {
		if h.end != nil {
			h.end()
			<-h.ended
		}
		errs = append(errs, h.shut(ctx))
	}
	if l.journal != nil {
		errs = append(errs, l.journal.close(true))
		l.journal = nil
	}
	return errors.Join(errs...)
}

// shut closes a lease of this run. l.mu is held.
func (h *Held) shut(ctx context.Context) error {
	if h.isDone {
		return nil
	}
	var quiet time.Duration
	if !h.unsure.IsZero() {
		quiet = max(0, time.Until(h.unsure.Add(h.l.t.InFlight)))
	}
	if err := h.l.finish(ctx, h.r, h.rec, quiet, h.l.note); err != nil {
		return err
	}
	h.isDone = true
	h.l.held = slices.DeleteFunc(h.l.held, func(o *Held) bool { return o == h })
	return nil
}

// finish closes a lease, whoever took it, and notes that it is closed. It goes
// on when ctx has ended, for its own time. For quiet, it looks again and again:
// a request that nobody waits for may still arrive.
func (l *Leases) finish(ctx context.Context, r Resource, rec record, quiet time.Duration, note func(*record, event) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.t.Close)
	defer cancel()
	begun := l.audit("close", rec.Lease, Begun) // that it can't be noted doesn't leave a door open
	err := l.takeBack(ctx, r, rec, time.Now().Add(quiet), quiet > 0)
	if err == nil && note != nil {
		err = note(&rec, closed)
	}
	outcome := Done
	if err != nil {
		outcome = Failed
		err = &UnprovedError{rec.Lease, err}
	}
	return errors.Join(err, begun, l.audit("close", rec.Lease, outcome))
}

func (l *Leases) takeBack(ctx context.Context, r Resource, rec record, quiet time.Time, unknown bool) error {
	p, err := powerOf(rec.Kind)
	if err != nil {
		return err
	}
	// Before that record nothing was sent to the door: what it is now, somebody
	// else made it.
	if rec.Event != intended {
		err := l.again(ctx, quiet, func() error { return l.shutDoor(ctx, r, p, rec.Lease, unknown) })
		if err != nil {
			return err
		}
	}
	if !rec.Kind.tagged() {
		return nil
	}
	// The tag goes last: until here, a crash leaves it, and with it all that is
	// needed to do this again.
	return l.again(ctx, quiet, func() error { return l.untag(ctx, r, rec.Lease) })
}

// again does something until it has been done after quiet.
func (l *Leases) again(ctx context.Context, quiet time.Time, do func() error) error {
	for {
		last := !time.Now().Before(quiet)
		if err := do(); err != nil || last {
			return err
		}
		l.o.Tell(fmt.Sprintf("wait %s for requests that may still arrive", time.Until(quiet).Round(time.Second)))
		if err := pause(ctx, min(l.t.Poll, max(time.Until(quiet), time.Millisecond))); err != nil {
			return err
		}
	}
}

// shutDoor closes the door and returns when it has been read back as closed.
func (l *Leases) shutDoor(ctx context.Context, r Resource, p power, lease Lease, unknown bool) error {
	return l.patiently(ctx, lease, func() (bool, error) {
		d, err := look(ctx, r)
		if err != nil {
			return isGone(err), err
		}
		if unknown && d.busy() { // it may just be opening
			return false, nil
		}
		if shut, err := p.closed(ctx, r, d, lease); err != nil || shut || handedOn(d, lease) {
			return err == nil, err
		}
		return false, l.step("revoke", func() error { return p.revoke(ctx, r, d, lease) })
	})
}

// handedOn reports whether the lease was closed by somebody else, and the door
// is now open for another lease, which will close it.
func handedOn(d *document, mine Lease) bool {
	other := false
	for _, o := range leasesIn(mine.Resource, d.Tags) {
		if o.ID == mine.ID {
			return false
		}
		other = other || o.Kind == mine.Kind && o.Params[paramAddress] == mine.Params[paramAddress]
	}
	return other
}

// untag removes the lease's tags and returns when they are read back as gone.
func (l *Leases) untag(ctx context.Context, r Resource, lease Lease) error {
	return l.patiently(ctx, lease, func() (bool, error) {
		d, err := look(ctx, r)
		if err != nil {
			return isGone(err), err
		}
		tags := withoutTag(d.Tags, lease.ID)
		if len(tags) == len(d.Tags) {
			return true, nil
		}
		return false, l.step("untag", func() error { return patch(ctx, r, "tags", tags) })
	})
}

// patiently tries until do says that it is done. What ARM refuses is tried
// thrice; no answer and a busy server as long as ctx lasts.
func (l *Leases) patiently(ctx context.Context, lease Lease, do func() (bool, error)) error {
	refused := 0
	for try := 0; ; try++ {
		done, err := do()
		if done {
			return nil
		}
		if isRefused(err) && !isBusy(err) {
			refused++
		}
		if err != nil && (refused >= 3 || !isAnswer(err) || ctx.Err() != nil) {
			return err
		}
		if err == nil && try == 0 {
			continue // written: read it back
		}
		l.o.Tell("try again to close " + doors[lease.Kind] + " of " + shortName(lease.Resource))
		if waitErr := pause(ctx, l.t.Poll); waitErr != nil {
			return errors.Join(err, fmt.Errorf("still not closed: %w", waitErr))
		}
	}
}

// isAnswer reports whether an error is a Resource's, not ours.
func isAnswer(err error) bool {
	_, ok := errors.AsType[interface {
		error
		Refused() bool
	}](err)
	return ok
}
