package main

import (
	sh "os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
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
