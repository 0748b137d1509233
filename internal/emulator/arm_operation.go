package emulator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// armOperation is one asynchronous write to the server.
type armOperation struct {
	ID       string    `json:"id"`
	Status   string    `json:"status"` // InProgress, Succeeded, Failed
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Code     string    `json:"code,omitempty"`
	Message  string    `json:"message,omitempty"`
	Resource string    `json:"resource,omitempty"` // what the operation made or changed
}

// pollMillis is what we ask a client to wait between two looks. Azure says 10 or
// 15 s; the header is one that Azure's clients honour.
const pollMillis = "50"

// begin starts a write to the server and answers 202. One at a time: another one
// meanwhile is ServerIsBusy. status is what the server shows while it runs;
// resource is what a client reads when it is over, "" for nothing.
func (a *arm) begin(c *call, status, resource string, work func(ctx context.Context) error) (reply, error) {
	if !a.writing.TryLock() {
		return reply{}, a.busy()
	}
	op := &armOperation{ID: newID(), Status: "InProgress", Start: time.Now().UTC(), Resource: resource}
	err := a.state.change(func(s *state) error {
		s.Server.Status = status
		s.Server.Operations[op.ID] = op
		return nil
	})
	if err != nil {
		a.writing.Unlock()
		return reply{}, err
	}
	over := a.now().Add(a.delay)
	started := a.tasks.run(func(ctx context.Context) {
		err := await(ctx, a.now, over)
		if failed := operationFault(c.Context()); err == nil && failed != nil {
			err = failed
		}
		if err == nil {
			err = work(ctx)
		}
		a.finish(op.ID, err)
	})
	if !started {
		a.writing.Unlock()
		return reply{}, faultf(http.StatusServiceUnavailable, "ServiceUnavailable", "The emulator is closing.")
	}
	return a.accepted(c, op), nil
}

func (a *arm) busy() *fault {
	var name string
	a.state.look(func(s *state) { name = s.Server.Name })
	return faultf(http.StatusConflict, "ServerIsBusy",
		"Cannot complete operation while server '%s' is busy processing another operation. Try again later.", name)
}

// finish ends an operation. Who sees that it is over may write at once, so the next
// write is let in before anyone can look; begin's own change comes after this one.
func (a *arm) finish(id string, err error) {
	saved := a.state.change(func(s *state) error {
		defer a.writing.Unlock()
		op := s.Server.Operations[id]
		op.End = time.Now().UTC()
		op.Status, op.Code, op.Message = outcome(err)
		s.Server.Status = "Ready"
		forgetOld(s.Server.Operations)
		return nil
	})
	if err != nil || saved != nil {
		a.log.Warn("operation failed", "operation", id, "error", errors.Join(err, saved))
	}
}

// outcome tells an error as ARM shows it in a failed operation.
func outcome(err error) (status, code, message string) {
	var f *fault
	switch {
	case err == nil:
		return "Succeeded", "", ""
	case errors.As(err, &f):
		return "Failed", f.code, f.message
	}
	return "Failed", "InternalServerError", "An unexpected error occurred while processing the request."
}

// forgetOld drops operations that ended more than a day ago.
func forgetOld(ops map[string]*armOperation) {
	for id, op := range ops {
		if op.Status != "InProgress" && time.Since(op.End) > 24*time.Hour {
			delete(ops, id)
		}
	}
}

// accepted is the 202 with both addresses to follow. The query is long on
// purpose: the real one is signed, and a client must keep it as it is.
func (a *arm) accepted(c *call, op *armOperation) reply {
	query := url.Values{"api-version": {c.URL.Query().Get("api-version")}, "t": {fmt.Sprint(op.Start.UnixNano())}, "s": {op.ID}}
	at := func(kind string) string { return a.base + a.operationPath(kind, op.ID) + "?" + query.Encode() }
	c.header.Set("Azure-AsyncOperation", at("azureAsyncOperation"))
	c.header.Set("Location", at("operationResults"))
	setPoll(c.header)
	return reply{http.StatusAccepted, map[string]any{"operation": "Upsert", "startTime": op.Start.Format(time.RFC3339Nano)}}
}

func setPoll(h http.Header) {
	h.Set("Retry-After", "1")
	h.Set("x-ms-retry-after-ms", pollMillis)
}

func (a *arm) operationPath(kind, id string) (path string) {
	a.state.look(func(s *state) {
		path = strings.NewReplacer("{sub}", s.Subscription, "{location}", s.Location).Replace(locations) + "/" + kind + "/" + id
	})
	return path
}

func (a *arm) operation(id string) (op armOperation, err error) {
	err = a.state.read(func(s *state) error {
		found, ok := s.Server.Operations[strings.ToLower(id)]
		if !ok {
			return faultf(http.StatusNotFound, "ResourceNotFound", "The operation '%s' was not found.", id)
		}
		op = *found
		return nil
	})
	return op, err
}

// getOperation answers the Azure-AsyncOperation address.
func (a *arm) getOperation(c *call) (reply, error) {
	op, err := a.operation(c.vars["op"])
	if err != nil {
		return reply{}, err
	}
	body := map[string]any{"name": op.ID, "status": op.Status, "startTime": op.Start.Format(time.RFC3339Nano)}
	switch op.Status {
	case "InProgress":
		setPoll(c.header)
	case "Failed":
		body["error"] = map[string]any{"code": op.Code, "message": op.Message}
	}
	return reply{http.StatusOK, body}, nil
}

// getOperationResult answers the Location address: 202 while it runs, then what
// the operation left behind.
func (a *arm) getOperationResult(c *call) (reply, error) {
	op, err := a.operation(c.vars["op"])
	switch {
	case err != nil:
		return reply{}, err
	case op.Status == "InProgress":
		c.header.Set("Location", a.base+c.URL.RequestURI())
		setPoll(c.header)
		return reply{status: http.StatusAccepted}, nil
	case op.Status == "Failed":
		return reply{}, faultf(http.StatusConflict, op.Code, "%s", op.Message)
	case op.Resource == "":
		return reply{status: http.StatusNoContent}, nil
	}
	return a.follow(c, op.Resource)
}

// follow answers with the resource at path, as a GET on it would.
func (a *arm) follow(c *call, path string) (reply, error) {
	u := *c.URL
	u.Path, u.RawPath = path, ""
	h, vars, _ := a.service.router.find(&http.Request{Method: "GET", URL: &u})
	if h == nil {
		return reply{status: http.StatusNoContent}, nil
	}
	next := *c.Request
	next.URL = &u
	return h(&call{Request: &next, header: c.header, vars: vars})
}
