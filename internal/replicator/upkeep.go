package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// view is what upkeep sees of a table: one version, which stays readable while
// commits go on.
type view struct {
	snap *delta.Snapshot
	key  []string
	life int64           // the table's, when it was shown
	pin  *delta.Snapshot // not nil when a checkpoint or a vacuum is due

	checkpoint, vacuum bool
}

// show hands the table's newest version to upkeep. The caller is the one that
// works on the table.
func (t *table) show() {
	now := t.r.now()
	v := &view{snap: t.snap, key: t.key, life: t.life.Load()}
	// Upkeep may not have come to an earlier view: what was due then still is.
	v.checkpoint = t.snap.Version-t.checked >= t.r.Upkeep.CheckpointEvery
	v.vacuum = now.Sub(t.cleaned) >= t.r.Upkeep.VacuumEvery
	if old := t.shown.Load(); old != nil {
		v.checkpoint, v.vacuum = v.checkpoint || old.checkpoint, v.vacuum || old.vacuum
	}
	if v.checkpoint {
		t.checked = t.snap.Version
	}
	if v.vacuum {
		t.cleaned = now
	}
	if v.checkpoint || v.vacuum {
		// A retention that can't be read is refused by the vacuum, aloud.
		_ = t.snap.Forget(now)
		v.pin = t.snap.Pin()
	}
	t.shown.Store(v)
	select {
	case t.r.stirred <- struct{}{}:
	default:
	}
}

// upkeep keeps the tables in shape until ctx ends, one after the other, within
// its share of the time.
func (r *Replicator) upkeep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.stirred:
		}
		for _, t := range r.ordered() {
			if v := t.shown.Swap(nil); v != nil {
				t.keepUp(ctx, v, r.rest)
			}
		}
	}
}

// rest waits after work that took so long, so that work keeps to its share.
func (r *Replicator) rest(ctx context.Context, took time.Duration) {
	if r.Upkeep.Share >= 1 {
		return
	}
	timer := time.NewTimer(time.Duration(float64(took) * (1/r.Upkeep.Share - 1)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// upkeepOnce brings all tables into shape, and returns then.
func (r *Replicator) upkeepOnce(ctx context.Context) {
	for _, t := range r.ordered() {
		t.busy.Lock()
		for ctx.Err() == nil {
			v := t.shown.Swap(nil)
			if v == nil {
				break
			}
			t.keepUp(ctx, v, func(context.Context, time.Duration) {})
			c := t.ready.Swap(nil)
			if c == nil {
				break
			}
			if err := t.install(ctx, c); err != nil {
				t.forget()
				t.upkeepFailed(ctx, fmt.Errorf("compact: %w", err))
			}
		}
		t.busy.Unlock()
	}
}

func (r *Replicator) ordered() []*table {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []*table{}
	for _, t := range r.tables {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *table) int { return cmp.Or(cmp.Compare(a.schema, b.schema), cmp.Compare(a.name, b.name)) })
	return out
}

// keepUp does what is due for a table. What fails is told and harms nobody: it
// is due again.
func (t *table) keepUp(ctx context.Context, v *view, rest func(context.Context, time.Duration)) {
	t.tending.Lock()
	defer t.tending.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.set(func(*TableStatus) { t.stop = cancel })
	if v.life != t.life.Load() {
		return
	}
	for _, task := range []func(context.Context, *view, func(context.Context, time.Duration)) error{
		t.checkpoint, // before the vacuum, which cleans the log up to a checkpoint
		t.vacuum,
		t.fillKeys,
		t.prepare,
	} {
		start := time.Now()
		if err := task(ctx, v, rest); err != nil {
			t.upkeepFailed(ctx, err)
			return
		}
		if took := time.Since(start); took > time.Millisecond {
			rest(ctx, took)
		}
	}
}

// abandon ends upkeep's work on a table that is about to go, and waits for the
// end. The caller is the one that works on the table, and calls resume.
func (t *table) abandon(ctx context.Context) (resume func(), err error) {
	t.life.Add(1)
	t.shown.Store(nil)
	t.set(func(*TableStatus) {
		if t.stop != nil {
			t.stop()
		}
	})
	t.tending.Lock()
	if c := t.ready.Swap(nil); c != nil {
		err = c.discard(ctx)
	}
	return t.tending.Unlock, err
}

func (t *table) upkeepFailed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		t.r.Events(Event{Schema: t.schema, Table: t.name, Version: -1, Err: fmt.Errorf("upkeep: %w", err)})
	}
}

func (t *table) checkpoint(ctx context.Context, v *view, _ func(context.Context, time.Duration)) error {
	if !v.checkpoint {
		return nil
	}
	return v.pin.Checkpoint(ctx, t.r.now())
}

// vacuum deletes what no version within the retention needs, commits that a
// checkpoint stands for, and landing files that were processed long ago.
func (t *table) vacuum(ctx context.Context, v *view, _ func(context.Context, time.Duration)) error {
	if !v.vacuum {
		return nil
	}
	now := t.r.now()
	_, err := v.pin.Vacuum(ctx, now)
	if err == nil {
		_, err = v.pin.CleanLog(ctx, now)
	}
	return errors.Join(err, expire(ctx, t.land, now.Add(-processedFor)))
}

// processedFor is how long Fabric keeps processed files.
const processedFor = 7 * 24 * time.Hour

func expire(ctx context.Context, land store.Store, before time.Time) error {
	list, err := land.List(ctx, landing.ProcessedDir)
	if err != nil {
		return fmt.Errorf("list processed files: %w", err)
	}
	for _, i := range list {
		if !i.Modified.Before(before) {
			continue
		}
		if err := land.Remove(ctx, i.Name); err != nil {
			return fmt.Errorf("delete the processed file %s: %w", i.Name, err)
		}
	}
	return nil
}

// fillKeys makes the key files that are missing, so that no commit has to.
func (t *table) fillKeys(ctx context.Context, v *view, rest func(context.Context, time.Duration)) error {
	if len(v.key) == 0 {
		return nil
	}
	keys := newKeySpace(&t.r.keys, v.snap, v.key)
	for i := range v.snap.Files {
		f := &v.snap.Files[i]
		if keys.has(f) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		if _, err := keys.make(ctx, v.snap, f); err != nil {
			return err
		}
		rest(ctx, time.Since(start))
	}
	return nil
}
