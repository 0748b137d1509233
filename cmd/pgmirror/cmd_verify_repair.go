package main

import (
	"context"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/verify"
)

// mend has the rows that differ published anew, and compares their tables again
// until none differs or the time is over in which Fabric should have merged them.
// The receipt has what was found last, also when that fails.
func (o verifyOptions) mend(ctx context.Context, ses *session, look verify.Config, r *verify.Receipt, s streams) error {
	asked, err := o.repair(ctx, ses, r, s)
	if err != nil || len(asked) == 0 {
		return err
	}
	look.Only, look.Resume, look.Save = asked, nil, nil
	for begun := time.Now(); ; {
		again, err := verify.Run(ctx, look)
		if err != nil {
			return err
		}
		for _, t := range again.Tables {
			r.Replace(t)
		}
		r.Finished = again.Finished
		if !again.Mismatch() || time.Since(begun) > o.wait {
			return nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// repair asks the mirror to publish the rows that differ anew and waits until it
// has. It returns the tables for which that was asked: whether the rows are right
// then has to be looked at.
func (o verifyOptions) repair(ctx context.Context, ses *session, r *verify.Receipt, s streams) (asked []string, err error) {
	m, err := ses.mirror()
	if err != nil {
		return nil, err
	}
	zone, err := ses.files(m.ID, "Files/LandingZone")
	if err != nil {
		return nil, err
	}
	open := openMirror{ses, s, zone}
	var requests []mirror.Request
	for _, t := range r.Tables {
		q := mirror.Request{Kind: mirror.Repair, Schema: t.Schema, Table: t.Name, Key: t.Key}
		for _, d := range t.Differences {
			if len(d.Values) > 0 {
				q.Rows = append(q.Rows, d.Values)
			}
		}
		if len(q.Rows) < t.Differing {
			s.say("%s.%s: %s can't be named to the mirror: %s", t.Schema, t.Name, plural(t.Differing-len(q.Rows), "row"), resync(t.Schema+"."+t.Name))
		}
		if len(q.Rows) == 0 {
			continue
		}
		if err := open.ask(ctx, q); err != nil {
			return nil, err
		}
		s.say("asked: repair %s of %s.%s", plural(len(q.Rows), "row"), t.Schema, t.Name)
		requests, asked = append(requests, q), append(asked, t.Schema+"."+t.Name)
	}
	if len(requests) == 0 {
		return nil, nil
	}
	slot, there, err := open.slot(ctx)
	if err != nil {
		return nil, err
	}
	if !there || !slot.Active {
		s.say("No pgmirror run is running; the next one that starts does it.")
	}
	return asked, await(ctx, "a running pgmirror run publishes the rows", o.wait, func(ctx context.Context) (bool, error) {
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return false, err
		}
		for _, q := range requests {
			if waits, err := mirror.Asked(ctx, zone, q.Schema, q.Table); err != nil || waits {
				return false, err
			}
		}
		return true, nil
	})
}

// repairable refuses what has nobody who could repair it.
func (o verifyOptions) repairable(cfg *config.Config) error {
	switch {
	case !o.repairs:
		return nil
	case o.delta != "":
		return fail(exitError, "UsageInvalid", "pgmirror verify --help", "--repair is for the mirror itself, not for a folder")
	}
	return wantsOpen(cfg)
}
