package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// mute is a port that accepts and never says a word.
func mute(t *testing.T) (host string, port int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, conn)
		}
	}()
	return "127.0.0.1", l.Addr().(*net.TCPAddr).Port
}

// muteMirror is an open mirror whose server is mute and whose Fabric isn't there.
func muteMirror(t *testing.T) *config.Config {
	cfg := config.Default()
	cfg.Name, cfg.Mode, cfg.Workspace, cfg.Role.Password, cfg.Admin.Password = "shop", config.Open, "9699e203-8dd4-412f-86e1-729cf29f78ff", "p", "p"
	cfg.Server.Host, cfg.Server.Port = mute(t)
	cfg.Endpoints.Fabric, cfg.Tokens.Fabric = "https://127.0.0.1:1", "t"
	cfg.Endpoints.OneLakeDFS, cfg.Tokens.Storage = "https://127.0.0.1:1", "t"
	return cfg
}

// TestStatusOfMuteServer: whoever accepts and never answers is told, within a limit.
func TestStatusOfMuteServer(t *testing.T) {
	defer func(before time.Duration) { eachPatience = before }(eachPatience)
	eachPatience = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ses, err := openSession(ctx, streams{Err: io.Discard}, muteMirror(t), looking{each: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ses.close(ctx)
	st, err := ses.status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	st.write(streams{Out: &out}, ses.cfg)
	for _, want := range []string{"Fabric can't be asked: ", "landing zone can't be asked: ", "PostgreSQL can't be asked: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %q in it", out.String(), want)
		}
	}
	t.Logf("%s", out.String())
}

// TestDoctorOfMuteServer: a port that accepts is no server that answers.
func TestDoctorOfMuteServer(t *testing.T) {
	defer func(before time.Duration) { portPatience = before }(portPatience)
	portPatience = 200 * time.Millisecond
	cfg := muteMirror(t)
	p := &patient{cfg: cfg, clients: &setup.Clients{Config: cfg}}
	if got := lookPort(t.Context(), p); got.State != checkBlocking || got.Code != "ServerUnreachable" || !strings.Contains(got.Text, "says nothing") {
		t.Errorf("server-reachable: got %+v", got)
	}
	p.role = diagnosis{State: checkSkipped, Text: "can't be judged before admin is mended"}
	if got := lookSlot(t.Context(), p); got.State != checkSkipped || got.Text != p.role.Text {
		t.Errorf("slot: got %+v", got)
	}
}
