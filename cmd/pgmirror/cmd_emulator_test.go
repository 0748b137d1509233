package main

import (
	"bytes"
	"context"
	"io"
	"os"
	sh "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/parquet"
)

// TestEnvText: a shell and --env-file read the same.
func TestEnvText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fabric.env")
	url := "postgres://pgadmin@localhost:5/postgres?sslmode=verify-full&sslrootcert=%2Ftmp%2Fa+b%2Fca.pem"
	if err := writeSecret(file, envText([]emulator.KV{{Key: "A", Value: url}, {Key: "B", Value: "/tmp/a b/ca.pem"}, {Key: "C", Value: "plain"}})); err != nil {
		t.Fatal(err)
	}
	got, err := config.ReadEnv(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"A=" + url, "B=/tmp/a b/ca.pem", "C=plain"}; !cmp.Equal(got, want) {
		t.Errorf("--env-file: got %q, want %q", got, want)
	}
	shell, err := sh.LookPath("sh")
	if err != nil {
		t.Skip("no shell here")
	}
	out, err := sh.Command(shell, "-c", `set -a; . "$1"; printf '%s|%s|%s' "$A" "$B" "$C"`, "sh", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := url + "|/tmp/a b/ca.pem|plain"; string(out) != want {
		t.Errorf("sh: got %q, want %q", out, want)
	}
}

// TestEmulatorHelp does what the help of the emulator says, in its words.
func TestEmulatorHelp(t *testing.T) {
	shell, err := sh.LookPath("sh")
	if err != nil {
		t.Skip("no shell here")
	}
	if _, err := sh.LookPath("curl"); err != nil {
		t.Skip("no curl here")
	}
	dir, err := os.MkdirTemp("", "emulator-help") // t.TempDir is closed to the server's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan exitCode)
	var said told
	go func() {
		ended <- exitCode(execute(ctx, []string{"emulator", "--dir", filepath.Join(dir, "fabric"), "--env", filepath.Join(dir, "fabric.env"), "--open-mirror", "shop", "--scan-interval", "100ms"},
			streams{Out: io.Discard, Err: &said}))
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitOK && code != exitInterrupted {
			t.Errorf("the emulator: exit %d, %s", code, said.String())
		}
	})

	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}}}, false)
	b.Cols[0].AppendInt64(7)
	b.EndRow()
	var file bytes.Buffer
	if err := parquet.Write(&file, b, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "orders.parquet"), file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -eu\n")
	for line := range strings.Lines(emulatorHelp) {
		if command, ok := strings.CutPrefix(line, "  "); ok && !strings.HasPrefix(command, "pgmirror emulator") {
			script.WriteString(strings.ReplaceAll(command, "/tmp/fabric", filepath.Join(dir, "fabric")))
		}
	}
	play, stop := context.WithTimeout(ctx, 5*time.Minute)
	defer stop()
	cmd := sh.CommandContext(play, shell, "-c", script.String())
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script.String(), out)
	}
	for _, want := range []string{`"status":"Replicating"`, `"processedRows":1`, "00000000000000000000.json", `"value":`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got %s, want %s in it", out, want)
		}
	}
}

// told is what several goroutines say.
type told struct {
	mu   sync.Mutex
	text strings.Builder
}

func (t *told) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *told) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
