package verify

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// candidate is a row that differed when it was last looked at.
type candidate struct {
	key    []*string // canonical; nil: NULL
	source side      // as last seen
	mirror side
	since  time.Time    // the source's row was seen like this first
	lsn    postgres.LSN // of the source, then: whatever made the row so lies before it
	steady int          // looks since then that found both sides as before
	before side         // mirror, at the look before
	wrote  *writers     // when both sides were as they are first
	alien  bool         // its key is nothing that the source can read
}

// side is one side's row, or rows, of a key.
type side struct {
	n       int
	row     hash   // of several rows the sum
	xmin    uint64 // of the source, likewise
	columns []hash // of the first
}

// same reports whether the source's row was not written in between.
func (s side) same(o side) bool { return s.n == o.n && s.row == o.row && s.xmin == o.xmin }

// equal reports whether both hold the same.
func (s side) equal(o side) bool { return s.n == o.n && (s.n == 0 || s.row == o.row) }

// extra reports whether the mirror has more rows than the source. A row that is
// there tells by its xmin that nobody touched it; one that isn't there may have
// come and gone between two looks.
func (c *candidate) extra() bool { return c.mirror.n > c.source.n }

// merge adds what another file of the mirror has of the key.
func (s *side) merge(o side) {
	if s.n == 0 {
		*s = o
		return
	}
	s.n, s.row = s.n+o.n, s.row.plus(o.row)
}

func (s *side) take(r *row) {
	s.xmin += uint64(r.xmin)
	s.row = s.row.plus(r.hash())
	if s.n++; s.n == 1 {
		s.columns = r.columnHashes()
	}
}

// Waiting for rows to settle.
const (
	minSettle   = 2 * time.Second
	minUntold   = 3 * time.Minute        // of a mirror that doesn't say how far it has come: Fabric's documents speak of about two
	lagFactor   = 3                      // of the longest time that a row in flight was seen to take
	idleFactor  = 5                      // of the settling time, as long as the mirror shows no sign that it has come so far
	reached     = 500 * time.Millisecond // a row that the mirror says it has come to; a commit is sent before it is visible, so not at once
	reachedLook = 2                      // looks in a row, too
	maxUnseen   = time.Minute            // that an open transaction which wrote to the table is thought to be a commit that nobody sees yet
	maxLag      = 5 * time.Minute        // that is believed: a mirror that is catching up after a day is not waited for
	shortLook   = 100 * time.Millisecond
	longLook    = 5 * time.Second
	moveFactor  = 5  // (2 where nothing is told) of the time that a row needs, after which one that never settles is moving
	newVersions = 2  // that the mirror must have had for the shorter time to do
	extraLooks  = 12 // in a row that must find an extra row the same: by chance, one that comes and goes hardly passes them
)

// settling follows the candidates of a comparison until each is decided.
type settling struct {
	*comparison
	keys  *plan
	now   map[string]bool // transactions that are writing to the table; whether their commit is known to wait for a standby
	whole bool            // keys don't find all candidates
	began time.Time
	lag   time.Duration // the longest that a row in flight was seen to take

	seen    int64                    // version of the mirror that the candidates' mirror sides are of
	pos     position                 // what the mirror said last of how far it has come
	arrived []time.Time              // when newer versions of the mirror were seen
	held    map[string]map[hash]side // what each data file of that version has of the candidates
}

// settle looks at the candidates again, both sides fresh, until each is equal,
// or different although unchanged for long enough, or moving.
func (c *comparison) settle(ctx context.Context) error {
	s := &settling{comparison: c, keys: c.plan.keys(), began: time.Now(), seen: -1, pos: c.mirror.told()}
	if err := s.readKeys(ctx); err != nil {
		return err
	}
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

// pause waits until the next look, longer from one to the next, and not always equally
// long: what goes on at the source may have a beat.
func (s *settling) pause(ctx context.Context) error {
	d := min(max(time.Since(s.began)/8, shortLook), longLook)
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
	switch {
	case s.cfg.Settle > 0:
		return s.cfg.Settle
	case s.pos.known:
		return max(minSettle, lagFactor*s.lag)
	}
	return max(s.cfg.untold, lagFactor*s.lag)
}

// needed is how long a candidate must have been unchanged. A mirror that says how
// far it has come has to have come past the row's last change; of one that says
// nothing newer versions have to have come. One that shows neither may be about
// to catch up.
func (s *settling) needed(c *candidate) time.Duration {
	switch {
	case s.pos.known && s.pos.end >= c.lsn && c.lsn > 0 && c.steady >= reachedLook:
		return min(s.settled(), max(reached, s.cfg.Settle))
	case s.pos.known || s.cfg.Settle > 0 && !s.alive(c.since):
		return idleFactor * s.settled()
	case s.alive(c.since):
		return s.settled()
	}
	return max(s.settled(), idleFactor*max(minSettle, lagFactor*s.lag))
}

// alive reports whether several versions of the mirror have come since.
func (s *settling) alive(since time.Time) bool {
	n := 0
	for _, t := range s.arrived {
		if t.After(since) {
			n++
		}
	}
	return n >= newVersions
}

// unchanged is for how long a candidate has been so when it was looked at.
func (s *settling) unchanged(c *candidate, looked time.Time) time.Duration {
	since := c.since
	if n := len(s.arrived); n > 0 && s.pos.known && s.pos.end == 0 && s.arrived[n-1].After(since) {
		since = s.arrived[n-1] // the snapshot is still coming in, file by file
	}
	return looked.Sub(since)
}

// decide takes out the candidates that are equal, different or moving.
func (s *settling) decide(looked time.Time) {
	limit := moveFactor * s.settled()
	switch {
	case !s.pos.known && s.cfg.Settle == 0:
		limit = 2 * s.settled()
	case !s.alive(s.began):
		limit *= idleFactor
	}
	over := looked.Sub(s.began) > limit
	for k, cand := range s.cands {
		rested := s.unchanged(cand, looked) >= s.needed(cand)
		switch {
		case cand.source.equal(cand.mirror):
			s.res.InFlight++
			s.lag = max(s.lag, looked.Sub(s.began))
		case rested && s.hidden(cand.wrote):
			if !over || looked.Sub(cand.wrote.at) < s.cfg.unseen {
				continue
			}
			s.res.Moving++
		case rested && (!cand.extra() || cand.steady >= extraLooks):
			s.report(cand)
		case over && !rested:
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
	d := RowDifference{Key: s.nameKey(cand), Kind: Changed, Values: s.keyLiterals(cand)}
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

// keyLiterals are the values of a key as PostgreSQL reads them; nil of one by which
// it doesn't find the row, and no other.
func (s *settling) keyLiterals(cand *candidate) []string {
	var out []string
	for i, k := range s.plan.key {
		r, v := s.plan.columns[k].rule, cand.key[i]
		if v == nil || r.literal == nil || cand.alien || r.around("", *v) != "" {
			return nil
		}
		out = append(out, r.literal(*v))
	}
	return out
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
