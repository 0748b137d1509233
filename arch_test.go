package pgmirror

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pgmirror/pgmirror/"

// may lists, for each package, the packages of ours that it may import. It is
// the architecture: change it in the same commit as the import, with the reason
// in the commit message. Packages are named without "internal/".
var may = map[string][]string{
	"batch": {},

	"config":  {},
	"store":   {},
	"parquet": {"batch"},

	"lease":             {"config"},
	"azure":             {"config"},
	"fabric":            {"config", "store"},
	"postgres":          {"batch", "postgres/pgoutput"},
	"postgres/pgoutput": {},
	"postgres/admin":    {"postgres"},
	"landing":           {"batch", "parquet", "store"},
	"delta":             {"batch", "parquet", "store"},

	"setup":      {"azure", "batch", "config", "fabric", "lease", "postgres", "postgres/admin"},
	"mirror":     {"batch", "landing", "parquet", "postgres", "postgres/pgoutput", "store"},
	"replicator": {"batch", "delta", "landing", "parquet", "store"},
	"verify":     {"batch", "delta", "parquet", "postgres", "store"},
	"localpg":    {},

	// Its native mirror is given to it by cmd.
	"emulator":         {"batch", "emulator/onelake", "localpg", "postgres", "replicator", "store"},
	"emulator/onelake": {"store"},
}

// layers are the packages from the bottom up; imports go downwards only. A
// package below another path of ours ("postgres/admin") lies in its layer.
var layers = [][]string{
	{"batch"},
	{"parquet", "store", "config"},
	{"postgres", "landing", "delta", "azure", "fabric", "lease"},
	{"setup", "mirror", "replicator", "verify", "localpg"},
	{"emulator"},
	{"cmd"},
}

// walls are pairs that never meet, not even through others: a package of the
// one side reaches none of the other, nor what lies below it. A name that ends
// in "/" is a whole family of modules that are not ours.
var walls = []struct{ side, other []string }{
	{[]string{"setup", "lease", "azure", "config"}, []string{"mirror", "landing", "delta", "replicator"}},
	{[]string{"mirror", "landing", "delta", "replicator"}, []string{"setup", "lease", "azure", "config"}},
	{[]string{"emulator", "emulator/onelake"}, []string{"azure", "fabric", "github.com/Azure/", "github.com/AzureAD/", "github.com/microsoft/"}},
}

// TestImports holds the table, the layers and that no two packages import each
// other in a circle (the layers and the table together leave no other way).
func TestImports(t *testing.T) {
	for pkg, files := range sources(t) {
		allowed, known := may[pkg]
		if !known {
			t.Errorf("package %q is not in the table", pkg)
		}
		for _, dep := range imports(files) {
			ours, ok := strings.CutPrefix(dep, module+"internal/")
			if ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s may not import %s", pkg, ours)
			}
		}
	}
	for pkg, deps := range may {
		for _, dep := range deps {
			if family(dep) != family(pkg) && layer(t, dep) >= layer(t, pkg) {
				t.Errorf("the table lets %s import %s, which does not lie below it", pkg, dep)
			}
		}
	}
}

// TestWalls holds the walls over everything that a package reaches through
// packages of ours.
func TestWalls(t *testing.T) {
	all := sources(t)
	for _, w := range walls {
		for _, pkg := range w.side {
			for dep := range reach(all, pkg) {
				for _, other := range w.other {
					if dep == other || strings.HasPrefix(dep, strings.TrimSuffix(other, "/")+"/") {
						t.Errorf("%s reaches %s", pkg, dep)
					}
				}
			}
		}
	}
}

