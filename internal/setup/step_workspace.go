package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

// workspaceStep looks whether the workspace is there, before anything is changed
// for it.
type workspaceStep struct{ *Clients }

func (workspaceStep) Name() string { return "workspace" }

func (s workspaceStep) Check(ctx context.Context, _ *Facts) (Finding, error) {
	id := s.Config.Workspace
	w, err := s.Fabric.Workspace(ctx, id)
	switch {
	case fabric.IsNotFound(err):
		return blocked("WorkspaceNotFound", id, "fab ls -l"), nil
	case fabric.IsForbidden(err):
		return blocked("WorkspaceForbidden", id, "fab ls -l"), nil
	case err != nil:
		return Finding{}, err
	case w.CapacityID == "":
		return blocked("WorkspaceNoCapacity", w.Name, "fab assign .capacities/NAME.Capacity -W \""+w.Name+".Workspace\""), nil
	}
	return asWanted(w.Name), nil
}

func (workspaceStep) Apply(context.Context, *Facts) error { return nil }
