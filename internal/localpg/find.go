package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says that no PostgreSQL binaries are installed, or not those of
// the wanted version; possibly wrapped. The message says what to install.
var ErrNotFound = errors.New("no PostgreSQL server binaries found")

// BinEnv names the variable that lists directories with PostgreSQL binaries,
// separated as in PATH, which are preferred to those in PATH and usual places.
const BinEnv = "PGMIRROR_PGBIN"

const oldest = 14 // the oldest major version that pgmirror supports

// Install is an installed PostgreSQL server.
type Install struct {
	Bin     string // directory of initdb and postgres
	Version int    // major
}

// Find finds the binaries of a major version; major "" is the newest of those
// that BinEnv lists, or else of all.
func Find(major string) (bin string, version int, err error) {
	all := Installed()
	for _, list := range [][]Install{installed(filepath.SplitList(os.Getenv(BinEnv))), all} {
		for _, in := range list {
			if major == "" || strconv.Itoa(in.Version) == major {
				return in.Bin, in.Version, nil
			}
		}
	}
	return "", 0, notFound(major, all)
}

// Installed lists the servers found in more directories, where BinEnv says, in PATH
// and where packages put them, the newest first and one a version.
func Installed(more ...string) []Install { return installed(append(more, candidates()...)) }

func installed(dirs []string) []Install {
	var all []Install
	for _, dir := range dirs {
		v, err := binVersion(dir)
		if err != nil || v < oldest || slices.ContainsFunc(all, func(in Install) bool { return in.Version == v }) {
			continue // not a directory with a server, which most of them are not
		}
		all = append(all, Install{Bin: dir, Version: v})
	}
	slices.SortFunc(all, func(a, b Install) int { return b.Version - a.Version })
	return all
}

var usual = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // the PostgreSQL project's RPMs
	"/usr/local/pgsql/bin",              // built from source
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew
	"/usr/local/opt/postgresql*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/opt/local/lib/postgresql*/bin", // MacPorts
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	`C:\Program Files\PostgreSQL\*\bin`,
}

func candidates() []string {
	dirs := append(filepath.SplitList(os.Getenv(BinEnv)), filepath.SplitList(os.Getenv("PATH"))...)
	for _, pattern := range usual {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		dirs = append(dirs, found...)
	}
	return dirs
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// binVersion asks the server in dir for its major version.
func binVersion(dir string) (int, error) {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(tool(dir, name)); err != nil {
			return 0, err
		}
	}
	out, err := exec.Command(tool(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", tool(dir, "postgres"), err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s says it is %q", tool(dir, "postgres"), strings.TrimSpace(string(out)))
	}
	return strconv.Atoi(string(m[1]))
}

func tool(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

func notFound(major string, all []Install) error {
	want, have := "", ""
	if major != "" {
		want = " of version " + major
	}
	for _, in := range all {
		have += fmt.Sprintf(", there is %d in %s", in.Version, in.Bin)
	}
	hint := "apt-get install postgresql"
	if major != "" {
		hint += "-" + major
	}
	if runtime.GOOS == "darwin" {
		hint = "brew install postgresql"
	}
	return fmt.Errorf("%w%s%s: try `%s`, or name their directory in %s", ErrNotFound, want, have, hint, BinEnv)
}
