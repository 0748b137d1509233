package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// Spill lets the server send large transactions before they commit (protocol
// version 2), so that it need not keep them on its own disk, and says where they
// are kept here until then. What is kept is given up when the stream is closed;
// the server sends it whole to the next one.
//
// One thing is not as without it: the server sends transactional logical messages
// of a sub-transaction under the number of the whole transaction, so that those
// written before a ROLLBACK TO SAVEPOINT come although they were rolled back.
type Spill struct {
	// Dir is this stream's own directory, made if it is missing. Files that an
	// earlier stream left in it, having crashed, are removed.
	Dir string
	// MemoryBytes is how much is kept in memory, of all transactions together;
	// what is more goes to files, the largest transaction's first. 0: 16 MiB.
	MemoryBytes int
	// MaxBytes is how much is kept in files, of all transactions together; 0: as
	// much as the disk takes. See ErrSpillFull.
	MaxBytes int64
}

// ErrSpillFull says that a transaction committed which there was no room for, in
// Spill.MaxBytes or on the disk; possibly wrapped, the message names it. Until its
// commit it is in nobody's way: what was kept of it is dropped, others go on, and
// if it is rolled back nothing happens. Nothing of it was returned by Next, so a
// stream started again without Spill gets it whole: then the server keeps it on
// its own disk.
var ErrSpillFull = errors.New("no room to keep a transaction until its commit")

// Held is what a stream keeps of transactions that haven't committed yet.
type Held struct {
	Transactions int
	Memory, Disk int64 // bytes
}

// Held tells what the stream keeps at the moment, from any goroutine.
func (s *Stream) Held() Held {
	if s.held == nil {
		return Held{}
	}
	return Held{int(s.held.count.Load()), s.held.memory.Load(), s.held.disk.Load()}
}

const (
	spillMemory = 16 << 20
	spillChunk  = 256 << 10
	spareChunks = 4
	spillFiles  = "stream-*.spill"
)

// held keeps streamed transactions. Only its figures may be read by others than
// the goroutine that calls Next.
type held struct {
	opts   Spill
	open   map[uint32]*streamed
	block  *streamed // whose block is being received, or nil
	replay replay    // of a transaction that has committed
	spare  [][]byte
	serial int

	count        atomic.Int64
	memory, disk atomic.Int64
}

// streamed is a transaction that the server has sent a part of. Its messages,
// each with its length in front, are in the file and then in the chunks.
type streamed struct {
	xid     uint32
	file    *os.File
	size    int64 // of the file
	chunks  [][]byte
	memory  int      // capacity of the chunks
	total   int64    // received in all
	aborted []uint32 // sub-transactions
	lost    error    // why it isn't kept any more
}

// newHeld takes the directory over. The slot has to be ours by now: another
// stream of it may have files there.
func newHeld(o Spill) (*held, error) {
	if o.MemoryBytes <= 0 {
		o.MemoryBytes = spillMemory
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spill directory: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(o.Dir, spillFiles))
	if err != nil {
		return nil, fmt.Errorf("look for old spill files: %w", err)
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return nil, fmt.Errorf("remove an old spill file: %w", err)
		}
	}
	return &held{opts: o, open: map[uint32]*streamed{}}, nil
}

// enter begins a block of a transaction.
func (h *held) enter(m *pgoutput.Message) {
	tx := h.open[m.XID]
	if tx == nil {
		tx = &streamed{xid: m.XID}
		h.open[m.XID] = tx
		h.count.Add(1)
	}
	h.block = tx
}

// keep takes one message of the block.
func (h *held) keep(msg []byte) {
	tx := h.block
	tx.total += int64(len(msg))
	if tx.lost != nil {
		return
	}
	need := 4 + len(msg)
	last := len(tx.chunks) - 1
	if last < 0 || cap(tx.chunks[last])-len(tx.chunks[last]) < need {
		tx.chunks = append(tx.chunks, h.chunk(need))
		last++
		tx.memory += cap(tx.chunks[last])
		h.memory.Add(int64(cap(tx.chunks[last])))
	}
	c := binary.BigEndian.AppendUint32(tx.chunks[last], uint32(len(msg)))
	tx.chunks[last] = append(c, msg...)
	for h.memory.Load() > int64(h.opts.MemoryBytes) {
		h.write(h.largest(func(tx *streamed) int64 { return int64(tx.memory) }))
	}
}

func (h *held) chunk(need int) []byte {
	if need > spillChunk {
		return make([]byte, 0, need)
	}
	if n := len(h.spare); n > 0 {
		c := h.spare[n-1]
		h.spare = h.spare[:n-1]
		return c
	}
	return make([]byte, 0, spillChunk)
}

