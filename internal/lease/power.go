package lease

import (
	"context"
	"errors"
	"fmt"
)

// The names of what it takes to undo a lease.
const (
	paramWas     = "was"     // the former value
	paramAddress = "address" // the address that was let in
	paramRule    = "rule"    // the firewall rule's name
)

// power is what a kind of lease lends.
type power interface {
	// prepare looks at the door and says in p what it takes to undo the grant.
	// The error is ErrOpen, possibly wrapped, when there is nothing to open.
	prepare(ctx context.Context, r Resource, d *document, l *Lease) error
	// grant opens the door, in one request.
	grant(ctx context.Context, r Resource, d *document, l Lease) error
	// closed reports whether all is as it was before the grant.
	closed(ctx context.Context, r Resource, d *document, l Lease) (bool, error)
	// revoke closes the door, in one request. It doesn't mind a closed one.
	revoke(ctx context.Context, r Resource, d *document, l Lease) error
}

var powers = map[Kind]power{
	VaultAccess:  access{VaultAccess},
	VaultRule:    vaultRule{},
	ServerAccess: access{ServerAccess},
	ServerRule:   serverRule{},
	AzureRule:    serverRule{},
	Hold:         hold{},
}

// tagged reports whether leases of the kind have tags. A firewall rule has all
// in its name, and needs no second write to a server that takes one at a time.
func (k Kind) tagged() bool { return k != ServerRule && k != AzureRule }

// named reports whether the kind lets in an address of the caller's.
func (k Kind) named() bool { return k == VaultRule || k == ServerRule }

func powerOf(k Kind) (power, error) {
	p, ok := powers[k]
	if !ok {
		return nil, fmt.Errorf("lease of an unknown kind %q: another version of pgmirror made it: use that one, or close it by hand", k)
	}
	return p, nil
}

// hold opens nothing: its tag is all there is of it.
type hold struct{}

func (hold) prepare(context.Context, Resource, *document, *Lease) error       { return nil }
func (hold) grant(context.Context, Resource, *document, Lease) error          { return nil }
func (hold) closed(context.Context, Resource, *document, Lease) (bool, error) { return true, nil }
func (hold) revoke(context.Context, Resource, *document, Lease) error {
	return errors.New("there is nothing to close")
}
