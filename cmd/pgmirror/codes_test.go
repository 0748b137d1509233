package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestEveryCodeIsExplained: whatever code a command, the mirror or doctor can
// give, explain knows it.
func TestEveryCodeIsExplained(t *testing.T) {
	given := map[string]token.Position{}
	inSources(t, given, codesIn)
	notesIn(t, given)
	if len(given) < 60 {
		t.Fatalf("found %d codes in the source: the search is broken", len(given))
	}
	for code, at := range given {
		if x, ok := explanation(code); !ok || x.Sentence == "" || x.Remedy == "" {
			t.Errorf("%s gives the code %s, which explain doesn't know", at, code)
		}
	}
	for code := range ownCodes {
		if _, ok := setup.Explain(code); ok {
			t.Errorf("%s is explained twice, by setup too", code)
		}
		for _, r := range landing.Rules() {
			if r.Code == code {
				t.Errorf("%s is explained twice, by lint too", code)
			}
		}
	}
}

// inSources has find look into each source file of the commands and of the mirror.
func inSources(t *testing.T, given map[string]token.Position, find func(*testing.T, string, map[string]token.Position)) {
	t.Helper()
	for _, pattern := range []string{"*.go", "../../internal/mirror/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				find(t, path, given)
			}
		}
	}
}

// notesIn finds the codes of setup's notes: Note{"X", …} and []Note{{"X", …}}.
func notesIn(t *testing.T, given map[string]token.Position) {
	t.Helper()
	paths, err := filepath.Glob("../../internal/setup/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`Note\{\{?"([A-Z][A-Za-z]+)", |note\("([A-Za-z]+)"|(?:snapshotSize|freeStorage) += "([A-Za-z]+)"`)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range found.FindAllStringSubmatch(string(text), -1) {
			if code := m[1] + m[2] + m[3]; !strings.HasSuffix(path, "_test.go") {
				given[code] = token.Position{Filename: path}
			}
		}
	}
}

// TestNextCanBeTyped: what follows a failure is a command line, and one of ours is of a
// command and flags that there are.
func TestNextCanBeTyped(t *testing.T) {
	given := map[string]token.Position{}
	inSources(t, given, nextIn)
	for _, code := range allCodes() {
		x, _ := explanation(code)
		given[x.Next] = token.Position{Filename: "explain " + code}
	}
	if len(given) < 30 {
		t.Fatalf("found %d command lines in the source: the search is broken", len(given))
	}
	for line, at := range given {
		words := strings.Fields(line)
		switch {
		case len(words) == 0, slices.Contains([]string{"az", "azd", "export", "pg_isready"}, words[0]):
			continue
		case words[0] != "pgmirror":
			t.Errorf("%s: %q can't be typed", at, line)
			continue
		}
		cmd, rest, err := newRootCmd(streams{}).Find(words[1:])
		if err != nil || !cmd.Runnable() {
			t.Errorf("%s: %q: there is no such command", at, line)
			continue
		}
		if len(rest) > 0 && strings.HasPrefix(rest[len(rest)-1], "--") { // the value, if it wants one, is put behind it
			if f := cmd.Flags().Lookup(strings.TrimLeft(rest[len(rest)-1], "-")); f != nil && f.NoOptDefVal == "" {
				rest = append(rest, "x")
			}
		}
		if err := cmd.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) {
			t.Errorf("%s: %q: %v", at, line, err)
		} else if cmd.Args != nil && err == nil && cmd.Args(cmd, cmd.Flags().Args()) != nil && !strings.HasSuffix(line, " ") {
			t.Errorf("%s: %q: arguments are missing or too many", at, line)
		}
	}
}

// nextIn finds the beginnings of the lines of `Next: "X"` and fail(exit, code, "X", …).
func nextIn(t *testing.T, path string, given map[string]token.Position) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	note := func(e ast.Expr) {
		if sum, ok := e.(*ast.BinaryExpr); ok {
			e = sum.X
		}
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			given[strings.Trim(lit.Value, `"`)] = fset.Position(lit.Pos())
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Next" {
				note(n.Value)
			}
		case *ast.CallExpr:
			if fun, ok := n.Fun.(*ast.Ident); ok && fun.Name == "fail" && len(n.Args) > 2 {
				note(n.Args[2])
			}
		}
		return true
	})
}

// codesIn finds the codes of `Code: "X"`, fail(exit, "X", …) and
// fault("X", …).
func codesIn(t *testing.T, path string, given map[string]token.Position) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	note := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING && len(lit.Value) > 2 {
			given[strings.Trim(lit.Value, `"`)] = fset.Position(lit.Pos())
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
				note(n.Value)
			}
		case *ast.CallExpr:
			fun, ok := n.Fun.(*ast.Ident)
			if ok && fun.Name == "fail" && len(n.Args) > 1 {
				note(n.Args[1])
			}
			if ok && fun.Name == "fault" && len(n.Args) > 0 {
				note(n.Args[0])
			}
		}
		return true
	})
}
