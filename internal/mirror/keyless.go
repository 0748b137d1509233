package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// lookAtKeyless counts what has happened to rows of tables without a key. Their
// publication publishes inserts alone, or PostgreSQL would refuse the application's
// updates; so the server's statistics have to tell. It reports whether a table is
// to be built anew because of that.
func (m *mirror) lookAtKeyless(ctx context.Context, sql *pgx.Conn) (again bool, err error) {
	for _, t := range m.inPhase(phaseReplicating) {
		now := t.current()
		if !now.keyless() {
			continue
		}
		if !now.src.OtherChanges {
			if err := t.countTouched(ctx, sql, now); err != nil {
				return again, err
			}
		}
		if s := t.snapshot(); m.cfg.Heal > 0 && s.Ignored > 0 && time.Since(s.Built) > m.cfg.Heal {
			if err := t.rebuildNow(ctx, fmt.Sprintf("%d updates and deletes were not mirrored, as it has no key", s.Ignored)); err != nil {
				return again, err
			}
			again = true
		}
	}
	return again, nil
}

func touched(ctx context.Context, sql *pgx.Conn, src *postgres.Table) (int64, error) {
	var oids []uint32
	for _, p := range partsOf(src) {
		oids = append(oids, p.OID)
	}
	return postgres.Touched(ctx, sql, oids)
}

// countTouched compares the statistics with the last look, the first of which was
// before the copy; statistics that begin anew have nothing to be compared with.
func (t *table) countTouched(ctx context.Context, sql *pgx.Conn, shape *shape) error {
	now, err := touched(ctx, sql, &shape.src)
	if err != nil {
		return err
	}
	s := t.snapshot()
	if s.Touched != nil && *s.Touched == now {
		return nil
	}
	missed := int64(0)
	if s.Touched != nil && now > *s.Touched {
		missed = now - *s.Touched
	}
	if err := t.change(ctx, func(s *tableState) { s.Touched, s.Ignored = &now, s.Ignored+missed }); err != nil {
		return err
	}
	t.tellIgnored(missed)
	return nil
}

// tellRefused tells of tables whose updates PostgreSQL refuses because they are
// published without a replica identity, as when somebody drops their primary key. It
// takes them out of the publication when the role may do that: the application comes
// first.
func (m *mirror) tellRefused(ctx context.Context, sql *pgx.Conn) error {
	refused, err := postgres.Refused(ctx, sql, m.cfg.Publications)
	if err != nil {
		return err
	}
	for _, f := range refused {
		reason := fmt.Sprintf("PostgreSQL refuses its updates and deletes: publication %s has it, and it has no replica identity", f.Publication)
		switch {
		case f.Mend != "" && f.May:
			err := m.cfg.Changing("take table "+f.Schema+"."+f.Table+" out of publication "+f.Publication, func() error {
				_, err := sql.Exec(ctx, f.Mend)
				return err
			})
			if err != nil {
				reason += fmt.Sprintf("; it could not be taken out (%v): %s", err, f.Mend)
			} else {
				reason += "; it was taken out"
			}
		case f.Mend != "":
			reason += "; its owner can take it out: " + f.Mend
		}
		if table := f.Schema + "." + f.Table; m.watched.news(table, reason) {
			m.emit(Event{Kind: Refused, Table: table, Reason: reason})
		}
	}
	return nil
}
