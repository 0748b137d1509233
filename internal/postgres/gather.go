package postgres

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// reading is how much is read from the socket at once, and how long bytes that come
// fast are left to gather at most: nothing beside any freshness, and long beside the
// time that the server needs for a message.
type reading struct {
	buffer int
	nap    time.Duration
}

// Rows are decoded as fast as they come, so that less time goes by in waking up with
// larger pieces; what is behind a change costs more when its bytes have left the cache.
var (
	ofRows    = reading{512 << 10, 2 * time.Millisecond}
	ofChanges = reading{128 << 10, 500 * time.Microsecond}
)

// fast is the rate, in bytes a second, above which bytes are left to gather.
const fast = 1 << 20

// gatheringConn reads from its connection through a buffer, and while bytes come
// fast and in small pieces it lets them gather in the socket before it reads: a
// walsender sends every change by itself, and to be woken up for each costs more
// than to decode it. The answer to a write of ours is never waited for. Like any
// connection it may be read by several at once: a driver that gives one up drains it
// beside the reader that it had.
type gatheringConn struct {
	net.Conn
	wrote atomic.Bool // since the last read

	mu    sync.Mutex // of what follows; a deadline ends a read that holds it
	r     *bufio.Reader
	water water

	last      time.Time // when the last read ended
	gathering bool      // bytes come fast, and the socket wakes nobody for less than half of the buffer
	most      reading
	nap       time.Duration
	sleep     func(time.Duration)
}

// water is a socket that can be told for how many bytes to wake its reader, and
// asked for what is there. What it is told is lost on a system that can't.
type water interface {
	mark(n int)
	take(p []byte) int // bytes that were there; 0: none, or an error that Read will tell
}

func gather(conn net.Conn, most reading) *gatheringConn {
	c := &gatheringConn{Conn: conn, most: most, water: waterOf(conn), sleep: time.Sleep}
	c.r = bufio.NewReaderSize(socket{c}, most.buffer)
	return c
}

func (c *gatheringConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.Read(p)
}

func (c *gatheringConn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	return c.Conn.Write(p)
}

// socket is a gatheringConn below its buffer.
type socket struct{ *gatheringConn }

func (s socket) Read(p []byte) (n int, err error) {
	answer := s.wrote.Swap(false)
	if s.gathering && !answer {
		s.sleep(s.nap)
		n = s.water.take(p)
	}
	if n == 0 {
		s.gatherUp(false) // whoever waits is woken by the first byte
		n, err = s.Conn.Read(p)
	}
	at := time.Now()
	if !answer {
		quick, nap := s.most.pace(n, len(p), at.Sub(s.last))
		s.gatherUp(quick)
		s.nap = nap
	}
	s.last = at
	return n, err
}

func (s socket) gatherUp(on bool) {
	switch {
	case on == s.gathering:
		return
	case on:
		s.water.mark(s.most.buffer / 2)
	default:
		s.water.mark(1)
	}
	s.gathering = on
}

// pace says whether n bytes since the last read come fast, and how long the next
// read should wait for half of room to be full.
func (r reading) pace(n, room int, since time.Duration) (quick bool, nap time.Duration) {
	if n == 0 || since <= 0 || float64(n) < fast*since.Seconds() {
		return false, 0
	}
	if n >= room/2 {
		return true, 0
	}
	return true, min(r.nap, since*time.Duration(room/2)/time.Duration(n))
}

// dry is a socket of a system that can't do it.
type dry struct{}

func (dry) mark(int)        {}
func (dry) take([]byte) int { return 0 }
