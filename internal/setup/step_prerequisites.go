package setup

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// prerequisitesStep asks the server's own checker, as the role: its verdict is
// about whoever asks.
type prerequisitesStep struct{ *Clients }

func (prerequisitesStep) Name() string { return "prerequisites" }

func (s prerequisitesStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if step := f.waitsFor("admin-login", "identity", "parameters", "restart", "enable", "role", "grants"); step != "" {
		return after(step), nil
	}
	if s.Config.Role.SignIn == "entra" {
		found := asWanted("not asked: the checker judges who asks, and nobody of ours can sign in as an Entra role")
		return found, nil
	}
	session, err := s.asRole(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	missing, err := session.Prerequisites(ctx)
	if admin.IsUnknownFunction(err) || admin.IsForbidden(err) {
		return blocked("EnableUnknown", err.Error(), s.serverPage("fabricMirroring")), nil
	}
	if err != nil {
		return Finding{}, err
	}
	if f.pending["workspace"] && len(missing) > 0 {
		return after("workspace"), nil // only there is said whose publication it is
	}
	if missing, err = s.withoutOurs(ctx, missing); err != nil {
		return Finding{}, err
	}
	if len(missing) == 0 {
		return asWanted("azure_cdc says OK"), nil
	}
	code := "PrerequisiteMissing"
	if missing[0].Code == limitReached {
		code = "AlreadyMirrored"
	}
	return blocked(code, said(missing), s.remedy(f, missing[0])), nil
}

func (prerequisitesStep) Apply(context.Context, *Facts) error { return nil }

const limitReached = "PUBLICATION_LIMIT_REACHED"

// withoutOurs drops the complaint that the database has a publication already,
// when that is our own mirror's.
func (s prerequisitesStep) withoutOurs(ctx context.Context, missing []admin.Verdict) ([]admin.Verdict, error) {
	var out []admin.Verdict
	for _, m := range missing {
		if m.Code == limitReached {
			_, exists, err := s.findMirror(ctx)
			if err != nil {
				return nil, err
			}
			if exists {
				continue
			}
		}
		out = append(out, m)
	}
	return out, nil
}

func said(missing []admin.Verdict) string {
	var out []string
	for _, m := range missing {
		out = append(out, fmt.Sprintf("%s (is %v, must be %v)", m.Code, m.Details.Current, m.Details.Required))
	}
	return strings.Join(out, "; ")
}

// remedy is the next thing to type for each of the checker's words.
func (s prerequisitesStep) remedy(f *Facts, v admin.Verdict) string {
	switch v.Code {
	case "MAX_WORKER_PROCESSES_TOO_LOW":
		return s.az("parameter set", "--name", "max_worker_processes", "--value", fmt.Sprint(v.Details.Required))
	case "IDENTITY_NOT_CONFIGURED":
		return s.az("restart")
	case limitReached:
		return s.psql(f, "SELECT * FROM azure_cdc.list_tracked_publications()")
	case "SERVER_IN_RECOVERY":
		return s.az("show")
	}
	return "pgmirror apply"
}
