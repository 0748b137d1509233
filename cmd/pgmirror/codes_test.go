package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestEveryCodeIsExplained: whatever code a command, the mirror or doctor can
// give, explain knows it.
func TestEveryCodeIsExplained(t *testing.T) {
	given := map[string]token.Position{}
	for _, pattern := range []string{"*.go", "../../internal/mirror/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				codesIn(t, path, given)
			}
		}
	}
	if len(given) < 30 {
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
