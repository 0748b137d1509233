package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// lookSlot judges the slot as the mirror's role sees it.
func lookSlot(ctx context.Context, p *patient) diagnosis {
	switch {
	case p.facts.RoleExists:
	case p.role.Code == "NotSetUp":
		return diagnosis{State: checkSkipped, Text: "the mirror's role isn't there yet"}
	case p.role.State == checkSkipped:
		return diagnosis{State: checkSkipped, Text: p.role.Text}
	default: // nobody could look whether it is there
		return diagnosis{State: checkSkipped, Text: "can't be judged before role is mended"}
	}
	e := named(p.clients.Endpoint(&p.facts), "pgmirror doctor")
	conn, err := e.Connect(ctx)
	if err != nil {
		d := unwell(connectFailure(e, err))
		if d.Next == "pgmirror doctor" { // that is this
			d.Next = "pgmirror plan"
		}
		return d
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, there, err := postgres.Slot(ctx, conn, p.cfg.Slot())
	if err != nil {
		return unwell(err)
	}
	if !there {
		return p.noSlot(ctx)
	}
	state := fmt.Sprintf("%s, which holds %s of WAL (%s)", p.cfg.Slot(), bytesText(slot.RetainedBytes), slot.WALStatus)
	switch {
	case slot.WALStatus == "lost":
		return diagnosis{State: checkBlocking, Code: "SlotLost", Text: "slot " + state + ": " + slotLost(nil, &slot), Next: reseed}
	case slot.WALStatus == "unreserved":
		return diagnosis{State: checkBlocking, Code: "WALUnreserved", Text: "slot " + state, Next: "pgmirror run"}
	case !slot.Active:
		return diagnosis{State: checkBlocking, Code: "NotRunning", Text: "nobody reads slot " + state, Next: "pgmirror run"}
	}
	return diagnosis{State: checkOK, Text: "somebody reads slot " + state}
}

// noSlot tells a mirror that hasn't begun from one that has lost its slot: only the
// landing zone knows.
func (p *patient) noSlot(ctx context.Context) diagnosis {
	st, missing := p.zoneState(ctx)
	if missing != nil && missing.State == checkBlocking {
		return diagnosis{State: checkBlocking, Code: missing.Code, Text: "there is no slot " + p.cfg.Slot() + ", and the landing zone can't say whether there was one: " + missing.Text, Next: missing.Next}
	}
	if lost := slotLost(st, nil); lost != "" {
		return diagnosis{State: checkBlocking, Code: "SlotLost", Text: "there is no slot " + p.cfg.Slot() + " any more: " + lost, Next: reseed}
	}
	return diagnosis{State: checkWarning, Code: "NotRunning", Text: "there is no slot " + p.cfg.Slot() + ": nothing has been run yet", Next: "pgmirror run"}
}

// zoneState is what the landing zone says of its mirror, or a diagnosis when it can't.
func (p *patient) zoneState(ctx context.Context) (*mirror.State, *diagnosis) {
	unwell := func(err error) (*mirror.State, *diagnosis) {
		d := unwell(err)
		return nil, &d
	}
	m, missing := p.findMirror(ctx)
	if missing != nil {
		return nil, missing
	}
	o, err := p.clients.OneLake(m.ID, "Files/LandingZone")
	if err != nil {
		return unwell(setupFailure(err))
	}
	zone, err := fabric.NewOneLake(o)
	if err != nil {
		return unwell(err)
	}
	st, err := mirror.Status(ctx, zone)
	if errors.Is(err, mirror.ErrNoMirror) {
		return nil, &diagnosis{State: checkWarning, Code: "NotRunning", Text: "it can be reached, and nothing has been landed yet", Next: "pgmirror run"}
	} else if err != nil {
		return unwell(setupFailure(mirrorFailure(err)))
	}
	return st, nil
}

// lookZone judges the landing zone and what the mirror says of itself in it.
func lookZone(ctx context.Context, p *patient) diagnosis {
	st, missing := p.zoneState(ctx)
	if missing != nil {
		return *missing
	}
	var parked []string
	ignored := int64(0)
	for _, t := range st.Tables {
		if t.Phase == "parked" {
			parked = append(parked, t.Schema+"."+t.Name+" ("+t.Reason+")")
		}
		ignored += t.Ignored
	}
	switch {
	case len(parked) > 0:
		return diagnosis{State: checkWarning, Code: "TableParked", Text: plural(len(parked), "table") + " parked, the others go on: " + fold(parked, 200)[0], Next: "pgmirror tables list"}
	case ignored > 0:
		return diagnosis{State: checkWarning, Code: "ChangesIgnored", Text: plural(ignored, "update or delete") + " of tables without a key ignored", Next: "pgmirror tables list"}
	}
	return diagnosis{State: checkOK, Text: plural(len(st.Tables), "table") + " landed"}
}

// lookMirror asks Fabric. Running says nothing: a mirror that is Running and
// empty is the fault that people come with.
func lookMirror(ctx context.Context, p *patient) diagnosis {
	m, missing := p.findMirror(ctx)
	if missing != nil {
		return *missing
	}
	now, err := p.clients.Fabric.MirroringStatus(ctx, p.cfg.Workspace, m.ID)
	if err != nil {
		return unwell(setupFailure(err))
	}
	tables, err := p.clients.Fabric.TablesStatus(ctx, p.cfg.Workspace, m.ID)
	if err != nil {
		return unwell(setupFailure(err))
	}
	return judgeMirror(p.cfg.Mode, now, tables)
}

func judgeMirror(mode config.Mode, now fabric.MirroringStatus, tables []fabric.TableStatus) diagnosis {
	switch now.Status {
	case "Running":
	case "Paused":
		return diagnosis{State: checkBlocking, Code: "MirrorPaused", Text: now.Status + prefixed(": ", now.Error), Next: "pgmirror explain MirrorPaused"}
	case "Stopping", "Stopped":
		return diagnosis{State: checkBlocking, Code: "MirrorStopped", Text: now.Status + prefixed(": ", now.Error), Next: "pgmirror apply"}
	default:
		return diagnosis{State: checkWarning, Code: "MirrorStarting", Text: now.Status + prefixed(": ", now.Error), Next: "pgmirror status --watch"}
	}
	rows, replicating := int64(0), 0
	for _, t := range tables {
		if t.ErrorCode != "" || t.Status == "Failed" {
			return diagnosis{State: checkBlocking, Code: "TableFailed", Next: "pgmirror status",
				Text: fmt.Sprintf("%s.%s is %s%s%s", t.Schema, t.Table, t.Status, prefixed(": ", t.ErrorCode), prefixed(": ", t.ErrorMessage))}
		}
		rows += t.ProcessedRows
		if t.Status == "Replicating" {
			replicating++
		}
	}
	if rows == 0 {
		next := "pgmirror verify"
		if mode == config.Open {
			next = "pgmirror run"
		}
		return diagnosis{State: checkBlocking, Code: "RunningButEmpty", Text: fmt.Sprintf("Fabric says Running, and %s, with no row processed", plural(len(tables), "table")), Next: next}
	}
	text := fmt.Sprintf("Running: %d of %s replicating, %s changes processed", replicating, plural(len(tables), "table"), count(rows))
	if replicating < len(tables) {
		return diagnosis{State: checkWarning, Code: "TablesBehind", Text: text, Next: "pgmirror status --watch"}
	}
	return diagnosis{State: checkOK, Text: text}
}
