package setup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// StepError names the step and what it was doing.
type StepError struct {
	Step string
	Op   string // "check", "apply" or "settle"
	Err  error
}

func (e *StepError) Error() string { return e.Step + ": " + e.Op + ": " + e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// NotApprovedError is returned by Apply when the world changed since the plan
// was shown, so that a step now needs more than was approved.
type NotApprovedError struct{ Approved, Now Finding }

func (e *NotApprovedError) Error() string {
	return fmt.Sprintf("%s: the plan said %s, now it needs %s (%s): look at a new plan", e.Now.Step, e.Approved.Action, e.Now.Action, e.Now.Reason)
}

// BlockedError holds the findings that a person has to act upon.
type BlockedError struct{ Findings []Finding }

func (e *BlockedError) Error() string {
	var lines []string
	for _, f := range e.Findings {
		lines = append(lines, fmt.Sprintf("%s: %s: %s", f.Step, f.Code, f.Have))
	}
	return strings.Join(lines, "; ")
}

// ConsentError holds the findings that need a consent which isn't given.
type ConsentError struct{ Findings []Finding }

// Missing are the consents that are needed, each once.
func (e *ConsentError) Missing() []string {
	var out []string
	for _, f := range e.Findings {
		if !slices.Contains(out, f.Consent) {
			out = append(out, f.Consent)
		}
	}
	return out
}

func (e *ConsentError) Error() string {
	return "consent is missing for " + strings.Join(e.Missing(), ", ") + ": give it with --allow " + strings.Join(e.Missing(), ",")
}

// TimeoutError is returned by Apply when the world didn't catch up in time.
type TimeoutError struct {
	Now   Finding // what was last seen
	Limit time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s: still %s (%s) after %s: %s", e.Now.Step, e.Now.Action, e.Now.Reason, e.Limit, e.Now.Have)
}

// IsSignInNeeded reports whether err says that nobody is signed in to Azure or
// Fabric.
func IsSignInNeeded(err error) bool { return azure.IsSignInNeeded(err) || fabric.IsSignInNeeded(err) }

// Code is the code of err for Explain; "" when it has none.
func Code(err error) string {
	if e, ok := errors.AsType[*BlockedError](err); ok {
		return e.Findings[0].Code
	}
	if _, ok := errors.AsType[*ConsentError](err); ok {
		return "ConsentMissing"
	}
	if _, ok := errors.AsType[*NotApprovedError](err); ok {
		return "PlanStale"
	}
	if _, ok := errors.AsType[*StaleError](err); ok {
		return "PlanStale"
	}
	if e, ok := errors.AsType[*TimeoutError](err); ok {
		return or(e.Now.Code, "TimedOut")
	}
	if code := doorCode(err); code != "" {
		return code
	}
	if admin.IsForbidden(err) {
		return "AdminRights"
	}
	if azure.Forbidden(err) != azure.NotForbidden {
		return "ServerForbidden"
	}
	if fabric.IsCredentialRefused(err) {
		return "ConnectionRefused"
	}
	if fabric.IsForbidden(err) {
		return "WorkspaceForbidden"
	}
	if IsSignInNeeded(err) {
		return "SignInNeeded"
	}
	return ""
}

// doorCode is the code of what a lease can't be had for, or lost for.
func doorCode(err error) string {
	_, tag := errors.AsType[*lease.HeldError](err)
	_, lock := errors.AsType[*HeldError](err)
	_, consent := errors.AsType[*lease.ConsentError](err)
	switch {
	case tag || lock:
		return "Held"
	case consent:
		return "ConsentMissing"
	case errors.Is(err, lease.ErrAddress):
		return "AddressUnknown"
	case errors.Is(err, lease.ErrNotThrough), errors.Is(err, lease.ErrOpen):
		return "DoorUseless"
	case errors.Is(err, lease.ErrExpired):
		return "LeaseExpired"
	}
	return ""
}

// Hint is the next thing to type after err; "" when we know none.
func Hint(err error) string {
	if e, ok := errors.AsType[*BlockedError](err); ok {
		return e.Findings[0].Hint
	}
	if e, ok := errors.AsType[*ConsentError](err); ok {
		return "pgmirror apply --allow " + strings.Join(e.Missing(), ",")
	}
	if e, ok := errors.AsType[*lease.HeldError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*lease.ConsentError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*TimeoutError](err); ok && e.Now.Hint != "" {
		return e.Now.Hint
	}
	if x, ok := Explain(Code(err)); ok {
		return x.Next
	}
	return ""
}
