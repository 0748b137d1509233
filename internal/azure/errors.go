package azure

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// A Kind is why Key Vault or ARM forbids something.
type Kind string

const (
	NotForbidden  Kind = ""
	ByConnection  Kind = "ForbiddenByConnection" // public access is off
	ByFirewall    Kind = "ForbiddenByFirewall"   // our address isn't let in
	ByRbac        Kind = "ForbiddenByRbac"       // a role assignment is missing, or minutes young
	ByAccess      Kind = "AccessDenied"          // an access policy is missing
	ByPolicy      Kind = "ForbiddenByPolicy"     //
	ForbiddenElse Kind = "Forbidden"             //
)

// Code is the service's own word for the error; "" when it gave none.
func Code(err error) string {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.ErrorCode
	}
	return ""
}

// IsNotFound reports whether what was asked for isn't there.
func IsNotFound(err error) bool { return status(err) == http.StatusNotFound }

// IsBusy reports whether the server would take the same write later: it does
// one thing at a time. The code counts, whatever the status, also when an
// accepted operation failed with it.
func IsBusy(err error) bool {
	switch Code(err) {
	case "ServerIsBusy", "ServerBusy", "ServerIsNotReady":
		return true
	}
	return false
}

// IsRefused reports whether the service understood a request and said no, at
// once or by an operation that failed: asking again changes nothing.
func IsRefused(err error) bool {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || IsBusy(err) || Forbidden(err) != NotForbidden {
		return false
	}
	// An operation that failed is told in the body of an answer with 200.
	return e.StatusCode == http.StatusOK || e.StatusCode == http.StatusBadRequest || e.StatusCode == http.StatusConflict || e.StatusCode == http.StatusUnprocessableEntity
}

// Forbidden says why we were refused, NotForbidden when we weren't. Key Vault's
// outer code is always Forbidden; the inner one tells.
func Forbidden(err error) Kind {
	if status(err) != http.StatusForbidden {
		return NotForbidden
	}
	switch k := Kind(inner(err)); k {
	case ByConnection, ByFirewall, ByRbac, ByAccess, ByPolicy:
		return k
	}
	return ForbiddenElse
}

// IsSignInNeeded reports whether there is no usable sign-in.
func IsSignInNeeded(err error) bool {
	_, ok := errors.AsType[*signInError](err)
	return ok || status(err) == http.StatusUnauthorized
}

// SignIn marks every failure of c to get a token, so that IsSignInNeeded knows
// it: azidentity has no type for most of them.
func SignIn(c azcore.TokenCredential) azcore.TokenCredential { return signIn{c} }

type signIn struct{ azcore.TokenCredential }

func (s signIn) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := s.TokenCredential.GetToken(ctx, o)
	if err != nil && ctx.Err() == nil {
		err = &signInError{err}
	}
	return t, err
}

type signInError struct{ err error }

func (e *signInError) Error() string { return "sign in: " + e.err.Error() }
func (e *signInError) Unwrap() error { return e.err }

// NonRetriable keeps azcore from asking again.
func (e *signInError) NonRetriable() {}

func status(err error) int {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.StatusCode
	}
	return 0
}

// inner is error.innererror.code of the body.
func inner(err error) string {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || e.RawResponse == nil {
		return ""
	}
	body, readErr := runtime.Payload(e.RawResponse)
	if readErr != nil {
		return ""
	}
	var b struct {
		Error struct {
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &b) != nil {
		return ""
	}
	return b.Error.Inner.Code
}
