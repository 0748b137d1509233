package replicator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
)

// hash stands for a key: the first half of its SHA-256, so that nobody can make
// two keys that share one, and it means the same to every process.
type hash struct{ hi, lo uint64 }

func hashOf(key []byte) hash {
	sum := sha256.Sum256(key)
	return hash{binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])}
}

func (h hash) compare(o hash) int {
	if c := cmp.Compare(h.hi, o.hi); c != 0 {
		return c
	}
	return cmp.Compare(h.lo, o.lo)
}

// loc is where a row that a commit writes lies: in which of its files, and its
// position there.
type loc struct{ file, row uint32 }

// overlay finds the rows of a key among those that a commit in the making wrote.
// What was there before is in the table's key files.
type overlay struct {
	one  map[hash]loc
	more map[hash][]loc // further rows of the same key: inserts are not checked for duplicates
}

func newOverlay() *overlay { return &overlay{one: map[hash]loc{}, more: map[hash][]loc{}} }

func (x *overlay) add(h hash, l loc) {
	if _, ok := x.one[h]; ok {
		x.more[h] = append(x.more[h], l)
		return
	}
	x.one[h] = l
}

// take removes a key and tells where its rows were.
func (x *overlay) take(h hash, was func(loc)) {
	l, ok := x.one[h]
	if !ok {
		return
	}
	delete(x.one, h)
	was(l)
	if len(x.more) == 0 {
		return
	}
	for _, l := range x.more[h] {
		was(l)
	}
	delete(x.more, h)
}

// move tells that a row lies elsewhere now.
func (x *overlay) move(h hash, from, to loc) {
	if l, ok := x.one[h]; ok && l == from {
		x.one[h] = to
		return
	}
	for i, l := range x.more[h] {
		if l == from {
			x.more[h][i] = to
		}
	}
}
