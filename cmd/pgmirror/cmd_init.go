package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
)

type initOptions struct {
	config configOptions
	yes    bool
	force  bool
}

func newInitCmd(s streams) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a pgmirror.yaml by asking",
		Long: `Asks for what can't be guessed, with what azd and the environment know as the
answers to begin with, and writes a configuration. Without a terminal, or with
--yes, it writes what is known. It never writes a password, and never over a file
without --force.

  pgmirror init --yes --set mode=open --set server.host=db.example.com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd.Context(), o, s) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.config.file, "config", "c", config.DefaultFile, "the file to write")
	f.StringVar(&o.config.envFile, "env-file", "", "read KEY=value lines, as pgmirror emulator --env writes them, before the environment")
	f.StringArrayVar(&o.config.set, "set", nil, "set one value of the configuration: --set server.host=db.example.com")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.force, "force", false, "write over a file that is there")
	return cmd
}

// question is one of init's: a path of the configuration, and what to ask.
type question struct {
	path, ask string
	open      bool // asked in mode open only
	native    bool // asked in mode native only
}

var questions = []question{
	{"mode", "Who moves the data? native: Fabric pulls from an Azure flexible server; open: pgmirror run pushes", false, false},
	{"name", "A name for the mirror (pg-mirror-NAME)", false, false},
	{"server.id", "The flexible server's resource id", false, true},
	{"server.host", "The server's host name", true, false},
	{"server.database", "The database", false, false},
	{"admin.user", "Who administers the server", false, false},
	{"vault", "The Key Vault's address (https://NAME.vault.azure.net; empty: passwords come from the environment)", false, false},
	{"workspace", "The Fabric workspace: its name, or the GUID in its address after /groups/", false, false},
}

// portPath isn't asked for, and written when it is another than PostgreSQL's own.
const portPath = "server.port"

func runInit(ctx context.Context, o initOptions, s streams) error {
	path := o.config.file
	if _, err := os.Stat(path); err == nil && !o.force {
		return fail(exitPrecondition, "FileExists", "pgmirror plan --explain-config", "%s is there already; --force writes over it", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known, err := o.known(ctx, s)
	if err != nil {
		return err
	}
	if s.Asks && !o.yes {
		if err := askAll(s, known); err != nil {
			return err
		}
	}
	if err := os.WriteFile(path, []byte(initFile(known)), 0o644); err != nil {
		return err
	}
	s.say("wrote %s", path)
	for _, q := range questions {
		if known[q.path] == "" && q.asked(known) && q.path != "vault" {
			s.say("  still missing: %s", q.path)
		}
	}
	s.say("  next: %s", s.next("pgmirror plan"))
	return nil
}

func (q question) asked(known map[string]string) bool {
	return !(q.native && known["mode"] == string(config.Open)) && !(q.open && known["mode"] != string(config.Open))
}

// known is what other sources than the file say; defaults count as answers.
func (o initOptions) known(ctx context.Context, s streams) (map[string]string, error) {
	options := o.config
	none, err := os.CreateTemp("", "pgmirror-init-*.yaml") // an empty file: an old one has no say
	if err != nil {
		return nil, err
	}
	none.Close()
	defer os.Remove(none.Name())
	options.file = none.Name()
	cfg, err := options.loadAll(ctx, s)
	if cfg == nil {
		return nil, err // what is refused now may be mended by an answer
	}
	known := map[string]string{}
	for _, v := range cfg.Explain() {
		for _, q := range questions {
			if q.path == v.Path {
				known[q.path] = v.Value
			}
		}
		if v.Path == portPath && v.Value != "5432" {
			known[portPath] = v.Value
		}
	}
	return known, nil
}

// askAll asks every question that the mode has; an empty answer takes what is
// known.
func askAll(s streams, known map[string]string) error {
	in := bufio.NewReader(s.In)
	for _, q := range questions {
		if !q.asked(known) {
			continue
		}
		fmt.Fprintf(s.Err, "%s [%s]: ", q.ask, known[q.path])
		answer, err := in.ReadString('\n')
		if answer = strings.TrimSpace(answer); answer != "" {
			known[q.path] = answer
		} else if err != nil {
			return fail(exitError, "Declined", "", "no more answers; nothing was written")
		}
	}
	return nil
}

// initFile is the file, with a word on each value. What the environment will say
// again is written all the same: a file is for others, too.
func initFile(known map[string]string) string {
	var b strings.Builder
	line := func(path, indent, comment string) {
		key := path[strings.LastIndex(path, ".")+1:]
		if known[path] == "" {
			fmt.Fprintf(&b, "%s# %s:   # %s\n", indent, key, comment)
			return
		}
		fmt.Fprintf(&b, "%s%s: %s   # %s\n", indent, key, quoteYAML(known[path]), comment)
	}
	b.WriteString("# pgmirror: pgmirror plan shows what it does; pgmirror plan --explain-config where each value comes from\n")
	line("name", "", "the mirrored database is pg-mirror-NAME")
	line("mode", "", "native: Fabric pulls from Azure; open: pgmirror run pushes")
	b.WriteString("server:\n")
	if known["mode"] == string(config.Open) {
		line("server.host", "  ", "")
		if known[portPath] != "" {
			fmt.Fprintf(&b, "  port: %s\n", known[portPath]) // a number
		}
	} else {
		line("server.id", "  ", "resource id of the flexible server")
	}
	line("server.database", "  ", "more than one: databases: [a, b]")
	b.WriteString("admin:\n")
	line("admin.user", "  ", "its password: the vault's secret postgres-admin-password, or POSTGRES_ADMIN_PASSWORD")
	line("vault", "", "without one the passwords come from the environment")
	line("workspace", "", "its name, or the GUID in its address after /groups/")
	b.WriteString("mirror:\n  tables: []   # schema.table, with * and ?; none: all that can be mirrored\n")
	b.WriteString("allow: []      # consent to what hurts: " + strings.Join(config.Consents, ", ") + "\n")
	return b.String()
}

// quoteYAML quotes what YAML would read as something else than a text.
func quoteYAML(s string) string {
	if strings.ContainsAny(s, ":#{}[]&*!|>'\"%@`, ") || s != strings.TrimSpace(s) || strings.Trim(s, "0123456789.eE+-") == "" {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return s
}
