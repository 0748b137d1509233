package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/lease"
)

// leasesStep looks for doors that other machines' runs opened and didn't close
// in their time.
type leasesStep struct{ *Clients }

func (leasesStep) Name() string { return "leases" }

func (s leasesStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if s.Doors == nil || s.Server != nil && f.Server.Name == "" {
		return asWanted("not looked for"), nil
	}
	found, err := s.Doors.List(ctx)
	if azure.Forbidden(err) != azure.NotForbidden || azure.IsNotFound(err) {
		known := asWanted("not to be seen")
		known.Notes = []Note{{"LeasesUnknown", "", "whether a door was left open can't be seen: Reader on the server and the vault is missing"}}
		return known, nil
	}
	if err != nil {
		return Finding{}, err
	}
	out := asWanted("no door was left open")
	var texts []string
	for _, l := range found {
		switch {
		case l.State == lease.Expired:
			out.Items, texts = append(out.Items, l.ID), append(texts, fmt.Sprintf("%s by %s", l.Kind, or(l.Who, "run "+l.Run)))
		case l.State == lease.Left || l.State == lease.Elsewhere:
			out.Notes = append(out.Notes, Note{"LeaseLeft", string(l.Kind), "left open by a run on this machine, and still not closed: pgmirror leases close " + l.ID})
		case l.Run != s.Doors.Run():
			out.Notes = append(out.Notes, Note{"LeaseHeld", string(l.Kind), fmt.Sprintf("open until %s, for %s", l.Until.Format(time.RFC3339), or(l.Who, "run "+l.Run))})
		}
	}
	if len(out.Items) > 0 {
		slices.Sort(out.Items)
		out.Action, out.Reason, out.Code = Update, leasesExpired, "LeaseLeft"
		out.Have, out.Want, out.Hint = strings.Join(texts, ", "), "closed: their time has passed", "pgmirror leases list"
	}
	return out, nil
}

// Apply closes what has expired; whoever opened it is gone.
func (s leasesStep) Apply(ctx context.Context, _ *Facts) error {
	found, err := s.Doors.List(ctx)
	for _, l := range found {
		if l.State != lease.Expired {
			continue
		}
		if closeErr := s.Doors.CloseOne(ctx, l.ID, false); !errors.Is(closeErr, lease.ErrNoLease) { // somebody else was faster
			err = errors.Join(err, closeErr)
		}
	}
	return err
}
