package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// exported is the snapshot that was exported with a new slot; it can be taken up
// by others while conn lives and says nothing else. The zero value is none.
type exported struct {
	conn *pgconn.PgConn
	name string
}

func (e *exported) close() {
	if e.conn != nil {
		_ = e.conn.Close(context.Background()) // it only held the snapshot
		e.conn = nil
	}
}

// prepareSlot makes the slot for a new landing zone, or makes sure that the one
// that is there is ours and has lost nothing.
func (m *mirror) prepareSlot(ctx context.Context) (*exported, error) {
	repl, err := m.cfg.Source.ConnectReplication(ctx)
	if err != nil {
		return nil, err
	}
	e := &exported{conn: repl}
	done := false
	defer func() {
		if !done {
			e.close()
		}
	}()
	id, timeline, at, err := postgres.System(ctx, repl)
	if err != nil {
		return nil, err
	}
	m.system = system{id, timeline}
	sql, err := m.cfg.Source.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	slot, there, err := postgres.Slot(ctx, sql, m.cfg.Slot)
	if err != nil {
		return nil, err
	}
	publications, err := postgres.Publications(ctx, sql, m.cfg.Publications)
	if err != nil {
		return nil, err
	}
	m.read(publications)
	if s := m.state.value; s.Phase == phaseMirroring {
		if err := goesBack(ctx, sql, s, m.system.timeline, landing.LSN(at)); err != nil {
			return nil, err
		}
		err := m.checkSlot(slot, there, landing.LSN(at))
		if err == nil && m.state.value.Timeline != m.system.timeline {
			err = m.followTimeline(ctx, repl, slot)
		}
		var fault *Fault
		if err == nil || !m.cfg.Reseed || !errors.As(err, &fault) || fault.Code == slotNotOurs {
			e.close()
			return e, err
		}
		if err := m.reseed(ctx, fault); err != nil {
			return nil, err
		}
	}
	if err := m.makeSlot(ctx, sql, e, there, publications); err != nil {
		return nil, err
	}
	done, m.fresh = true, true
	return e, nil
}

// reseed gives up what the lost slot would have brought: every table is built
// anew, and the mirror begins again with a slot of its own. Each table says so
// durably before the mirror does.
func (m *mirror) reseed(ctx context.Context, why *Fault) error {
	m.emit(Event{Kind: Reseeding, Reason: why.Error()})
	if err := m.rebuildTables(ctx, why.Error(), func(tableState) bool { return true }); err != nil {
		return err
	}
	return m.state.change(ctx, func(s *mirrorState) { s.Phase = phaseSlot })
}

// rebuildTables has those tables built anew that aren't parked, durably.
func (m *mirror) rebuildTables(ctx context.Context, why string, which func(tableState) bool) error {
	names, err := tableFiles(ctx, m.cfg.Landing)
	if err != nil {
		return err
	}
	files, err := m.loadTables(ctx, names...)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.value.Phase == phaseParked || !which(f.value) {
			continue
		}
		err = f.change(ctx, func(s *tableState) { s.Run, s.Phase, s.Reason, s.Staged = m.run, phaseRebuilding, why, nil })
		if err != nil {
			return err
		}
		m.emit(Event{Kind: Rebuilding, Table: f.value.Schema + "." + f.value.Name, Reason: why})
	}
	return nil
}

// goesBack is why a standby that was just started has to be waited for: it may not
// have come to where it was before.
func goesBack(ctx context.Context, sql *pgx.Conn, s mirrorState, timeline int32, at landing.LSN) error {
	if s.Timeline != timeline || at >= s.Acked {
		return nil
	}
	var standby bool
	if err := sql.QueryRow(ctx, "SELECT pg_catalog.pg_is_in_recovery()").Scan(&standby); err != nil || !standby {
		return err
	}
	return fmt.Errorf("the standby is at %s and not yet at %s, which the mirror has", at, s.Acked)
}

// checkSlot holds the slot against what the landing zone says of it: its name
// alone proves nothing.
func (m *mirror) checkSlot(slot postgres.SlotInfo, there bool, at landing.LSN) error {
	s, fault := m.state.value, slotFault
	switch {
	case s.SystemID != m.system.id:
		return fault("OtherSystem", "the server has system identifier %s, the mirror was made from %s", m.system.id, s.SystemID)
	case s.Timeline > m.system.timeline:
		return fault("OtherTimeline", "the server is on timeline %d, the mirror follows timeline %d", m.system.timeline, s.Timeline)
	case s.Timeline == m.system.timeline && at < s.Acked:
		return fault("WentBack", "the server's log ends at %s, the mirror has what came until %s: an earlier copy of its disk was put back", at, s.Acked)
	case !there:
		return fault("SlotLost", "the slot is gone, and with it changes that the mirror doesn't have")
	case slot.Plugin != "pgoutput" || m.cfg.Source.Database != "" && slot.Database != m.cfg.Source.Database:
		return &Fault{Code: slotNotOurs, Err: fmt.Errorf("a slot of this name reads database %q by plugin %q: give the mirror another one, run.slot", slot.Database, slot.Plugin)}
	case slot.WALStatus == "lost":
		return fault("SlotLost", "the server has removed WAL that the slot needed")
	case landing.LSN(slot.ConfirmedFlush) > s.Acked:
		return fault("SlotMoved", "the slot was moved to %s, the mirror confirmed no more than %s", slot.ConfirmedFlush, s.Acked)
	}
	if len(m.publications()) == 0 {
		return fault("PublicationLost", "the publications %q were dropped, and what was changed since is missing, even if they were made again", m.cfg.Publications)
	}
	return nil
}

