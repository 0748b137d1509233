package postgres

import (
	"bufio"
	"encoding/binary"
	"io"
	"slices"

	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// replay reads a streamed transaction back.
type replay struct {
	tx     *streamed // nil: there is none
	commit pgoutput.Message
	parser pgoutput.Parser

	file  *bufio.Reader
	left  int64 // bytes of the file not read yet
	taken int   // bytes of the reader's buffer that the last message lies in
	large []byte
	chunk int
	at    int // in that chunk

	last     uint32 // what wanted was asked for last
	lastWant bool
}

func (r *replay) start(tx *streamed, commit *pgoutput.Message) error {
	slices.Sort(tx.aborted)
	*r = replay{tx: tx, commit: *commit, parser: pgoutput.Streamed(), file: r.file, left: tx.size, lastWant: true}
	if tx.file == nil {
		return nil
	}
	if _, err := tx.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if r.file == nil {
		r.file = bufio.NewReaderSize(tx.file, spillChunk)
	} else {
		r.file.Reset(tx.file)
	}
	return nil
}

// read returns the next message, which holds until the next call; io.EOF after
// the last.
func (r *replay) read() ([]byte, error) {
	if r.left > 0 || r.taken > 0 {
		msg, err := r.readFile()
		if msg != nil || err != nil {
			return msg, err
		}
	}
	for r.chunk < len(r.tx.chunks) {
		if c := r.tx.chunks[r.chunk][r.at:]; len(c) > 0 {
			size := int(binary.BigEndian.Uint32(c))
			r.at += 4 + size
			return c[4 : 4+size : 4+size], nil
		}
		r.chunk, r.at = r.chunk+1, 0
	}
	return nil, io.EOF
}

// readFile is read for the part in the file; nil after its end.
func (r *replay) readFile() ([]byte, error) {
	if _, err := r.file.Discard(r.taken); err != nil {
		return nil, err
	}
	r.taken, r.large = 0, nil
	if r.left == 0 {
		return nil, nil
	}
	head, err := r.file.Peek(4)
	if err != nil {
		return nil, noEOF(err)
	}
	size := int(binary.BigEndian.Uint32(head))
	r.left -= int64(4 + size)
	if 4+size <= r.file.Size() {
		msg, err := r.file.Peek(4 + size)
		if err != nil {
			return nil, noEOF(err)
		}
		r.taken = 4 + size
		return msg[4:], nil
	}
	if _, err := r.file.Discard(4); err != nil {
		return nil, err
	}
	r.large = make([]byte, size)
	_, err = io.ReadFull(r.file, r.large)
	return r.large, noEOF(err)
}

// noEOF makes the end of a file that should go on an error like others.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// wanted says whether a sub-transaction was not aborted. Neighbours mostly are of
// the same one.
func (r *replay) wanted(xid uint32) bool {
	if xid != r.last {
		_, aborted := slices.BinarySearch(r.tx.aborted, xid)
		r.last, r.lastWant = xid, !aborted
	}
	return r.lastWant
}
