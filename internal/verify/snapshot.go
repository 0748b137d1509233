package verify

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// snapshot compares the whole table under one snapshot of the source and one
// version of the mirror, opened later, and makes candidates of the rows that
// differ.
func (c *comparison) snapshot(ctx context.Context) error {
	tx, err := c.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // it has read only; a broken session ends it anyway
	// The first statement takes the snapshot.
	if _, err := tx.Exec(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	c.taken = time.Now()
	if c.lsn, err = c.sourceLSN(ctx); err != nil {
		return err
	}
	if c.mirror, err = c.cfg.open(ctx, c.pair.mirror); err != nil {
		return fmt.Errorf("open the mirror: %w", err)
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	source, mirror, err := c.checksums(ctx)
	if err != nil {
		return err
	}
	c.cands, c.cut = map[hash]*candidate{}, false
	for _, g := range differing(source, mirror) {
		if c.cut {
			break
		}
		if err := c.collect(ctx, g, len(source.n)); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the plan and fills in what the result says of it.
func (c *comparison) prepare(ctx context.Context) (err error) {
	if c.plan, err = newPlan(ctx, c.conn, c.pair.source, c.mirror.fields(), c.cfg.Native); err != nil {
		return err
	}
	c.res.DeltaVersion, c.res.LeftOut, c.res.OnlyMirror, c.res.Key = c.mirror.version(), c.plan.left, c.plan.extra, nil
	for _, k := range c.plan.key {
		c.res.Key = append(c.res.Key, c.plan.columns[k].name)
	}
	return nil
}

// checksums reads both sides at once.
func (c *comparison) checksums(ctx context.Context) (source, mirror *sums, err error) {
	n := buckets(max(c.pair.source.EstRows, c.mirror.rows()))
	source, mirror = newSums(n), newSums(n)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return c.readSource(ctx, "", func(r *row) error {
			for _, col := range r.lost {
				col.lost++
			}
			source.add(r.keyHash(c.plan.key), r.hash())
			return nil
		})
	})
	g.Go(func() error {
		return c.readMirror(ctx, c.mirror, func(r *row) error {
			mirror.add(r.keyHash(c.plan.key), r.hash())
			return nil
		})
	})
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	c.res.Rows, c.res.Checksum = source.total()
	c.res.MirrorRows, c.res.MirrorChecksum = mirror.total()
	return source, mirror, nil
}

// buckets is about one for 64 rows, so that a row that differs leads to few
// others.
func buckets(rows int64) int {
	n := min(max(rows/64, 1<<10), maxBuckets)
	return 1 << (bits.Len64(uint64(n - 1)))
}

// differing lists the buckets that are not equal, in groups that hold at most
// groupRows of the source, or one bucket.
func differing(source, mirror *sums) (groups []map[int]bool) {
	rows := int64(0)
	for b := range source.n {
		if source.equal(mirror, b) {
			continue
		}
		if rows += source.n[b]; groups == nil || rows > groupRows {
			groups = append(groups, map[int]bool{})
			rows = source.n[b]
		}
		groups[len(groups)-1][b] = true
	}
	return groups
}

// held is a row of the source, or several equal ones without a key.
type held struct {
	row  hash
	xmin uint64
	key  []*string
	n    int // how many there are
	met  int // how many of them the mirror has
}

// collect reads the rows of some buckets on both sides and finds those that
// differ.
func (c *comparison) collect(ctx context.Context, group map[int]bool, buckets int) error {
	rows := map[hash]*held{}
	err := c.readSource(ctx, "", func(r *row) error {
		k := r.keyHash(c.plan.key)
		if !group[k.bucket(buckets)] {
			return nil
		}
		if h := rows[k]; h != nil {
			h.n++
			h.xmin += uint64(r.xmin)
			return nil
		}
		rows[k] = &held{row: r.hash(), xmin: uint64(r.xmin), key: c.keyOf(r), n: 1}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.readMirror(ctx, c.mirror, func(r *row) error {
		k := r.keyHash(c.plan.key)
		if !group[k.bucket(buckets)] {
			return nil
		}
		h := rows[k]
		if h != nil && h.row == r.hash() && h.met < h.n {
			h.met++
			return nil
		}
		c.candidate(k, h, func() []*string { return c.keyOf(r) })
		return nil
	})
	if err != nil {
		return err
	}
	for k, h := range rows {
		if h.met < h.n {
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
	if len(c.cands) == maxCandidates {
		c.cut = true
		return
	}
	cand := &candidate{key: key(), since: c.taken, lsn: c.lsn}
	if h != nil {
		cand.source = side{n: h.n, row: h.row, xmin: h.xmin}
	}
	c.cands[k] = cand
}

// keyOf is the key's canonical values, or all values without a key.
func (c *comparison) keyOf(r *row) []*string {
	key := c.plan.key
	if len(key) == 0 {
		key = make([]int, len(c.plan.columns))
		for i := range key {
			key[i] = i
		}
	}
	out := make([]*string, len(key))
	for i, k := range key {
		if v, ok := r.value(k); ok {
			s := string(v)
			out[i] = &s
		}
	}
	return out
}
