package emulator

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// entraAdministrator is one of the server's Microsoft Entra administrators. Its
// role in PostgreSQL is not made: nobody signs in with an Entra token here.
type entraAdministrator struct {
	Name   string `json:"principalName"`
	Type   string `json:"principalType"`
	Tenant string `json:"tenantId"`
}

var entraTypes = []string{"User", "Group", "ServicePrincipal", "Unknown"}

func (a *arm) listAdministrators(*call) (reply, error) {
	list := []any{}
	a.state.look(func(s *state) {
		for _, id := range slices.Sorted(maps.Keys(s.Server.Administrators)) {
			list = append(list, administratorBody(s, id))
		}
	})
	return reply{http.StatusOK, map[string]any{"value": list}}, nil
}

func (a *arm) getAdministrator(c *call) (reply, error) {
	var body map[string]any
	id := strings.ToLower(c.vars["id"])
	err := a.state.read(func(s *state) error {
		if _, ok := s.Server.Administrators[id]; !ok {
			return resourceNotFound(serverType+"/administrators", s.Server.Name+"/"+id, s.Group)
		}
		body = administratorBody(s, id)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

// putAdministrator wants sign-in by Entra to be on.
func (a *arm) putAdministrator(c *call) (reply, error) {
	var in struct {
		Properties entraAdministrator `json:"properties"`
	}
	if f := c.decode(&in, badRequest); f != nil {
		return reply{}, f
	}
	id, p := strings.ToLower(c.vars["id"]), in.Properties
	var path string
	err := a.state.read(func(s *state) error {
		path = serverID(s) + "/administrators/" + id
		p.Tenant = firstNonEmpty(p.Tenant, s.Tenant)
		_, err := uuid.Parse(id)
		switch {
		case err != nil:
			return invalidValue("objectId", id)
		case p.Name == "":
			return invalidValue("principalName", p.Name)
		case !slices.Contains(entraTypes, p.Type):
			return invalidValue("principalType", p.Type)
		case s.Server.EntraAuth != "Enabled":
			return faultf(http.StatusBadRequest, "OperationNotAllowed", "Microsoft Entra administrators need activeDirectoryAuth to be Enabled.")
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return a.begin(c, "Updating", path, func(context.Context) error {
		return a.state.change(func(s *state) error {
			if s.Server.Administrators == nil {
				s.Server.Administrators = map[string]entraAdministrator{}
			}
			s.Server.Administrators[id] = p
			return nil
		})
	})
}

func (a *arm) deleteAdministrator(c *call) (reply, error) {
	id := strings.ToLower(c.vars["id"])
	var there bool
	a.state.look(func(s *state) { _, there = s.Server.Administrators[id] })
	if !there {
		return reply{status: http.StatusNoContent}, nil
	}
	return a.begin(c, "Updating", "", func(context.Context) error {
		return a.state.change(func(s *state) error {
			delete(s.Server.Administrators, id)
			return nil
		})
	})
}

func administratorBody(s *state, id string) map[string]any {
	p := s.Server.Administrators[id]
	return map[string]any{
		"id": serverID(s) + "/administrators/" + id, "name": id, "type": serverType + "/administrators",
		"properties": map[string]any{"objectId": id, "principalName": p.Name, "principalType": p.Type, "tenantId": p.Tenant},
	}
}
