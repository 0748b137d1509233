package emulator

import (
	"net/http"
	"slices"
)

func (a *arm) listDatabases(c *call) (reply, error) {
	names, err := a.db.databases(c.Context())
	if err != nil {
		return reply{}, err
	}
	list := []any{}
	for _, name := range names {
		list = append(list, a.databaseBody(name))
	}
	return reply{http.StatusOK, map[string]any{"value": list}}, nil
}

func (a *arm) getDatabase(c *call) (reply, error) {
	names, err := a.db.databases(c.Context())
	if err != nil {
		return reply{}, err
	}
	name := c.vars["name"]
	if !slices.Contains(names, name) {
		return reply{}, faultf(http.StatusNotFound, "ResourceNotFound", "The database '%s' was not found on the server.", name)
	}
	return reply{http.StatusOK, a.databaseBody(name)}, nil
}

func (a *arm) databaseBody(name string) (body map[string]any) {
	a.state.look(func(s *state) {
		body = map[string]any{
			"id": serverID(s) + "/databases/" + name, "name": name, "type": serverType + "/databases",
			"properties": map[string]any{"charset": "UTF8", "collation": "C"},
		}
	})
	return body
}
