package setup

import (
	"context"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// undoOwnershipStep gives tables back to the owners that are recorded in their
// comments.
type undoOwnershipStep struct{ *Clients }

func (undoOwnershipStep) Name() string { return "ownership" }

func (s undoOwnershipStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	if f.usedBy != "" {
		return kept("owners of tables", f.usedBy+" needs them"), nil
	}
	session, moved, err := s.moved(ctx, f)
	if err != nil || len(moved) == 0 {
		return asWanted("no table has a recorded former owner"), err
	}
	var items, back []string
	for _, m := range moved {
		for _, role := range []string{m.Former, s.Config.Role.Name} {
			if !m.FormerExists {
				return blocked("FormerOwnerGone", m.String()+" belonged to "+m.Former+", who isn't there any more", s.psql(f, "CREATE ROLE \""+m.Former+"\"")), nil
			}
			if can, err := session.CanAct(ctx, role); err != nil || !can {
				return s.cannotAct(f, role, ""), err
			}
		}
		items, back = append(items, m.String()), append(back, m.String()+" to "+m.Former)
	}
	return Finding{Action: Delete, Reason: "TablesMoved", Have: "owned by " + s.Config.Role.Name, Want: strings.Join(back, ", "), Items: items,
		Consent: config.ChangeOwner, Allowed: s.Config.Allows(config.ChangeOwner), Hint: "pgmirror destroy --allow change-owner", After: f.waitsFor("mirrored-database")}, nil
}

func (s undoOwnershipStep) moved(ctx context.Context, f *Facts) (*admin.Session, []admin.Moved, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	moved, err := session.Moved(ctx, s.Config.Role.Name)
	return session, moved, err
}

// Apply gives back a table a transaction: a lock is never held for two.
func (s undoOwnershipStep) Apply(ctx context.Context, f *Facts) error {
	session, moved, err := s.moved(ctx, f)
	if err != nil {
		return err
	}
	for _, m := range moved {
		back, err := session.GiveBack(ctx, m, s.Config.Role.Name)
		if err != nil {
			return err
		}
		if err := session.Run(ctx, back...); err != nil {
			return err
		}
	}
	return nil
}
