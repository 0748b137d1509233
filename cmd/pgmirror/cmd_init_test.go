package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A port that was given is in the file; PostgreSQL's own needs no line.
func TestInitPort(t *testing.T) {
	for port, want := range map[string]bool{"6432": true, "5432": false} {
		name := filepath.Join(t.TempDir(), "pgmirror.yaml")
		var errs bytes.Buffer
		args := []string{"init", "--yes", "--config", name, "--set", "mode=open", "--set", "server.host=db.example.com", "--set", "server.port=" + port}
		if got := execute(t.Context(), args, streams{Out: &bytes.Buffer{}, Err: &errs}); got != int(exitOK) {
			t.Fatalf("exit %d: %s", got, &errs)
		}
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(body), "\n  port: "+port+"\n"); got != want {
			t.Errorf("port %s: got\n%s", port, body)
		}
	}
}