// reading is the publications that the slot is read with, by name: their oids.
type reading map[string]uint32

// read chooses the publications to read the slot with: those with which it was read
// before and that are still the same ones. Before PostgreSQL 18 the server can't read
// what lies before the making of a publication with it, so that one that is new, or
// was made again, is left out, as if it published nothing, until the slot is past
// that: see renew.
func (m *mirror) read(now map[string]uint32) {
	with := reading{}
	known := m.state.value.Publications
	for name, oid := range now {
		if known == nil || known[name] == oid {
			with[name] = oid
		}
	}
	m.with.Store(&with)
}

func (m *mirror) publications() []string { return slices.Sorted(maps.Keys(*m.with.Load())) }

// unlike reports whether others than those that are read with are there now. It is
// an error when one of those is gone.
func (m *mirror) unlike(now map[string]uint32) (bool, error) {
	with := *m.with.Load()
	for name, oid := range with {
		if now[name] != oid {
			return false, fmt.Errorf("publication %q was dropped", name) // the next attempt judges it
		}
	}
	return len(now) > len(with), nil
}

// renewal is how far the slot has to be before it is read with other publications.
type renewal struct {
	with reading
	next uint64      // the first transaction that began when they were there
	at   landing.LSN // behind everything of the transactions before it; 0 while some of them run
}

// renew has the slot read with the publications that are new, between two rounds, once
// it is past all that was written by transactions that may have begun before them: the
// server reads each with the publications that it has seen.
func (m *mirror) renew(ctx context.Context, sql *pgx.Conn) error {
	now, err := postgres.Publications(ctx, sql, m.cfg.Publications)
	if err != nil {
		return err
	}
	others, err := m.unlike(now)
	if err != nil {
		return err
	}
	if !others {
		m.renewal = renewal{}
	} else {
		oldest, next, err := postgres.Running(ctx, sql)
		if err != nil {
			return err
		}
		if !maps.Equal(m.renewal.with, now) {
			m.renewal = renewal{with: now, next: next}
		}
		if m.renewal.at == 0 && oldest >= m.renewal.next {
			at, err := postgres.WrittenUpTo(ctx, sql)
			if err != nil {
				return err
			}
			m.renewal.at = landing.LSN(at)
		}
		if m.renewal.at != 0 && m.state.value.Acked >= m.renewal.at {
			m.renewal = renewal{}
			m.with.Store((*reading)(&now))
		}
	}
	if with := *m.with.Load(); !maps.Equal(with, m.state.value.Publications) {
		return m.state.change(ctx, func(s *mirrorState) { s.Publications = with })
	}
	return nil
}

// renews reports whether renew has something to do, in the middle of a round.
func (m *mirror) renews(ctx context.Context, sql *pgx.Conn, now map[string]uint32) (bool, error) {
	others, err := m.unlike(now)
	if err != nil || !others {
		return false, err
	}
	if !maps.Equal(m.renewal.with, now) {
		return true, nil
	}
	if m.renewal.at != 0 {
		return false, nil // confirm sees when
	}
	oldest, _, err := postgres.Running(ctx, sql)
	return oldest >= m.renewal.next, err
}

// slotNotOurs is the code of the Fault that somebody else's slot has our name: that one
// is left alone.
const slotNotOurs = "SlotNotOurs"

func slotFault(code, format string, args ...any) error {
	return &Fault{Code: code, Err: fmt.Errorf(format, args...), Next: "pgmirror run --reseed"}
}

// followTimeline goes on after the source was promoted from a standby, or was
// restored, if the slot came with it. What the mirror has of the old timeline from
// the point on where the new one leaves it never happened: those tables are built
// anew, and the slot's own position counts, which can't be beyond that point.
func (m *mirror) followTimeline(ctx context.Context, repl *pgconn.PgConn, slot postgres.SlotInfo) error {
	ancestors, err := postgres.TimelineHistory(ctx, repl, m.system.timeline)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(ancestors, func(a postgres.Ancestor) bool { return a.Timeline == m.state.value.Timeline })
	if i < 0 {
		return slotFault("OtherTimeline", "the server is on timeline %d, which doesn't descend from the mirror's timeline %d", m.system.timeline, m.state.value.Timeline)
	}
	end := landing.LSN(ancestors[i].End)
	if landing.LSN(slot.ConfirmedFlush) > end {
		return slotFault("SlotMoved", "the slot was moved to %s on timeline %d; the mirror followed timeline %d, which ends at %s", slot.ConfirmedFlush, m.system.timeline, m.state.value.Timeline, end)
	}
	why := fmt.Sprintf("it has changes that timeline %d, which left the mirror's at %s, doesn't have", m.system.timeline, end)
	m.emit(Event{Kind: NewTimeline, LSN: end, Reason: fmt.Sprintf("the source is on timeline %d now, which left timeline %d at %s", m.system.timeline, m.state.value.Timeline, end)})
	if err := m.rebuildTables(ctx, why, func(s tableState) bool { return max(s.Position.CommitLSN, s.Seen) >= end }); err != nil {
		return err
	}
	return m.state.change(ctx, func(s *mirrorState) {
		s.Timeline, s.Acked = m.system.timeline, landing.LSN(slot.ConfirmedFlush)
	})
}

