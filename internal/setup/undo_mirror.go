package setup

import (
	"context"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
)

// undoMirrorStep deletes the mirrored database, and with it the copy in OneLake.
// One that we didn't make stays, and all that it stands on.
type undoMirrorStep struct{ *Clients }

func (undoMirrorStep) Name() string { return "mirrored-database" }

// Patience is for a mirror that has to stop first.
func (undoMirrorStep) Patience() time.Duration { return 10 * time.Minute }

func (s undoMirrorStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.usedBy = ""
	if f.pending["workspace"] {
		return after("workspace"), nil
	}
	m, exists, err := s.findMirror(ctx)
	if err != nil {
		return Finding{}, err
	}
	f.Mirror = m
	if !exists {
		return gone("mirrored database " + s.Config.MirrorName()), s.usedByOthers(ctx, f)
	}
	if !s.isOurs(m) {
		f.usedBy = m.Name
		return kept(m.Name, "pgmirror didn't make it for this database; delete it in the workspace, and destroy again"), nil
	}
	if path, err := s.elsewhere(ctx, f); err != nil || path != "" {
		f.usedBy = m.Name
		return kept(m.Name, "it mirrors "+path+": another mirror has this name"), err
	}
	if err := s.usedByOthers(ctx, f); err != nil {
		return Finding{}, err
	}
	status, err := s.Fabric.MirroringStatus(ctx, s.Config.Workspace, m.ID)
	if err != nil && !fabric.IsNotFound(err) {
		return Finding{}, err
	}
	found := Finding{Action: Delete, Reason: "MirrorThere", Have: m.Name + " (" + m.ID + "), " + status.Status, Want: "deleted, with its tables in OneLake",
		Items: []string{m.ID}, Consent: config.DropMirror, Allowed: s.Config.Allows(config.DropMirror), Hint: "pgmirror destroy --allow drop-mirror", After: f.waitsFor("slot")}
	switch status.Status {
	case "Running", "Starting":
		found.Reason = "MirrorRuns"
	case "Stopping", "Initializing":
		return Finding{Action: Wait, Reason: status.Status, Have: "the mirrored database is " + status.Status, passing: true}, nil
	}
	return found, nil
}

// elsewhere is what the mirror's connection leads to, when that is another server
// or database than ours; "" also when nobody may see the connection.
func (s undoMirrorStep) elsewhere(ctx context.Context, f *Facts) (string, error) {
	if s.Config.Mode != config.Native || s.given() || f.Host == "" {
		return "", nil
	}
	d, err := s.Fabric.Definition(ctx, s.Config.Workspace, f.Mirror.ID)
	if err != nil {
		return "", err
	}
	all, err := s.Fabric.Connections(ctx)
	if err != nil {
		return "", err
	}
	for _, c := range all {
		if strings.EqualFold(c.ID, d.Source.Connection) && c.Path != "" && !strings.EqualFold(c.Path, s.connectionPath(f.Host)) {
			return c.Path, nil
		}
	}
	return "", nil
}

// usedByOthers looks for another mirrored database of the workspace that signs in
// with our connection.
func (s undoMirrorStep) usedByOthers(ctx context.Context, f *Facts) error {
	if s.Config.Mode != config.Native {
		return nil
	}
	ours, ok, err := s.ourConnection(ctx, f)
	if err != nil || !ok {
		return err
	}
	all, err := s.Fabric.MirroredDatabases(ctx, s.Config.Workspace)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.ID == f.Mirror.ID {
			continue
		}
		d, err := s.Fabric.Definition(ctx, s.Config.Workspace, m.ID)
		if fabric.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if strings.EqualFold(d.Source.Connection, ours.ID) {
			f.usedBy = m.Name
		}
	}
	return nil
}

// Apply stops a mirror that runs, and deletes one that doesn't.
func (s undoMirrorStep) Apply(ctx context.Context, f *Facts) error {
	status, err := s.Fabric.MirroringStatus(ctx, s.Config.Workspace, f.Mirror.ID)
	if fabric.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if status.Status == "Running" || status.Status == "Starting" {
		return s.Fabric.StopMirroring(ctx, s.Config.Workspace, f.Mirror.ID)
	}
	if err = s.Fabric.DeleteMirroredDatabase(ctx, s.Config.Workspace, f.Mirror.ID); fabric.IsNotFound(err) {
		return nil
	}
	return err
}
