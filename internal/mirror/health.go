package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// blockerPatience is how long a slot may take before we say what it waits for.
const blockerPatience = 2 * time.Second

// tellBlockers names, as long as a slot isn't made, the oldest transaction that
// its creation waits for: every one that has a transaction id has to end first.
// The returned function ends that and waits for it.
func (m *mirror) tellBlockers(ctx context.Context, own int32) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for last := ""; ; {
			select {
			case <-time.After(blockerPatience):
			case <-ctx.Done():
				return
			}
			who, err := m.oldestWriter(ctx, own)
			if err == nil && who != last { // not being able to look leaves the wait as it is
				m.emit(Event{Kind: Waiting, Reason: who})
				last = who
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (m *mirror) oldestWriter(ctx context.Context, own int32) (string, error) {
	conn, err := m.cfg.Source.Connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var pid int32
	var user, app, state, since string
	err = conn.QueryRow(ctx, `SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''), coalesce(pg_catalog.date_trunc('second', xact_start)::text, '')
		FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> $1 AND pid <> pg_catalog.pg_backend_pid()
		ORDER BY xact_start LIMIT 1`, own).Scan(&pid, &user, &app, &state, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return oldestPrepared(ctx, conn)
	} else if err != nil {
		return "", err
	}
	who := fmt.Sprintf("the transaction of pid %d (user %s, application %q", pid, user, app)
	if since == "" { // others' are shown to members of pg_read_all_stats
		return who + ") to end", nil
	}
	return fmt.Sprintf("%s, %s) to end, which is open since %s", who, state, since), nil
}

// oldestPrepared names a transaction that no session has any more.
func oldestPrepared(ctx context.Context, conn *pgx.Conn) (string, error) {
	var gid, owner, since string
	err := conn.QueryRow(ctx, `SELECT pg_catalog.quote_literal(gid), owner, pg_catalog.date_trunc('second', prepared)::text FROM pg_catalog.pg_prepared_xacts ORDER BY prepared LIMIT 1`).
		Scan(&gid, &owner, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return "the server to make the slot", nil
	}
	return fmt.Sprintf("the transaction %s to end, which %s has prepared at %s: COMMIT PREPARED or ROLLBACK PREPARED does that", gid, owner, since), err
}

// tellLocked names who holds a table locked that is to be read.
func (m *mirror) tellLocked(ctx context.Context, t *table) {
	who := "somebody"
	var parts []uint32
	for _, p := range t.parts {
		parts = append(parts, p.src.OID)
	}
	if conn, err := m.cfg.Source.Connect(ctx); err == nil { // not being able to look leaves the wait as it is
		_ = conn.QueryRow(ctx, `SELECT pg_catalog.format('pid %s (user %s, application "%s", %s)', a.pid, a.usename, a.application_name, a.state)
			FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) JOIN pg_catalog.pg_database d ON d.oid = l.database
			WHERE d.datname = pg_catalog.current_database() AND l.relation = ANY ($1::oid[]) AND l.granted AND l.mode = 'AccessExclusiveLock' LIMIT 1`, parts).Scan(&who)
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	m.emit(Event{Kind: Waiting, Table: t.String(), Reason: fmt.Sprintf("table %s, which %s holds locked; the others go on", t, who)})
}

// tellSlot says how the slot stands. A slot that can't be looked at is no reason
// to stop; the stream notices when it is gone.
func (m *mirror) tellSlot(ctx context.Context, q postgres.Querier) {
	slot, there, err := postgres.Slot(ctx, q, m.cfg.Slot)
	if err != nil || !there {
		return
	}
	now := Slot{WALStatus: slot.WALStatus, RetainedBytes: slot.RetainedBytes, SafeWALSize: slot.SafeWALSize}
	m.watched.mu.Lock()
	m.watched.slot, m.watched.looked = now, time.Now()
	m.watched.mu.Unlock()
	m.emit(Event{Kind: SlotHealth, Slot: &now})
}

// watchSlot looks at the slot until ctx ends, whenever no attempt has for a while:
// when the landing zone is away or hangs the server keeps WAL all the same, or loses
// it. source says where the server is now.
func (m *mirror) watchSlot(ctx context.Context, source func() postgres.Endpoint) {
	for {
		select {
		case <-time.After(m.cfg.Watch):
		case <-ctx.Done():
			return
		}
		if m.watched.lookedWithin(max(3*m.cfg.Watch, m.cfg.unseen)) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		if conn, err := source().Connect(ctx); err == nil { // else the attempts tell why
			m.tellSlot(ctx, conn)
			_ = conn.Close(ctx)
		}
		cancel()
	}
}
