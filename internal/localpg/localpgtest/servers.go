package localpgtest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pgmirror/pgmirror/internal/localpg"
)

// Servers are the servers here that tests can choose from, the newest first and
// one a version: those that are installed, and those in pgmirror's own cache,
// where `make postgres-17` puts one. PGMIRROR_TEST_PGBIN leaves only that one.
// Without any the test is skipped.
func Servers(t testing.TB) []localpg.Install {
	t.Helper()
	all := servers()
	if len(all) == 0 {
		t.Skip("no PostgreSQL binaries: make postgres-17")
	}
	return all
}

var servers = sync.OnceValue(func() []localpg.Install {
	only := os.Getenv("PGMIRROR_TEST_PGBIN")
	var all []localpg.Install
	for _, in := range localpg.Installed(append([]string{only}, cached()...)...) {
		if only == "" || in.Bin == only {
			all = append(all, in)
		}
	}
	return all
})

// cached are the servers' directories in the cache, which lies where
// scripts/cache says.
func cached() []string {
	cache := os.Getenv("PGMIRROR_CACHE")
	if cache == "" && os.Getuid() == 0 {
		cache = "/var/cache/pgmirror"
	} else if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil // nobody without a home has a cache
		}
		cache = filepath.Join(dir, "pgmirror")
	}
	found, _ := filepath.Glob(filepath.Join(cache, "postgres-*", "native", "bin")) // the only error is a bad pattern
	return found
}
