package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Fault makes a service misbehave. It is plain data: a file of them is a JSON
// array.
type Fault struct {
	// Which requests it strikes. A segment * of the path stands for any one, ** at
	// its end for all that follow; a query has to be there as it stands.
	Service string `json:"service,omitempty"` // fabric, arm, vault, dfs, blob; "" is any
	Method  string `json:"method,omitempty"`  // "" is any
	Path    string `json:"path,omitempty"`    // "" is any
	After   int    `json:"after,omitempty"`   // how many of them are let through first
	Count   int    `json:"count,omitempty"`   // how many it strikes then; 0 is all

	// What happens to them.
	Latency    string            `json:"latency,omitempty"`    // before anything else: "300ms"
	Done       bool              `json:"done,omitempty"`       // the request takes its effect; else only its answer is made up
	Drop       bool              `json:"drop,omitempty"`       // no answer: the connection is cut; with done, a lost response
	Status     int               `json:"status,omitempty"`     // of the answer that is made up
	Code       string            `json:"code,omitempty"`       // of the error, in the service's own shape
	Inner      string            `json:"inner,omitempty"`      // Key Vault's inner code
	Message    string            `json:"message,omitempty"`    // likewise
	Body       string            `json:"body,omitempty"`       // json, html, text, empty, truncated; "" is json
	RetryAfter int               `json:"retryAfter,omitempty"` // seconds
	Headers    map[string]string `json:"headers,omitempty"`    // of the answer
	Operation  *OperationFault   `json:"operation,omitempty"`  // accepted with 202, and then it fails without an effect
}

// OperationFault is how an asynchronous operation fails.
type OperationFault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// faultHeader, in an answer, says that a fault made it.
const faultHeader = "X-Emulator-Fault"

var (
	faultServices = []string{"", "fabric", "arm", "vault", "dfs", "blob"}
	faultBodies   = []string{"", "json", "html", "text", "empty", "truncated"}
)

// check says what is wrong with a fault.
func (f *Fault) check() error {
	latency, err := time.ParseDuration(firstNonEmpty(f.Latency, "0s"))
	switch {
	case err != nil || latency < 0:
		return fmt.Errorf("latency %q is no duration such as 300ms", f.Latency)
	case !slices.Contains(faultServices, f.Service):
		return fmt.Errorf("service %q is none of fabric, arm, vault, dfs, blob", f.Service)
	case !slices.Contains(faultBodies, f.Body):
		return fmt.Errorf("body %q is none of json, html, text, empty, truncated", f.Body)
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status %d is no error", f.Status)
	case f.After < 0 || f.Count < 0 || f.RetryAfter < 0:
		return fmt.Errorf("after, count and retryAfter can't be negative")
	case f.Status == 0 && !f.Drop && f.Operation == nil && latency == 0:
		return fmt.Errorf("a fault needs one of status, drop, operation, latency")
	case f.Operation != nil && f.Operation.Code == "":
		return fmt.Errorf("operation.code is required")
	}
	_, _, err = f.pattern()
	return err
}

func (f *Fault) pattern() (path []string, query url.Values, err error) {
	p, q, _ := strings.Cut(f.Path, "?")
	if query, err = url.ParseQuery(q); err != nil {
		return nil, nil, fmt.Errorf("path %q: its query can't be read", f.Path)
	}
	return segments(p), query, nil
}

// strikes says whether a request is one of those meant.
func (f *Fault) strikes(service string, r *http.Request) bool {
	if f.Service != "" && f.Service != service || f.Method != "" && !strings.EqualFold(f.Method, r.Method) {
		return false
	}
	want, query, err := f.pattern()
	if err != nil {
		return false
	}
	have := r.URL.Query()
	for name, v := range query {
		if !slices.Equal(v, have[name]) {
			return false
		}
	}
	return f.Path == "" || strings.HasPrefix(f.Path, "?") || covered(want, segments(r.URL.Path))
}

func covered(pattern, path []string) bool {
	for i, p := range pattern {
		switch {
		case p == "**":
			return true
		case i >= len(path) || p != "*" && !strings.EqualFold(p, path[i]):
			return false
		}
	}
	return len(pattern) == len(path)
}

// faults are those in force.
type faults struct {
	mu   sync.Mutex
	list []*armedFault
	now  func() time.Time
}

// armedFault counts the requests that it met.
type armedFault struct {
	Fault
	Met    int `json:"met"`
	Struck int `json:"struck"`
}

func (fs *faults) set(list []Fault, keep bool) error {
	var armed []*armedFault
	for i := range list {
		if err := list[i].check(); err != nil {
			return fmt.Errorf("fault %d: %w", i+1, err)
		}
		armed = append(armed, &armedFault{Fault: list[i]})
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !keep {
		fs.list = nil
	}
	fs.list = append(fs.list, armed...)
	return nil
}

// all is a copy.
func (fs *faults) all() []armedFault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out := []armedFault{}
	for _, f := range fs.list {
		out = append(out, *f)
	}
	return out
}

