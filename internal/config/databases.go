package config

import (
	"slices"
	"strings"
)

// Each is one configuration a database, in order. All of them know all databases:
// the server is prepared for every one at once. The first mirror has the plain
// name, the others have their database's behind it. A database named by a flag
// is taken alone.
func (c *Config) Each() []*Config {
	out := make([]*Config, 0, len(c.Databases))
	picked := c.Source("server.database") == "flag" && slices.Contains(c.Databases, c.Server.Database)
	for i, name := range c.Databases {
		if picked && name != c.Server.Database {
			continue
		}
		one := *c
		one.values = slices.Clone(c.values)
		one.Server.Database = name
		if i > 0 {
			one.Mirror.Name = c.MirrorName() + "-" + name
			one.Connection.ID = ""                                                        // a connection leads to one database
			one.Run.Slot, one.Run.Publication, one.Run.InsertOnlyPublication = "", "", "" // they have names of their own
			one.Name = strings.Trim(c.Name+"-"+name, "-")
			one.note("mirror.name", "databases")
			one.note("name", "databases")
		}
		if len(c.Databases) > 1 {
			one.note("server.database", "databases")
		}
		out = append(out, &one)
	}
	return out
}

// Pick is the configuration of one database of several; ok is false when it
// isn't among them.
func (c *Config) Pick(database string) (one *Config, ok bool) {
	for _, one := range c.Each() {
		if one.Server.Database == database {
			return one, true
		}
	}
	return nil, false
}
