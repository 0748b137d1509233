package parquet

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"unsafe"
)

// A dictionary has to pay: it may not have more entries or bytes than these, and
// it has to save a quarter of the plain values.
const (
	maxNumbers = 1 << 15 // beyond, looking numbers up costs more than compressing them
	maxStrings = 1 << 16
	maxBytes   = 1 << 20
	minRows    = 64 // fewer are not worth the page
)

// entryLimit is how many entries of so many bytes, in the mean, a dictionary of n
// values may have.
func entryLimit(n, limit int, width float64) int {
	if n < minRows {
		return 0
	}
	save := float64(n) * (0.75 - 2/width) // an index takes two bytes at most
	return max(0, min(limit, int(save), int(maxBytes/width)))
}

// sampleSize is how many of n values are looked at before a dictionary is begun.
func sampleSize(n int) int { return min(n/8, 1<<12) }

// promising says whether a sample with so many distinct values may well come from
// a column with no more than limit of them.
func promising(distinct, sample, limit int) bool {
	l := float64(limit)
	return float64(distinct) <= -l*math.Expm1(-float64(sample)/l)
}

const spread = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio

// numbers finds the distinct values of a column: a hash table with open
// addressing, at most half full.
type numbers[T int32 | int64] struct {
	slots  []numberSlot[T]
	keys   []T
	sample []T
}

type numberSlot[T int32 | int64] struct {
	key T
	at  int32 // in keys, from 1; 0: the slot is free
}

// index writes the place of each value among the distinct ones to dst, unless a
// dictionary would not pay. bad says of a key that it can't be in one.
func (d *numbers[T]) index(dst []int32, v []T, bad func(T) bool) ([]int32, bool) {
	limit := entryLimit(len(v), maxNumbers, float64(unsafe.Sizeof(T(0))))
	if limit == 0 || !d.promising(v, limit) {
		return dst, false
	}
	d.reset()
	dst, ok := d.add(dst[:0], v, limit)
	return dst, ok && (bad == nil || !slices.ContainsFunc(d.keys, bad))
}

func (d *numbers[T]) promising(v []T, limit int) bool {
	n := sampleSize(len(v))
	d.sample = d.sample[:0]
	for i := range n {
		d.sample = append(d.sample, v[i*len(v)/n])
	}
	d.reset()
	_, _ = d.add(nil, d.sample, n)
	return promising(len(d.keys), n, limit)
}

func (d *numbers[T]) reset() {
	d.keys = d.keys[:0]
	if len(d.slots) == 0 || len(d.slots) > 1<<12 {
		d.slots = slices.Grow(d.slots[:0], 1<<9)[:1<<9] // a large one is slow to clear and out of the cache
	}
	clear(d.slots)
}

// add appends the places of v; false: there are more keys than limit.
func (d *numbers[T]) add(dst []int32, v []T, limit int) ([]int32, bool) {
	base := len(dst)
	dst = slices.Grow(dst, len(v))[:base+len(v)]
	out := dst[base:]
	slots, shift := d.slots, d.shift()
	for i, x := range v {
		s := &slots[uint64(x)*spread>>shift]
		if s.at != 0 && s.key == x {
			out[i] = s.at - 1
			continue
		}
		at := d.find(x)
		if at < 0 {
			if len(d.keys) == limit {
				return dst, false
			}
			at = d.insert(x)
			slots, shift = d.slots, d.shift()
		}
		out[i] = at
	}
	return dst, true
}

func (d *numbers[T]) shift() int { return 64 - bits.TrailingZeros(uint(len(d.slots))) }

func (d *numbers[T]) find(x T) int32 {
	for h := uint64(x) * spread >> d.shift(); ; h = (h + 1) & uint64(len(d.slots)-1) {
		if s := &d.slots[h]; s.at == 0 || s.key == x {
			return s.at - 1
		}
	}
}

func (d *numbers[T]) insert(x T) int32 {
	d.keys = append(d.keys, x)
	if 2*len(d.keys) > len(d.slots) {
		n := 4 * len(d.slots)
		d.slots = slices.Grow(d.slots[:0], n)[:n]
		clear(d.slots)
		for i, k := range d.keys {
			d.place(k, int32(i+1))
		}
	} else {
		d.place(x, int32(len(d.keys)))
	}
	return int32(len(d.keys) - 1)
}

