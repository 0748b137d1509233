package setup

import (
	"context"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// undoPublicationsStep drops the publications that run reads. One for all tables
// isn't ours.
type undoPublicationsStep struct{ *Clients }

func (undoPublicationsStep) Name() string { return "publications" }

func (s undoPublicationsStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	there, err := s.there(ctx, f)
	if err != nil || len(there) == 0 {
		return gone("publication " + s.Config.Publication()), err
	}
	return Finding{Action: Delete, Reason: "PublicationsThere", Have: strings.Join(there, ", "), Want: "dropped", Items: there,
		Consent: config.DropSlot, Allowed: s.Config.Allows(config.DropSlot), Hint: "pgmirror destroy --allow drop-slot", After: f.waitsFor("slot")}, nil
}

func (s undoPublicationsStep) there(ctx context.Context, f *Facts) ([]string, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range []string{s.Config.Publication(), s.Config.InsertOnlyPublication()} {
		p, exists, err := session.Publication(ctx, name)
		if err != nil {
			return nil, err
		}
		if exists && !p.AllTables {
			out = append(out, name)
		}
	}
	return out, nil
}

func (s undoPublicationsStep) Apply(ctx context.Context, f *Facts) error {
	there, err := s.there(ctx, f)
	if err != nil {
		return err
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	var drop []admin.Statement
	for _, name := range there {
		drop = append(drop, admin.DropPublication(name))
	}
	return session.Run(ctx, drop...)
}
