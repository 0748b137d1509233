package verify

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// candidate is a row that differed when it was last looked at.
type candidate struct {
	key    []*string // canonical; nil: NULL
	source side      // as last seen
	mirror side
	since  time.Time // the source's row was seen like this first
	steady int       // looks since then that found both sides as before
	before side      // mirror, at the look before
}

// side is one side's row, or rows, of a key.
type side struct {
	n       int
	row     hash
	xmin    uint64 // of the source; of several rows the sum
	columns []hash
}

// same reports whether the source's row was not written in between.
func (s side) same(o side) bool { return s.n == o.n && s.row == o.row && s.xmin == o.xmin }

// equal reports whether both hold the same.
func (s side) equal(o side) bool { return s.n == o.n && (s.n == 0 || s.row == o.row) }

// extra reports whether the mirror has more rows than the source. A row that is
// there tells by its xmin that nobody touched it; one that isn't there may have
// come and gone between two looks.
func (c *candidate) extra() bool { return c.mirror.n > c.source.n }

func (s *side) take(r *row) {
	s.xmin += uint64(r.xmin)
	if s.n++; s.n == 1 {
		s.row, s.columns = r.hash(), r.columnHashes()
		return
	}
	if h := r.hash(); h != s.row { // a key that the mirror has twice, with different values
		s.row = hashOf(append(s.row[:], h[:]...))
	}
}

// Waiting for rows to settle.
const (
	minSettle   = 2 * time.Second
	lagFactor   = 3 // of the longest time that a row in flight was seen to take
	idleFactor  = 5 // of the settling time, as long as the mirror has no newer versions
	shortLook   = 100 * time.Millisecond
	longLook    = 5 * time.Second
	moveFactor  = 5  // of the time that a row needs, after which one that never settles is moving
	newVersions = 2  // that the mirror must have had for the shorter time to do
	extraLooks  = 12 // in a row that must find an extra row the same: by chance, one that comes and goes hardly passes them
)

// settling follows the candidates of a comparison until each is decided.
type settling struct {
	*comparison
	began   time.Time
	lag     time.Duration // the longest that a row in flight was seen to take
	seen    int64         // version of the mirror that the candidates' mirror sides are of
	arrived []time.Time   // when newer versions of the mirror were seen
}

// settle looks at the candidates again, both sides fresh, until each is equal,
// or different although unchanged for long enough, or moving.
func (c *comparison) settle(ctx context.Context) error {
	s := &settling{comparison: c, began: time.Now(), seen: -1}
	for len(c.cands) > 0 {
		if err := s.pause(ctx); err != nil {
			return err
		}
		looked := time.Now() // before the mirror's version is chosen: what is settled then had to be in it
		if err := s.lookAtMirror(ctx); err != nil {
			return err
		}
		if err := s.lookAtSource(ctx); err != nil {
			return err
		}
		s.decide(looked)
		c.cfg.Events(Event{Type: "looking-again", Schema: c.pair.schema, Table: c.pair.name, Version: s.seen, Differ: len(c.cands) + c.res.Differing})
	}
	slices.SortFunc(c.res.Differences, func(a, b RowDifference) int { return cmp.Compare(a.Key, b.Key) })
	return nil
}

