package postgres

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// TestGather has a peer send many small pieces and then wait for our answer: all
// of them arrive, in few reads, and the last ones though nothing follows them.
func TestGather(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const pieces, rounds = 5000, 3
	piece := bytes.Repeat([]byte("pgmirror"), 16)
	peer := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			for range rounds {
				for range pieces {
					if _, err = conn.Write(piece); err != nil {
						break
					}
				}
				if err == nil {
					_, err = io.ReadFull(conn, make([]byte, 1))
				}
			}
		}
		peer <- err
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := gather(raw, ofChanges)
	defer conn.Close()
	naps := 0
	conn.sleep = func(d time.Duration) {
		naps++
		if d > ofChanges.nap {
			t.Errorf("slept %v, want at most %v", d, ofChanges.nap)
		}
		time.Sleep(d)
	}
	got := make([]byte, pieces*len(piece))
	for range rounds {
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, bytes.Repeat(piece, pieces)) {
			t.Fatal("other bytes arrived than were sent")
		}
		if _, err := conn.Write(piece[:1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-peer; err != nil {
		t.Fatal(err)
	}
	if naps == 0 {
		t.Error("nothing was left to gather")
	}
	if _, err := conn.Read(got); err != io.EOF {
		t.Errorf("after the end: got %v, want EOF", err)
	}
}

// TestGatherForTwo has two readers of one connection, as when the driver drains one
// that it gives up: each byte goes to one of them, and the race detector is silent.
func TestGatherForTwo(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	conn := gather(ours, ofRows)
	defer conn.Close()
	const pieces = 2000
	go func() {
		defer theirs.Close()
		for range pieces {
			if _, err := theirs.Write([]byte("pgmirror")); err != nil {
				return
			}
		}
	}()
	read := make(chan int, 2)
	for range 2 {
		go func() {
			n, _ := io.Copy(io.Discard, conn)
			read <- int(n)
		}()
	}
	if got := <-read + <-read; got != pieces*len("pgmirror") {
		t.Errorf("got %d bytes, want %d", got, pieces*len("pgmirror"))
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		n     int
		since time.Duration
		quick bool
		nap   time.Duration
	}{
		{"a change now and then", 300, 2 * time.Millisecond, false, 0},
		{"a change every ten microseconds", 300, 10 * time.Microsecond, true, ofChanges.nap},
		{"half of the buffer in a nap", ofChanges.buffer / 2, 500 * time.Microsecond, true, 0},
		{"a quarter of it in a tenth of one", ofChanges.buffer / 4, 50 * time.Microsecond, true, 100 * time.Microsecond},
		{"nothing, at an end", 0, time.Microsecond, false, 0},
	} {
		if quick, nap := ofChanges.pace(c.n, ofChanges.buffer, c.since); quick != c.quick || nap != c.nap {
			t.Errorf("%s: got %v, %v, want %v, %v", c.name, quick, nap, c.quick, c.nap)
		}
	}
}
