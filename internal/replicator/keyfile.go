package replicator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"
	"sort"
)

// A key file says where in one data file the rows of a key lie: the hash of each
// row's key with the row's position, in the order of the hashes, in blocks that
// end in a checksum of their own. A data file never changes, so its key file is
// right for as long as it is sound; one that is missing or torn is made again
// from the data file.
const (
	keyMagic   = "pgmirror keys 1\n"
	blockBytes = 4096
	entryBytes = 20 // 16 of the hash, 4 of the row
	perBlock   = (blockBytes - 4) / entryBytes
)

// errKeys means that a key file is not the one of its data file, or torn.
var errKeys = errors.New("not a sound key file")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest tells the key file of one data file and key from every other.
type digest [16]byte

type entry struct {
	hash
	row uint32
}

// encodeKeys makes a key file. It sorts the entries.
func encodeKeys(d digest, entries []entry) []byte {
	slices.SortFunc(entries, func(a, b entry) int {
		switch {
		case a.hi < b.hi:
			return -1
		case a.hi > b.hi:
			return 1
		case a.lo != b.lo:
			return a.compare(b.hash)
		}
		return int(int64(a.row) - int64(b.row))
	})
	out := make([]byte, blockBytes*(1+(len(entries)+perBlock-1)/perBlock))
	head := out[:blockBytes]
	copy(head, keyMagic)
	copy(head[len(keyMagic):], d[:])
	binary.BigEndian.PutUint64(head[len(keyMagic)+len(d):], uint64(len(entries)))
	for i, e := range entries {
		b := out[blockBytes*(1+i/perBlock)+entryBytes*(i%perBlock):]
		binary.BigEndian.PutUint64(b, e.hi)
		binary.BigEndian.PutUint64(b[8:], e.lo)
		binary.BigEndian.PutUint32(b[16:], e.row)
	}
	for b := range slices.Chunk(out, blockBytes) {
		binary.BigEndian.PutUint32(b[blockBytes-4:], crc32.Checksum(b[:blockBytes-4], castagnoli))
	}
	return out
}

// keyFile is an opened key file.
type keyFile struct {
	r       io.ReaderAt
	entries int
	blocks  int
	window  []byte // blocks from block at on, checked
	at      int
	ahead   int // blocks read at once
}

// openKeys checks a key file's first block. The others are checked as they are
// read.
func openKeys(r io.ReaderAt, size int64, d digest) (*keyFile, error) {
	k := &keyFile{r: r, at: -1, ahead: 1}
	head, err := k.read(0, 1)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte(keyMagic)) || !bytes.Equal(head[len(keyMagic):len(keyMagic)+len(d)], d[:]) {
		return nil, fmt.Errorf("of another data file: %w", errKeys)
	}
	n := binary.BigEndian.Uint64(head[len(keyMagic)+len(d):])
	if n > 1<<32 || size != blockBytes*(1+(int64(n)+perBlock-1)/perBlock) {
		return nil, fmt.Errorf("%d bytes for %d rows: %w", size, n, errKeys)
	}
	k.entries, k.blocks = int(n), (int(n)+perBlock-1)/perBlock
	return k, nil
}

// read reads blocks of the file and checks them; the first one of entries is 1.
func (k *keyFile) read(first, n int) ([]byte, error) {
	buf := k.window[:0]
	buf = slices.Grow(buf, n*blockBytes)[:n*blockBytes]
	if m, err := k.r.ReadAt(buf, int64(first)*blockBytes); m < len(buf) {
		return nil, fmt.Errorf("block %d: %w: %w", first, errKeys, err)
	}
	for b := range slices.Chunk(buf, blockBytes) {
		if binary.BigEndian.Uint32(b[blockBytes-4:]) != crc32.Checksum(b[:blockBytes-4], castagnoli) {
			return nil, fmt.Errorf("block %d: checksum differs: %w", first, errKeys)
		}
	}
	k.window = buf
	return buf, nil
}

// block is the entries of a block, counted from 0.
func (k *keyFile) block(i int) ([]byte, error) {
	if k.at < 0 || i < k.at || i >= k.at+len(k.window)/blockBytes {
		n := min(k.ahead, k.blocks-i)
		k.at = -1
		if _, err := k.read(i+1, n); err != nil {
			return nil, err
		}
		k.at = i
	}
	b := k.window[(i-k.at)*blockBytes:]
	return b[:entryBytes*min(perBlock, k.entries-i*perBlock)], nil
}

func hashAt(b []byte, i int) hash {
	b = b[i*entryBytes:]
	return hash{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// find calls found with every row whose key is asked for. The hashes ascend. When
// they are many, the whole file is read once from its beginning to its end; when
// they are few, only the blocks that they lie in: hashes are evenly spread, so
// that a hash tells about where in the file it is.
func (k *keyFile) find(asked []hash, found func(row uint32)) error {
	if k.blocks == 0 {
		return nil
	}
	dense := len(asked) > k.blocks/4
	k.ahead = 1
	if dense {
		k.ahead = 64
	}
	at := 0 // nothing asked for lies before this block
	for i := 0; i < len(asked); {
		guess := at
		if !dense {
			share, _ := bits.Mul64(asked[i].hi, uint64(k.blocks))
			guess = max(at, int(share))
		}
		var err error
		if at, err = k.seek(asked[i], at, guess); err != nil {
			return err
		}
		if at == k.blocks {
			return nil
		}
		if i, at, err = k.match(asked, i, at, found); err != nil {
			return err
		}
	}
	return nil
}

// seek is the first block from floor on that may hold h, looked for around a
// guess; the number of blocks when there is none.
func (k *keyFile) seek(h hash, floor, at int) (int, error) {
	for at > floor {
		b, err := k.block(at)
		if err != nil {
			return 0, err
		}
		if hashAt(b, 0).compare(h) < 0 {
			break
		}
		at--
	}
	for ; at < k.blocks; at++ {
		b, err := k.block(at)
		if err != nil {
			return 0, err
		}
		if hashAt(b, len(b)/entryBytes-1).compare(h) >= 0 {
			break
		}
	}
	return at, nil
}

// match goes through a block with the hashes from the i-th on, and says with
// which hash and block to go on. A hash that the block ends with may go on in
// the next.
func (k *keyFile) match(asked []hash, i, at int, found func(row uint32)) (int, int, error) {
	b, err := k.block(at)
	if err != nil {
		return 0, 0, err
	}
	n := len(b) / entryBytes
	pos := sort.Search(n, func(j int) bool { return hashAt(b, j).compare(asked[i]) >= 0 })
	for pos < n && i < len(asked) {
		switch c := hashAt(b, pos).compare(asked[i]); {
		case c < 0:
			pos++
		case c > 0:
			i++
		default:
			found(binary.BigEndian.Uint32(b[pos*entryBytes+16:]))
			pos++
		}
	}
	if pos < n || i == len(asked) {
		return i, at, nil
	}
	return i, at + 1, nil
}