// pause waits until the next look, not always equally long: what goes on at the
// source may have a beat.
func (s *settling) pause(ctx context.Context) error {
	d := min(max(s.settled()/8, shortLook), longLook)
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// settled is how long a row must have been unchanged, if the mirror is alive.
func (s *settling) settled() time.Duration {
	if s.cfg.Settle > 0 {
		return s.cfg.Settle
	}
	return max(minSettle, lagFactor*s.lag)
}

// needed is how long a row must have been unchanged since it was first seen so.
// A mirror of which no newer versions come may be about to catch up.
func (s *settling) needed(since time.Time) time.Duration {
	alive := 0
	for _, t := range s.arrived {
		if t.After(since) {
			alive++
		}
	}
	if alive >= newVersions {
		return s.settled()
	}
	return idleFactor * s.settled()
}

// lookAtMirror reads the candidates' rows in the newest version of the mirror.
func (s *settling) lookAtMirror(ctx context.Context) error {
	m, err := s.cfg.open(ctx, s.pair.mirror)
	if err != nil {
		return fmt.Errorf("open the mirror: %w", err)
	}
	if m.version() == s.seen {
		for _, cand := range s.cands {
			cand.before = cand.mirror
		}
		return nil
	}
	if s.seen >= 0 {
		s.arrived = append(s.arrived, time.Now())
	}
	s.seen = m.version()
	for _, cand := range s.cands {
		cand.before, cand.mirror = cand.mirror, side{}
	}
	return s.readMirror(ctx, m, func(r *row) error {
		if cand := s.cands[r.keyHash(s.plan.key)]; cand != nil {
			cand.mirror.take(r)
		}
		return nil
	})
}

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
	for _, where := range s.lookups() {
		if err := s.readSource(ctx, where, take); err != nil {
			return err
		}
	}
	done := time.Now()
	for k, cand := range s.cands {
		var seen side
		if now[k] != nil {
			seen = *now[k]
		}
		cand.steady++
		changed := !seen.same(cand.source)
		cand.source = seen
		if changed || cand.extra() && !cand.mirror.equal(cand.before) {
			cand.since, cand.steady = done, 0
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
		k, ok := s.keyValues(cand)
		if !ok {
			return []string{""}
		}
		keys = append(keys, k)
	}
	var names []string
	for _, k := range s.plan.key {
		names = append(names, quoteIdent(s.plan.columns[k].name))
	}
	var wheres []string
	for part := range slices.Chunk(keys, lookupKeys) {
		wheres = append(wheres, " WHERE ("+strings.Join(names, ", ")+") IN ("+strings.Join(part, ", ")+")")
	}
	return wheres
}

func (s *settling) keyValues(cand *candidate) (string, bool) {
	var values []string
	for i, k := range s.plan.key {
		col := s.plan.columns[k]
		if cand.key[i] == nil || col.rule.literal == nil {
			return "", false
		}
		values = append(values, quoteLiteral(col.rule.literal(*cand.key[i]))+"::"+col.sqlType)
	}
	return "(" + strings.Join(values, ", ") + ")", len(values) > 0
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// quoteLiteral is right whatever standard_conforming_strings is.
func quoteLiteral(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}

// decide takes out the candidates that are equal, different or moving.
func (s *settling) decide(looked time.Time) {
	over := looked.Sub(s.began) > moveFactor*s.needed(s.began)
	for k, cand := range s.cands {
		switch {
		case cand.source.equal(cand.mirror):
			s.res.InFlight++
			s.lag = max(s.lag, looked.Sub(s.began))
		case looked.Sub(cand.since) >= s.needed(cand.since) && (!cand.extra() || cand.steady >= extraLooks):
			s.report(cand)
		case over && looked.Sub(cand.since) < s.needed(cand.since):
			s.res.Moving++
		default:
			continue
		}
		delete(s.cands, k)
	}
}

// report names a row that differs.
func (s *settling) report(cand *candidate) {
	s.res.Differing++
	if len(s.res.Differences) == maxNamed {
		return
	}
	d := RowDifference{Key: s.nameKey(cand), Kind: Changed}
	switch {
	case cand.mirror.n < cand.source.n:
		d.Kind = Missing
	case cand.mirror.n > cand.source.n:
		d.Kind = Extra
	default:
		for i, col := range s.plan.columns {
			if cand.source.columns[i] != cand.mirror.columns[i] {
				d.Columns = append(d.Columns, col.name)
			}
		}
	}
	s.res.Differences = append(s.res.Differences, d)
}

const nameLength = 60 // bytes of a value in a row's name

func (s *settling) nameKey(cand *candidate) string {
	columns := s.plan.key
	if len(columns) == 0 {
		for i := range s.plan.columns {
			columns = append(columns, i)
		}
	}
	parts := make([]string, len(columns))
	for i, k := range columns {
		col, v := s.plan.columns[k], "NULL"
		if p := cand.key[i]; p != nil {
			if v = *p; col.rule.literal != nil {
				v = col.rule.literal(v)
			}
			if len(v) > nameLength {
				v = strings.ToValidUTF8(v[:nameLength], "") + "…"
			}
		}
		parts[i] = col.name + "=" + v
	}
	return strings.Join(parts, ", ")
}
