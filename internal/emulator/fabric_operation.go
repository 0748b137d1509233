package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// fabricOperation is a long-running operation. Its work is done when it is made;
// it shows itself as running until Ready.
type fabricOperation struct {
	Created time.Time       `json:"created"`
	Ready   time.Time       `json:"ready"`
	Result  json.RawMessage `json:"result,omitempty"`
	Code    string          `json:"code,omitempty"` // why it failed
	Message string          `json:"message,omitempty"`
}

// maybeLater answers now, or with 202 and an operation when the emulator is set
// to. The body of the 202 is the literal null, as recorded.
func (f *fabric) maybeLater(c *call, rep reply) (reply, error) {
	if !f.o.LongRunning {
		return rep, nil
	}
	op := &fabricOperation{Created: f.now(), Ready: f.now().Add(f.o.OperationDelay)}
	if rep.body != nil {
		body, err := json.Marshal(rep.body)
		if err != nil {
			return reply{}, fmt.Errorf("keep an operation's result: %w", err)
		}
		op.Result = body
	}
	return f.later(c, op)
}

// later answers with 202 and an operation.
func (f *fabric) later(c *call, op *fabricOperation) (reply, error) {
	id := newID()
	err := f.state.change(func(s *state) error {
		for old, o := range s.Operations {
			if f.now().Sub(o.Created) > 24*time.Hour {
				delete(s.Operations, old)
			}
		}
		s.Operations[id] = op
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	f.pending(c, id)
	return reply{http.StatusAccepted, json.RawMessage("null")}, nil
}

func (f *fabric) pending(c *call, id string) {
	f.location(c, "/operations/%s", id)
	c.header.Set("x-ms-operation-id", id)
	setPoll(c.header)
}

func (f *fabric) operation(id string) (op fabricOperation, err error) {
	err = f.state.read(func(s *state) error {
		found, ok := s.Operations[id]
		if !ok {
			return faultf(http.StatusNotFound, "OperationNotFound", "The operation '%s' was not found.", id)
		}
		op = *found
		return nil
	})
	return op, err
}

// getOperation tells the state of an operation. Its times lack the Z, as recorded.
func (f *fabric) getOperation(c *call) (reply, error) {
	id := c.vars["operation"]
	op, err := f.operation(id)
	if err != nil {
		return reply{}, err
	}
	status, percent := "Succeeded", 100
	switch {
	case f.now().Before(op.Ready):
		status, percent = "Running", 50
		f.pending(c, id)
	case op.Code != "":
		status = "Failed"
	case op.Result != nil:
		f.location(c, "/operations/%s/result", id)
		c.header.Set("x-ms-operation-id", id)
	}
	const noZone = "2006-01-02T15:04:05.000000"
	var failed *detail
	if status == "Failed" {
		failed = &detail{ErrorCode: op.Code, Message: op.Message}
	}
	return reply{http.StatusOK, map[string]any{
		"status": status, "percentComplete": percent, "error": failed,
		"createdTimeUtc": op.Created.UTC().Format(noZone), "lastUpdatedTimeUtc": f.now().UTC().Format(noZone),
	}}, nil
}

func (f *fabric) getOperationResult(c *call) (reply, error) {
	op, err := f.operation(c.vars["operation"])
	switch {
	case err != nil:
		return reply{}, err
	case f.now().Before(op.Ready) || op.Code != "":
		return reply{}, faultf(http.StatusBadRequest, "OperationNotSucceeded", "The operation has not succeeded.")
	case op.Result == nil:
		return reply{}, faultf(http.StatusBadRequest, "OperationHasNoResult", "The operation has no result")
	}
	return reply{http.StatusOK, op.Result}, nil
}
