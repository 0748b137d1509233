package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

type rotateOptions struct {
	apply applyOptions
	adopt string
	file  string
}

func newRotateCmd(s streams) *cobra.Command {
	var o rotateOptions
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change the mirror role's password everywhere, and prove it",
		Long: `Gives the mirror's role a new password: first the vault has it, as a new version of
the secret, then the role, then the Fabric connection. It is proved by signing in
as the role, by the connection's own test, and by the server refusing the former
one. A connection that reads the vault itself is only proved; a pgmirror run that
is running takes the new password at its next sign-in, and loses no place.

At every instant a store knows the valid password. A rotation that died is gone
on with by the next one.

The password is made up: 43 characters of A–Z, a–z, 2–9 and "-", with 200 random
bits. One that is given by --password-file has 8 to 128 characters, of three of
the classes upper case, lower case, digits and others, and not the role's name.

When the store and the role disagree, and no rotation is under way, somebody has
to say which is right: --adopt vault lets the role have the vault's password;
--adopt role writes the role's own, given by --password-file, into the vault.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRotate(cmd.Context(), o, s) },
	}
	o.apply.config.flags(cmd)
	o.apply.config.setupFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.file, "password-file", "", "the new password, or with --adopt role the role's own, is the first line of this file")
	f.StringVar(&o.adopt, "adopt", "", "which is right when they disagree: vault or role")
	f.BoolVarP(&o.apply.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.apply.json, "json", false, "write NDJSON to stdout; needs --yes")
	f.DurationVar(&o.apply.patience, "patience", 0, "how long to wait for each step at most (default: each step's own)")
	cmd.MarkFlagFilename("password-file")
	return cmd
}

func runRotate(ctx context.Context, o rotateOptions, s streams) error {
	if o.apply.json && !o.apply.yes {
		return fail(exitPrecondition, "NotConfirmed", "pgmirror rotate --json --yes", "--json does not ask, so it needs --yes")
	}
	cfg, err := o.apply.config.loadAll(ctx, s)
	if err != nil {
		return err
	}
	if err := s.doors.wanted(); err != nil {
		return err
	}
	rotation, err := o.rotation(cfg)
	if err != nil {
		return err
	}
	all, err := planAll(ctx, s, cfg, looking{patience: o.apply.patience, steps: func(c *setup.Clients) []setup.Step { return setup.RotateSteps(c, rotation) }})
	if err != nil {
		return insteadOfApply("rotate", err)
	}
	defer all.close(ctx)
	return insteadOfApply("rotate", o.apply.do(ctx, s, all, nil, "rotate"))
}

// insteadOfApply makes the next thing to type a rotation, or whatever command it
// is, where it would be an apply.
func insteadOfApply(command string, err error) error {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.Code == "RoleMissing" {
		return err
	}
	next := *f
	next.Next = strings.Replace(f.Next, "pgmirror apply", "pgmirror "+command, 1)
	return &next
}

// rotation is what the flags ask for.
func (o rotateOptions) rotation(cfg *config.Config) (*setup.Rotation, error) {
	r := &setup.Rotation{Adopt: o.adopt}
	switch {
	case o.adopt != "" && o.adopt != setup.AdoptVault && o.adopt != setup.AdoptRole:
		return nil, fail(exitError, "UsageInvalid", "pgmirror rotate --help", "--adopt %q: want vault or role", o.adopt)
	case o.adopt == setup.AdoptRole && o.file == "":
		return nil, fail(exitError, "UsageInvalid", "pgmirror rotate --adopt role --password-file FILE", "only you know the role's own password: give it by --password-file")
	case o.adopt == setup.AdoptVault && (o.file != "" || cfg.Vault == ""):
		return nil, fail(exitError, "UsageInvalid", "pgmirror rotate --help", "--adopt vault takes the password that the vault has")
	case o.file == "":
		return r, nil
	}
	text, err := os.ReadFile(o.file)
	if err != nil {
		return nil, &failure{Exit: exitError, Code: "ConfigUnreadable", Err: err}
	}
	r.Given, _, _ = strings.Cut(string(text), "\n")
	r.Given = strings.TrimSuffix(r.Given, "\r")
	if o.adopt == setup.AdoptRole {
		return r, nil // it is in use already, whatever it is like
	}
	if err := setup.CheckPassword(r.Given, cfg.Role.Name); err != nil {
		return nil, &failure{Exit: exitError, Code: "PasswordWeak", Err: err, Next: "pgmirror rotate"}
	}
	return r, nil
}
