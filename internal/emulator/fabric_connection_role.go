package emulator

import (
	"net/http"
	"slices"
)

var connectionRoles = []string{"User", "UserWithReshare", "Owner"}

// connectionRole changes the roles of a connection, or shows one. Whoever made
// it is its first owner.
func (f *fabric) connectionRole(c *call, change func(s *state, cn *connectionState) (roleAssignment, error)) (body map[string]any, err error) {
	err = f.state.change(func(s *state) error {
		cn, err := s.connection(c.vars["connection"])
		if err != nil {
			return err
		}
		r, err := change(s, cn)
		if err == nil {
			body = r.body(s)
		}
		return err
	})
	return body, err
}

func (cn *connectionState) role(id string) (int, error) {
	w := workspaceState{Roles: cn.Roles}
	return w.role(id)
}

func (f *fabric) listConnectionRoles(c *call) (reply, error) {
	all := []map[string]any{}
	err := f.state.read(func(s *state) error {
		cn, err := s.connection(c.vars["connection"])
		if err != nil {
			return err
		}
		for _, r := range cn.Roles {
			all = append(all, r.body(s))
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return list(f, c, "value", all)
}

func (f *fabric) addConnectionRole(c *call) (reply, error) {
	var in struct {
		Principal struct{ ID, Type string }
		Role      string
	}
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if !slices.Contains(connectionRoles, in.Role) || !slices.Contains(principalTypes, in.Principal.Type) {
		return reply{}, invalidInput("principal.type or role is not one of the known values")
	}
	body, err := f.connectionRole(c, func(s *state, cn *connectionState) (roleAssignment, error) {
		r := roleAssignment{ID: in.Principal.ID, Principal: in.Principal.ID, PrincipalType: in.Principal.Type, Role: in.Role}
		if s.principal(r.Principal) != r.PrincipalType {
			return r, principalNotFound(r.Principal, r.PrincipalType)
		}
		if _, err := cn.role(r.ID); err == nil {
			return r, faultf(http.StatusConflict, "EntityConflict", "The principal has a role on the connection already")
		}
		cn.Roles = append(cn.Roles, r)
		return r, nil
	})
	if err != nil {
		return reply{}, err
	}
	f.location(c, "/connections/%s/roleAssignments/%s", c.vars["connection"], in.Principal.ID)
	return reply{http.StatusCreated, body}, nil
}

func (f *fabric) getConnectionRole(c *call) (reply, error) {
	body, err := f.connectionRole(c, func(_ *state, cn *connectionState) (r roleAssignment, err error) {
		i, err := cn.role(c.vars["role"])
		if err == nil {
			r = cn.Roles[i]
		}
		return r, err
	})
	return reply{http.StatusOK, body}, err
}

func (f *fabric) patchConnectionRole(c *call) (reply, error) {
	var in struct{ Role string }
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	if !slices.Contains(connectionRoles, in.Role) {
		return reply{}, invalidInput("role is not one of the known values")
	}
	body, err := f.connectionRole(c, func(_ *state, cn *connectionState) (r roleAssignment, err error) {
		i, err := cn.role(c.vars["role"])
		if err == nil {
			cn.Roles[i].Role = in.Role
			r = cn.Roles[i]
		}
		return r, err
	})
	return reply{http.StatusOK, body}, err
}

func (f *fabric) deleteConnectionRole(c *call) (reply, error) {
	_, err := f.connectionRole(c, func(_ *state, cn *connectionState) (r roleAssignment, err error) {
		i, err := cn.role(c.vars["role"])
		if err == nil {
			r = cn.Roles[i]
			cn.Roles = slices.Delete(cn.Roles, i, i+1)
		}
		return r, err
	})
	return reply{status: http.StatusOK}, err
}
