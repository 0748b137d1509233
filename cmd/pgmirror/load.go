package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// configOptions are the flags of every command that works on one mirror.
type configOptions struct {
	file    string
	envFile string
	set     []string
	allow   []string

	connectionID string
}

func (o *configOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "the mirror's configuration (default: "+config.DefaultFile+" when there is one)")
	f.StringVar(&o.envFile, "env-file", "", "read KEY=value lines, as pgmirror emulator --env writes them, before the environment")
	f.StringArrayVar(&o.set, "set", nil, "set one value of the configuration: --set server.host=db.example.com")
	cmd.MarkFlagFilename("config", "yaml", "yml")
}

// setupFlags are those of plan and apply.
func (o *configOptions) setupFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.connectionID, "connection-id", "", "use this Fabric connection, made by hand (pgmirror connection show)")
	cmd.Flags().StringSliceVar(&o.allow, "allow", nil, "consent to what hurts: "+strings.Join(config.Consents, ","))
}

// load reads the configuration of one database and refuses one that can't be
// used; what it read comes with that error.
func (o *configOptions) load(ctx context.Context, s streams) (*config.Config, error) {
	c, err := o.loadAll(ctx, s)
	if err != nil || len(c.Databases) < 2 && c.Databases[0] == c.Server.Database {
		return c, err
	}
	for _, v := range o.set {
		if !strings.HasPrefix(v, "server.database=") {
			continue
		}
		if one, ok := c.Pick(c.Server.Database); ok {
			return one, nil
		}
	}
	return c, fail(exitError, "DatabaseAmbiguous", "pgmirror plan --explain-config", "the configuration has several databases: choose one with --set server.database=%s", c.Databases[0])
}

// loadAll is load for all databases of the configuration: see config.Each. The
// environment wins over the file of --env-file.
func (o *configOptions) loadAll(ctx context.Context, s streams) (*config.Config, error) {
	environ := s.Environ
	if o.envFile != "" {
		more, err := config.ReadEnv(o.envFile)
		if err != nil {
			return nil, unreadable(err)
		}
		environ = append(more, s.Environ...)
	}
	flags := map[string]string{}
	for _, v := range o.set {
		path, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, fail(exitError, "UsageInvalid", "pgmirror plan --help", "--set %q: want PATH=VALUE", v)
		}
		flags[path] = value
	}
	if o.connectionID != "" {
		flags["connection.id"] = o.connectionID
	}
	options := config.Options{File: o.file, Environ: environ, Flags: flags}
	if azd := findAzd(s); azd != nil {
		options.Azd = azd.Values
	}
	c, err := config.Load(ctx, options)
	if err != nil {
		return nil, unreadable(err)
	}
	if s.given != nil && !s.given.read {
		s.given.read = true
	}
	c.Allow = append(c.Allow, o.allow...)
	if err := c.Validate(); err != nil {
		return c, configFailure(err)
	}
	return c, s.doors.begin(ctx, s, c, environ)
}

// unreadable is a configuration that can't be read. Of a file that isn't there, or may
// not be read, pgmirror itself can show nothing.
func unreadable(err error) error {
	next := "pgmirror plan --explain-config"
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		next = setup.ShellLine("ls", "-l", filepath.Dir(file.Path))
	}
	return &failure{Exit: exitError, Code: "ConfigUnreadable", Err: err, Next: next}
}

// configFailure shows all problems and, as the next thing to do, the first.
func configFailure(err error) error {
	next := "pgmirror plan --explain-config"
	var problems config.Problems
	if errors.As(err, &problems) && len(problems) > 0 && problems[0].Source == "" {
		next = fmt.Sprintf("pgmirror plan --set %s=…", problems[0].Field)
	}
	return &failure{Exit: exitError, Code: "ConfigInvalid", Err: err, Next: next}
}

// findAzd is the azd project that we are in; nil when there is none.
func findAzd(s streams) *config.Azd {
	dir, err := os.Getwd()
	if err != nil {
		return nil // a directory that is gone has no project
	}
	return config.FindAzd(dir, s.Environ)
}
