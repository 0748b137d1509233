package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// State is what is known of a lease's holder.
type State string

const (
	Live      State = "live"      // its process runs on this machine
	Left      State = "left"      // its process on this machine is dead: Recover closes it
	Elsewhere State = "elsewhere" // left here, on another cloud than the configured one
	Away      State = "away"      // on another machine, or its journal is lost; not yet expired
	Expired   State = "expired"   // the same, and past its time: Close it
)

// Found is a lease that List found.
type Found struct {
	Lease
	State State
}

// List finds every lease that this machine's journals or the tags and firewall
// rules of the resources tell of. It changes nothing.
func (l *Leases) List(ctx context.Context) ([]Found, error) {
	found := map[string]Found{}
	if err := l.local(func(rec record, live bool) {
		f := Found{rec.Lease, Left}
		switch {
		case live:
			f.State = Live
		case rec.Cloud != l.o.Cloud:
			f.State = Elsewhere
		}
		found[rec.ID] = f
	}); err != nil {
		return nil, err
	}
	remote, err := l.remote(ctx)
	if err != nil {
		return nil, err
	}
	for _, lease := range remote {
		if _, known := found[lease.ID]; known {
			continue
		}
		f := Found{lease, Away}
		if l.expired(lease) {
			f.State = Expired
		}
		found[lease.ID] = f
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Found) int {
		return strings.Compare(a.Until.Format("2006-01-02T15:04:05")+a.ID, b.Until.Format("2006-01-02T15:04:05")+b.ID)
	}), nil
}

// CloseOne closes the lease with an id, from whichever machine it was taken: by
// this machine's journals, else by what the resource itself says. A lease that
// isn't expired is a *HeldError, unless force is set; one whose process runs on
// this machine always is. The error may be ErrNoLease or ErrUnproved.
func (l *Leases) CloseOne(ctx context.Context, id string, force bool) error {
	id = strings.ToLower(id)
	if n, err := l.adoptAll(ctx, func(rec record) bool { return rec.ID == id && rec.Cloud == l.o.Cloud }); n > 0 || err != nil {
		return err
	}
	var held error
	if err := l.local(func(rec record, live bool) {
		if rec.ID == id && live {
			held = &HeldError{By: rec.Lease}
		}
	}); err != nil || held != nil {
		return errors.Join(err, held)
	}
	remote, err := l.remote(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(remote, func(o Lease) bool { return o.ID == id })
	if i < 0 {
		return fmt.Errorf("lease %s: %w", id, ErrNoLease)
	}
	return l.closeStranger(ctx, remote[i], force)
}

// closeStranger needs no journal: should we die in between, tag or rule is still
// there. A holder that is forced out may be just about to open its door.
func (l *Leases) closeStranger(ctx context.Context, lease Lease, force bool) error {
	expired := l.expired(lease)
	if !expired && !force {
		return &HeldError{By: lease}
	}
	r, err := l.dial(lease.Resource)
	if err != nil {
		return err
	}
	quiet := l.t.InFlight
	if expired {
		quiet = 0
	}
	return l.finish(ctx, r, record{Event: opening, Lease: lease}, quiet, nil)
}

// Forget strikes a lease of a dead process from this machine's journals without
// closing anything: for a resource that can't be reached any more. The error may
// be ErrNoLease.
func (l *Leases) Forget(id string) error {
	paths, err := journals(l.o.State)
	if err != nil {
		return err
	}
	for _, path := range paths {
		j, ok, err := adopt(path)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		i := slices.IndexFunc(j.pending, func(rec record) bool { return rec.ID == id })
		if i < 0 {
			if err := j.close(false); err != nil {
				return err
			}
			continue
		}
		rec := j.pending[i]
		rec.Event, rec.At = closed, l.o.Now().UTC()
		err = l.audit("forget", rec.Lease, Begun)
		if err == nil {
			err = errors.Join(j.append(rec), l.audit("forget", rec.Lease, Done))
		}
		return errors.Join(err, j.close(err == nil))
	}
	return fmt.Errorf("lease %s: %w", id, ErrNoLease)
}

// local visits what this machine's journals hold.
func (l *Leases) local(visit func(rec record, live bool)) error {
	paths, err := journals(l.o.State)
	if err != nil {
		return err
	}
	for _, path := range paths {
		j, dead, err := adopt(path)
		if err != nil {
			return err
		}
		var pending []record
		if dead {
			pending, err = j.pending, j.close(false)
		} else {
			pending, err = peek(path)
		}
		if err != nil {
			return err
		}
		for _, rec := range pending {
			visit(rec, !dead)
		}
	}
	return nil
}

// remote are the leases that the resources tell of.
func (l *Leases) remote(ctx context.Context) ([]Lease, error) {
	var all []Lease
	ids, err := l.o.Resources(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for leases: %w", err)
	}
	for _, id := range ids {
		r, err := l.dial(id)
		if err != nil {
			return nil, err
		}
		d, err := look(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("look for leases: %w", err)
		}
		all = append(all, leasesIn(id, d.Tags)...)
		if !isServer(id) {
			continue
		}
		rules, err := r.Rules(ctx)
		if err != nil {
			return nil, fmt.Errorf("look for leases: %w", err)
		}
		for _, name := range slices.Sorted(maps.Keys(rules)) {
			if lease, ok := ruleLease(id, name, rules[name]); ok {
				all = append(all, lease)
			}
		}
	}
	return all, nil
}

func isServer(id string) bool {
	return strings.Contains(strings.ToLower(id), "/microsoft.dbforpostgresql/flexibleservers/")
}
