package config

import (
	"path"
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
	ok, _ := path.Match(plain.Replace(pattern), strings.ReplaceAll(name, "/", "\x00")) // no pattern is malformed now
	return ok
}

// plain takes from a pattern what else path.Match makes of it. No name has a NUL.
var plain = strings.NewReplacer(`[`, `\[`, `\`, `\\`, "/", "\x00")
