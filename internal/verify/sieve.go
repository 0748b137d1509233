package verify

import (
	"iter"
	"math/bits"
)

// maxLevels is how often ranges are cut finer: a hash has four words.
const maxLevels = 4

// sieve lets rows through whose keys lie in ranges of hashes that differ. Every
// level cuts the ranges of the one before finer.
type sieve []level

// level is the buckets of one word of the key hashes that differ.
type level struct {
	keep   []bool
	differ int   // how many they are
	rows   int64 // of the source in them
}

func (s sieve) passes(k hash) bool {
	for word, l := range s {
		if !l.keep[k.bucket(word, len(l.keep))] {
			return false
		}
	}
	return true
}

// levelOf keeps the buckets that are not equal, at most so many.
func levelOf(source, mirror *sums, most int) level {
	l := level{keep: make([]bool, len(source.n))}
	for b := range source.n {
		if l.differ < most && !source.equal(mirror, b) {
			l.keep[b] = true
			l.differ++
			l.rows += source.n[b]
		}
	}
	return l
}

// groups are parts of a level that hold at most so many rows of the source each,
// or one bucket.
func (l level) groups(source *sums, most int64) iter.Seq[level] {
	return func(yield func(level) bool) {
		var g level
		for b, kept := range l.keep {
			if !kept {
				continue
			}
			if g.differ > 0 && g.rows+source.n[b] > most {
				if !yield(g) {
					return
				}
				g = level{}
			}
			if g.keep == nil {
				g.keep = make([]bool, len(l.keep))
			}
			g.keep[b] = true
			g.differ++
			g.rows += source.n[b]
		}
		if g.differ > 0 {
			yield(g)
		}
	}
}

// bucketsFor is about one for 64 rows, so that a row that differs leads to few
// others; one for 4 when all those rows are in ranges that differ.
func (l limits) bucketsFor(rows int64, deep bool) int {
	if !deep {
		rows /= 16
	}
	n := min(max(rows/4, 1<<10), int64(l.buckets))
	return 1 << (bits.Len64(uint64(n - 1)))
}
