package verify

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// lookAtMirror finds the candidates' rows in the newest version of the mirror. It
// reads only files that the version before didn't have, and of those that hold no
// candidate only the key columns.
func (s *settling) lookAtMirror(ctx context.Context) error {
	m, err := s.cfg.open(ctx, s.pair.mirror)
	if err != nil {
		return fmt.Errorf("open the mirror: %w", err)
	}
	told := m.told()
	if m.version() == s.seen && told.table == s.pos.table {
		for _, cand := range s.cands {
			cand.before = cand.mirror
		}
		return nil
	}
	if !slices.Equal(m.fields(), s.plan.schema) {
		return errRedefined
	}
	held := map[string]map[hash]side{}
	for i, name := range m.files() {
		rows, ok := s.held[name]
		if !ok {
			if rows, err = s.rowsOf(ctx, m, i); err != nil {
				return err
			}
		}
		held[name] = rows
	}
	s.held = held
	s.arrive(m.version(), told)
	for _, cand := range s.cands {
		cand.before, cand.mirror = cand.mirror, side{}
	}
	for _, name := range m.files() {
		for k, rows := range held[name] {
			if cand := s.cands[k]; cand != nil {
				cand.mirror.merge(rows)
			}
		}
	}
	return nil
}

// arrive notes a version that wasn't there at the look before.
func (s *settling) arrive(version int64, told position) {
	if s.seen >= 0 {
		s.arrived = append(s.arrived, time.Now())
		if told.known && !told.at.IsZero() {
			s.lag = max(s.lag, min(time.Since(told.at)+s.ahead, maxLag))
		}
	}
	if told.table == s.pos.table && !told.known { // somebody tidied the table up: it has come no less far
		told = s.pos
	}
	s.seen, s.pos = version, told
}

// rowsOf finds the candidates' rows in one file.
func (s *settling) rowsOf(ctx context.Context, m mirrorTable, i int) (map[hash]side, error) {
	hit := s.keys == nil
	if !hit {
		err := s.keys.readFile(ctx, m, i, func(r *row) error {
			hit = hit || s.cands[r.keyHash(s.keys.key)] != nil
			return nil
		})
		if err != nil || !hit {
			return nil, err
		}
	}
	rows := map[hash]side{}
	err := s.plan.readFile(ctx, m, i, func(r *row) error {
		k := r.keyHash(s.plan.key)
		if s.cands[k] == nil {
			return nil
		}
		found := rows[k]
		found.take(r)
		rows[k] = found
		return nil
	})
	return rows, err
}