// strike finds the first fault that is due for a request.
func (fs *faults) strike(service string, r *http.Request) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if !f.strikes(service, r) || f.Count > 0 && f.Struck >= f.Count {
			continue
		}
		if f.Met++; f.Met <= f.After {
			continue
		}
		f.Struck++
		hit := f.Fault
		return &hit
	}
	return nil
}

// wrap lets faults come before a service. refuse writes an error in the
// service's own shape.
func (fs *faults) wrap(service string, refuse refuser, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hit := fs.strike(service, r)
		if hit == nil {
			h.ServeHTTP(w, r)
			return
		}
		latency, _ := time.ParseDuration(firstNonEmpty(hit.Latency, "0s")) // checked when it came in
		if wait(r.Context(), latency) != nil {
			return
		}
		if hit.Operation != nil {
			r = r.WithContext(context.WithValue(r.Context(), operationFaultKey{}, hit.Operation))
		}
		if hit.Status == 0 && !hit.Drop {
			h.ServeHTTP(w, r)
			return
		}
		if hit.Done {
			h.ServeHTTP(&unheard{h: http.Header{}}, r)
		}
		if hit.Drop {
			panic(http.ErrAbortHandler) // net/http's way to cut a connection
		}
		fs.answer(w, r, service, hit, refuse)
	})
}

// unheard takes an answer that nobody gets.
type unheard struct{ h http.Header }

func (u *unheard) Header() http.Header         { return u.h }
func (u *unheard) Write(b []byte) (int, error) { return len(b), nil }
func (u *unheard) WriteHeader(int)             {}

type operationFaultKey struct{}

// operationFault is the fault that an operation begun by this request ends with,
// or nil.
func operationFault(ctx context.Context) *fault {
	f, _ := ctx.Value(operationFaultKey{}).(*OperationFault)
	if f == nil {
		return nil
	}
	return faultf(http.StatusConflict, f.Code, "%s", f.Message)
}

// refuser writes an error as one service does.
type refuser func(w http.ResponseWriter, r *http.Request, f *fault)

func (s *service) refuse(w http.ResponseWriter, _ *http.Request, f *fault) {
	id := uuid.NewString()
	s.manners(w.Header(), id)
	send(w, s.fail(w.Header(), id, f))
}

func (fs *faults) answer(w http.ResponseWriter, r *http.Request, service string, hit *Fault, refuse refuser) {
	h := w.Header()
	h.Set(faultHeader, "1")
	for name, v := range hit.Headers {
		h.Set(name, v)
	}
	f := &fault{status: hit.Status, code: hit.Code, message: hit.Message, inner: hit.Inner}
	if hit.Status == http.StatusTooManyRequests {
		fs.throttle(f, service, hit)
	}
	if hit.RetryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(hit.RetryAfter))
	}
	if f.code == "" {
		f.code = strings.ReplaceAll(http.StatusText(f.status), " ", "")
	}
	f.message = firstNonEmpty(f.message, http.StatusText(f.status))
	switch hit.Body {
	case "html":
		h.Set("Content-Type", "text/html")
		text := fmt.Sprintf("%d %s", f.status, http.StatusText(f.status))
		send(w, reply{f.status, []byte("<html><head><title>" + text + "</title></head><body><center><h1>" + text + "</h1></center></body></html>")})
	case "text":
		h.Set("Content-Type", "text/plain")
		send(w, reply{f.status, []byte(f.message)})
	case "empty":
		send(w, reply{f.status, nil})
	case "truncated":
		h.Set("Content-Type", "application/json; charset=utf-8")
		send(w, reply{f.status, []byte(`{"requestId":"`)})
	default:
		refuse(w, r, f)
	}
}

// throttle is Fabric's recorded 429.
func (fs *faults) throttle(f *fault, service string, hit *Fault) {
	if hit.RetryAfter == 0 {
		hit.RetryAfter = 1
	}
	if service == "fabric" && f.code == "" {
		until := fs.now().Add(time.Duration(hit.RetryAfter) * time.Second).UTC().Format("1/2/2006 3:04:05 PM")
		f.code, f.message = "RequestBlocked", "Request is blocked by the upstream service until: "+until+" (UTC)"
	}
}

// ParseFaults reads a JSON array of faults.
func ParseFaults(text []byte) ([]Fault, error) {
	var list []Fault
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("read faults: %w", err)
	}
	for i := range list {
		if err := list[i].check(); err != nil {
			return nil, fmt.Errorf("read faults: fault %d: %w", i+1, err)
		}
	}
	return list, nil
}
