package replicator

import "hash/maphash"

// loc is where a row lies: in which of the table's files, and its position there.
type loc struct{ file, row uint32 }

// hash stands for a key. Its 128 bits come from seeds that nobody outside this
// process knows, so that no two keys of a table are expected to share one, and
// nobody can make them.
type hash [2]uint64

// index finds the rows of a key. It is a cache of what the data files say.
type index struct {
	seeds [2]maphash.Seed
	one   map[hash]loc
	more  map[hash][]loc // further rows of the same key: inserts are not checked for duplicates
}

func newIndex() *index {
	return &index{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, one: map[hash]loc{}, more: map[hash][]loc{}}
}

func (x *index) hash(key []byte) hash {
	return hash{maphash.Bytes(x.seeds[0], key), maphash.Bytes(x.seeds[1], key)}
}

func (x *index) add(h hash, l loc) {
	if _, ok := x.one[h]; ok {
		x.more[h] = append(x.more[h], l)
		return
	}
	x.one[h] = l
}

// take removes a key and tells where its rows were.
func (x *index) take(h hash, was func(loc)) {
	l, ok := x.one[h]
	if !ok {
		return
	}
	delete(x.one, h)
	was(l)
	for _, l := range x.more[h] {
		was(l)
	}
	delete(x.more, h)
}

// move tells that a row lies elsewhere now.
func (x *index) move(h hash, from, to loc) {
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
