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
	if f.ByHand = fabric.IsForbidden(err); f.ByHand {
		found := asWanted("can't be seen: only members of the workspace may read its roles")
		found.Notes = []Note{{"IdentityByHand", id, "whether the server's identity may write can't be seen: " + byHand}}
		return found, nil
	}
	if err != nil {
		return Finding{}, err
	}
	found := Finding{Action: Create, Reason: "RoleAssignmentMissing", Have: "none", Want: "Contributor for the server's identity " + id}
	for _, r := range all {
		switch {
		case r.PrincipalID != id:
		case contains([]string{"Admin", "Member", "Contributor"}, r.Role):
			return asWanted(r.Role + " for the server's identity"), nil
		default:
			found.Action, found.Reason, found.Have = Update, "RoleTooLow", r.Role
		}
	}
	return found, nil
}

// byHand is what a person does where nobody of ours may give a role.
const byHand = "a member gives it the role Contributor in the workspace, or whoever made the mirrored database gives it Read and Write on that: Share, in its menu"

func (s workspaceRoleStep) Apply(ctx context.Context, f *Facts) error {
	err := s.Fabric.AddWorkspaceRole(ctx, s.Config.Workspace, fabric.RoleAssignment{PrincipalID: f.Server.PrincipalID, PrincipalType: "ServicePrincipal", Role: "Contributor"})
	if !fabric.IsConflict(err) {
		return err
	}
	// Somebody, or our own lost request, was first; or it has a lower role.
	all, err := s.Fabric.WorkspaceRoles(ctx, s.Config.Workspace)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.PrincipalID == f.Server.PrincipalID && r.Role == "Viewer" {
			return s.Fabric.SetWorkspaceRole(ctx, s.Config.Workspace, r.ID, "Contributor")
		}
	}
	return nil
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }
