package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestKeysAreDocumented: docs/commands.md has every key of the file with its default,
// and no other.
func TestKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| Key | Default | Meaning |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	defaults := map[string]string{} // by key, as the page has them
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			defaults[key[1]] = strings.Trim(cells[2], " `")
		}
	}
	keys := map[string]bool{}
	eachKey(reflect.TypeFor[Config](), "", func(path string) {
		keys[path] = true
		shown, ok := defaults[path]
		v, _ := at(Default(), path)
		want := ""
		if c := Default(); !v.IsZero() || v.Kind() == reflect.Bool || v.Type().String() == "time.Duration" {
			c.note(path, "")
			for _, value := range c.values {
				if value.Path == path {
					want = value.Value
				}
			}
		}
		if !ok || shown != want {
			t.Errorf("%s: docs/commands.md has %q (%v), want %q", path, shown, ok, want)
		}
	})
	for key := range defaults {
		if !keys[key] {
			t.Errorf("docs/commands.md has %s, which is no key", key)
		}
	}
	if len(keys) < 40 {
		t.Errorf("found %d keys: the walk is broken", len(keys))
	}
}

// eachKey visits the paths of all values that a file may hold.
func eachKey(t reflect.Type, prefix string, visit func(path string)) {
	for f := range t.Fields() {
		tag := f.Tag.Get("yaml")
		switch {
		case tag == "" || tag == "-":
		case f.Type.Kind() == reflect.Struct:
			eachKey(f.Type, prefix+tag+".", visit)
		default:
			visit(prefix + tag)
		}
	}
}
