// Package localpgtest starts PostgreSQL clusters for tests.
package localpgtest

import (
	"context"
	"maps"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/localpg"
)

// Start runs a cluster for the duration of the test. Without o.Dir it is in a
// directory of its own, which goes away with it. It does not sync to disk unless
// o.Settings says so: tests end processes, not machines. A test that needs
// PostgreSQL and has none fails and says what to install.
func Start(t testing.TB, o localpg.Options) *localpg.Cluster {
	t.Helper()
	if o.Dir == "" {
		o.Dir = tempDir(t)
	}
	settings := map[string]string{"fsync": "off", "full_page_writes": "off"}
	maps.Copy(settings, o.Settings)
	o.Settings = settings
	c, err := localpg.Start(t.Context(), o)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Errorf("stop PostgreSQL: %v", err)
		}
	})
	return c
}

// tempDir is short, unlike t.TempDir, so that the socket fits in.
func tempDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove cluster: %v", err)
		}
	})
	return dir
}

// Exec runs statements on a connection of their own; each string may hold
// several, separated by semicolons.
func Exec(t testing.TB, url string, sql ...string) {
	t.Helper()
	ctx := context.Background() // also for use in Cleanup, when t.Context has ended
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(ctx)
	for _, s := range sql {
		if _, err := conn.PgConn().Exec(ctx, s).ReadAll(); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
