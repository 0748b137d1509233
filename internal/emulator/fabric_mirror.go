package emulator

import (
	"encoding/json"
	"net/http"
	"time"
)

// mirrorInput is the body that makes a mirrored database, by the typed path or
// as an item.
type mirrorInput struct {
	Type        string      `json:"type"`
	DisplayName string      `json:"displayName"`
	Description string      `json:"description"`
	Definition  *definition `json:"definition"`
}

func (f *fabric) listMirrors(c *call) (reply, error) {
	var all []map[string]any
	f.state.look(func(s *state) {
		for _, it := range s.Items {
			if it.Workspace == c.vars["workspace"] && it.Type == mirrorType {
				all = append(all, f.mirrorBody(s, it))
			}
		}
	})
	return list(f, c, "value", all)
}

func (f *fabric) getMirror(c *call) (reply, error) {
	var body map[string]any
	err := f.state.read(func(s *state) error {
		it, err := f.item(s, c)
		if err == nil {
			body = f.mirrorBody(s, it)
		}
		return err
	})
	return reply{http.StatusOK, body}, err
}

// createItem makes an item. Mirrored databases are all that can be made here.
func (f *fabric) createItem(c *call) (reply, error) {
	return f.create(c, func(_ *state, it *itemState) map[string]any { return it.body() })
}

// createMirror answers 201 at once; the item is not ready for a while.
func (f *fabric) createMirror(c *call) (reply, error) { return f.create(c, f.mirrorBody) }

func (f *fabric) create(c *call, show func(*state, *itemState) map[string]any) (reply, error) {
	var in mirrorInput
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	it, e := f.newMirror(c, &in)
	if e != nil {
		return reply{}, e
	}
	if err := f.mirrors.makeFolders(it); err != nil {
		return reply{}, err
	}
	var body map[string]any
	err := f.state.change(func(s *state) error {
		w, err := s.workspace(it.Workspace)
		switch {
		case err != nil:
			return err
		case w.Capacity == "":
			return faultf(http.StatusBadRequest, "WorkspaceHasNoCapacityAssigned", "The workspace has no capacity assigned")
		}
		if s.itemNameTaken(it.Workspace, mirrorType, it.Name, "") {
			return nameTaken(it.Name)
		}
		if e := s.checkSource(it); e != nil {
			return e
		}
		s.Items = append(s.Items, it, it.sqlEndpoint())
		body = show(s, it)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	c.header.Set("ETag", `""`)
	return f.maybeLater(c, reply{http.StatusCreated, body})
}

// openMirror finds the mirrored database of Options.OpenMirror.
func (s *state) openMirror(name string) *itemState {
	for _, it := range s.Items {
		if it.Workspace == s.Workspaces[0].ID && it.Type == mirrorType && equalFold(it.Name, name) {
			return it
		}
	}
	return nil
}

// runOpenMirror sees to it that an open mirrored database of a name runs. It is
// ready at once.
func (f *fabric) runOpenMirror(name string) error {
	if e := checkName(name); e != nil {
		return e
	}
	it := &itemState{ID: newID(), Type: mirrorType, Name: name, Endpoint: newID(), Ready: f.now(), Definition: json.RawMessage(
		`{"properties":{"source":{"type":"GenericMirror","typeProperties":{}},"target":{"type":"MountedRelationalDatabase","typeProperties":{"defaultSchema":"dbo","format":"Delta"}}}}`)}
	err := f.state.change(func(s *state) error {
		if have := s.openMirror(name); have != nil {
			it = have
			return nil
		}
		it.Workspace = s.Workspaces[0].ID
		s.Items = append(s.Items, it, it.sqlEndpoint())
		return nil
	})
	if err != nil {
		return err
	}
	if err := f.mirrors.makeFolders(it); err != nil {
		return err
	}
	return f.mirrors.start(it.ID)
}

// newMirror checks what doesn't depend on other items.
func (f *fabric) newMirror(c *call, in *mirrorInput) (*itemState, *fault) {
	if in.Type != "" && in.Type != mirrorType || in.Type == "" && c.vars["mirror"] == "" && isItems(c) {
		return nil, faultf(http.StatusBadRequest, "InvalidItemType", "The item type is not one that can be made here: %s", in.Type)
	}
	if e := checkName(in.DisplayName); e != nil {
		return nil, e
	}
	if len(in.Description) > 256 {
		return nil, invalidInput("description has at most 256 characters")
	}
	it := &itemState{ID: newID(), Workspace: c.vars["workspace"], Type: mirrorType, Name: in.DisplayName, Description: in.Description,
		Endpoint: newID(), Ready: f.now().Add(f.o.ProvisionDelay)}
	if in.Definition == nil {
		return it, nil // allowed; starting it is not
	}
	text, _, e := in.Definition.mirroring()
	it.Definition = text
	return it, e
}

// isItems says whether a call came by the generic path, where the type is required.
func isItems(c *call) bool {
	p := segments(c.URL.Path)
	return len(p) > 0 && equalFold(p[len(p)-1], "items")
}

func (it *itemState) sqlEndpoint() *itemState {
	return &itemState{ID: it.Endpoint, Workspace: it.Workspace, Type: endpointType, Name: it.Name, Parent: it.ID, Ready: it.Ready}
}

// mirrorBody is a mirrored database as the service shows it: without properties
// until it is ready.
func (f *fabric) mirrorBody(_ *state, it *itemState) map[string]any {
	properties := map[string]any{"oneLakeTablesPath": nil, "sqlEndpointProperties": nil}
	if !f.now().Before(it.Ready) {
		properties = map[string]any{
			"oneLakeTablesPath": f.dfs + "/" + it.Workspace + "/" + it.ID + "/Tables",
			"sqlEndpointProperties": map[string]any{
				"connectionString": "emulator.datawarehouse.fabric.microsoft.com", "id": it.Endpoint, "provisioningStatus": "Success",
			},
		}
		if schema := it.parsed().Properties.Target.TypeProperties.DefaultSchema; schema != "" {
			properties["defaultSchema"] = schema
		}
	}
	body := it.body()
	body["properties"] = properties
	return body
}

// parsed reads the item's definition, which was checked when it came in.
func (it *itemState) parsed() (m mirroring) {
	_ = json.Unmarshal(it.Definition, &m) // no definition: nothing is said
	return m
}

// retention is how long what older versions of a table need stays; 0 when the
// definition doesn't say.
func (it *itemState) retention() time.Duration {
	days := or(it.parsed().Properties.Target.TypeProperties.Retention, 0)
	return time.Duration(days) * 24 * time.Hour
}

func (it *itemState) source() mirroringSource { return it.parsed().Properties.Source.TypeProperties }
