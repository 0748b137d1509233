package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// keeper has what a command opens for a while. What an earlier one left open is
// closed when the configuration is known; what this one opens, when all else is
// over, whatever became of it.
type keeper struct {
	doors  *setup.Doors // nil: no configuration was read, or there is no place to remember open doors in
	fault  error        // why there is no such place
	unshut error        // what an earlier command left open and couldn't be closed
	stop   context.CancelCauseFunc
}

// begin makes the command's doors and closes what earlier ones left open. That
// this failed is told at once; the command goes on, and ends with exit 6.
func (k *keeper) begin(ctx context.Context, s streams, cfg *config.Config, environ []string) error {
	if k == nil || k.doors != nil || k.fault != nil {
		return nil
	}
	state, err := lease.StateDir(environ)
	if err != nil {
		k.fault = err
		return nil
	}
	k.doors, err = setup.NewDoors(cfg, setup.DoorOptions{
		State: state, Who: whoami(), Expired: k.expired, Life: leaseLife, Transport: transport,
		Tell: func(what string) { s.say("    … %s", what) },
	})
	if err != nil {
		return setupFailure(err)
	}
	if k.unshut = k.doors.Recover(ctx); k.unshut != nil {
		s.say("%s %v", s.paint(red, "still open:"), k.unshut)
	}
	return nil
}

// expired ends the command: a lease that it works behind is over.
func (k *keeper) expired(cause error) {
	if k.stop != nil {
		k.stop(cause)
	}
}

// options let the set-up plane use the doors.
func (k *keeper) options() []setup.Option {
	options := slices.Clone(clientOptions)
	if k != nil && k.doors != nil {
		options = append(options, setup.WithDoors(k.doors))
	}
	return options
}

// wanted refuses a command that changes something where nothing of it could be
// remembered.
func (k *keeper) wanted() error {
	if k == nil || k.fault == nil {
		return nil
	}
	return &failure{Exit: exitPrecondition, Code: "StateMissing", Err: k.fault, Next: "export PGMIRROR_STATE=DIR"}
}

// audited writes a change to the audit log, before and after it is made; without
// a place for the log it isn't made.
func (k *keeper) audited(c lease.Change, do func() error) error {
	if k == nil {
		return do()
	}
	if err := k.wanted(); err != nil {
		return err
	}
	return k.doors.Audited(c, do)
}

// inDatabase is a change in the mirror's database or landing zone.
func inDatabase(cfg *config.Config, what, detail string) lease.Change {
	return lease.Change{What: what, Resource: cmp.Or(cfg.Server.ID, cfg.Server.Host) + " database " + cfg.Server.Database, Detail: detail}
}

// inAzd is a change of azd's environment.
func inAzd(values map[string]string) lease.Change {
	return lease.Change{What: "azd env set", Resource: "azd environment", Detail: strings.Join(slices.Sorted(maps.Keys(values)), " ")}
}

// end closes what is open, after all else. The error is lease.ErrUnproved when
// something may still be open.
func (k *keeper) end(ctx context.Context) error {
	if k.doors == nil {
		return nil
	}
	return errors.Join(k.unshut, k.doors.Close(ctx))
}

// clientOptions and transport stand around every side effect, of every client
// and of the doors: tests kill the process there.
var (
	clientOptions []setup.Option
	transport     setup.Transport
)

// leaseLife is how long a lease may last; 0 is setup's own. Tests shorten it.
var leaseLife time.Duration

// whoami is the user and the machine, for people who meet a lease.
func whoami() string {
	name, host := "somebody", "somewhere"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}
