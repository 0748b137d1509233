package postgres

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// FuzzStreamed gives a stream any sequence of messages: what Next returns must
// be an error or whole transactions, and nothing may be left in the end.
func FuzzStreamed(f *testing.F) {
	for _, name := range []string{"v1", "v2"} {
		data, err := os.ReadFile("pgoutput/testdata/" + name + ".recording")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(thin(data), uint16(1))
		f.Add(thin(data), uint16(50000))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, memory uint16) {
		h := &held{opts: Spill{Dir: dir, MemoryBytes: int(memory) << 5, MaxBytes: 4096}, open: map[uint32]*streamed{}}
		s := &Stream{held: h}
		streamed := false // what Next returns is of a streamed transaction
		take := func(event *Event, err error) bool {
			if err != nil || event == nil {
				return err == nil
			}
			switch kind := event.Msg.Kind; {
			case kind == pgoutput.StreamStart || kind == pgoutput.StreamStop || kind == pgoutput.StreamCommit || kind == pgoutput.StreamAbort:
				t.Errorf("Next returns a message %q", kind)
			case streamed != (h.replay.tx != nil || kind == pgoutput.Commit) && streamed:
				t.Errorf("a streamed transaction ends with %q", kind)
			}
			streamed = h.replay.tx != nil
			return true
		}
		for len(data) >= 4 {
			n := min(int(binary.BigEndian.Uint32(data)), len(data)-4)
			if !take(s.read(append(append([]byte{'w'}, make([]byte, 24)...), data[4:4+n]...))) {
				break
			}
			for h.replay.tx != nil {
				if !take(s.next()) {
					h.replay.tx = nil
				}
			}
			data = data[4+n:]
		}
		h.close()
		if h.memory.Load() != 0 || h.disk.Load() != 0 || h.count.Load() != 0 {
			t.Errorf("left: %d transactions, %d bytes in memory, %d on disk", h.count.Load(), h.memory.Load(), h.disk.Load())
		}
		if h.serial == 0 {
			return // no file was made
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the directory: %v, %v", left, err)
		}
	})
}

// thin leaves a recording only the first of many inserts into a table, and none
// that are large.
func thin(recording []byte) []byte {
	var out []byte
	inserts := 0
	for len(recording) > 0 {
		n := 4 + binary.BigEndian.Uint32(recording)
		if kind := recording[4]; kind == pgoutput.Insert {
			inserts++
		} else {
			inserts = 0
		}
		if inserts < 4 && n < 1000 {
			out = append(out, recording[:n]...)
		}
		recording = recording[n:]
	}
	return out
}

// A message larger than the buffers comes back as it was, among small ones, from
// memory and from a file.
func TestLargeMessagesComeBack(t *testing.T) {
	for _, memory := range []int{1, 1 << 30} {
		h, err := newHeld(Spill{Dir: t.TempDir(), MemoryBytes: memory})
		if err != nil {
			t.Fatal(err)
		}
		h.enter(&pgoutput.Message{XID: 7})
		var want [][]byte
		for _, size := range []int{10, spillChunk - 30, spillChunk - 29, spillChunk - 4, spillChunk, 5, 3 * spillChunk, 20} {
			content := bytes.Repeat([]byte{byte(size)}, size)
			want = append(want, content)
			msg := append([]byte{pgoutput.Logical, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0, 1, 'p', 0}, binary.BigEndian.AppendUint32(nil, uint32(size))...)
			h.keep(append(msg, content...))
		}
		m := pgoutput.Message{Kind: pgoutput.StreamCommit, XID: 7, CommitLSN: 5, EndLSN: 6}
		if err := h.commit(&m); err != nil || m.Kind != pgoutput.Begin || m.FinalLSN != 5 {
			t.Fatalf("got %+v, %v", m, err)
		}
		for i := range want {
			if err := h.next(&m); err != nil || !bytes.Equal(m.Content, want[i]) {
				t.Fatalf("message %d: %d bytes, want %d (%v)", i, len(m.Content), len(want[i]), err)
			}
		}
		if err := h.next(&m); err != nil || m.Kind != pgoutput.Commit || m.EndLSN != 6 || h.replay.tx != nil {
			t.Errorf("got %+v, %v", m, err)
		}
		h.close()
	}
}
