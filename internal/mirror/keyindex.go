package mirror

import (
	"bytes"
	"hash/maphash"
)

// keyIndex finds the row of a key. It holds row numbers and hashes only; the
// keys stay in the columns.
type keyIndex struct {
	slots   []keySlot // a power of two of them
	n       int
	scratch []byte
}

// keySlot is one place: a look at it costs one miss of the cache. Half the hash
// is enough, the keys are compared anyway.
type keySlot struct {
	hash uint32
	row  int32 // row + 1; 0: the slot is free
}

var seed = maphash.MakeSeed()

// keyed is where the keys are.
type keyed interface {
	rowKey(dst []byte, row int32) []byte
}

// find returns the row of a key.
func (x *keyIndex) find(key []byte, in keyed) (int, bool) {
	if x.n == 0 {
		return 0, false
	}
	_, row, ok := x.look(hashKey(key), key, in)
	return int(row), ok
}

func hashKey(key []byte) uint32 { return uint32(maphash.Bytes(seed, key)) }

// replace sets the row of a key and returns the one before.
func (x *keyIndex) replace(key []byte, row int32, in keyed) (before int32, ok bool) {
	if 2*(x.n+1) > len(x.slots) {
		x.grow()
	}
	h := hashKey(key)
	at, before, ok := x.look(h, key, in)
	x.slots[at] = keySlot{h, row + 1}
	if !ok {
		x.n++
	}
	return before, ok
}

// look returns the slot of a key, or the free one where it belongs.
func (x *keyIndex) look(h uint32, key []byte, in keyed) (slot int, row int32, ok bool) {
	mask := len(x.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		s := x.slots[i]
		if s.row == 0 {
			return i, 0, false
		}
		if s.hash == h {
			x.scratch = in.rowKey(x.scratch[:0], s.row-1)
			if bytes.Equal(x.scratch, key) {
				return i, s.row - 1, true
			}
		}
	}
}

// grow doubles the slots at least: a hash has more bits than they need.
func (x *keyIndex) grow() {
	old := x.slots
	size := max(64, 2*len(old))
	x.slots = make([]keySlot, size)
	for _, s := range old {
		if s.row == 0 {
			continue
		}
		at := int(s.hash) & (size - 1)
		for x.slots[at].row != 0 {
			at = (at + 1) & (size - 1)
		}
		x.slots[at] = s
	}
}

// reset forgets all keys and keeps the slots.
func (x *keyIndex) reset() {
	clear(x.slots)
	x.n = 0
}
