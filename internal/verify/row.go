package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// hash is half a SHA-256: enough that no two of a trillion rows meet.
type hash [16]byte

func hashOf(b []byte) hash {
	full := sha256.Sum256(b)
	return hash(full[:16])
}

// plus is the sum of two hashes: that of several doesn't depend on their order.
func (h hash) plus(o hash) (sum hash) {
	lo, carry := bits.Add64(binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(o[8:]), 0)
	hi, _ := bits.Add64(binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(o[:8]), carry)
	binary.BigEndian.PutUint64(sum[:8], hi)
	binary.BigEndian.PutUint64(sum[8:], lo)
	return sum
}

// bucket is the hash's place among n of them, n a power of two. Each of its four
// words gives another one.
func (h hash) bucket(word, n int) int {
	return int(binary.BigEndian.Uint32(h[4*word:]) & uint32(n-1))
}

// row is a row of either side in canonical form: equal values give equal bytes
// on both. It is used again for the next row.
type row struct {
	xmin uint32 // of the source
	buf  []byte // of each value: 0 for NULL, or 1, its length and its bytes
	end  []int
	lost []*column // whose value the mirror can't hold
	key  []byte    // scratch
}

func (r *row) reset() { r.buf, r.end, r.lost, r.xmin = r.buf[:0], r.end[:0], r.lost[:0], 0 }

func (r *row) addNull() {
	r.buf = append(r.buf, 0)
	r.end = append(r.end, len(r.buf))
}

func (r *row) add(v []byte) {
	r.buf = append(r.buf, 1)
	r.buf = binary.AppendUvarint(r.buf, uint64(len(v)))
	r.buf = append(r.buf, v...)
	r.end = append(r.end, len(r.buf))
}

func (r *row) encoded(i int) []byte {
	start := 0
	if i > 0 {
		start = r.end[i-1]
	}
	return r.buf[start:r.end[i]]
}

// value is column i's canonical bytes; ok is false for NULL.
func (r *row) value(i int) (v []byte, ok bool) {
	e := r.encoded(i)
	if e[0] == 0 {
		return nil, false
	}
	_, n := binary.Uvarint(e[1:])
	return e[1+n:], true
}

func (r *row) hash() hash { return hashOf(r.buf) }

// keyHash is the hash of the key columns, or of all when there is no key.
func (r *row) keyHash(key []int) hash {
	if len(key) == 0 {
		return r.hash()
	}
	r.key = r.key[:0]
	for _, i := range key {
		r.key = append(r.key, r.encoded(i)...)
	}
	return hashOf(r.key)
}

// columnHashes are the hashes of the values one by one.
func (r *row) columnHashes() []hash {
	h := make([]hash, len(r.end))
	for i := range h {
		h[i] = hashOf(r.encoded(i))
	}
	return h
}

// sums are checksums of rows, one a bucket of key hashes: they add up, so that
// the order of rows doesn't matter and a doubled row does.
type sums struct {
	n      []int64
	hi, lo []uint64
}

func newSums(buckets int) *sums {
	return &sums{n: make([]int64, buckets), hi: make([]uint64, buckets), lo: make([]uint64, buckets)}
}

func (s *sums) add(b int, row hash) {
	s.n[b]++
	s.addTo(b, binary.BigEndian.Uint64(row[:8]), binary.BigEndian.Uint64(row[8:]))
}

func (s *sums) addTo(b int, hi, lo uint64) {
	var carry uint64
	s.lo[b], carry = bits.Add64(s.lo[b], lo, 0)
	s.hi[b], _ = bits.Add64(s.hi[b], hi, carry)
}

func (s *sums) equal(o *sums, b int) bool {
	return s.n[b] == o.n[b] && s.hi[b] == o.hi[b] && s.lo[b] == o.lo[b]
}

// total is the number of all rows and their checksum.
func (s *sums) total() (rows int64, checksum string) {
	all := newSums(1)
	for b := range s.n {
		all.n[0] += s.n[b]
		all.addTo(0, s.hi[b], s.lo[b])
	}
	sum := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, all.hi[0]), all.lo[0])
	return all.n[0], hex.EncodeToString(sum)
}
