package setup

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
)

// restartStep restarts the server when ARM says that one of our parameters waits
// for it, and only then.
type restartStep struct{ *Clients }

func (restartStep) Name() string { return "restart" }

// Patience is for a server of some size.
func (restartStep) Patience() time.Duration { return 20 * time.Minute }

func (s restartStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if s.Server == nil {
		return asWanted("not ours to restart"), nil
	}
	if f.Server.Name == "" {
		return after("server"), nil
	}
	now, err := s.parameters(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	waiting := slices.Clone(f.Static)
	for _, n := range needed {
		if now[n.name].PendingRestart {
			waiting = append(waiting, n.name)
		}
	}
	if len(waiting) > 0 {
		f.parameters = nil
		found := Finding{Action: Restart, Reason: "RestartPending", Have: strings.Join(waiting, " "), Want: "in force",
			Consent: config.Restart, Allowed: s.Config.Allows(config.Restart), Hint: "pgmirror apply --allow restart"}
		if len(f.Static) > 0 {
			found.After = "parameters"
		}
		return found, nil
	}
	return s.back(ctx, f)
}

// back waits until the restarted server lets us in again.
func (s restartStep) back(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return asWanted("nothing waits for a restart"), nil
	}
	if _, err := s.asAdmin(ctx, f); err != nil {
		return Finding{Action: Wait, Reason: "ServerRestarting", Have: "the server doesn't let us in yet", Code: "ServerUnreachable"}, nil
	}
	return asWanted("nothing waits for a restart"), nil
}

func (s restartStep) Apply(ctx context.Context, _ *Facts) error { return s.Server.Restart(ctx) }
