package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Need is why a door has to be opened, and which.
type Need struct {
	Kind     Kind
	Resource string // ARM id
	// Refusal is the error that makes the lease needed. Without one nothing is
	// opened; Hold alone needs none.
	Refusal error
	// Message is the refusal's own sentence, which may name the caller's address.
	Message string
	// Life is how long it may last at most; 0 is Timing.Life.
	Life time.Duration
	// Through tries what was refused, until the open door is felt: true says that
	// this door doesn't refuse any more (another one may), an error ends the wait.
	// Nil: nobody waits.
	Through func(ctx context.Context) (bool, error)
}

// Held is a lease that this process has. Close it.
type Held struct {
	Lease

	l      *Leases
	r      Resource
	rec    record
	unsure time.Time // when the last request was sent of which we don't know what became; zero: none
	end    context.CancelFunc
	ended  chan struct{} // closed when the watch over the wall clock is over
	isDone bool
}

// Take opens a door and waits until it is felt. The context that it returns ends
// with the lease, a margin before strangers may close it: by the monotonic
// clock from before the first request on, and by the wall clock, should the
// machine have slept; its cause is then ErrExpired.
//
// When Take fails, all is as before, or the error is ErrUnproved. It is
// ErrNotRefused, ErrOpen, ErrAddress, ErrNotThrough, a *ConsentError or a
// *HeldError where that is the reason.
func (l *Leases) Take(ctx context.Context, n Need) (context.Context, *Held, error) {
	start := time.Now()
	if n.Life == 0 {
		n.Life = l.t.Life
	}
	lease, p, err := l.plan(n)
	if err != nil {
		return nil, nil, err
	}
	r, err := l.dial(n.Resource)
	if err != nil {
		return nil, nil, err
	}
	h := &Held{l: l, r: r, rec: record{Event: intended, Cloud: l.o.Cloud, Lease: lease}}
	if err := h.open(ctx, p); err != nil {
		return nil, nil, fmt.Errorf("open %s of %s: %w", doors[n.Kind], shortName(n.Resource), err)
	}
	h.Lease = h.rec.Lease
	if err := l.through(ctx, n); err != nil {
		return nil, nil, errors.Join(err, h.Close(ctx))
	}
	return h.watch(ctx, start.Add(n.Life-l.margin(n.Life)), l.margin(n.Life)), h, nil
}

// With takes a lease, uses it and gives it back, also when use fails or panics,
// and when ctx has ended.
func (l *Leases) With(ctx context.Context, n Need, use func(ctx context.Context) error) (err error) {
	held, h, err := l.Take(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	if err := use(held); err != nil {
		if errors.Is(context.Cause(held), ErrExpired) && !errors.Is(err, ErrExpired) {
			err = fmt.Errorf("%w: %w", ErrExpired, err)
		}
		return err
	}
	return nil
}

// plan is the lease that a need comes to, or the reason why there is none.
func (l *Leases) plan(n Need) (Lease, power, error) {
	p, err := powerOf(n.Kind)
	if err != nil {
		return Lease{}, nil, err
	}
	if consent := consents[n.Kind]; consent != "" {
		if n.Refusal == nil {
			return Lease{}, nil, ErrNotRefused
		}
		if l.o.Allows == nil || !l.o.Allows(consent) {
			return Lease{}, nil, &ConsentError{consent, n.Kind}
		}
	}
	lease := Lease{ID: newID(), Run: l.o.Run, Who: l.o.Who, Kind: n.Kind, Resource: n.Resource, Until: l.o.Now().Add(n.Life).UTC()}
	if n.Kind.named() {
		address, err := l.address(n.Message)
		if err != nil {
			return Lease{}, nil, err
		}
		lease.Params = map[string]string{paramAddress: address}
	}
	return lease, p, nil
}

// open does intent, tag and door. A Ctrl-C doesn't cut a request short: its
// outcome would be unknown.
func (h *Held) open(ctx context.Context, p power) error {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	d, err := look(ctx, h.r)
	if err != nil {
		return err
	}
	if err := l.alone(h.rec.Lease, d); err != nil {
		return err
	}
	if err := p.prepare(ctx, h.r, d, &h.rec.Lease); err != nil {
		return err
	}
	if err := l.note(&h.rec, intended); err != nil { // the first of them: nothing was sent yet
		return err
	}
	l.held = append(l.held, h)
	err = l.audit("open", h.rec.Lease, Begun)
	if err == nil {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.t.Grant)
		defer cancel()
		err = h.grant(limited, p)
	}
	if err == nil {
		err = l.audit("open", h.rec.Lease, Done)
	}
	if err == nil {
		return nil // it stays held: the caller closes it
	}
	return errors.Join(err, l.audit("open", h.rec.Lease, Failed), h.shut(ctx))
}

// grant writes the tag, sees that it is alone, and opens the door.
func (h *Held) grant(ctx context.Context, p power) error {
	if h.rec.Kind.tagged() {
		if err := h.attempt(ctx, intended, "tag", h.hasTag, h.writeTag); err != nil {
			return err
		}
		if err := h.settle(ctx); err != nil {
			return err
		}
	}
	tried := false
	isOpen := func(d *document) (bool, error) {
		shut, err := p.closed(ctx, h.r, d, h.rec.Lease)
		if err == nil && !shut && !tried {
			err = ErrOpen // somebody else opened it just now: it isn't ours to close
		}
		tried = true
		return !shut, err
	}
	if h.rec.Kind != Hold {
		err := h.attempt(ctx, opening, "grant", isOpen, func(ctx context.Context, d *document) error { return p.grant(ctx, h.r, d, h.rec.Lease) })
		if err != nil {
			return err
		}
	}
	if !h.unsure.IsZero() {
		return nil // a request may still arrive: the record says so as it is
	}
	return h.l.note(&h.rec, granted)
}