// makeSlot makes the slot and then the state of every table. The mirror counts
// as begun only when all of that is durable; a slot from an attempt that died
// before is dropped, for nobody knows its snapshot any more.
func (m *mirror) makeSlot(ctx context.Context, sql *pgx.Conn, e *exported, there bool, publications map[string]uint32) error {
	if there && m.state.value.Phase == "" {
		return &Fault{Code: slotNotOurs, Err: fmt.Errorf("slot %[1]s is there already, and this landing zone knows nothing of it; "+
			"if nothing uses it, drop it: SELECT pg_drop_replication_slot('%[1]s')", m.cfg.Slot)}
	}
	for _, name := range m.cfg.Publications {
		if publications[name] == 0 {
			return fmt.Errorf("there is no publication %q", name)
		}
	}
	m.with.Store((*reading)(&publications))
	before, err := m.lookBefore(ctx, sql)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return &Fault{Code: "NothingPublished", Err: fmt.Errorf("the publications %q list no table", m.cfg.Publications), Next: "pgmirror apply"}
	}
	if there {
		err := m.cfg.Changing("drop replication slot "+m.cfg.Slot, func() error {
			_, err := sql.Exec(ctx, "SELECT pg_drop_replication_slot($1)", m.cfg.Slot)
			return err
		})
		if err != nil {
			return fmt.Errorf("drop what a dead run left: %w", err)
		}
	}
	if err := m.state.change(ctx, func(s *mirrorState) { s.Phase = phaseSlot }); err != nil {
		return err
	}
	created, err := m.createFollowable(ctx, e.conn)
	if err != nil {
		return err
	}
	e.name = created.Snapshot
	point := landing.LSN(created.ConsistentPoint)
	if err := m.newTables(ctx, sql, point, before); err != nil {
		return err
	}
	return m.state.change(ctx, func(s *mirrorState) {
		s.Phase, s.SystemID, s.Timeline = phaseMirroring, m.system.id, m.system.timeline
		s.ConsistentPoint, s.Acked, s.Publications = point, point, publications
	})
}

// createFollowable makes the slot so that it can be followed from its beginning.
// PostgreSQL (15 to 18 at least) makes a slot in phases, waiting for transactions that
// run; what commits between two of them while another one runs is left out of what
// the next transactions are decoded by. They fail then, each time ("could not map
// filenode"), or have columns or publications as they were before. All this is done
// again whenever the slot is taken up, until its beginning is left behind. A slot that
// was there before, and reads past the beginning of ours, has the server note what it
// knows there, and ours begins with that
// (https://www.postgresql.org/message-id/tencent_50D0DAED9438993ABCE803523BB750884207@qq.com).
func (m *mirror) createFollowable(ctx context.Context, repl *pgconn.PgConn) (postgres.SlotCreated, error) {
	before, err := m.cfg.Source.ConnectReplication(ctx)
	if err != nil {
		return postgres.SlotCreated{}, err
	}
	defer before.Close(context.WithoutCancel(ctx)) // and with it its slot
	witness, err := m.createSlot(ctx, before, temporarySlot(m.cfg.Slot, "before", m.run), postgres.CreateTemporarySlot)
	if err != nil {
		return postgres.SlotCreated{}, err
	}
	created, err := m.createSlot(ctx, repl, m.cfg.Slot, postgres.CreateSlot)
	if err != nil {
		return postgres.SlotCreated{}, err
	}
	return created, m.cfg.Changing("advance replication slot "+witness.Name, func() error {
		return postgres.AdvanceSlot(ctx, before, witness.Name, created.ConsistentPoint)
	})
}

// createSlot makes a slot by create, and tells meanwhile what it waits for.
func (m *mirror) createSlot(ctx context.Context, repl *pgconn.PgConn, name string,
	create func(context.Context, *pgconn.PgConn, string) (postgres.SlotCreated, error)) (created postgres.SlotCreated, err error) {
	told := m.tellBlockers(ctx, int32(repl.PID()))
	defer told()
	err = m.cfg.Changing("create replication slot "+name, func() (err error) {
		created, err = create(ctx, repl, name)
		return err
	})
	return created, err
}
