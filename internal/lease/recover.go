package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Recover closes what processes on this machine left open when they died. Every
// command calls it first. Leases of processes that live are left alone, those of
// another cloud too: List shows them. It does nothing, and asks nothing, when
// there is nothing to do. An error is ErrUnproved, but for a journal that can't
// be read.
func (l *Leases) Recover(ctx context.Context) error {
	_, err := l.adoptAll(ctx, func(rec record) bool { return rec.Cloud == l.o.Cloud })
	return err
}

// adoptAll closes those leases of dead processes that want names, and says how
// many there were.
func (l *Leases) adoptAll(ctx context.Context, want func(record) bool) (n int, err error) {
	paths, err := journals(l.o.State)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, path := range paths {
		j, ok, err := adopt(path)
		if err != nil {
			errs = append(errs, err)
		}
		if !ok {
			continue
		}
		for _, rec := range append([]record(nil), j.pending...) {
			if want(rec) {
				n++
				errs = append(errs, l.recoverOne(ctx, j, rec))
			}
		}
		errs = append(errs, j.close(j.old()))
	}
	return n, errors.Join(errs...)
}

func (l *Leases) recoverOne(ctx context.Context, j *journal, rec record) error {
	l.o.Tell(fmt.Sprintf("close %s of %s, which a run that died left open", doors[rec.Kind], shortName(rec.Resource)))
	r, err := l.dial(rec.Resource)
	if err != nil {
		return &UnprovedError{rec.Lease, err}
	}
	err = l.finish(ctx, r, rec, l.quiet(rec), func(rec *record, e event) error {
		return l.step("journal "+string(e), func() error {
			rec.Event, rec.At = e, l.o.Now().UTC()
			return j.append(*rec)
		})
	})
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = append(l.closed, rec.ID)
	}
	return err
}

// Recovered reports whether Recover has closed the lease with an id.
func (l *Leases) Recovered(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.closed, strings.ToLower(id))
}

// quiet is how long a dead process's last request may still take to arrive. A
// clock that was set back lengthens it to the whole time, never beyond.
func (l *Leases) quiet(rec record) time.Duration {
	if rec.Event == granted {
		return 0
	}
	since := l.o.Now().Sub(rec.At)
	if since < 0 {
		return l.t.InFlight
	}
	return max(0, l.t.InFlight-since)
}