func (d *numbers[T]) place(x T, at int32) {
	h := uint64(x) * spread >> d.shift()
	for d.slots[h].at != 0 {
		h = (h + 1) & uint64(len(d.slots)-1)
	}
	d.slots[h] = numberSlot[T]{x, at}
}

// byteStrings is numbers for byte strings.
type byteStrings struct {
	slots []stringSlot
	data  []byte
	off   []int32 // entry i is data[off[i]:off[i+1]]
}

type stringSlot struct {
	hash uint32
	at   int32 // from 1; 0: the slot is free
}

func (d *byteStrings) len() int           { return len(d.off) - 1 }
func (d *byteStrings) entry(i int) []byte { return d.data[d.off[i]:d.off[i+1]] }

func (d *byteStrings) index(dst []int32, data []byte, off []int32) ([]int32, bool) {
	n := len(off) - 1
	if n < minRows {
		return dst, false
	}
	width := float64(off[n]-off[0])/float64(n) + 4 // the length is stored too
	limit := entryLimit(n, maxStrings, width)
	if limit == 0 || !d.promising(data, off, limit) {
		return dst, false
	}
	d.reset()
	dst = slices.Grow(dst[:0], n)[:n]
	for i := range n {
		at := d.place(data[off[i]:off[i+1]])
		if int(at) >= limit || len(d.data) > maxBytes {
			return dst, false
		}
		dst[i] = at
	}
	return dst, true
}

func (d *byteStrings) promising(data []byte, off []int32, limit int) bool {
	n := len(off) - 1
	sample := sampleSize(n)
	d.reset()
	for k := range sample {
		i := k * n / sample
		d.place(data[off[i]:off[i+1]])
	}
	return promising(d.len(), sample, limit)
}

func (d *byteStrings) reset() {
	d.data, d.off = d.data[:0], append(d.off[:0], 0)
	if len(d.slots) == 0 || len(d.slots) > 1<<12 {
		d.slots = slices.Grow(d.slots[:0], 1<<9)[:1<<9]
	}
	clear(d.slots)
}

// place finds b, or adds it.
func (d *byteStrings) place(b []byte) int32 {
	hash := hashBytes(b)
	h := hash >> d.shift()
	for ; d.slots[h].at != 0; h = (h + 1) & uint64(len(d.slots)-1) {
		s := d.slots[h]
		if s.hash == uint32(hash) && string(d.entry(int(s.at-1))) == string(b) {
			return s.at - 1
		}
	}
	d.data = append(d.data, b...)
	d.off = append(d.off, int32(len(d.data)))
	d.slots[h] = stringSlot{uint32(hash), int32(d.len())}
	if 2*d.len() > len(d.slots) {
		d.grow()
	}
	return int32(d.len() - 1)
}

func (d *byteStrings) shift() int { return 64 - bits.TrailingZeros(uint(len(d.slots))) }

func (d *byteStrings) grow() {
	n := 4 * len(d.slots)
	d.slots = slices.Grow(d.slots[:0], n)[:n]
	clear(d.slots)
	for i := range d.len() {
		hash := hashBytes(d.entry(i))
		h := hash >> d.shift()
		for d.slots[h].at != 0 {
			h = (h + 1) & uint64(len(d.slots)-1)
		}
		d.slots[h] = stringSlot{uint32(hash), int32(i + 1)}
	}
}

// hashBytes mixes all bytes; its upper bits are the best ones.
func hashBytes(b []byte) uint64 {
	const other = 0xC2B2AE3D27D4EB4F
	n := len(b)
	switch {
	case n >= 8:
		h := binary.LittleEndian.Uint64(b)*spread ^ uint64(n)
		for i := 8; i < n-8; i += 8 {
			h = (bits.RotateLeft64(h, 29) ^ binary.LittleEndian.Uint64(b[i:])) * spread
		}
		h ^= bits.RotateLeft64(binary.LittleEndian.Uint64(b[n-8:])*other, 31)
		h ^= h >> 32
		return h * spread
	case n >= 4:
		return (uint64(binary.LittleEndian.Uint32(b))<<32|uint64(binary.LittleEndian.Uint32(b[n-4:])))*spread ^ uint64(n)*other
	case n > 0:
		return (uint64(n)<<24 | uint64(b[0])<<16 | uint64(b[n/2])<<8 | uint64(b[n-1])) * spread
	}
	return 0
}
