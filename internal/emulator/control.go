package emulator

import (
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// control is the emulator's own endpoint, in plain HTTP: what is wrong with the
// world, what time it is, and tokens as a managed identity gets them.
type control struct {
	state    *stateFile
	faults   *faults
	mirrors  *mirrors
	advanced *atomic.Int64
	now      func() time.Time
	service  *service
}

//go:embed rules.json
var rulesJSON []byte

func newControl(k *control, secret string, log *slog.Logger) *control {
	k.service = &service{
		name:      "control",
		authorize: func(c *call) *fault { return authorizeControl(c, secret) },
		render:    renderARM,
		manners:   func(h http.Header, _ string) { h.Set("Cache-Control", "no-store") },
		unknown: func(c *call) *fault {
			return faultf(http.StatusNotFound, "NotFound", "The emulator's own endpoints are /rules, /faults, /clock, /tenant and /msi/token.")
		},
		notThis: func(c *call, allow string) *fault {
			return faultf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The method %s is not known here; allowed are: %s.", c.Method, allow)
		},
		log: log,
	}
	k.routes()
	return k
}

// routes is the table of contents of the emulator's own endpoint.
func (k *control) routes() {
	on := k.service.router.on
	on("GET", "/rules", k.rules)
	on("GET", "/faults", k.listFaults)
	on("POST", "/faults", func(c *call) (reply, error) { return k.setFaults(c, true) })
	on("PUT", "/faults", func(c *call) (reply, error) { return k.setFaults(c, false) })
	on("DELETE", "/faults", k.clearFaults)
	on("GET", "/clock", k.getClock)
	on("POST", "/clock", k.advance)
	on("GET", "/tenant", k.getTenant)
	on("PATCH", "/tenant", k.patchTenant)
	on("GET", "/msi/token", k.identityToken)
}

// authorizeControl wants the secret that the environment holds: the port is open
// to whoever is on this machine.
func authorizeControl(c *call, secret string) *fault {
	given := c.Header.Get("X-IDENTITY-HEADER")
	if given == "" {
		_, given = bearerOf(c.Request)
	}
	if !sameSecret(given, secret) {
		return faultf(http.StatusUnauthorized, "Unauthorized", "Send EMULATOR_TOKEN as a bearer token, or IDENTITY_HEADER as X-IDENTITY-HEADER.")
	}
	return nil
}

func invalidControl(why string) *fault {
	return faultf(http.StatusBadRequest, "InvalidInput", "%s", why)
}

func (k *control) rules(*call) (reply, error) {
	return reply{http.StatusOK, json.RawMessage(rulesJSON)}, nil
}

func (k *control) listFaults(*call) (reply, error) {
	return reply{http.StatusOK, k.faults.all()}, nil
}

func (k *control) setFaults(c *call, keep bool) (reply, error) {
	var raw json.RawMessage
	if f := c.decode(&raw, invalidControl); f != nil {
		return reply{}, f
	}
	list, err := ParseFaults(raw)
	if err == nil {
		err = k.faults.set(list, keep)
	}
	if err != nil {
		return reply{}, invalidControl(err.Error())
	}
	return k.listFaults(c)
}

func (k *control) clearFaults(c *call) (reply, error) {
	if err := k.faults.set(nil, false); err != nil {
		return reply{}, err
	}
	return k.listFaults(c)
}

func (k *control) getClock(*call) (reply, error) {
	return reply{http.StatusOK, map[string]any{"now": stamp(k.now())}}, nil
}

// advance moves the emulated time; it never goes back.
func (k *control) advance(c *call) (reply, error) {
	var in struct {
		Advance string `json:"advance"`
	}
	if f := c.decode(&in, invalidControl); f != nil {
		return reply{}, f
	}
	d, err := time.ParseDuration(in.Advance)
	if err != nil || d < 0 {
		return reply{}, invalidControl("advance is a duration such as 24h")
	}
	err = k.state.change(func(s *state) error {
		s.World.Advanced += d
		k.advanced.Store(int64(s.World.Advanced))
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	k.mirrors.edge()
	return k.getClock(c)
}