func (h *held) largest(size func(*streamed) int64) *streamed {
	var most *streamed
	for _, tx := range h.open {
		if most == nil || size(tx) > size(most) {
			most = tx
		}
	}
	return most
}

// write moves a transaction's chunks to its file. When there is no room for them
// the largest transaction of all is given up.
func (h *held) write(tx *streamed) {
	var size int64
	for _, c := range tx.chunks {
		size += int64(len(c))
	}
	for limit := h.opts.MaxBytes; limit > 0 && h.disk.Load()+size > limit; {
		most := h.largest(func(o *streamed) int64 {
			if o == tx {
				return o.size + size
			}
			return o.size
		})
		h.giveUp(most, fmt.Errorf("%w: %s may hold %d bytes", ErrSpillFull, h.opts.Dir, limit))
		if most == tx {
			return
		}
	}
	if err := h.writeChunks(tx); err != nil {
		h.giveUp(tx, fmt.Errorf("%w: %w", ErrSpillFull, err))
		return
	}
	h.freeChunks(tx)
}

func (h *held) writeChunks(tx *streamed) error {
	if tx.file == nil {
		h.serial++
		name := filepath.Join(h.opts.Dir, fmt.Sprintf("stream-%d.spill", h.serial))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		tx.file = f
	}
	for _, c := range tx.chunks {
		n, err := tx.file.Write(c)
		tx.size += int64(n)
		h.disk.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *held) freeChunks(tx *streamed) {
	for _, c := range tx.chunks {
		if cap(c) == spillChunk && len(h.spare) < spareChunks {
			h.spare = append(h.spare, c[:0])
		}
	}
	h.memory.Add(-int64(tx.memory))
	tx.chunks, tx.memory = nil, 0
}

// giveUp keeps no more of a transaction than that it is there.
func (h *held) giveUp(tx *streamed, why error) {
	h.freeChunks(tx)
	h.removeFile(tx)
	tx.lost = why
}

func (h *held) removeFile(tx *streamed) {
	if tx.file == nil {
		return
	}
	// A file that stays is removed by the next stream; nothing reads it.
	_ = tx.file.Close()
	_ = os.Remove(tx.file.Name())
	h.disk.Add(-tx.size)
	tx.file, tx.size = nil, 0
}

// abort drops a transaction, or has a sub-transaction's changes left out. The
// server sends an abort for each sub-transaction inside that one, too.
func (h *held) abort(m *pgoutput.Message) {
	tx := h.open[m.XID]
	switch {
	case tx == nil:
	case m.SubXID == m.XID:
		h.drop(tx)
	default:
		tx.aborted = append(tx.aborted, m.SubXID)
	}
}

func (h *held) drop(tx *streamed) {
	h.freeChunks(tx)
	h.removeFile(tx)
	delete(h.open, tx.xid)
	h.count.Add(-1)
}

func (h *held) close() {
	for _, tx := range h.open {
		h.drop(tx)
	}
	h.replay.tx, h.spare = nil, nil
}

// commit makes a committed transaction the one to be replayed, and m its Begin.
func (h *held) commit(m *pgoutput.Message) error {
	tx := h.open[m.XID]
	switch {
	case tx == nil:
		return fmt.Errorf("transaction %d was not streamed and yet ends", m.XID)
	case tx.lost != nil:
		return fmt.Errorf("transaction %d, of %d bytes: %w", tx.xid, tx.total, tx.lost)
	}
	if err := h.replay.start(tx, m); err != nil {
		return fmt.Errorf("read transaction %d back: %w", tx.xid, err)
	}
	*m = pgoutput.Message{Kind: pgoutput.Begin, FinalLSN: m.CommitLSN, CommitTime: m.CommitTime, XID: m.XID, Truncated: m.Truncated[:0]}
	return nil
}

// next reads the next message of the transaction that is replayed into m, in the
// end its Commit, after which nothing is kept of it.
func (h *held) next(m *pgoutput.Message) error {
	r := &h.replay
	for {
		msg, err := r.read()
		if err == io.EOF {
			h.drop(r.tx)
			r.tx = nil
			*m = pgoutput.Message{Kind: pgoutput.Commit, CommitLSN: r.commit.CommitLSN, EndLSN: r.commit.EndLSN, CommitTime: r.commit.CommitTime, Truncated: m.Truncated[:0]}
			return nil
		}
		if err == nil {
			err = r.parser.Parse(msg, m)
		}
		if err != nil {
			return fmt.Errorf("read transaction %d back: %w", r.tx.xid, err)
		}
		if r.wanted(m.XID) {
			m.XID = 0 // as outside of a streamed block
			return nil
		}
	}
}
