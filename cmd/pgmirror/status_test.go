package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
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

// TestStatusBesideMuteFabric: a service that accepts and never answers leaves time to
// read the role's secret from the vault, which does.
func TestStatusBesideMuteFabric(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	defer func(before time.Duration) { eachPatience = before }(eachPatience)
	eachPatience = 300 * time.Millisecond
	dir, err := os.MkdirTemp("", "pgmirror-mute-") // a server that root starts runs as another user, who must get to it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: dir, NoSync: true, PGBin: localpgtest.Servers(t)[0].Bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	var environ []string
	for _, kv := range e.Env() {
		environ = append(environ, kv.Key+"="+kv.Value)
	}
	host, port := mute(t)
	cfg, err := config.Load(t.Context(), config.Options{Environ: environ, Flags: map[string]string{
		"name": "shop", "mode": "open", "endpoints.fabric": fmt.Sprintf("https://%s:%d", host, port)}})
	if err != nil {
		t.Fatal(err)
	}
	clients, err := setup.NewClients(t.Context(), cfg)
	if err == nil {
		err = clients.Vault.SetSecret(t.Context(), cfg.Role.Secret, "of the role")
	}
	if err != nil {
		t.Fatal(err)
	}
	ses, err := openSession(t.Context(), streams{Err: io.Discard}, cfg, looking{each: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ses.close(t.Context())
	if err := ses.unseen["workspace"]; err == nil {
		t.Error("Fabric is not mute")
	}
	if err, e := ses.unseen["role-secret"], ses.clients.Endpoint(&ses.facts); err != nil || e.Password != "of the role" {
		t.Errorf("the role's secret: got %v, and a password of %d characters", err, len(e.Password))
	}
}

// TestDoctorOfMuteServer: a port that accepts is no server that answers.
func TestDoctorOfMuteServer(t *testing.T) {
	defer func(before time.Duration) { answerPatience = before }(answerPatience)
	answerPatience = 200 * time.Millisecond
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
