package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

// workspaceStep looks whether the workspace is there, before anything is changed
// for it.
type workspaceStep struct{ *Clients }

func (workspaceStep) Name() string { return "workspace" }

func (s workspaceStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if s.Config.Workspace == "" {
		return blocked("WorkspaceMissing", "no workspace is configured", "pgmirror apply --until prepare"), nil
	}
	id := s.Config.Workspace
	w, err := s.Fabric.Workspace(ctx, id)
	switch {
	case f.IfReady && fabric.IsSignInNeeded(err):
		return blocked("SignInNeeded", "nobody is signed in to Fabric", "az login"), nil
	case fabric.IsNotFound(err):
		return blocked("WorkspaceNotFound", id, s.workspacePage()), nil
	case fabric.IsForbidden(err):
		return blocked("WorkspaceForbidden", id, s.workspacePage()), nil
	case err != nil:
		return Finding{}, err
	case w.CapacityID == "":
		return blocked("WorkspaceNoCapacity", w.Name, s.workspacePage()), nil
	}
	return asWanted(w.Name), nil
}

func (workspaceStep) Apply(context.Context, *Facts) error { return nil }
