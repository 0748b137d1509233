package setup

import (
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A server that takes a connection and hangs up, as at the beginning of a restart, is
// one that doesn't answer.
func TestHungUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024)) // what it says is of no interest
			_ = conn.Close()
		}
	}()
	for _, mode := range []string{"disable", "require"} {
		_, err := pgconn.Connect(t.Context(), fmt.Sprintf("postgres://u:p@%s/d?sslmode=%s", l.Addr(), mode))
		if err == nil || !isUnreachable(err) {
			t.Errorf("%s: %v is no server that doesn't answer", mode, err)
		}
	}
}
