package postgres

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged ends a connection whose peer acknowledged nothing for 30
// seconds. Keepalive probes aren't sent while sent bytes are unacknowledged, and
// without this the kernel would try for a quarter of an hour.
func limitUnacknowledged(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000)
	}); e != nil {
		return e
	}
	return err
}
