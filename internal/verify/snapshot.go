package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// snapshot compares the whole table under one snapshot of the source and one
// version of the mirror, opened later, and makes candidates of the rows that
// differ.
func (c *comparison) snapshot(ctx context.Context) error {
	return c.atSource(ctx, func(t *postgres.Table) (err error) {
		c.source, c.taken = t, time.Now()
		if c.lsn, err = c.sourceLSN(ctx); err != nil {
			return err
		}
		if c.mirror, err = c.cfg.open(ctx, c.pair.mirror); err != nil {
			return fmt.Errorf("open the mirror: %w", err)
		}
		if err := c.prepare(ctx); err != nil {
			return err
		}
		return c.compare(ctx)
	})
}

// prepare makes the plan and fills in what the result says of it.
func (c *comparison) prepare(ctx context.Context) (err error) {
	if c.plan, err = newPlan(ctx, c.conn, c.source, c.mirror.fields(), c.cfg.Native); err != nil {
		return err
	}
	c.res.DeltaID = c.mirror.told().table
	c.res.DeltaVersion, c.res.LeftOut, c.res.OnlyMirror, c.res.Key = c.mirror.version(), c.plan.left, c.plan.extra, nil
	for _, k := range c.plan.key {
		c.res.Key = append(c.res.Key, c.plan.columns[k].name)
	}
	return nil
}

// compare finds the ranges of key hashes that differ, finer and finer until their
// rows can be held, and makes candidates of the rows that differ. Each range has one at
// least: where there are more ranges than candidates, the others are left out.
func (c *comparison) compare(ctx context.Context) error {
	c.cands, c.cut = map[hash]*candidate{}, false
	c.limits = limitsFor(c.memory, len(c.plan.columns), 0)
	rows, more := max(c.source.EstRows, c.mirror.rows()), false
	for sv := sieve(nil); ; {
		source, mirror, err := c.checksums(ctx, sv, c.limits.bucketsFor(rows, len(sv) > 0))
		if err != nil {
			return err
		}
		l := levelOf(source, mirror, c.limits.candidates+1)
		if l.differ == 0 && len(sv) == 0 {
			return nil
		}
		more = more || l.differ > c.limits.candidates
		if rows = l.rows; rows <= c.limits.rows || len(sv)+1 == maxLevels {
			if err := c.collectAll(ctx, sv, l, source); err != nil {
				return err
			}
			if len(c.cands) == 0 || more && !c.cut {
				return errUnsteady
			}
			return nil
		}
		sv = append(sv, l)
	}
}

// errUnsteady means that rows which have to be there, by their checksums, are not.
var errUnsteady = errors.New("the checksums of both sides differ where their rows don't: one side is not read alike every time")

// checksums reads the rows that pass the sieve, on both sides at once. Without a
// sieve these are all of them.
func (c *comparison) checksums(ctx context.Context, sv sieve, n int) (source, mirror *sums, err error) {
	source, mirror = newSums(n), newSums(n)
	keyBytes := int64(0)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return c.readSource(ctx, "", func(r *row) error {
			k := r.keyHash(c.plan.key)
			if !sv.passes(k) {
				return nil
			}
			if len(sv) == 0 {
				for _, col := range r.lost {
					col.lost++
				}
				keyBytes += c.keySize(r)
			}
			source.add(k.bucket(len(sv), n), r.hash())
			return nil
		})
	})
	g.Go(func() error {
		return c.readMirror(ctx, c.mirror, func(r *row) error {
			if k := r.keyHash(c.plan.key); sv.passes(k) {
				mirror.add(k.bucket(len(sv), n), r.hash())
			}
			return nil
		})
	})
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	if len(sv) == 0 {
		c.res.Rows, c.res.Checksum = source.total()
		c.res.MirrorRows, c.res.MirrorChecksum = mirror.total()
		c.limits = limitsFor(c.memory, len(c.plan.columns), keyBytes/max(1, c.res.Rows))
	}
	return source, mirror, nil
}

// collectAll makes candidates of the rows that differ, as many rows at a time as
// can be held.
func (c *comparison) collectAll(ctx context.Context, sv sieve, l level, source *sums) error {
	for g := range l.groups(source, c.limits.rows) {
		if c.cut {
			break
		}
		if err := c.collect(ctx, append(slices.Clip(sv), g)); err != nil {
			return err
		}
	}
	return nil
}

// held is a row of the source, or several that aren't told apart by the key, and
// what the mirror has of them.
type held struct {
	key    []*string
	xmin   uint64
	n, met int  // how many rows
	row    hash // of the source; of several rows the sum
	other  hash // of the mirror, likewise
}

// collect reads the rows that pass the sieve on both sides and finds those that
// differ.
func (c *comparison) collect(ctx context.Context, sv sieve) error {
	rows := map[hash]*held{}
	err := c.readSource(ctx, "", func(r *row) error {
		k := r.keyHash(c.plan.key)
		if !sv.passes(k) {
			return nil
		}
		h := rows[k]
		if h == nil {
			h = &held{key: c.keyOf(r)}
			rows[k] = h
		}
		h.n, h.row, h.xmin = h.n+1, h.row.plus(r.hash()), h.xmin+uint64(r.xmin)
		return nil
	})
	if err != nil {
		return err
	}
	err = c.readMirror(ctx, c.mirror, func(r *row) error {
		k := r.keyHash(c.plan.key)
		if !sv.passes(k) {
			return nil
		}
		if h := rows[k]; h != nil {
			h.met, h.other = h.met+1, h.other.plus(r.hash())
			return nil
		}
		c.candidate(k, &held{}, func() []*string { return c.keyOf(r) })
		return nil
	})
	if err != nil {
		return err
	}
	for k, h := range rows {
		if h.met != h.n || h.other != h.row {
			c.candidate(k, h, func() []*string { return h.key })
		}
	}
	return nil
}

// candidate notes a row that differs, as the source had it in the snapshot.
func (c *comparison) candidate(k hash, h *held, key func() []*string) {
	if c.cands[k] != nil {
		return
	}
	if len(c.cands) == c.limits.candidates {
		c.cut = true
		return
	}
	c.cands[k] = &candidate{key: key(), since: c.taken, lsn: c.lsn, source: side{n: h.n, row: h.row, xmin: h.xmin}}
}

// keyColumns are those by which a row is known: all without a key.
func (c *comparison) keyColumns() []int {
	if len(c.plan.key) > 0 {
		return c.plan.key
	}
	all := make([]int, len(c.plan.columns))
	for i := range all {
		all[i] = i
	}
	return all
}

// keyOf is the key's canonical values. Without a key they are for people only, and
// shortened.
func (c *comparison) keyOf(r *row) []*string {
	key := c.keyColumns()
	out := make([]*string, len(key))
	for i, k := range key {
		if v, ok := r.value(k); ok {
			s := string(c.shortened(v))
			out[i] = &s
		}
	}
	return out
}

func (c *comparison) shortened(v []byte) []byte {
	if len(c.plan.key) == 0 && len(v) > nameLength {
		return v[:nameLength+1] // one more, so that it is seen to be cut
	}
	return v
}

// keySize is about the memory that keyOf takes.
func (c *comparison) keySize(r *row) int64 {
	n := 0
	for _, k := range c.keyColumns() {
		v, _ := r.value(k)
		n += 24 + len(c.shortened(v))
	}
	return int64(n)
}
