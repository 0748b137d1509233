package config

import (
	"path"
	"slices"
	"strings"
)

// compile splits a pattern and proves that it can be matched.
func compile(pattern string) ([2]string, error) {
	schema, table, _ := strings.Cut(pattern, ".")
	for _, p := range []string{schema, table} {
		if _, err := path.Match(p, ""); err != nil {
			return [2]string{}, err
		}
	}
	return [2]string{schema, table}, nil
}

// Wants reports whether the configuration asks for a table, and whether it is
// listed: a listed table may change its owner, another one may not.
func (m Mirror) Wants(schema, table string) (wanted, listed bool) {
	for _, pattern := range m.Tables {
		p, err := compile(pattern)
		if err != nil {
			continue // Validate refused it
		}
		s, _ := path.Match(p[0], schema)
		t, _ := path.Match(p[1], table)
		if s && t {
			return true, true
		}
	}
	if len(m.Tables) > 0 {
		return false, false
	}
	return len(m.Schemas) == 0 || slices.Contains(m.Schemas, schema), false
}
