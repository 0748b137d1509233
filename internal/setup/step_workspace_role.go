package setup

import (
	"context"
	"slices"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

// workspaceRoleStep lets the server's identity write into the workspace.
type workspaceRoleStep struct{ *Clients }

func (workspaceRoleStep) Name() string { return "workspace-role" }

func (s workspaceRoleStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.pending["workspace"] {
		return after("workspace"), nil
	}
	id := f.Server.PrincipalID
	if id == "" {
		return Finding{Action: Create, Reason: "RoleAssignmentMissing", Have: "no identity yet", Want: "Contributor for the server's identity", After: f.waitsFor("server", "identity")}, nil
	}
	all, err := s.Fabric.WorkspaceRoles(ctx, s.Config.Workspace)
	if fabric.IsForbidden(err) {
		return blocked("WorkspaceForbidden", "the workspace's roles can't be read", s.workspacePage()), nil
	}
	if err != nil {
		return Finding{}, err
	}
	for _, r := range all {
		if r.PrincipalID == id && contains([]string{"Admin", "Member", "Contributor"}, r.Role) {
			return asWanted(r.Role + " for the server's identity"), nil
		}
	}
	return Finding{Action: Create, Reason: "RoleAssignmentMissing", Have: "none", Want: "Contributor for the server's identity " + id}, nil
}

func (s workspaceRoleStep) Apply(ctx context.Context, f *Facts) error {
	err := s.Fabric.AddWorkspaceRole(ctx, s.Config.Workspace, fabric.RoleAssignment{PrincipalID: f.Server.PrincipalID, PrincipalType: "ServicePrincipal", Role: "Contributor"})
	if fabric.IsConflict(err) { // somebody, or our own lost request, was first: Check will see it
		return nil
	}
	return err
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }
