package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// undoSlotStep drops the replication slot of a run that has ended.
type undoSlotStep struct{ *Clients }

func (undoSlotStep) Name() string { return "slot" }

func (s undoSlotStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	name := s.Config.Slot()
	slot, exists, err := session.Slot(ctx, name)
	switch {
	case err != nil:
		return Finding{}, err
	case !exists:
		return gone("slot " + name), nil
	case slot.Other != "":
		return kept("slot "+name, "it is for "+slot.Other), nil
	case slot.Active:
		return blocked("RunActive", "somebody reads from slot "+name, s.psql(f, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '"+name+"'")), nil
	}
	return Finding{Action: Delete, Reason: "SlotThere", Have: name, Want: "dropped: the mirror can't go on from here", Items: []string{name},
		Consent: config.DropSlot, Allowed: s.Config.Allows(config.DropSlot), Hint: "pgmirror destroy --allow drop-slot"}, nil
}

func (s undoSlotStep) Apply(ctx context.Context, f *Facts) error {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	return session.Run(ctx, admin.DropSlot(s.Config.Slot()))
}
