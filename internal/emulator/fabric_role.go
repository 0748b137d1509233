package emulator

import (
	"net/http"
	"slices"
)

var (
	workspaceRoles = []string{"Admin", "Member", "Contributor", "Viewer"}
	principalTypes = []string{"User", "ServicePrincipal", "Group", "ServicePrincipalProfile", "EntireTenant"}
)

func (f *fabric) listRoles(c *call) (reply, error) {
	var all []map[string]any
	err := f.state.read(func(s *state) error {
		w, err := s.workspace(c.vars["workspace"])
		if err != nil {
			return err
		}
		for _, r := range w.Roles {
			all = append(all, r.body(s))
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return list(f, c, "value", all)
}

// addRole gives a principal of this tenant a role. Whom Entra doesn't know is
// refused as recorded, PrincipalNotFound; here Entra knows the caller and the
// server's identity.
func (f *fabric) addRole(c *call) (reply, error) {
	var in struct {
		Principal struct{ ID, Type string }
		Role      string
	}
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if !slices.Contains(workspaceRoles, in.Role) || !slices.Contains(principalTypes, in.Principal.Type) {
		return reply{}, invalidInput("principal.type or role is not one of the known values")
	}
	var body map[string]any
	err := f.state.change(func(s *state) error {
		w, err := s.workspace(c.vars["workspace"])
		if err != nil {
			return err
		}
		if s.principal(in.Principal.ID) != in.Principal.Type {
			return principalNotFound(in.Principal.ID, in.Principal.Type)
		}
		if slices.ContainsFunc(w.Roles, func(r roleAssignment) bool { return r.Principal == in.Principal.ID }) {
			return faultf(http.StatusConflict, "PrincipalAlreadyHasWorkspaceRolePermissions", "The provided principal already has a role assigned in the workspace")
		}
		// A role assignment's id is the principal's own.
		r := roleAssignment{ID: in.Principal.ID, Principal: in.Principal.ID, PrincipalType: in.Principal.Type, Role: in.Role}
		w.Roles = append(w.Roles, r)
		body = r.body(s)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	f.location(c, "/workspaces/%s/roleAssignments/%s", c.vars["workspace"], in.Principal.ID)
	f.mirrors.edge()
	return reply{http.StatusCreated, body}, nil
}

// principal says of which type a principal is, "" when nobody knows it.
func (s *state) principal(id string) string {
	switch {
	case id == "":
		return ""
	case id == s.User:
		return "User"
	case id == s.Server.Principal:
		return "ServicePrincipal"
	}
	return ""
}

func principalNotFound(id, kind string) *fault {
	e := faultf(http.StatusBadRequest, "PrincipalNotFound", "The principal was not found")
	e.details = []detail{{ErrorCode: "PrincipalNotFound", Message: "The principal was not found",
		RelatedResource: &relatedResource{ResourceID: id, ResourceType: kind}}}
	return e
}

func (r roleAssignment) body(s *state) map[string]any {
	name := "pgmirror"
	if r.Principal == s.Server.Principal {
		name = s.Server.Name
	}
	return map[string]any{"id": r.ID, "role": r.Role, "principal": map[string]any{"id": r.Principal, "type": r.PrincipalType, "displayName": name}}
}

// role finds a role assignment.
func (w *workspaceState) role(id string) (int, error) {
	i := slices.IndexFunc(w.Roles, func(r roleAssignment) bool { return r.ID == id })
	if i < 0 {
		return 0, faultf(http.StatusNotFound, "EntityNotFound", "The requested role assignment was not found")
	}
	return i, nil
}

func (f *fabric) getRole(c *call) (reply, error) {
	var body map[string]any
	err := f.state.read(func(s *state) error {
		w, err := s.workspace(c.vars["workspace"])
		if err != nil {
			return err
		}
		i, err := w.role(c.vars["role"])
		if err == nil {
			body = w.Roles[i].body(s)
		}
		return err
	})
	return reply{http.StatusOK, body}, err
}

func (f *fabric) patchRole(c *call) (reply, error) {
	var in struct{ Role string }
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if !slices.Contains(workspaceRoles, in.Role) {
		return reply{}, invalidInput("role is not one of the known values")
	}
	var body map[string]any
	err := f.state.change(func(s *state) error {
		w, err := s.workspace(c.vars["workspace"])
		if err != nil {
			return err
		}
		i, err := w.role(c.vars["role"])
		if err == nil {
			w.Roles[i].Role = in.Role
			body = w.Roles[i].body(s)
		}
		return err
	})
	f.mirrors.edge()
	return reply{http.StatusOK, body}, err
}

func (f *fabric) deleteRole(c *call) (reply, error) {
	err := f.state.change(func(s *state) error {
		w, err := s.workspace(c.vars["workspace"])
		if err != nil {
			return err
		}
		i, err := w.role(c.vars["role"])
		if err == nil {
			w.Roles = slices.Delete(w.Roles, i, i+1)
		}
		return err
	})
	f.mirrors.edge()
	return reply{status: http.StatusOK}, err
}

// mayWrite says whether a principal may write into the workspace's items.
func (w *workspaceState) mayWrite(principal string) bool {
	return principal != "" && slices.ContainsFunc(w.Roles, func(r roleAssignment) bool { return r.Principal == principal && r.Role != "Viewer" })
}
