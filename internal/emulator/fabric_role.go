package emulator

import (
	"net/http"
	"slices"
)

var (
	workspaceRoles  = []string{"Admin", "Member", "Contributor", "Viewer"}
	connectionRoles = []string{"User", "UserWithReshare", "Owner"}
	gatewayRoles    = []string{"Admin", "ConnectionCreatorWithResharing", "ConnectionCreator"}
	principalTypes  = []string{"User", "ServicePrincipal", "Group", "ServicePrincipalProfile", "EntireTenant"}
)

// roles are the role assignments of one kind of thing: workspaces, connections
// or gateways.
type roles struct {
	*fabric
	known []string
	twice *fault // a principal's second role
	of    func(s *state, c *call) (*[]roleAssignment, error)
}

// roleRoutes are the endpoints of the role assignments of the things at path.
func (f *fabric) roleRoutes(on func(method, pattern string, h handler), path string, r roles) {
	r.fabric = f
	on("GET", path+"/roleAssignments", r.list)
	on("POST", path+"/roleAssignments", r.add)
	on("GET", path+"/roleAssignments/{role}", r.get)
	on("PATCH", path+"/roleAssignments/{role}", r.patch)
	on("DELETE", path+"/roleAssignments/{role}", r.remove)
}

func (r roles) list(c *call) (reply, error) {
	all := []map[string]any{}
	err := r.state.read(func(s *state) error {
		have, err := r.of(s, c)
		if err != nil {
			return err
		}
		for _, a := range *have {
			all = append(all, a.body(s))
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return list(r.fabric, c, "value", all)
}

// add gives a principal of this tenant a role. Whom Entra doesn't know is
// refused as recorded, PrincipalNotFound; here Entra knows the caller and the
// server's identity.
func (r roles) add(c *call) (reply, error) {
	var in struct {
		Principal struct{ ID, Type string }
		Role      string
	}
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if !slices.Contains(r.known, in.Role) || !slices.Contains(principalTypes, in.Principal.Type) {
		return reply{}, invalidInput("principal.type or role is not one of the known values")
	}
	var body map[string]any
	err := r.state.change(func(s *state) error {
		have, err := r.of(s, c)
		switch {
		case err != nil:
			return err
		case s.principal(in.Principal.ID) != in.Principal.Type:
			return principalNotFound(in.Principal.ID, in.Principal.Type)
		case slices.ContainsFunc(*have, func(a roleAssignment) bool { return a.Principal == in.Principal.ID }):
			return r.twice
		}
		// A role assignment's id is the principal's own.
		a := roleAssignment{ID: in.Principal.ID, Principal: in.Principal.ID, PrincipalType: in.Principal.Type, Role: in.Role}
		*have = append(*have, a)
		body = a.body(s)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	c.header.Set("Location", r.fabric.address(c)+"/"+in.Principal.ID)
	r.mirrors.edge()
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

func (a roleAssignment) body(s *state) map[string]any {
	name := "pgmirror"
	if a.Principal == s.Server.Principal {
		name = s.Server.Name
	}
	return map[string]any{"id": a.ID, "role": a.Role, "principal": map[string]any{"id": a.Principal, "type": a.PrincipalType, "displayName": name}}
}

// one finds the role assignment of a call.
func (r roles) one(s *state, c *call) (have *[]roleAssignment, i int, err error) {
	if have, err = r.of(s, c); err != nil {
		return nil, 0, err
	}
	i = slices.IndexFunc(*have, func(a roleAssignment) bool { return a.ID == c.vars["role"] })
	if i < 0 {
		return nil, 0, faultf(http.StatusNotFound, "EntityNotFound", "The requested role assignment was not found")
	}
	return have, i, nil
}

func (r roles) get(c *call) (reply, error) {
	var body map[string]any
	err := r.state.read(func(s *state) error {
		have, i, err := r.one(s, c)
		if err == nil {
			body = (*have)[i].body(s)
		}
		return err
	})
	return reply{http.StatusOK, body}, err
}

func (r roles) patch(c *call) (reply, error) {
	var in struct{ Role string }
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if !slices.Contains(r.known, in.Role) {
		return reply{}, invalidInput("role is not one of the known values")
	}
	var body map[string]any
	err := r.state.change(func(s *state) error {
		have, i, err := r.one(s, c)
		if err == nil {
			(*have)[i].Role = in.Role
			body = (*have)[i].body(s)
		}
		return err
	})
	r.mirrors.edge()
	return reply{http.StatusOK, body}, err
}

func (r roles) remove(c *call) (reply, error) {
	err := r.state.change(func(s *state) error {
		have, i, err := r.one(s, c)
		if err == nil {
			*have = slices.Delete(*have, i, i+1)
		}
		return err
	})
	r.mirrors.edge()
	return reply{status: http.StatusOK}, err
}

// mayWrite says whether a principal may write into the workspace's items.
func (w *workspaceState) mayWrite(principal string) bool {
	return principal != "" && slices.ContainsFunc(w.Roles, func(a roleAssignment) bool { return a.Principal == principal && a.Role != "Viewer" })
}
