package azure

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// GateError is what went wrong with a Gate, and what that means for its doors.
type GateError struct {
	what string
	err  error
}

func gateError(what string, err error) error {
	if err == nil {
		return nil
	}
	return &GateError{what, err}
}

func (e *GateError) Error() string { return e.what + ": " + e.err.Error() }
func (e *GateError) Unwrap() error { return e.err }

// Busy reports whether the same request may be taken later.
func (e *GateError) Busy() bool {
	switch status(e.err) {
	case http.StatusRequestTimeout, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return IsBusy(e.err)
}

// Gone reports whether the resource isn't there any more, and its doors with it.
func (e *GateError) Gone() bool {
	return status(e.err) == http.StatusNotFound && (Code(e.err) == "ResourceNotFound" || Code(e.err) == "ResourceGroupNotFound")
}

// Refused reports whether ARM answered that it did nothing. No answer, or one of
// a proxy on the way, leaves open what happened.
func (e *GateError) Refused() bool {
	s := status(e.err)
	return Code(e.err) != "" && s >= 400 && s < 500 && s != http.StatusRequestTimeout
}

// Code is the service's own word; "" when it gave none.
func (e *GateError) Code() string { return Code(e.err) }

// Message is the sentence in the answer's body, "" when there is none. Key
// Vault's names the address that it refused.
func Message(err error) string {
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
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &b) != nil {
		return ""
	}
	return b.Error.Message
}
