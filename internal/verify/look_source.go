package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// lookAtSource reads the candidates' rows at the source as they are now. Rows
// that changed begin to settle anew.
func (s *settling) lookAtSource(ctx context.Context) error {
	now := make(map[hash]*side, len(s.cands))
	take := func(r *row) error {
		k := r.keyHash(s.plan.key)
		if s.cands[k] == nil {
			return nil
		}
		if now[k] == nil {
			now[k] = &side{}
		}
		now[k].take(r)
		return nil
	}
	if err := s.lookAtWriters(ctx); err != nil { // after the mirror, and before the snapshot
		return err
	}
	wrote := &writers{time.Now(), slices.Collect(maps.Keys(s.now))}
	err := s.atSource(ctx, func(t *postgres.Table) error {
		if shape(t) != shape(s.source) {
			return errRedefined
		}
		for _, where := range s.lookups() {
			if err := s.readSource(ctx, where, take); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	done := time.Now()
	lsn, err := s.sourceLSN(ctx)
	if err != nil {
		return err
	}
	for k, cand := range s.cands {
		var seen side
		if now[k] != nil {
			seen = *now[k]
		}
		cand.steady++
		changed := !seen.same(cand.source)
		cand.source = seen
		if changed || cand.extra() && !cand.mirror.equal(cand.before) {
			cand.since, cand.lsn, cand.steady = done, lsn, 0
		}
		if changed || cand.wrote == nil || !cand.mirror.equal(cand.before) {
			cand.wrote = wrote
		}
	}
	return nil
}

// writers are transactions that were writing to the table at some time.
type writers struct {
	at  time.Time
	who []string
}

// lookAtWriters finds the transactions that have written to the table and aren't over
// for all to see. A commit is sent to mirrors before it is visible, long before while
// it waits for a standby; its locks go later.
func (s *settling) lookAtWriters(ctx context.Context) error {
	rows, err := s.conn.Query(ctx, `WITH RECURSIVE t AS (SELECT $1::oid AS oid UNION ALL SELECT i.inhrelid FROM t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
		SELECT l.virtualtransaction, coalesce(pg_catalog.bool_or(a.wait_event = 'SyncRep'), false)
		FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'relation' AND l.relation IN (SELECT oid FROM t) AND l.granted AND l.mode = 'RowExclusiveLock'
			AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		GROUP BY 1`, s.source.OID)
	if err != nil {
		return fmt.Errorf("ask the source who writes: %w", err)
	}
	s.now = map[string]bool{}
	var who string
	var standby bool
	if _, err := pgx.ForEachRow(rows, []any{&who, &standby}, func() error { s.now[who] = standby; return nil }); err != nil {
		return fmt.Errorf("ask the source who writes: %w", err)
	}
	return nil
}

// hidden reports whether one of them may have committed without anybody seeing it yet.
// One that isn't known to wait for a standby is thought to for a while only: it may
// just be open.
func (s *settling) hidden(w *writers) bool {
	for _, who := range w.who {
		if standby, there := s.now[who]; standby || there && time.Since(w.at) < s.cfg.unseen {
			return true
		}
	}
	return false
}

const lookupKeys = 500 // in one statement

// lookups are WHERE clauses that find the candidates by their keys, or one that
// finds every row when a key can't be written as SQL. They may find others, too.
func (s *settling) lookups() []string {
	var keys []string
	for _, cand := range s.cands {
		k, ok := s.keyIs(cand)
		if !ok || s.whole {
			return []string{""}
		}
		if !cand.alien {
			keys = append(keys, k)
		}
	}
	var wheres []string
	for part := range slices.Chunk(keys, lookupKeys) {
		wheres = append(wheres, " WHERE "+strings.Join(part, " OR "))
	}
	return wheres
}

// keyIs is SQL that holds for the candidate's row.
func (s *settling) keyIs(cand *candidate) (string, bool) {
	is := make([]string, len(s.plan.key))
	for i, k := range s.plan.key {
		c, v := s.plan.columns[k], cand.key[i]
		if v == nil || c.rule.literal == nil {
			return "", false
		}
		name := quoteIdent(c.name)
		if is[i] = c.rule.around(name, *v); is[i] == "" {
			is[i] = name + " " + c.equal + " " + c.value(*v)
		}
	}
	return "(" + strings.Join(is, " AND ") + ")", len(is) > 0
}

// value is a canonical value in SQL.
func (c *column) value(canonical string) string {
	return quoteLiteral(c.rule.literal(canonical)) + "::" + c.sqlType
}

// readKeys has the source read the candidates' keys. A key that it can't read, as a
// label that an enum hasn't got any more, is the key of no row there, unless one
// was seen.
func (s *settling) readKeys(ctx context.Context) error {
	var cands []*candidate
	for _, cand := range s.cands {
		switch k, ok := s.keyIs(cand); {
		case !ok: // all rows are read while it is there
		case strings.Contains(k, "\x00"): // which no SQL may have
			cand.alien = true
		default:
			cands = append(cands, cand)
		}
	}
	for part := range slices.Chunk(cands, lookupKeys) {
		if err := s.readSome(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (s *settling) readSome(ctx context.Context, cands []*candidate) error {
	values := []string{"true"}
	for _, cand := range cands {
		for i, k := range s.plan.key {
			if c, v := s.plan.columns[k], *cand.key[i]; c.rule.around("", v) == "" { // else it isn't asked for by this
				values = append(values, c.value(v)+" IS NULL")
			}
		}
	}
	_, err := s.conn.Exec(ctx, "SELECT ARRAY["+strings.Join(values, ", ")+"]")
	pgErr, said := errors.AsType[*pgconn.PgError](err)
	switch half := len(cands) / 2; {
	case err == nil:
		return nil
	case !said || pgErr.Code[:2] != "22" && pgErr.Code[:2] != "23": // neither malformed nor out of a constraint
		return fmt.Errorf("have the source read keys: %w", err)
	case half == 0:
		cands[0].alien = true
		s.whole = s.whole || cands[0].source.n > 0
		return nil
	default:
		if err := s.readSome(ctx, cands[:half]); err != nil {
			return err
		}
		return s.readSome(ctx, cands[half:])
	}
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// quoteLiteral is right whatever standard_conforming_strings is.
func quoteLiteral(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}

const sourceLSNSQL = `SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
	ELSE pg_catalog.pg_current_wal_insert_lsn() END)::text, pg_catalog.clock_timestamp()`

// sourceLSN is a position behind everything that the source has shown until now.
func (c *comparison) sourceLSN(ctx context.Context) (postgres.LSN, error) {
	var text string
	var now time.Time
	if err := c.conn.QueryRow(ctx, sourceLSNSQL).Scan(&text, &now); err != nil {
		return 0, fmt.Errorf("ask the source for its position: %w", err)
	}
	c.ahead = time.Until(now)
	return postgres.ParseLSN(text)
}
