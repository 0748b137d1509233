package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Azd speaks with the azd program in a project's directory.
type Azd struct {
	program string
	dir     string
	environ []string
}

// FindAzd looks for an azd project in dir and above, and for azd on PATH; nil
// when one of them isn't there, or when the project has no environment yet.
func FindAzd(dir string, environ []string) *Azd {
	project := projectOf(dir)
	if project == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(project, ".azure")); err != nil {
		return nil
	}
	for _, d := range filepath.SplitList(pathOf(environ)) {
		if path, err := exec.LookPath(filepath.Join(d, "azd")); err == nil && filepath.IsAbs(path) {
			return &Azd{path, dir, environ}
		}
	}
	return nil
}

func pathOf(list []string) string { return environ(list)["PATH"] }

// projectOf is the nearest directory with an azure.yaml.
func projectOf(dir string) string {
	for {
		for _, name := range []string{"azure.yaml", "azure.yml"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return dir
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// Values reads the azd environment: one call, however many values. A project
// without a chosen environment has none.
func (a *Azd) Values(ctx context.Context) (map[string]string, error) {
	out, err := a.run(ctx, "env", "get-values", "--output", "json")
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	if err := json.Unmarshal(out, &values); err != nil {
		return nil, errors.New("azd env get-values: the answer is no JSON object of texts") // never the answer: it may hold secrets
	}
	return values, nil
}

// Set writes values back. They are names and ids, never secrets: others can read
// a process's arguments.
func (a *Azd) Set(ctx context.Context, values map[string]string) error {
	args := []string{"env", "set"}
	for key, value := range values {
		args = append(args, key+"="+value)
	}
	slices.Sort(args[2:])
	_, err := a.run(ctx, args...)
	return err
}

func (a *Azd) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, a.program, append(args, "--no-prompt")...)
	cmd.Dir, cmd.Env = a.dir, a.environ
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		return nil, fmt.Errorf("azd %s: %w: %s", strings.Join(args[:2], " "), err, said)
	}
	return out.Bytes(), nil
}

// Forget are those of the keys that azd has a value for, to be emptied.
func (c *Config) Forget(keys ...string) map[string]string {
	out := map[string]string{}
	for _, key := range keys {
		if c.azd[key] != "" {
			out[key] = ""
		}
	}
	return out
}

// WriteBack are the values that azd doesn't have yet, or has otherwise; none when
// no azd environment was read.
func (c *Config) WriteBack(results map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range results {
		if c.azd != nil && value != "" && c.azd[key] != value {
			out[key] = value
		}
	}
	return out
}
