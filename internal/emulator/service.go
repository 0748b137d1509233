package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// maxBody is the most that a JSON request may hold. Definitions are the largest
// ones, a few hundred kB at worst.
const maxBody = 8 << 20

// fault is an error that a service tells its caller, in the service's own shape.
type fault struct {
	status  int
	code    string
	message string
	inner   string // Key Vault's inner code
	details []detail
	header  map[string]string
}

// detail is one entry of Fabric's moreDetails.
type detail struct {
	ErrorCode       string           `json:"errorCode"`
	Message         string           `json:"message"`
	RelatedResource *relatedResource `json:"relatedResource,omitempty"`
}

type relatedResource struct {
	ResourceID   string `json:"resourceId"`
	ResourceType string `json:"resourceType"`
}

func (f *fault) Error() string { return f.code + ": " + f.message }

func faultf(status int, code, format string, args ...any) *fault {
	return &fault{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func (f *fault) with(name, value string) *fault {
	if f.header == nil {
		f.header = map[string]string{}
	}
	f.header[name] = value
	return f
}

// service is one of the emulated services: its endpoints and its manners.
type service struct {
	name      string
	router    router
	authorize func(c *call) *fault            // nil: let it in
	render    func(f *fault, id string) any   // the body of an error
	manners   func(h http.Header, id string)  // headers that every answer has
	unknown   func(c *call) *fault            // no such path
	notThis   func(c *call, ok string) *fault // the path exists, the method doesn't
	log       *slog.Logger

	errorHeader string // that has an error's code, besides the body; "" for none
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	s.manners(w.Header(), id)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	c := &call{Request: r, header: w.Header()}
	rep, err := s.answer(c)
	if err != nil {
		rep = s.fail(w.Header(), id, err)
	}
	s.log.Debug("answered", "service", s.name, "method", r.Method, "path", r.URL.Path, "status", rep.status, "request", id)
	send(w, rep)
}

func (s *service) answer(c *call) (reply, error) {
	if f := s.authorize(c); f != nil {
		return reply{}, f
	}
	h, vars, allow := s.router.find(c.Request)
	switch {
	case h != nil:
		c.vars = vars
		return h(c)
	case len(allow) > 0:
		c.header.Set("Allow", strings.Join(allow, ", "))
		return reply{}, s.notThis(c, strings.Join(allow, ", "))
	}
	return reply{}, s.unknown(c)
}

func (s *service) fail(h http.Header, id string, err error) reply {
	var f *fault
	if !errors.As(err, &f) {
		s.log.Error("cannot answer", "service", s.name, "request", id, "error", err)
		f = faultf(http.StatusInternalServerError, "InternalServerError", "An internal error occurred. Request %s.", id)
	}
	for name, value := range f.header {
		h.Set(name, value)
	}
	if s.errorHeader != "" {
		h.Set(s.errorHeader, f.code)
	}
	return reply{f.status, s.render(f, id)}
}

func send(w http.ResponseWriter, rep reply) {
	var body []byte
	switch b := rep.body.(type) {
	case nil:
	case []byte:
		body = b
	default:
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(b); err != nil {
			// Every body is a struct or map of plain values of ours.
			http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
			return
		}
		body = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
		if w.Header().Get("Content-Type") == "" {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
		}
	}
	w.WriteHeader(rep.status)
	_, _ = w.Write(body) // the caller has gone: nobody is left to tell
}

// decode reads the body as one JSON value into v. bad makes the service's own
// fault from what is wrong with it.
func (c *call) decode(v any, bad func(why string) *fault) *fault {
	if ct := c.Request.Header.Get("Content-Type"); ct != "" {
		if kind, _, err := mime.ParseMediaType(ct); err != nil || kind != "application/json" {
			return bad("the content type must be application/json")
		}
	}
	body, err := io.ReadAll(c.Body)
	if err != nil {
		return bad("the body could not be read")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return bad("the body is empty")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return bad("the body is not the JSON that is expected: " + jsonProblem(err))
	}
	return nil
}

// jsonProblem says what is wrong with a JSON text without repeating any of it:
// it may hold a password.
func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("syntax error at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf("field %q is of the wrong type", kind.Field)
	}
	return "it cannot be read"
}
