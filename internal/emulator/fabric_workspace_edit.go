package emulator

import (
	"net/http"
	"slices"
	"strings"
)

type workspaceInput struct {
	DisplayName *string `json:"displayName"`
	Description *string `json:"description"`
	CapacityID  *string `json:"capacityId"`
}

func (in *workspaceInput) check(s *state, except string) *fault {
	name := or(in.DisplayName, "")
	switch {
	case in.DisplayName != nil && (name == "" || len(name) > 256 || strings.TrimSpace(name) != name):
		return invalidInput("displayName has 1 to 256 characters and no space at either end")
	case len(or(in.Description, "")) > 4000:
		return invalidInput("description has at most 4000 characters")
	case slices.ContainsFunc(s.Workspaces, func(w *workspaceState) bool { return w.ID != except && strings.EqualFold(w.Name, name) }):
		return faultf(http.StatusConflict, "WorkspaceNameAlreadyExists", "The workspace name '%s' is already in use", name)
	case in.CapacityID != nil && !strings.EqualFold(*in.CapacityID, s.CapacityID):
		return noCapacity(*in.CapacityID)
	}
	return nil
}

func noCapacity(id string) *fault {
	return faultf(http.StatusNotFound, "CapacityNotFound", "The requested capacity '%s' was not found.", id)
}

// createWorkspace makes one whose administrator is the caller. Without a
// capacity it can hold no mirrored database.
func (f *fabric) createWorkspace(c *call) (reply, error) {
	var in workspaceInput
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if in.DisplayName == nil {
		return reply{}, invalidInput("displayName is required")
	}
	w := &workspaceState{ID: newID(), Name: *in.DisplayName, Description: or(in.Description, ""), Capacity: strings.ToLower(or(in.CapacityID, ""))}
	err := f.state.change(func(s *state) error {
		if e := in.check(s, ""); e != nil {
			return e
		}
		w.Roles = []roleAssignment{{ID: s.User, Principal: s.User, PrincipalType: "User", Role: "Admin"}}
		s.Workspaces = append(s.Workspaces, w)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	f.location(c, "/workspaces/%s", w.ID)
	return reply{http.StatusCreated, workspaceBody(w)}, nil
}

func (f *fabric) editWorkspace(c *call, edit func(s *state, w *workspaceState) error) (body map[string]any, err error) {
	err = f.state.change(func(s *state) error {
		w, err := s.workspace(c.vars["workspace"])
		if err == nil {
			err = edit(s, w)
		}
		if err == nil {
			body = workspaceBody(w)
		}
		return err
	})
	return body, err
}

func (f *fabric) patchWorkspace(c *call) (reply, error) {
	var in workspaceInput
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	body, err := f.editWorkspace(c, func(s *state, w *workspaceState) error {
		in.CapacityID = nil
		if e := in.check(s, w.ID); e != nil {
			return e
		}
		w.Name, w.Description = or(in.DisplayName, w.Name), or(in.Description, w.Description)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

// deleteWorkspace removes a workspace with its items. What its native mirrors
// keep at the source stays there: azure_cdc.stop_publication is for that.
func (f *fabric) deleteWorkspace(c *call) (reply, error) {
	var gone []*itemState
	id := c.vars["workspace"]
	err := f.state.change(func(s *state) error {
		if len(s.Workspaces) == 1 {
			return faultf(http.StatusForbidden, "OperationNotAllowed", "The emulator keeps its last workspace.")
		}
		for _, it := range s.Items {
			if it.Workspace == id && it.Type == mirrorType {
				gone = append(gone, it)
			}
		}
		s.Items = slices.DeleteFunc(s.Items, func(it *itemState) bool { return it.Workspace == id })
		s.Workspaces = slices.DeleteFunc(s.Workspaces, func(w *workspaceState) bool { return w.ID == id })
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	for _, it := range gone {
		if err := f.mirrors.abandon(it); err != nil {
			return reply{}, err
		}
	}
	f.mirrors.edge()
	return reply{status: http.StatusOK}, nil
}

// assignToCapacity is accepted without an operation to follow.
func (f *fabric) assignToCapacity(c *call) (reply, error) {
	var in workspaceInput
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	_, err := f.editWorkspace(c, func(s *state, w *workspaceState) error {
		if id := or(in.CapacityID, ""); !strings.EqualFold(id, s.CapacityID) {
			return noCapacity(id)
		}
		w.Capacity = s.CapacityID
		return nil
	})
	return reply{status: http.StatusAccepted}, err
}

func (f *fabric) unassignFromCapacity(c *call) (reply, error) {
	_, err := f.editWorkspace(c, func(_ *state, w *workspaceState) error {
		w.Capacity = ""
		return nil
	})
	return reply{status: http.StatusAccepted}, err
}

// provisionIdentity gives the workspace an identity of its own.
func (f *fabric) provisionIdentity(c *call) (reply, error) {
	var body map[string]any
	_, err := f.editWorkspace(c, func(_ *state, w *workspaceState) error {
		if w.Identity == nil {
			w.Identity = &workspaceIdentity{newID(), newID()}
		}
		body = map[string]any{"applicationId": w.Identity.Application, "servicePrincipalId": w.Identity.Principal}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return f.maybeLater(c, reply{http.StatusOK, body})
}

func (f *fabric) deprovisionIdentity(c *call) (reply, error) {
	_, err := f.editWorkspace(c, func(_ *state, w *workspaceState) error {
		w.Identity = nil
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return f.maybeLater(c, reply{status: http.StatusOK})
}
