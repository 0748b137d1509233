package fabric

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const (
	maxErrorBody = 1 << 20 // bytes of an error answer that are read
	maxMessage   = 500     // characters of a page that is no JSON, kept for the message
)

// answers reads every refusal itself, so that the SDK never has to: its decoder
// panics on a JSON body without errorCode and loses the status of any other
// (HTML, plain text, nothing), which is what proxies and gateways send.
type answers struct{}

// Do returns an *Error for every answer that isn't a success of this request.
func (answers) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err != nil {
		return nil, err
	}
	want, ok := settle(req.Raw(), resp.StatusCode)
	if !ok {
		return nil, refusal(resp, secretsOf(req.Raw().Context()))
	}
	resp.StatusCode = want
	if req.Raw().Method == http.MethodGet && strings.Contains(req.Raw().URL.Path, "/operations/") {
		return failedOperation(resp)
	}
	return resp, nil
}

// settle gives the success status under which the SDK knows this answer. The
// service has been seen to start a mirror with 202 where 200 is documented.
func settle(req *http.Request, status int) (int, bool) {
	if status < 200 || status > 299 {
		return 0, false
	}
	last := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
	switch {
	case req.Method == http.MethodDelete, last == "startMirroring", last == "stopMirroring":
		return http.StatusOK, true
	case last == "getDefinition", last == "updateDefinition", last == "testConnection":
		return status, status == http.StatusOK || status == http.StatusAccepted
	case req.Method == http.MethodPost && slices.Contains([]string{"connections", "mirroredDatabases", "roleAssignments"}, last):
		return http.StatusCreated, status == http.StatusOK || status == http.StatusCreated
	}
	return http.StatusOK, status == http.StatusOK
}

// refusal reads an answer to its end and makes an *Error of whatever it holds.
func refusal(resp *http.Response, secrets *strings.Replacer) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	e := decodeError([]byte(secrets.Replace(string(body))))
	e.scrub(secrets)
	if err != nil && e.Message == "" {
		e.Message = "the answer broke off"
	}
	e.Status = resp.StatusCode
	for _, name := range []string{"x-ms-public-api-error-code", "x-ms-error-code"} { // Fabric's, Storage's
		if e.Code == "" {
			e.Code = resp.Header.Get(name)
		}
	}
	for _, name := range []string{"RequestId", "x-ms-request-id"} {
		if e.RequestID == "" {
			e.RequestID = resp.Header.Get(name)
		}
	}
	if e.Message == "" {
		e.Message = strings.ToLower(http.StatusText(e.Status))
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return e
}

// failedOperation turns the state of a failed operation (status 200) into the
// error that it tells of, and hands on every other state unread.
func failedOperation(resp *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read operation: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var state struct {
		Status string          `json:"status"`
		Error  json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &state) != nil {
		return resp, nil // a result, in the form of the operation
	}
	switch strings.ToLower(state.Status) {
	case "failed", "canceled", "cancelled", "undefined":
		e := decodeError(state.Error)
		e.Status = resp.StatusCode
		if e.Message == "" {
			e.Message = "the operation ended as " + state.Status
		}
		return nil, e
	}
	return resp, nil
}

// errorBody is the flat shape that the service sends and, inside Error, the
// nested one of its throttling article.
type errorBody struct {
	ErrorCode   text            `json:"errorCode"`
	Code        text            `json:"code"`
	Message     text            `json:"message"`
	RequestID   text            `json:"requestId"`
	IsRetriable any             `json:"isRetriable"`
	MoreDetails json.RawMessage `json:"moreDetails"`
	Error       json.RawMessage `json:"error"`
}

// text takes any JSON value where a string is expected; a wrong type in an
// error must not hide the rest of it.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	} else {
		*t = text(b)
	}
	return nil
}

func decodeError(body []byte) *Error {
	var b errorBody
	if err := json.Unmarshal(body, &b); err != nil {
		return &Error{Message: plain(body)}
	}
	if b.ErrorCode == "" && b.Code == "" && len(b.Error) > 0 && b.Error[0] == '{' {
		outer := b.RequestID
		// The same bytes were valid JSON a moment ago.
		_ = json.Unmarshal(b.Error, &b)
		if b.RequestID == "" {
			b.RequestID = outer
		}
	}
	e := &Error{Code: string(b.ErrorCode), Message: string(b.Message), RequestID: string(b.RequestID), Retriable: b.IsRetriable == true}
	if e.Code == "" {
		e.Code = string(b.Code)
	}
	var more []errorBody
	// Details are extra; what doesn't fit is left out.
	_ = json.Unmarshal(b.MoreDetails, &more)
	for _, d := range more {
		e.Details = append(e.Details, Detail{string(d.ErrorCode), string(d.Message)})
	}
	return e
}

// plain makes one line of a page: tags gone, blanks folded, cut at maxMessage.
func plain(body []byte) string {
	inTag := false
	s := strings.Map(func(r rune) rune {
		switch {
		case r == '<':
			inTag = true
			return ' '
		case r == '>' && inTag:
			inTag = false
			return ' '
		case inTag, r == unicode.ReplacementChar:
			return -1
		case unicode.IsControl(r):
			return ' '
		}
		return r
	}, string(body))
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > maxMessage {
		r = append(r[:maxMessage], '…')
	}
	return string(r)
}

func retryAfter(h string) time.Duration {
	if n, err := strconv.Atoi(h); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}
