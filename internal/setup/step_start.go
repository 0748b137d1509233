package setup

import (
	"context"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
)

// startStep starts the mirror, from the two states in which Fabric accepts it.
type startStep struct{ *Clients }

func (startStep) Name() string { return "start" }

// Patience is for a new item's provisioning, and its start.
func (startStep) Patience() time.Duration { return 15 * time.Minute }

func (s startStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.Mirror.ID == "" {
		return Finding{Action: Create, Reason: "NotStarted", Have: "no mirror yet", Want: "Running", After: "mirrored-database"}, nil
	}
	now, err := s.Fabric.MirroringStatus(ctx, s.Config.Workspace, f.Mirror.ID)
	if err != nil {
		return Finding{}, err
	}
	switch now.Status {
	case "Running":
		return asWanted("Running"), nil
	case "Initializing", "Initialized":
		return Finding{Action: Create, Reason: "NotStarted", Have: "not started", Want: "Running", After: f.waitsFor("mirrored-database"), unready: unready(now)}, nil
	case "Stopped":
		return s.stopped(ctx, f)
	case "Paused":
		return blocked("MirrorPaused", or(now.Error, now.Status), s.workspacePage()), nil
	}
	return Finding{Action: Wait, Reason: now.Status, Have: or(now.Error, now.Status), Want: "Running"}, nil
}

// stopped needs consent in native mode: the server copies every table again. In
// open mode what is landed stays, and is read on.
func (s startStep) stopped(ctx context.Context, f *Facts) (Finding, error) {
	found := Finding{Action: Update, Reason: "Stopped", Have: "Stopped", Want: "Running", After: f.waitsFor("mirrored-database")}
	var err error
	if s.Config.Mode == config.Native {
		found.Notes, err = s.cost(ctx, f)
		found.Code, found.Consent, found.Allowed = "MirrorStopped", config.Reseed, s.Config.Allows(config.Reseed)
		found.Hint = "pgmirror apply --allow reseed"
	}
	return found, err
}

func (s startStep) Apply(ctx context.Context, f *Facts) error {
	return s.Fabric.StartMirroring(ctx, s.Config.Workspace, f.Mirror.ID)
}
