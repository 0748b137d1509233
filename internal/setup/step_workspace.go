package setup

import (
	"context"
	"strings"

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
	found, err := s.FindWorkspace(ctx)
	if found.Action != "" {
		return found, err
	}
	id := s.Config.Workspace
	var w fabric.Workspace
	if err == nil {
		w, err = s.Fabric.Workspace(ctx, id)
	}
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
	f.capacity = w.CapacityID
	return asWanted(w.Name), nil
}

// FindWorkspace puts the workspace's id in the place of its name, when that was
// given: the id is what is asked for, shown and kept. The finding says why there
// is none.
func (c *Clients) FindWorkspace(ctx context.Context) (Finding, error) {
	if !c.Config.WorkspaceNamed() {
		return Finding{}, nil
	}
	all, err := c.Fabric.Workspaces(ctx)
	if err != nil {
		return Finding{}, err
	}
	id, found := pickWorkspace(all, c.Config.Workspace)
	if id != "" {
		c.Config.Workspace = id
	}
	return found, nil
}

func pickWorkspace(all []fabric.Workspace, name string) (id string, found Finding) {
	var ids []string
	for _, w := range all {
		if w.Name == name {
			ids = append(ids, w.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", blocked("WorkspaceNotFound", "no workspace that you can see has the name "+name, "open https://app.fabric.microsoft.com")
	case 1:
		return ids[0], Finding{}
	}
	return "", blocked("WorkspaceAmbiguous", "the name "+name+" is that of "+strings.Join(ids, ", "), "pgmirror plan --set workspace="+ids[0])
}

func (workspaceStep) Apply(context.Context, *Facts) error { return nil }