// TestPackageComments holds one promise a package.
func TestPackageComments(t *testing.T) {
	all := sources(t)
	all["cmd/pgmirror"] = parseDir(t, "cmd/pgmirror")
	for pkg, files := range all {
		n := 0
		for _, f := range files {
			if f.Doc == nil {
				continue
			}
			n++
			want := "Package " + f.Name.Name + " "
			if f.Name.Name == "main" {
				want = "Command "
			}
			if got := f.Doc.Text(); !strings.HasPrefix(got, want) {
				t.Errorf("%s: the package comment begins %.40q, want %q", pkg, got, want)
			}
		}
		if n != 1 {
			t.Errorf("package %s has %d package comments, want exactly one", pkg, n)
		}
	}
}

var (
	plainName = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*\.go$`)
	noNouns   = []string{"util", "utils", "common", "shared", "helper", "helpers", "misc", "base"}
	noFolders = []string{"pkg", "model", "models", "types"} // a file may be about types, as PostgreSQL has them
)

// TestNames: `ls` is the table of contents, so a file or a folder is named by
// what is in it.
func TestNames(t *testing.T) {
	walk(t, func(path string, d fs.DirEntry) {
		if strings.HasSuffix(path, ".go") && !plainName.MatchString(d.Name()) {
			t.Errorf("%s: a Go file is named in lower case, with underscores", path)
		}
		name := strings.TrimSuffix(strings.TrimSuffix(d.Name(), ".go"), "_test")
		if slices.Contains(noNouns, name) || d.IsDir() && slices.Contains(noFolders, name) {
			t.Errorf("%s: %q says nothing of what is in it", path, name)
		}
	})
}

// TestNoRegistryHosts: packages are named by their names, wherever a registry
// may stand for whoever builds this.
func TestNoRegistryHosts(t *testing.T) {
	hosts := []string{
		"registry.npmjs" + ".org", "pypi" + ".org", "pythonhosted" + ".org", "proxy.golang" + ".org", "sum.golang" + ".org",
		"repo1.maven" + ".org", "repo.maven.apache" + ".org", "crates" + ".io", "deb.debian" + ".org", "security.debian" + ".org", "extensions.duckdb" + ".org",
	}
	walk(t, func(path string, d fs.DirEntry) {
		if d.IsDir() {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			if strings.Contains(string(text), h) {
				t.Errorf("%s names %s", path, h)
			}
		}
	})
}

// sources parses every package under internal, without its tests.
func sources(t *testing.T) map[string][]*ast.File {
	t.Helper()
	all := map[string][]*ast.File{}
	walk(t, func(path string, d fs.DirEntry) {
		pkg, ok := strings.CutPrefix(filepath.ToSlash(path), "internal/")
		if !ok || !d.IsDir() {
			return
		}
		// What only tests import (store/storetest) is a test.
		if files := parseDir(t, path); len(files) > 0 && !strings.HasSuffix(pkg, "test") {
			all[pkg] = files
		}
	})
	return all
}

func parseDir(t *testing.T, dir string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

func imports(files []*ast.File) []string {
	set := map[string]bool{}
	for _, f := range files {
		for _, im := range f.Imports {
			set[strings.Trim(im.Path.Value, `"`)] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// reach is everything that pkg imports, through packages of ours: ours by their
// short names, others by their paths.
func reach(all map[string][]*ast.File, pkg string) map[string]bool {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(p string) {
		for _, dep := range imports(all[p]) {
			short := strings.TrimPrefix(dep, module+"internal/")
			if !seen[short] {
				seen[short] = true
				visit(short)
			}
		}
	}
	visit(pkg)
	return seen
}

func family(pkg string) string {
	first, _, _ := strings.Cut(pkg, "/")
	return first
}

func layer(t *testing.T, pkg string) int {
	t.Helper()
	for i, l := range layers {
		if slices.Contains(l, family(pkg)) {
			return i
		}
	}
	t.Fatalf("package %q lies in no layer", pkg)
	return 0
}

// walk visits every file and folder of the repository that is ours to name.
func walk(t *testing.T, visit func(path string, d fs.DirEntry)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" || path == "bin") {
			return fs.SkipDir
		}
		visit(path, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
