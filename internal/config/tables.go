package config

import (
	"slices"
	"strings"
)

// Wants reports whether the configuration asks for a table, and whether it is
// listed: a listed table may change its owner, another one may not.
func (m Mirror) Wants(schema, table string) (wanted, listed bool) {
	for _, pattern := range m.Tables {
		s, t, _ := strings.Cut(pattern, ".")
		if fits(s, schema) && fits(t, table) {
			return true, true
		}
	}
	if len(m.Tables) > 0 {
		return false, false
	}
	return len(m.Schemas) == 0 || slices.Contains(m.Schemas, schema), false
}

// fits says whether a name is one of a pattern's, in which * is any characters and ?
// any one. Everything else is itself: names in PostgreSQL have all sorts of it.
func fits(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	star, resume := -1, 0 // behind the last *, and where in n it is tried next
	i, k := 0, 0
	for k < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			i, star, resume = i+1, i+1, k
		case i < len(p) && (p[i] == '?' || p[i] == n[k]):
			i, k = i+1, k+1
		case star >= 0:
			resume++
			i, k = star, resume
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
