package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// follow streams, and joins the tables that aren't replicating yet.
//
// While tables are joined the slot is told nothing, so that it keeps every
// change since: what the others publish meanwhile, the next attempt will be sent
// again and skips by its position, and a joined table takes what lies beyond its
// own boundary. Its changes need no room of ours, however long its copy takes.
// The attempt ends when the tables are joined.
func (m *mirror) follow(ctx context.Context) error {
	joining := m.toJoin()
	m.relations, m.repairs = map[uint32]*table{}, make(chan repairing)
	for _, t := range m.inPhase(phaseReplicating) {
		t.followed = true
		for _, p := range t.parts {
			m.relations[p.src.OID] = t
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.stream(ctx, len(joining) > 0) })
	g.Go(func() error { return m.watch(ctx) })
	if len(joining) > 0 {
		g.Go(func() error { return m.joinPatiently(ctx) })
	}
	return g.Wait()
}

// joinTries bounds how often joining is tried while the others go on. For as long
// the slot is told nothing, so that then the tables are parked: the source's disk
// comes before them.
const joinTries = 8

// joinPatiently joins the tables. What fails is tried again without disturbing
// the others.
func (m *mirror) joinPatiently(ctx context.Context) error {
	for try := 0; ; try++ {
		err := m.join(ctx)
		var fault *Fault
		switch {
		case err == nil:
			return errAgain
		case ctx.Err() != nil || errors.As(err, &fault) || errors.Is(err, errAgain):
			return err
		case try == joinTries:
			return m.parkJoining(ctx, err)
		}
		m.emit(Event{Kind: Retrying, Reason: "join tables: " + err.Error(), Wait: m.cfg.retry(try)})
		select {
		case <-time.After(m.cfg.retry(try)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *mirror) parkJoining(ctx context.Context, why error) error {
	for _, t := range m.toJoin() {
		if err := t.park(ctx, "it could not be joined: "+why.Error()); err != nil {
			return err
		}
	}
	return errAgain
}

func (m *mirror) toJoin() []*table {
	return append(append(m.inPhase(phaseRebuilding), m.inPhase(phaseJoining)...), m.inPhase(phaseSnapshot)...)
}

// join brings tables from whatever they are in to replicating.
func (m *mirror) join(ctx context.Context) error {
	for _, t := range m.inPhase(phaseRebuilding) {
		if err := t.clear(ctx); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	interrupted := m.inPhase(phaseSnapshot)
	if err := m.joinNew(ctx, m.inPhase(phaseJoining)); err != nil {
		return err
	}
	return m.snapshot(ctx, "", interrupted) // begun by an attempt whose snapshot is gone
}

// clear removes the table's folder, waits until Fabric has dropped the table, and
// begins a new generation. Only then may anything be written there again.
func (t *table) clear(ctx context.Context) error {
	if err := t.m.cfg.Landing.Remove(ctx, t.w.Dir); err != nil {
		return err
	}
	if err := t.awaitDropped(ctx); err != nil {
		return err
	}
	err := t.change(ctx, func(s *tableState) {
		reason := s.Reason
		*s = firstState(t.m.run, t.src, 1)
		s.Phase, s.Reason, s.Generation = phaseJoining, reason, t.generation+1
	})
	t.generation = t.snapshot().Generation
	return err
}

// dropPatience bounds the wait for Fabric to drop a table; it takes a minute or
// so there.
const dropPatience = 15 * time.Minute

func (t *table) awaitDropped(ctx context.Context) error {
	if t.m.cfg.Fabric == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dropPatience, errors.New("the table whose folder was removed is still in Fabric"))
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		said, err := t.m.askFabric(ctx)
		if err != nil {
			return err
		}
		if _, there := said[fabricName(t.w.Dir)]; !there {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// joinNew gives tables a boundary, that of a temporary slot, and copies them
// under its snapshot. The boundary is durable before the first row.
func (m *mirror) joinNew(ctx context.Context, tables []*table) error {
	if len(tables) == 0 {
		return nil
	}
	repl, err := m.cfg.Source.ConnectReplication(ctx)
	if err != nil {
		return err
	}
	defer repl.Close(context.WithoutCancel(ctx)) // and with it the slot
	created, err := m.createSlot(ctx, repl, joinSlot(m.cfg.Slot, m.run), postgres.CreateTemporarySlot)
	if err != nil {
		return err
	}
	if err := m.lookAgain(ctx, tables); err != nil {
		return err
	}
	point := landing.LSN(created.ConsistentPoint)
	for _, t := range tables {
		err := t.change(ctx, func(s *tableState) {
			generation, reason := s.Generation, s.Reason
			*s = firstState(m.run, t.src, point)
			s.Generation, s.Reason = generation, reason
		})
		if err != nil {
			return err
		}
		t.position = t.snapshot().Position
	}
	return m.snapshot(ctx, created.Snapshot, tables)
}

// lookAgain reads the definitions of tables as they are now that their snapshot is
// there. A column that was added between the last look and the snapshot may have
// values in it; a table that has gone, or can't be mirrored any more, is left to
// the next attempt.
func (m *mirror) lookAgain(ctx context.Context, tables []*table) error {
	sql, err := m.cfg.Source.Connect(ctx)
	if err != nil {
		return err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	published, _, err := m.catalog(ctx, sql)
	if err != nil {
		return err
	}
	for _, t := range tables {
		i := slices.IndexFunc(published, func(p postgres.Table) bool { return p.String() == t.String() })
		if i < 0 || published[i].Obstacle != "" {
			return errAgain
		}
		shape, err := newShape(published[i])
		if err != nil {
			return errAgain
		}
		t.mu.Lock()
		t.shape, t.definition = shape, definition(shape.src)
		t.mu.Unlock()
	}
	return nil
}

// joinSlot names a temporary slot; names have at most 63 characters.
func joinSlot(slot, run string) string { return slot[:min(len(slot), 40)] + "_join_" + run }

// watch looks for requests, at the catalog and at Fabric now and then: a table that was
// published, or whose columns changed without a change of its rows, is seen
// nowhere else.
func (m *mirror) watch(ctx context.Context) error {
	for {
		select {
		case <-time.After(m.cfg.Watch):
		case <-ctx.Done():
			return ctx.Err()
		}
		answered, err := m.answer(ctx)
		if err != nil {
			return fmt.Errorf("answer requests: %w", err)
		}
		changed, err := m.catalogChanged(ctx)
		if err != nil {
			return fmt.Errorf("look at the catalog: %w", err)
		}
		lost, err := m.lookAtFabric(ctx)
		if err != nil {
			return fmt.Errorf("look at Fabric: %w", err)
		}
		if changed || answered || lost {
			return errAgain // the next attempt opens the tables as they are now
		}
	}
}

func (m *mirror) catalogChanged(ctx context.Context) (bool, error) {
	sql, err := m.cfg.Source.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	m.tellSlot(ctx, sql)
	published, plain, err := m.catalog(ctx, sql)
	if err != nil {
		return false, err
	}
	if err := m.tellRefused(ctx, sql); err != nil {
		return false, err
	}
	if again, err := m.lookAtKeyless(ctx, sql); err != nil || again {
		return again, err
	}
	seen := map[string]bool{}
	for _, src := range published {
		seen[src.String()] = true
		t := m.tables[src.String()]
		if t == nil || t.defined() != definition(src) && t.mustRebuild(src, plain) {
			return true, nil
		}
	}
	for name, t := range m.tables {
		if t.defined() != "" && !seen[name] {
			return true, nil
		}
	}
	return false, nil
}

// mustRebuild says that a changed definition can't be followed in place. What can
// is left to the stream, which says from which change on it holds.
func (t *table) mustRebuild(src postgres.Table, plain plainColumns) bool {
	s := t.snapshot()
	return s.Absent || s.Phase == phaseReplicating && (src.OID != s.OID || src.Obstacle != "" || s.evolves(src, plain) != "")
}
