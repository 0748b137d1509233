package postgres

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// waterOf is the socket's low-water mark (socket(7), SO_RCVLOWAT): without it
// every packet would wake the poller of Go's runtime, whoever sleeps.
func waterOf(conn net.Conn) water {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			return lowWater{raw}
		}
	}
	return dry{}
}

type lowWater struct{ raw syscall.RawConn }

// mark can't fail on a socket that is open, and on a closed one Read does.
func (w lowWater) mark(n int) {
	_ = w.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
	})
}

func (w lowWater) take(p []byte) (n int) {
	_ = w.raw.Read(func(fd uintptr) bool { // Read tells the error, of which there is one a connection
		n, _ = unix.Read(int(fd), p)
		return true
	})
	return max(n, 0)
}
