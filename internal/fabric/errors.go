package fabric

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Error is what Fabric answered instead of a result. It never holds a secret.
type Error struct {
	Status     int           // HTTP status of the answer
	Code       string        // Fabric's word, such as EntityNotFound; "" when it gave none
	Message    string        // Fabric's sentence, or the beginning of a page that was no JSON
	RequestID  string        // what Microsoft's support asks for
	RetryAfter time.Duration // how long Fabric asks to wait; 0 when it doesn't say
	Retriable  bool          // Fabric says that asking again may help
	Details    []Detail      // further reasons
}

// Detail is one further reason of an Error.
type Detail struct{ Code, Message string }

func (e *Error) Error() string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "fabric answered %d", e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	for _, d := range e.Details {
		fmt.Fprintf(b, "; %s: %s", d.Code, d.Message)
	}
	if e.RequestID != "" {
		fmt.Fprintf(b, " (request %s)", e.RequestID)
	}
	return b.String()
}

// Code is Fabric's word for what went wrong, "" when there is none.
func Code(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// IsNotFound says that the thing asked for isn't there, or isn't visible to the
// caller.
func IsNotFound(err error) bool {
	return is(err, http.StatusNotFound, "NotFound", "EntityNotFound", "ItemNotFound", "WorkspaceNotFound", "OperationNotFound")
}

// IsConflict says that the name or the role is taken already, perhaps by an
// earlier try of our own.
func IsConflict(err error) bool {
	return is(err, http.StatusConflict, "Conflict", "EntityConflict", "DuplicateConnectionName", "DuplicateConnectionNameInput",
		"ItemDisplayNameAlreadyInUse", "ItemDisplayNameNotAvailableYet", "PrincipalAlreadyHasWorkspaceRolePermissions")
}

// IsSignInNeeded says that there is no usable token: the credential gave none,
// or Fabric doesn't take it.
func IsSignInNeeded(err error) bool {
	if _, ok := errors.AsType[*signInError](err); ok {
		return true
	}
	return is(err, http.StatusUnauthorized, "Unauthorized", "TokenExpired")
}

// IsForbidden says that Fabric knows the caller and refuses.
func IsForbidden(err error) bool {
	return is(err, http.StatusForbidden, "Forbidden", "InsufficientPrivileges", "InsufficientScopes", "InsufficientWorkspaceRole",
		"InsufficientPermissionsToManageConnection", "InsufficientPermissionsToManageGateway")
}

// IsThrottled says that Fabric refused because of too many requests, also
// after the retries that its Retry-After allowed.
func IsThrottled(err error) bool {
	return is(err, http.StatusTooManyRequests, "TooManyRequests", "RequestBlocked")
}

// IsNotReady says that a mirrored database is still being made ready (about a
// minute after its creation): ask again.
func IsNotReady(err error) bool {
	return is(err, 0, "MirroredDatabaseNotReady")
}

// IsCredentialRefused says that the source refused the sign-in of a connection.
func IsCredentialRefused(err error) bool {
	return is(err, 0, "IncorrectCredentials", "IncorrectCredentialsInput")
}

// IsSourceUnreachable says that Fabric could not reach a connection's source, or
// got no answer from it.
func IsSourceUnreachable(err error) bool {
	return is(err, 0, "CreateGatewayConnectionFailed", "UpdateGatewayConnectionFailed", "DM_GWPipeline_UnknownError", "DM_GWPipeline_Gateway_MashupDataAccessError")
}

func is(err error, status int, codes ...string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == status || slices.Contains(codes, e.Code))
}
