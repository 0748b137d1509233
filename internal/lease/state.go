package lease

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// StateDir is where pgmirror keeps what outlives a run: PGMIRROR_STATE, else a
// directory of the user's. environ is as os.Environ gives it. Nothing is made.
func StateDir(environ []string) (string, error) {
	env := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	if dir := env["PGMIRROR_STATE"]; dir != "" {
		return filepath.Abs(dir)
	}
	var base string
	switch runtime.GOOS {
	case "windows":
		base = env["LOCALAPPDATA"]
	case "darwin":
		base = under(env["HOME"], "Library", "Application Support")
	default:
		base = or(env["XDG_STATE_HOME"], under(env["HOME"], ".local", "state"))
	}
	if !filepath.IsAbs(base) {
		return "", errors.New("there is no home directory to remember open doors in: set PGMIRROR_STATE to a directory that stays")
	}
	return filepath.Join(base, "pgmirror"), nil
}

func under(home string, path ...string) string {
	if home == "" {
		return ""
	}
	return filepath.Join(append([]string{home}, path...)...)
}

// makeDir makes dir and what is missing above it, and sees to it that it is
// still there after a crash of the machine.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := makeDir(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(above)
}
