package fabric

import (
	"context"
	"fmt"

	"github.com/microsoft/fabric-sdk-go/fabric/core"
)

// Workspace is where Fabric's items live. OneLakeDFS and OneLakeBlob are the
// workspace's regional endpoints; Workspaces doesn't give them.
type Workspace struct {
	ID, Name                string
	CapacityID              string // "" when no capacity is assigned: nothing can be mirrored
	OneLakeDFS, OneLakeBlob string
}

// Workspace describes one workspace.
func (c *Client) Workspace(ctx context.Context, id string) (Workspace, error) {
	r, err := c.workspaces.GetWorkspace(ctx, id, nil)
	if err != nil {
		return Workspace{}, fmt.Errorf("get workspace: %w", err)
	}
	w := Workspace{ID: val(r.ID), Name: val(r.DisplayName), CapacityID: val(r.CapacityID)}
	if e := r.OneLakeEndpoints; e != nil {
		w.OneLakeDFS, w.OneLakeBlob = val(e.DfsEndpoint), val(e.BlobEndpoint)
	}
	if w.ID == "" {
		return Workspace{}, fmt.Errorf("get workspace: %w", errNoID)
	}
	return w, nil
}

// Workspaces lists what the caller can see.
func (c *Client) Workspaces(ctx context.Context) ([]Workspace, error) {
	list, err := all(func(token *string) ([]core.Workspace, *string, *string, error) {
		r, err := c.workspaces.NewListWorkspacesPager(&core.WorkspacesClientListWorkspacesOptions{ContinuationToken: token}).NextPage(ctx)
		return r.Value, r.ContinuationToken, r.ContinuationURI, err
	})
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	out := make([]Workspace, len(list))
	for i, w := range list {
		out[i] = Workspace{ID: val(w.ID), Name: val(w.DisplayName), CapacityID: val(w.CapacityID)}
	}
	return out, nil
}

// RoleAssignment gives a principal a role in a workspace.
type RoleAssignment struct {
	ID            string // given by Fabric
	PrincipalID   string // object id in Entra
	PrincipalType string // User, ServicePrincipal (also for managed identities), Group
	Role          string // Admin, Member, Contributor, Viewer
}

// WorkspaceRoles lists who has which role in a workspace.
func (c *Client) WorkspaceRoles(ctx context.Context, workspace string) ([]RoleAssignment, error) {
	list, err := all(func(token *string) ([]core.WorkspaceRoleAssignment, *string, *string, error) {
		o := &core.WorkspacesClientListWorkspaceRoleAssignmentsOptions{ContinuationToken: token}
		r, err := c.workspaces.NewListWorkspaceRoleAssignmentsPager(workspace, o).NextPage(ctx)
		return r.Value, r.ContinuationToken, r.ContinuationURI, err
	})
	if err != nil {
		return nil, fmt.Errorf("list workspace roles: %w", err)
	}
	out := make([]RoleAssignment, len(list))
	for i, a := range list {
		out[i] = RoleAssignment{ID: val(a.ID), Role: string(val(a.Role))}
		if a.Principal == nil {
			continue
		}
		p := a.Principal.GetPrincipal()
		out[i].PrincipalID, out[i].PrincipalType = val(p.ID), string(val(p.Type))
	}
	return out, nil
}

// AddWorkspaceRole gives a role. IsConflict when the principal has one already.
func (c *Client) AddWorkspaceRole(ctx context.Context, workspace string, a RoleAssignment) error {
	role, kind := core.WorkspaceRole(a.Role), core.PrincipalType(a.PrincipalType)
	_, err := c.workspaces.AddWorkspaceRoleAssignment(ctx, workspace, core.AddWorkspaceRoleAssignmentRequest{
		Principal: &core.Principal{ID: &a.PrincipalID, Type: &kind},
		Role:      &role,
	}, nil)
	if err != nil {
		return fmt.Errorf("add workspace role: %w", err)
	}
	return nil
}

// SetWorkspaceRole changes the role of an assignment.
func (c *Client) SetWorkspaceRole(ctx context.Context, workspace, id, role string) error {
	want := core.WorkspaceRole(role)
	_, err := c.workspaces.UpdateWorkspaceRoleAssignment(ctx, workspace, id, core.UpdateWorkspaceRoleAssignmentRequest{Role: &want}, nil)
	if err != nil {
		return fmt.Errorf("change workspace role: %w", err)
	}
	return nil
}
