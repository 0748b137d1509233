package emulator

import "net/http"

func (f *fabric) listWorkspaces(c *call) (reply, error) {
	all := []map[string]any{}
	f.state.look(func(s *state) {
		for _, w := range s.Workspaces {
			all = append(all, workspaceBody(w))
		}
	})
	return list(f, c, "value", all)
}

func (f *fabric) getWorkspace(c *call) (reply, error) {
	var body map[string]any
	err := f.state.read(func(s *state) error {
		w, err := s.workspace(c.vars["workspace"])
		if err != nil {
			return err
		}
		body = workspaceBody(w)
		body["capacityAssignmentProgress"] = "Completed"
		if w.Identity != nil {
			body["workspaceIdentity"] = map[string]any{"applicationId": w.Identity.Application, "servicePrincipalId": w.Identity.Principal}
		}
		body["oneLakeEndpoints"] = map[string]any{"dfsEndpoint": f.dfs, "blobEndpoint": f.blob}
		return nil
	})
	return reply{http.StatusOK, body}, err
}

// workspaceRoles are a workspace's; its administrator is who made it.
func (f *fabric) workspaceRoles() roles {
	return roles{
		known: workspaceRoles,
		twice: faultf(http.StatusConflict, "PrincipalAlreadyHasWorkspaceRolePermissions", "The provided principal already has a role assigned in the workspace"),
		of: func(s *state, c *call) (*[]roleAssignment, error) {
			w, err := s.workspace(c.vars["workspace"])
			if err != nil {
				return nil, err
			}
			return &w.Roles, nil
		},
	}
}

// listCapacities lists the one capacity, for who makes a workspace.
func (f *fabric) listCapacities(c *call) (reply, error) {
	var one map[string]any
	f.state.look(func(s *state) {
		status := "Active"
		if s.World.CapacityPaused {
			status = "Inactive"
		}
		one = map[string]any{"id": s.CapacityID, "displayName": "emulator", "sku": "F2", "region": s.Location, "state": status}
	})
	return list(f, c, "value", []map[string]any{one})
}

func workspaceBody(w *workspaceState) map[string]any {
	body := map[string]any{"id": w.ID, "displayName": w.Name, "description": w.Description, "type": "Workspace"}
	if w.Capacity != "" {
		body["capacityId"] = w.Capacity
	}
	return body
}
