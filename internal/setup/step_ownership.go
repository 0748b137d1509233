package setup

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// ownershipStep moves the listed tables to the role: native mirroring takes only
// what it owns. It asks for consent, and lets the former owner go on working.
type ownershipStep struct{ *Clients }

func (ownershipStep) Name() string { return "ownership" }

func (s ownershipStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	if _, err := s.pick(ctx, f); err != nil {
		return Finding{}, err
	}
	foreign := s.foreign(f)
	if len(foreign) == 0 {
		return asWanted(fmt.Sprintf("%s owns %d tables", s.Config.Role.Name, len(f.Picked))), nil
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	if found, ok, err := s.powerless(ctx, f, session, foreign); err != nil || !ok {
		return found, err
	}
	var items, have []string
	for _, t := range foreign {
		items, have = append(items, t.String()), append(have, t.String()+" belongs to "+t.Owner)
	}
	return Finding{
		Action: Update, Reason: "TableNotOwned", Code: "TableNotOwned", Have: strings.Join(have, ", "), Want: "owned by " + s.Config.Role.Name, Items: items,
		Consent: config.ChangeOwner, Allowed: s.Config.Allows(config.ChangeOwner), Hint: "pgmirror apply --allow change-owner",
		After: f.waitsFor("role", "grants"), Notes: losers(foreign),
	}, nil
}

// losers tells what the former owners may no longer do.
func losers(foreign []postgres.Table) []Note {
	var out []Note
	for i := range foreign {
		t := &foreign[i]
		out = append(out, Note{"OwnerChanges", t.String(), t.Owner + " keeps SELECT, INSERT, UPDATE and DELETE, and loses TRUNCATE and ALTER"})
	}
	return out
}

// Script is what Apply would run.
func (s ownershipStep) Script(ctx context.Context, f *Facts) ([]admin.Statement, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return nil, err
	}
	var out []admin.Statement
	for _, t := range s.foreign(f) {
		move, err := session.TakeOver(ctx, t.Schema, t.Name, t.Owner, s.Config.Role.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, move...)
	}
	return out, nil
}

// Apply moves a table a transaction: a lock is never held for two.
func (s ownershipStep) Apply(ctx context.Context, f *Facts) error {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	for _, t := range s.foreign(f) {
		move, err := session.TakeOver(ctx, t.Schema, t.Name, t.Owner, s.Config.Role.Name)
		if err != nil {
			return err
		}
		if err := session.Run(ctx, move...); err != nil {
			return err
		}
	}
	return nil
}

// foreign are the picked tables that belong to somebody else; only listed ones
// are picked then.
func (s ownershipStep) foreign(f *Facts) []postgres.Table {
	var out []postgres.Table
	for _, t := range f.Picked {
		if t.Owner != s.Config.Role.Name {
			out = append(out, t)
		}
	}
	return out
}
