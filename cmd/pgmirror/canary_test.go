package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// canaries are passwords in every place where one can enter. None of them may
// be seen anywhere else.
var canaries = map[string]string{
	"admin": "cAnArY-admin-'\"$7",
	"role":  "cAnArY-role-'\"$8",
	"azd":   "cAnArY-azd-9",
	"old":   "cAnArY-old-6",
	"given": "cAnArY-given-'\"$5",
	"lost":  "cAnArY-lost-5", // where no password belongs
}

// TestNoSecretIsSeen sets a mirror up, breaks and mends it, by every kind of
// output there is, and looks for the passwords in all of it: the arguments of
// every process, the server's log of every statement, outputs, errors and plans.
// All that the commands write meanwhile has to be in the audit log.
func TestNoSecretIsSeen(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	w := newCanaryWorld(t)
	w.run(0, "plan")
	w.run(0, "plan", "--json")
	w.run(0, "plan", "--explain-config")
	w.run(0, "plan", "--out", filepath.Join(w.dir, "a.plan"), "--allow", "restart")
	w.run(0, "apply", "--yes", "--json", "--allow", "restart", "--until", "enable")
	w.run(0, "plan", "--sql")
	w.run(0, "apply", "--if-ready", "--allow", "restart")
	w.run(0, "connection", "show")
	w.run(0, "status")
	given := filepath.Join(w.dir, "given")
	if err := os.WriteFile(given, []byte(canaries["given"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := w.config()
	closeDoors(w.seen, w.clients, cfg)
	w.run(0, "rotate", "--yes", "--json", "--password-file", given, "--allow", "open-vault,open-server")
	w.run(0, "leases", "close", "--force", lend(w.seen, w.clients, cfg, time.Now()))
	openDoors(w.seen, w.clients, cfg)
	w.run(0, "rotate", "--yes", "--adopt", "role", "--password-file", given)
	w.run(0, "leases", "list", "--json")
	w.run(8, "plan", "--set", "admin.secret=wrong") // signs in with a wrong password
	w.run(8, "apply", "--yes", "--set", "role.secret=wrong", "--json")
	w.run(0, "apply", "--yes", "--set", "role.secret=wrong", "--allow", "reset-password")
	w.fault(emulator.Fault{Service: "vault", Status: 500, Body: "html"})
	w.run(1, "plan", "--json")
	w.fault(emulator.Fault{Service: "fabric", Method: "POST", Path: "/v1/connections", Status: 400, Code: "InvalidCredentialDetails", Message: "refused: " + canaries["old"]})
	w.disconnect()
	w.run(1, "apply", "--yes", "--set", "role.secret=wrong")
	w.fault()
	w.run(0, "destroy", "--yes", "--allow", "drop-mirror")
	w.elsewhere()
	w.search(t)
	if w.writes < 50 {
		t.Errorf("%d writes were seen: nothing is proved of the audit log", w.writes)
	}
}

// elsewhere enters the passwords by the other ways there are: the environment, a
// reference, a file and a flag that take none.
func (w *canaryWorld) elsewhere() {
	w.run(1, "plan", "--set", "admin.password="+canaries["lost"])
	w.run(1, "plan", "--set", "tokens.fabric="+canaries["lost"])
	bad := filepath.Join(w.dir, "bad.yaml")
	for _, text := range []string{"admin: {password: %s}\n", "name: [%s\n", "admin:\n  user: {x: %s}\n", "server: {port: %s}\n", "role: {password: %s, secret: 1}\n"} {
		if err := os.WriteFile(bad, []byte("name: dev\n"+fmt.Sprintf(text, canaries["lost"])), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.run(1, "plan", "-c", bad)
		w.run(8, "init", "-c", bad)
	}
	w.run(0, "init", "-c", filepath.Join(w.dir, "new.yaml"))
	w.run(8, "doctor")
	vault := w.value("KEYVAULT_URL")
	w.env = append(w.env, "KEYVAULT_URL=", "VAULT_TOKEN=", "POSTGRES_ADMIN_PASSWORD="+canaries["admin"], "POSTGRES_MIRROR_CONNECTION_PASSWORD="+canaries["old"])
	w.run(0, "apply", "--yes", "--json", "--set", "role.name=other")
	w.run(0, "plan", "--sql")
	w.env = append(w.env, "POSTGRES_ADMIN_PASSWORD="+canaries["lost"])
	w.run(8, "plan")
	w.env = append(w.env, "VAULT_TOKEN="+w.value("VAULT_TOKEN"), "POSTGRES_ADMIN_PASSWORD=@Microsoft.KeyVault(SecretUri="+vault+"/secrets/wrong)")
	w.run(8, "plan", "--json")
	w.run(1, "plan", "--set", "server.host=@Microsoft.KeyVault(SecretUri="+vault+"/secrets/wrong)")
	w.env = append(w.env, "POSTGRES_URL=postgres://pgadmin:"+canaries["lost"]+"@localhost:no/postgres")
	w.run(1, "plan")
}

// value is the first that a variable had: the emulator's own.
func (w *canaryWorld) value(name string) string {
	for _, kv := range w.env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

type canaryWorld struct {
	t      *testing.T
	dir    string
	emu    *emulator.Emulator
	env    []string
	output bytes.Buffer

	clients *setup.Clients

	seen   *testimony
	writes int

	mu   sync.Mutex
	argv bytes.Buffer
}

func newCanaryWorld(t *testing.T) *canaryWorld {
	dir, err := os.MkdirTemp("", "pgmirror-canary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &canaryWorld{t: t, dir: dir, seen: &testimony{t: t, dir: dir}}
	w.emu, err = emulator.Start(t.Context(), emulator.Options{
		Dir: filepath.Join(dir, "emulator"), NoSync: true, PGBin: localpgtest.Servers(t)[0].Bin, ScanInterval: 50 * time.Millisecond, ProvisionDelay: 100 * time.Millisecond,
		Native: nativeMirror(slog.New(slog.DiscardHandler), 20*time.Millisecond), Server: emulator.ServerOptions{AdminPassword: canaries["admin"]},
		Log: slog.New(w.seen),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.emu.Close() })
	w.seen.listen(w.emu.Cluster())
	for _, kv := range w.emu.Env() {
		if kv.Key != "POSTGRES_URL" {
			w.env = append(w.env, kv.Key+"="+kv.Value)
		} else {
			w.env = append(w.env, "POSTGRES_URL="+strings.Replace(kv.Value, "pgadmin@", "pgadmin:"+canaries["old"]+"@", 1))
		}
	}
	w.stub("azd", `case "$2" in get-values) echo '{"AZURE_ENV_NAME": "dev", "POSTGRES_MIRROR_CONNECTION_PASSWORD": "`+canaries["azd"]+`"}' ;; esac`)
	w.stub("az", "exit 1")
	w.env = append(w.env, "PATH="+dir+":/usr/bin:/bin", "PGMIRROR_STATE="+filepath.Join(dir, "state"))
	w.project()
	w.secrets()
	w.watch()
	return w
}

// stub is a program on PATH that keeps the arguments it is called with.
func (w *canaryWorld) stub(name, then string) {
	text := "#!/bin/sh\necho \"$0 $@\" >>" + filepath.Join(w.dir, "argv") + "\n" + then + "\n"
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w *canaryWorld) project() {
	if err := os.MkdirAll(filepath.Join(w.dir, ".azure"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	for name, text := range map[string]string{"azure.yaml": "name: x\n", "pgmirror.yaml": "name: dev\n"} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	w.t.Chdir(w.dir)
}

func (w *canaryWorld) config() *config.Config {
	cfg, err := config.Load(w.t.Context(), config.Options{Environ: w.env, File: filepath.Join(w.dir, "pgmirror.yaml")})
	if err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

func (w *canaryWorld) secrets() {
	c, err := setup.NewClients(w.t.Context(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.clients = c
	for name, value := range map[string]string{"postgres-fabric-user-password": canaries["role"], "wrong": canaries["old"]} {
		if err := c.Vault.SetSecret(w.t.Context(), name, value); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *canaryWorld) disconnect() {
	all, err := w.clients.Fabric.Connections(w.t.Context())
	for _, c := range all {
		err = errors.Join(err, w.clients.Fabric.DeleteConnection(w.t.Context(), c.ID))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *canaryWorld) fault(f ...emulator.Fault) {
	body, err := json.Marshal(f)
	if err == nil {
		err = putFaults(w.emu, string(body))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// watch collects the arguments of every process on this machine until the test
// ends. It rests as long as it looks: other tests run beside it.
func (w *canaryWorld) watch() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for took := time.Duration(0); pause(ctx, max(5*time.Millisecond, took)) == nil; {
			begun := time.Now()
			lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
			if err != nil {
				return
			}
			w.mu.Lock()
			for _, l := range lines {
				if text, err := os.ReadFile(l); err == nil && bytes.Contains(text, []byte("cAnArY")) {
					w.argv.Write(text) // a process that is gone has no arguments
				}
			}
			w.mu.Unlock()
			took = time.Since(begun)
		}
	}()
	w.t.Cleanup(func() { stop(); <-done })
}

func (w *canaryWorld) run(want exitCode, args ...string) {
	w.t.Helper()
	var out bytes.Buffer
	w.seen.begin()
	got := execute(w.t.Context(), args, streams{In: strings.NewReader(""), Out: &out, Err: &out, Environ: w.env})
	w.output.Write(out.Bytes())
	w.writes += w.seen.judge(args)
	if exitCode(got) != want {
		w.t.Errorf("%q: exit %d, want %d\n%s", args, got, want, out.String())
	}
}

func (w *canaryWorld) search(t *testing.T) {
	places := map[string][]byte{"outputs": w.output.Bytes()}
	w.mu.Lock()
	places["arguments of processes"] = bytes.Clone(w.argv.Bytes())
	w.mu.Unlock()
	for _, name := range []string{"argv", "a.plan", "state/audit.jsonl", "emulator/pg/postgres.log"} {
		text, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Errorf("read %s: %v", name, err)
		}
		places[name] = text
	}
	if !bytes.Contains(places["emulator/pg/postgres.log"], []byte(`CREATE ROLE "fabric_user"`)) {
		t.Error("the server's log has no statements: nothing is proved")
	}
	secrets := maps.Clone(canaries)
	for _, name := range []string{"FABRIC_TOKEN", "ARM_TOKEN", "VAULT_TOKEN", "STORAGE_TOKEN", "POSTGRES_TOKEN", "IDENTITY_HEADER"} {
		secrets[name] = w.value(name)
	}
	for place, text := range places {
		for who, canary := range secrets {
			quoted, _ := json.Marshal(canary)
			for _, form := range []string{canary, strings.Trim(string(quoted), `"`), strings.ReplaceAll(canary, "'", "''")} {
				if i := bytes.Index(text, []byte(form)); i >= 0 {
					t.Errorf("%s is in %s: …%s…", who, place, text[max(0, i-80):min(len(text), i+60)])
				}
			}
		}
	}
}
