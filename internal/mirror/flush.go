package mirror

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// flushAll makes durable what the reader hands over, one pending after the
// other, and between them repairs rows that somebody asked for and reads
// partitions that were attached.
func (r *reader) flushAll(ctx context.Context) error {
	for {
		again, err := r.attach(ctx)
		if err != nil {
			return err
		}
		select {
		case <-again:
		case p := <-r.work:
			if err := r.flush(ctx, p); err != nil {
				return err
			}
			r.flushed = max(r.flushed, p.reached)
			r.done <- p
			r.alarm.ring()
		case q := <-r.m.repairs:
			over, err := r.m.repair(ctx, q.request)
			if err != nil {
				return err
			}
			q.over <- over
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flush publishes the files of all tables, notes the tables that can't go on,
// and only then, from the fact that all of it returned, confirms the position.
// The mirror's state says it first: a slot that is found beyond it was moved by
// somebody else.
func (r *reader) flush(ctx context.Context, p *pending) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.m.cfg.Workers)
	for _, c := range p.files {
		g.Go(func() error { return c.publish(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	again := false
	for _, k := range p.parks {
		give := k.t.park
		if k.rebuild {
			give, again = k.t.rebuild, true
		}
		if err := give(ctx, k.reason); err != nil {
			return err
		}
	}
	if err := r.confirm(ctx, p.end); err != nil {
		return err
	}
	if again {
		return errAgain
	}
	return nil
}

func (r *reader) confirm(ctx context.Context, end landing.LSN) error {
	if end <= r.m.state.value.Acked {
		return nil
	}
	if err := r.m.state.change(ctx, func(s *mirrorState) { s.Acked = end }); err != nil {
		return err
	}
	if err := r.stream.Confirm(ctx, postgres.LSN(end)); err != nil {
		return err
	}
	r.m.emit(Event{Kind: Confirmed, LSN: end})
	if at := r.m.renewal.at; at != 0 && end >= at {
		return errAgain
	}
	return nil
}

// publish writes what is left of the changes after one row a key was kept.
func (c *changes) publish(ctx context.Context) error {
	if !c.t.phase().publishes() {
		return nil // given up meanwhile: nothing is read for it
	}
	b, filled, err := c.finish(ctx)
	if definitionGone(err) || valueGone(err) {
		return c.t.redefined(ctx, err)
	} else if tableFault(err) || c.t.hopeless(err) {
		return c.t.park(ctx, err.Error())
	} else if err != nil {
		return err
	}
	count := func(s *tableState) {
		s.Ignored += c.ignored
		s.Seen = max(s.Seen, c.seen)
		s.adopt(columnsOf(c.src))
		c.changed.note(s)
	}
	if b.Rows() == 0 && !c.mustFile {
		return c.t.note(ctx, c.ignored, count) // every row is gone again; a later change says so
	}
	meta := landing.Meta{Position: c.position, EndLSN: c.end, CommitTime: c.time, Filled: filled}
	if err := c.t.publish(ctx, b, meta, count); err != nil {
		return err
	}
	c.t.tellIgnored(c.ignored)
	c.changed.tell(c.t)
	return nil
}

// note records what needs no file.
func (t *table) note(ctx context.Context, ignored int64, count func(*tableState)) error {
	if ignored == 0 {
		return nil
	}
	if err := t.change(ctx, count); err != nil {
		return err
	}
	t.tellIgnored(ignored)
	return nil
}

func (t *table) tellIgnored(n int64) {
	if n > 0 {
		t.m.emit(Event{Kind: Ignored, Table: t.String(), Rows: n, Reason: "updates and deletes of a table without a key"})
	}
}
