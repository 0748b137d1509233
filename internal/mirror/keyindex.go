package mirror

import (
	"bytes"
	"hash/maphash"
)

// keyIndex finds the row of a key. It holds row numbers and hashes only; the
// keys stay in the columns.
type keyIndex struct {
	slots   []int32 // row + 1, or 0; a power of two of them
	hashes  []uint64
	n       int
	scratch []byte
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
	_, row, ok := x.look(maphash.Bytes(seed, key), key, in)
	return int(row), ok
}

// replace sets the row of a key and returns the one before.
func (x *keyIndex) replace(key []byte, row int32, in keyed) (before int32, ok bool) {
	if 2*(x.n+1) > len(x.slots) {
		x.grow()
	}
	h := maphash.Bytes(seed, key)
	at, before, ok := x.look(h, key, in)
	x.slots[at], x.hashes[at] = row+1, h
	if !ok {
		x.n++
	}
	return before, ok
}

// look returns the slot of a key, or the free one where it belongs.
func (x *keyIndex) look(h uint64, key []byte, in keyed) (slot int, row int32, ok bool) {
	mask := len(x.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		if x.slots[i] == 0 {
			return i, 0, false
		}
		if x.hashes[i] == h {
			x.scratch = in.rowKey(x.scratch[:0], x.slots[i]-1)
			if bytes.Equal(x.scratch, key) {
				return i, x.slots[i] - 1, true
			}
		}
	}
}

func (x *keyIndex) grow() {
	slots, hashes := x.slots, x.hashes
	size := max(64, 2*len(slots))
	x.slots, x.hashes = make([]int32, size), make([]uint64, size)
	for i, s := range slots {
		if s == 0 {
			continue
		}
		at := int(hashes[i]) & (size - 1)
		for x.slots[at] != 0 {
			at = (at + 1) & (size - 1)
		}
		x.slots[at], x.hashes[at] = s, hashes[i]
	}
}
