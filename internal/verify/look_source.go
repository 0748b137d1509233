package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
	}
	return nil
}

const lookupKeys = 500 // in one statement

// lookups are WHERE clauses that find the candidates by their keys, or one that
// finds every row when a key can't be written as SQL.
func (s *settling) lookups() []string {
	var keys []string
	for _, cand := range s.cands {
		k, ok := s.keyIs(cand)
		if !ok {
			return []string{""}
		}
		keys = append(keys, k)
	}
	var wheres []string
	for part := range slices.Chunk(keys, lookupKeys) {
		wheres = append(wheres, " WHERE "+strings.Join(part, " OR "))
	}
	return wheres
}

// keyIs is SQL that holds for the candidate's row.
func (s *settling) keyIs(cand *candidate) (string, bool) {
	literals := s.keyLiterals(cand)
	is := make([]string, len(literals))
	for i, k := range s.plan.key[:len(literals)] {
		c := s.plan.columns[k]
		is[i] = quoteIdent(c.name) + " " + c.equal + " " + quoteLiteral(literals[i]) + "::" + c.sqlType
	}
	return "(" + strings.Join(is, " AND ") + ")", len(literals) > 0
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