// attempt looks, and writes until the resource takes the write or the look shows
// that an attempt without a good answer had its effect. That a write is about to
// be sent is in the journal, with the time, before each attempt.
func (h *Held) attempt(ctx context.Context, e event, name string, isDone func(*document) (bool, error), do func(context.Context, *document) error) error {
	for {
		d, err := look(ctx, h.r)
		if err == nil {
			err = h.l.alone(h.rec.Lease, d)
		}
		if err != nil {
			return err
		}
		if done, err := isDone(d); done || err != nil {
			return err
		}
		if err := h.l.note(&h.rec, e); err != nil {
			return err
		}
		err = h.l.step(name, func() error { return do(ctx, d) })
		if err != nil && !isRefused(err) {
			h.unsure = time.Now()
		}
		if !isBusy(err) {
			return err
		}
		h.l.o.Tell("wait for " + shortName(h.rec.Resource) + ", which is busy")
		if pause(ctx, h.l.t.Poll) != nil {
			return err
		}
	}
}

func (h *Held) hasTag(d *document) (bool, error) {
	return slices.ContainsFunc(leasesIn(h.rec.Resource, d.Tags), func(o Lease) bool { return o.ID == h.rec.ID }), nil
}

func (h *Held) writeTag(ctx context.Context, d *document) error {
	tags, err := withTag(d.Tags, h.rec.Lease)
	if err != nil {
		return err
	}
	return patch(ctx, h.r, "tags", tags)
}

// settle reads the tag back once every other write that was under way has
// arrived: tags are replaced whole, so that of two who wrote at once one is
// gone, and knows it. Should both still be there, the smaller id goes first.
func (h *Held) settle(ctx context.Context) error {
	for range 5 {
		if err := pause(ctx, h.l.t.Settle); err != nil {
			return err
		}
		d, err := look(ctx, h.r)
		if err != nil {
			return err
		}
		if d.busy() {
			continue
		}
		if there, _ := h.hasTag(d); !there {
			return errors.Join(h.l.alone(h.rec.Lease, d), errors.New("somebody else replaced our tag"))
		}
		held := h.l.alone(h.rec.Lease, d)
		if held == nil {
			return nil
		}
		if e, ok := errors.AsType[*HeldError](held); ok && e.By.ID < h.rec.ID {
			return held
		}
	}
	return errors.New("tags of others come and go, or the resource stays busy")
}

// alone is a *HeldError when another run has a lease on the resource. Firewall
// rules don't get in each other's way.
func (l *Leases) alone(mine Lease, d *document) error {
	if !mine.Kind.tagged() {
		return nil
	}
	for _, o := range leasesIn(mine.Resource, d.Tags) {
		if o.Run != mine.Run {
			return &HeldError{By: o, Expired: l.expired(o)}
		}
	}
	return nil
}

// expired allows for clocks that differ.
func (l *Leases) expired(o Lease) bool { return l.o.Now().After(o.Until.Add(l.t.Skew)) }

// through waits until the open door is felt: that takes up to minutes.
func (l *Leases) through(ctx context.Context, n Need) error {
	if n.Through == nil {
		return nil
	}
	start := time.Now()
	for {
		ok, err := n.Through(ctx)
		if ok || err != nil {
			return err
		}
		if time.Since(start) > l.t.Through {
			return fmt.Errorf("%s of %s: %w after %s", doors[n.Kind], shortName(n.Resource), ErrNotThrough, l.t.Through)
		}
		l.o.Tell("wait until " + doors[n.Kind] + " of " + shortName(n.Resource) + " is felt")
		if err := pause(ctx, l.t.Poll); err != nil {
			return err
		}
	}
}

// margin is what a holder stops before the end of its lease.
func (l *Leases) margin(life time.Duration) time.Duration { return min(l.t.Margin, life/4) }

// watch ends the holder's context with the lease.
func (h *Held) watch(ctx context.Context, deadline time.Time, margin time.Duration) context.Context {
	ctx, expire := context.WithCancelCause(ctx)
	timed, cancel := context.WithDeadlineCause(ctx, deadline, ErrExpired)
	h.ended = make(chan struct{})
	h.end = func() { cancel(); expire(nil) }
	go func() {
		defer close(h.ended)
		for pause(timed, h.l.t.Poll) == nil {
			if h.l.o.Now().After(h.Until.Add(-margin)) {
				expire(ErrExpired)
			}
		}
	}()
	return timed
}

// note writes a record, making the journal for the first. l.mu is held.
func (l *Leases) note(rec *record, e event) error {
	return l.step("journal "+string(e), func() (err error) {
		if l.journal == nil {
			if l.journal, err = makeJournal(l.o.State, l.o.Run); err != nil {
				return err
			}
		}
		rec.Event, rec.At = e, l.o.Now().UTC()
		return l.journal.append(*rec)
	})
}
