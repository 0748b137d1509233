package setup

import (
	"context"
	"slices"
	"strings"
)

// undoUnseenStep stands for the mirrored database when no workspace is configured:
// perhaps none was made, and perhaps it is just not known here where it is.
type undoUnseenStep struct{ *Clients }

func (undoUnseenStep) Name() string { return "mirrored-database" }

func (s undoUnseenStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	owned, err := session.Owned(ctx, s.Config.Role.Name)
	if err != nil {
		return Finding{}, err
	}
	if slices.ContainsFunc(owned, func(o string) bool { return strings.HasPrefix(o, "publication ") }) {
		return blocked("WorkspaceMissing", "the server publishes for a mirror, and no workspace is configured", "pgmirror destroy --set workspace=ID"), nil
	}
	found := asWanted("not looked for")
	found.Notes = []Note{{"Left", "mirrored database and connection", "not looked for: no workspace is configured"}}
	return found, nil
}

func (undoUnseenStep) Apply(context.Context, *Facts) error { return nil }
