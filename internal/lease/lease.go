// Package lease lends a power over an Azure resource for a short time and takes
// it back, even when the process dies in between.
//
// The order is the design. What it takes to undo a lease is written to a journal
// and synced, then to a tag of the resource, and only then is a door opened; it
// is closed, read back, and only then do the tag and the journal's record go.
// Tag and door are two requests, so that nothing depends on a PATCH being
// atomic: at every instant, an open door has a tag (or a name, for firewall
// rules) that says how to close it. An undo is data, not a closure: any process
// can do it, and it doesn't mind when there is nothing to undo.
package lease

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"
)

// Kind is what a lease lends.
type Kind string

const (
	VaultAccess  Kind = "vault-access"  // the vault's publicNetworkAccess
	VaultRule    Kind = "vault-rule"    // a rule of the vault's networkAcls for the caller's address
	ServerAccess Kind = "server-access" // the server's publicNetworkAccess
	ServerRule   Kind = "server-rule"   // a firewall rule of the server for the caller's address
	AzureRule    Kind = "azure-rule"    // a firewall rule of the server for every Azure service, other tenants' too
	Hold         Kind = "hold"          // no door: whoever has it is the only apply on the resource
)

// Lease is what is known about one that was taken.
type Lease struct {
	ID       string            `json:"id"`
	Run      string            `json:"run"`           // whose it is
	Who      string            `json:"who,omitempty"` // for people
	Kind     Kind              `json:"kind"`
	Resource string            `json:"resource"` // ARM id
	Until    time.Time         `json:"until"`
	Params   map[string]string `json:"params,omitempty"` // what it takes to undo it: "was", "address", "rule"
}

// Resource is an ARM resource, in ARM's own JSON. A write is one attempt and
// blocks until it is done.
//
// Its errors may have the methods Busy, Gone and Refused, all func() bool: the
// same write would be taken later; the resource is no more; nothing was done.
// After an error that isn't Refused a write may still arrive.
type Resource interface {
	Get(ctx context.Context) ([]byte, error)
	Patch(ctx context.Context, body []byte) error
	Rules(ctx context.Context) (map[string][2]string, error)     // firewall rules: first and last address
	PutRule(ctx context.Context, name, first, last string) error //
	DeleteRule(ctx context.Context, name string) error           // none is no error
}

// Options say whose leases these are, and how resources are reached.
type Options struct {
	State string // directory of the journals: see StateDir
	Run   string // the run's id; "": made up
	Who   string // who signed in, and where: shown to whoever meets the lease. Never a secret
	Cloud string // ARM's endpoint: a record of another one isn't ours to close
	// Resources are the ARM ids where List and CloseOne look for leases of others.
	Resources func(ctx context.Context) ([]string, error)
	Dial      func(id string) (Resource, error) // asks nothing yet
	Allows    func(consent string) bool         // config's Allows
	Address   string                            // the caller's IPv4 address by configuration, for refusals that name none
	Audit     *Audit                            // told of every change; nil: nobody
	Tell      func(what string)                 // told what is waited for; nil: nobody
	Now       func() time.Time                  // the wall clock; nil: time.Now
	Timing    Timing
}

// Timing is how long things take. A zero field is the default beside it.
type Timing struct {
	Life     time.Duration // of a lease that doesn't ask for another: 30 min
	Margin   time.Duration // the holder stops this much before the end: 1 min
	Skew     time.Duration // others count a lease as expired this much after the end: 5 min
	Settle   time.Duration // between writing a tag and believing that we are alone: 5 s
	InFlight time.Duration // how long a request that nobody waits for may take to arrive: 1 min
	Grant    time.Duration // for opening, with all waiting for a busy server: 10 min
	Close    time.Duration // for closing: 10 min
	Through  time.Duration // until an opened door lets us through: 5 min
	Poll     time.Duration // between looks: 3 s
}

func (t Timing) withDefaults() Timing {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Life, 30 * time.Minute}, {&t.Margin, time.Minute}, {&t.Skew, 5 * time.Minute}, {&t.Settle, 5 * time.Second}, {&t.InFlight, time.Minute},
		{&t.Grant, 10 * time.Minute}, {&t.Close, 10 * time.Minute}, {&t.Through, 5 * time.Minute}, {&t.Poll, 3 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return t
}

// Leases are those of one run. Its methods may be called from several
// goroutines.
type Leases struct {
	o    Options
	t    Timing
	hook func(step string) // before and after every side effect: for tests

	mu      sync.Mutex
	journal *journal // nil until the first lease
	held    []*Held
	closed  []string // ids that Recover closed
}

// New makes a run's leases. It touches nothing yet.
func New(o Options) *Leases {
	if o.Run == "" {
		o.Run = newID()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	return &Leases{o: o, t: o.Timing.withDefaults(), hook: func(string) {}}
}

// Run is the run's id, as tags, journals and the audit log have it.
func (l *Leases) Run() string { return l.o.Run }

// NewRun makes up a run's id.
func NewRun() string { return newID() }

// newID is 48 random bits: enough to tell leases apart, short enough for a tag.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// step does one side effect.
func (l *Leases) step(name string, do func() error) error {
	l.hook(name + ": before")
	err := do()
	l.hook(name + ": after")
	return err
}

func (l *Leases) dial(id string) (Resource, error) {
	r, err := l.o.Dial(id)
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", shortName(id), err)
	}
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
