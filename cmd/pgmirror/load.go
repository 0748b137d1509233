package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
)

// configOptions are the flags of every command that works on one mirror.
type configOptions struct {
	file    string
	envFile string
	set     []string
	allow   []string
}

func (o *configOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "the mirror's configuration (default: "+config.DefaultFile+" when there is one)")
	f.StringVar(&o.envFile, "env-file", "", "read KEY=value lines, as pgmirror emulator --env writes them, before the environment")
	f.StringArrayVar(&o.set, "set", nil, "set one value of the configuration: --set server.host=db.example.com")
	cmd.MarkFlagFilename("config", "yaml", "yml")
}

func (o *configOptions) allowFlag(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.allow, "allow", nil, "consent to what hurts: "+strings.Join(config.Consents, ","))
}

// load reads the configuration and refuses one that can't be used; what it read
// comes with that error. The environment wins over the file of --env-file.
func (o *configOptions) load(ctx context.Context, s streams) (*config.Config, error) {
	environ := s.Environ
	if o.envFile != "" {
		more, err := config.ReadEnv(o.envFile)
		if err != nil {
			return nil, &failure{Exit: exitError, Code: "ConfigUnreadable", Err: err}
		}
		environ = append(more, s.Environ...)
	}
	flags := map[string]string{}
	for _, v := range o.set {
		path, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, fail(exitError, "UsageInvalid", "", "--set %q: want PATH=VALUE", v)
		}
		flags[path] = value
	}
	c, err := config.Load(ctx, config.Options{File: o.file, Environ: environ, Flags: flags})
	if err != nil {
		return nil, &failure{Exit: exitError, Code: "ConfigUnreadable", Err: err, Next: "pgmirror plan --explain-config"}
	}
	c.Allow = append(c.Allow, o.allow...)
	if err := c.Validate(); err != nil {
		return c, configFailure(err)
	}
	return c, nil
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
