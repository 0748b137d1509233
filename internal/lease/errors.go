package lease

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
)

var (
	// ErrUnproved means that something which was opened may still be open. It
	// comes as an *UnprovedError, possibly wrapped, and outranks other errors.
	ErrUnproved = errors.New("not proved closed")
	// ErrNotRefused means that a lease was asked for though nothing was refused.
	ErrNotRefused = errors.New("nothing was refused, so nothing is opened")
	// ErrOpen means that the door is open already: the refusal has another cause,
	// or an earlier opening takes its time to be felt. Possibly wrapped.
	ErrOpen = errors.New("the door is open already")
	// ErrAddress means that nobody says what the caller's address is.
	ErrAddress = errors.New("the caller's IPv4 address is known neither from the refusal nor from the configuration")
	// ErrExpired is why a holder's context ended. Ask context.Cause.
	ErrExpired = errors.New("the lease has expired")
	// ErrNotThrough means that an opened door didn't let us through in time.
	// Possibly wrapped.
	ErrNotThrough = errors.New("opened, but still refused")
	// ErrNoLease means that no lease has the id. Possibly wrapped.
	ErrNoLease = errors.New("no such lease here")
)

// ConsentError says which consent a lease needs that wasn't given.
type ConsentError struct {
	Consent string // config.OpenVault or config.OpenServer
	Kind    Kind
}

func (e *ConsentError) Error() string {
	return fmt.Sprintf("to open %s for a while, the consent %s is needed", doors[e.Kind], e.Consent)
}

// Hint is the next thing to type.
func (e *ConsentError) Hint() string { return "pgmirror apply --allow " + e.Consent }

// HeldError says who has a lease on the resource.
type HeldError struct {
	By      Lease
	Expired bool // its holder is gone: closing it is all that is missing
}

func (e *HeldError) Error() string {
	state := "until"
	if e.Expired {
		state = "and didn't close it; it expired at"
	}
	return fmt.Sprintf("%s is held by %s (run %s, lease %s, %s) %s %s",
		shortName(e.By.Resource), or(e.By.Who, "somebody"), or(e.By.Run, "unknown"), e.By.ID, e.By.Kind, state, e.By.Until.UTC().Format(time.RFC3339))
}

// Hint is the next thing to type.
func (e *HeldError) Hint() string {
	if e.Expired {
		return "pgmirror leases close " + e.By.ID
	}
	return "pgmirror leases list"
}

// UnprovedError says what may still be open, and how to close it by hand. It is
// ErrUnproved.
type UnprovedError struct {
	Lease Lease
	Err   error
}

func (e *UnprovedError) Error() string {
	return fmt.Sprintf("%s of %s (lease %s) is %v: %v; close it by hand with: %s",
		doors[e.Lease.Kind], shortName(e.Lease.Resource), e.Lease.ID, ErrUnproved, e.Err, strings.Join(e.ByHand(), " && "))
}

func (e *UnprovedError) Unwrap() []error { return []error{ErrUnproved, e.Err} }

// Hint is the next thing to type.
func (e *UnprovedError) Hint() string { return "pgmirror leases close " + e.Lease.ID }

// ByHand are the commands of Azure's own tool that close it.
func (e *UnprovedError) ByHand() []string {
	l := e.Lease
	name := shortName(l.Resource)
	untag := fmt.Sprintf("az tag list --resource-id %s  # and delete %s%s", l.Resource, tagPrefix, l.ID)
	switch l.Kind {
	case VaultAccess:
		return []string{"az keyvault update --name " + name + " --public-network-access " + l.Params[paramWas], untag}
	case VaultRule:
		return []string{"az keyvault network-rule remove --name " + name + " --ip-address " + l.Params[paramAddress] + "/32", untag}
	case ServerAccess:
		return []string{"az postgres flexible-server update --ids " + l.Resource + " --public-access " + l.Params[paramWas], untag}
	case ServerRule, AzureRule:
		return []string{"az postgres flexible-server firewall-rule delete --yes --resource-group " + groupName(l.Resource) + " --name " + name + " --rule-name " + l.Params[paramRule]}
	}
	return []string{untag}
}

// doors are the powers in people's words.
var doors = map[Kind]string{
	VaultAccess:  "public access",
	VaultRule:    "the network rule for this machine",
	ServerAccess: "public access",
	ServerRule:   "the firewall rule for this machine",
	AzureRule:    "the firewall rule for all of Azure",
	Hold:         "the hold",
}

// consents are what each power needs; Hold opens nothing.
var consents = map[Kind]string{
	VaultAccess:  config.OpenVault,
	VaultRule:    config.OpenVault,
	ServerAccess: config.OpenServer,
	ServerRule:   config.OpenServer,
	AzureRule:    config.OpenServer,
}

func isBusy(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Busy() bool
	}](err)
	return ok && e.Busy()
}

func isGone(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Gone() bool
	}](err)
	return ok && e.Gone()
}

func isRefused(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Refused() bool
	}](err)
	return ok && e.Refused()
}

// shortName is the last segment of an ARM id.
func shortName(id string) string { return id[strings.LastIndex(id, "/")+1:] }

func groupName(id string) string {
	parts := strings.Split(id, "/")
	for i, p := range parts[:len(parts)-1] {
		if strings.EqualFold(p, "resourceGroups") {
			return parts[i+1]
		}
	}
	return ""
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
