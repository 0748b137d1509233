//go:build !linux

package postgres

import "syscall"

// limitUnacknowledged is for Linux only; elsewhere keepalives must do.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
