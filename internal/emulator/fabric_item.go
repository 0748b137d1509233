package emulator

import (
	"net/http"
	"slices"
	"strings"
)

const (
	mirrorType   = "MirroredDatabase"
	endpointType = "SQLEndpoint"
)

func (f *fabric) listItems(c *call) (reply, error) {
	kind := c.URL.Query().Get("type")
	var all []map[string]any
	f.state.look(func(s *state) {
		for _, it := range s.Items {
			if it.Workspace == c.vars["workspace"] && f.visible(s, it) && (kind == "" || kind == it.Type) {
				all = append(all, it.body())
			}
		}
	})
	return list(f, c, "value", all)
}

// visible says whether an item is there yet: a SQL endpoint appears once its
// mirrored database is ready.
func (f *fabric) visible(s *state, it *itemState) bool {
	return it.Parent == "" || !f.now().Before(it.Ready)
}

func (f *fabric) getItem(c *call) (reply, error) {
	var body map[string]any
	err := f.state.read(func(s *state) error {
		it, err := f.item(s, c)
		if err == nil {
			body = it.body()
		}
		return err
	})
	return reply{http.StatusOK, body}, err
}

// item finds the item of a call. Under a typed path it has to be of that type.
func (f *fabric) item(s *state, c *call) (*itemState, error) {
	for _, it := range s.Items {
		if it.ID == c.vars["item"] && it.Workspace == c.vars["workspace"] && f.visible(s, it) && (c.vars["mirror"] == "" || it.Type == mirrorType) {
			return it, nil
		}
	}
	return nil, faultf(http.StatusNotFound, "ItemNotFound", "The requested item '%s' was not found.", c.vars["item"])
}

// mirrorItem is item for what only a mirrored database can do.
func (f *fabric) mirrorItem(s *state, c *call) (*itemState, error) {
	it, err := f.item(s, c)
	if err == nil && it.Type != mirrorType {
		return nil, faultf(http.StatusBadRequest, "OperationNotSupportedForItem", "The operation is not supported for the item type %s.", it.Type)
	}
	return it, err
}

func (it *itemState) body() map[string]any {
	return map[string]any{"id": it.ID, "type": it.Type, "displayName": it.Name, "description": it.Description, "workspaceId": it.Workspace}
}

// patchItem changes name and description.
func (f *fabric) patchItem(c *call) (reply, error) {
	var in struct{ DisplayName, Description *string }
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if in.DisplayName == nil && in.Description == nil {
		return reply{}, invalidInput("displayName or description is required")
	}
	var body map[string]any
	err := f.state.change(func(s *state) error {
		it, err := f.item(s, c)
		if err != nil {
			return err
		}
		if err := s.rename(it, in.DisplayName, in.Description); err != nil {
			return err
		}
		body = it.body()
		if c.vars["mirror"] != "" {
			body = f.mirrorBody(s, it)
		}
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (s *state) rename(it *itemState, name, description *string) error {
	if name != nil {
		if e := checkName(*name); e != nil {
			return e
		}
		if s.itemNameTaken(it.Workspace, it.Type, *name, it.ID) {
			return nameTaken(*name)
		}
	}
	if description != nil && len(*description) > 256 {
		return invalidInput("description has at most 256 characters")
	}
	it.Name, it.Description = or(name, it.Name), or(description, it.Description)
	for _, child := range s.Items {
		if child.Parent == it.ID {
			child.Name = it.Name
		}
	}
	return nil
}

func checkName(name string) *fault {
	if name == "" || len(name) > 256 || strings.TrimSpace(name) != name {
		return invalidInput("displayName has 1 to 256 characters and no space at either end")
	}
	return nil
}

func nameTaken(name string) *fault {
	return faultf(http.StatusConflict, "ItemDisplayNameAlreadyInUse", "Requested '%s' is already in use", name)
}

func (s *state) itemNameTaken(workspace, kind, name, except string) bool {
	return slices.ContainsFunc(s.Items, func(it *itemState) bool {
		return it.Workspace == workspace && it.Type == kind && it.ID != except && strings.EqualFold(it.Name, name)
	})
}

// deleteItem removes a mirrored database with its mirror, its SQL endpoint and
// its files. The endpoint cannot go alone.
func (f *fabric) deleteItem(c *call) (reply, error) {
	var gone itemState
	err := f.state.change(func(s *state) error {
		it, err := f.mirrorItem(s, c)
		if err != nil {
			return err
		}
		gone = *it
		s.Items = slices.DeleteFunc(s.Items, func(it *itemState) bool { return it.ID == gone.ID || it.Parent == gone.ID })
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	// A crash before this leaves files that nobody can reach.
	return reply{status: http.StatusOK}, f.mirrors.drop(&gone)
}

// itemConnections lists the connections of a native mirror; an open one has none.
func (f *fabric) itemConnections(c *call) (reply, error) {
	all := []map[string]any{}
	err := f.state.read(func(s *state) error {
		it, err := f.item(s, c)
		if err != nil {
			return err
		}
		if cn, err := s.connection(it.source().Connection); err == nil {
			all = append(all, map[string]any{"id": cn.ID, "displayName": cn.Name, "connectivityType": cn.Connectivity,
				"connectionDetails": map[string]any{"type": cn.Type, "path": cn.Path}})
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return list(f, c, "value", all)
}
