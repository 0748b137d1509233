package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmirror/pgmirror/internal/setup"
)

var update = flag.Bool("update", false, "write docs/commands and the table of docs/permissions.md anew")

// TestCommandPages holds docs/commands against the code: a page a command, no
// other page. `go test ./cmd/pgmirror -run Pages -update` writes them.
func TestCommandPages(t *testing.T) {
	dir := filepath.Join("..", "..", "docs", "commands")
	want := map[string]string{}
	eachCommand(newRootCmd(streams{}), func(c *cobra.Command) {
		want[strings.ReplaceAll(c.CommandPath(), " ", "-")+".md"] = commandPage(c)
	})
	have, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range have {
		if want[filepath.Base(path)] != "" {
			continue
		}
		if !*update {
			t.Errorf("%s: there is no such command", path)
		} else if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
	for name, text := range want {
		current(t, filepath.Join(dir, name), text)
	}
}

// current wants a file to be as the code makes it, or makes it so.
func current(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v (make it: go test ./cmd/pgmirror -run Pages -update)", err)
		return
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s isn't current (go test ./cmd/pgmirror -run Pages -update):\n%s", path, diff)
	}
}

// eachCommand visits every command that is built and that a user sees.
func eachCommand(c *cobra.Command, visit func(*cobra.Command)) {
	if c.DisableFlagParsing || c.Hidden || c.Name() == "help" {
		return
	}
	visit(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, visit)
	}
}

func commandPage(c *cobra.Command) string {
	var b bytes.Buffer
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	use := c.UseLine() // reads the flags, and fills in those of cobra
	fmt.Fprintf(&b, "# %s\n\n```\n%s\n```\n\n%s\n", c.CommandPath(), use, codeBlocks(long))
	if rows := flagRows(c); rows != "" {
		fmt.Fprintf(&b, "\n| Flag | Default | What |\n|---|---|---|\n%s", rows)
	}
	if subs := subRows(c); subs != "" {
		fmt.Fprintf(&b, "\n| Command | What |\n|---|---|\n%s", subs)
	}
	fmt.Fprintf(&b, "\nExit codes: [commands](../commands.md#exit-codes).\n")
	return b.String()
}

// codeBlocks puts indented lines of a help text into code blocks.
func codeBlocks(text string) string {
	var out []string
	in := false
	for line := range strings.SplitSeq(text, "\n") {
		if code := strings.HasPrefix(line, "  "); code != in {
			out, in = append(out, "```"), code
		}
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	if in {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}

func flagRows(c *cobra.Command) string {
	var b strings.Builder
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		value := f.DefValue
		if value == "[]" || value == "false" || value == "0s" {
			value = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, value, strings.ReplaceAll(f.Usage, "|", `\|`))
	})
	return b.String()
}

func subRows(c *cobra.Command) string {
	var b strings.Builder
	for _, sub := range c.Commands() {
		if sub.DisableFlagParsing || sub.Hidden || sub.Name() == "help" {
			continue
		}
		fmt.Fprintf(&b, "| [%s](%s.md) | %s |\n", sub.CommandPath(), strings.ReplaceAll(sub.CommandPath(), " ", "-"), sub.Short)
	}
	return b.String()
}

// TestVariablesAreDocumented: docs/commands.md has every variable of our own.
func TestVariablesAreDocumented(t *testing.T) {
	source, err := os.ReadFile("../../internal/config/fields.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`PGMIRROR_[A-Z_]+`).FindAllString(string(source), -1)
	if len(names) < 5 {
		t.Fatalf("found %q: the search is broken", names)
	}
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/commands.md doesn't have %s", name)
		}
	}
}

// TestPermissionPages holds the tables in docs/permissions.md against what each
// step declares.
func TestPermissionPages(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "permissions.md")
	read, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(read)
	for name, rights := range map[string][]setup.Rights{"steps": setup.AllRights(), "destroy": setup.UndoRights()} {
		begin, end := "<!-- generated: "+name+" -->\n", "<!-- end -->\n"
		head, rest, ok := strings.Cut(text, begin)
		_, tail, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("%s has no place for the table of %s", path, name)
		}
		var b strings.Builder
		b.WriteString("| Step | Mode | To look | To change |\n|---|---|---|---|\n")
		for _, r := range rights {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Step, r.Modes, r.Look, r.Change)
		}
		text = head + begin + b.String() + end + tail
	}
	current(t, path, text)
}
