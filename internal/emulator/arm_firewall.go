package emulator

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// azureServices is the name that the portal gives to the rule which lets in
// every address of Azure, other tenants' too.
const azureServices = "AllowAllAzureServicesAndResourcesWithinAzureIps"

var ruleName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func (a *arm) listRules(*call) (reply, error) {
	list := []any{}
	a.state.look(func(s *state) {
		for _, name := range slices.Sorted(maps.Keys(s.Server.Rules)) {
			list = append(list, ruleBody(s, name))
		}
	})
	return reply{http.StatusOK, map[string]any{"value": list}}, nil
}

func (a *arm) getRule(c *call) (reply, error) {
	var body map[string]any
	err := a.state.read(func(s *state) error {
		name, ok := findRule(s, c.vars["name"])
		if !ok {
			return resourceNotFound(serverType+"/firewallRules", s.Server.Name+"/"+c.vars["name"], s.Group)
		}
		body = ruleBody(s, name)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (a *arm) putRule(c *call) (reply, error) {
	var in struct {
		Properties firewallRule `json:"properties"`
	}
	if f := c.decode(&in, badRequest); f != nil {
		return reply{}, f
	}
	name := c.vars["name"]
	if !ruleName.MatchString(name) {
		return reply{}, invalidValue("firewallRuleName", name)
	}
	if f := in.Properties.check(); f != nil {
		return reply{}, f
	}
	var id string
	a.state.look(func(s *state) { id = serverID(s) + "/firewallRules/" + name })
	return a.begin(c, "Updating", id, func(ctx context.Context) error {
		err := a.state.change(func(s *state) error {
			if old, ok := findRule(s, name); ok {
				delete(s.Server.Rules, old)
			}
			s.Server.Rules[name] = in.Properties
			return nil
		})
		if err != nil {
			return err
		}
		a.edge() // a mirror may be able to reach the server now
		return a.gateClients(ctx)
	})
}

func (a *arm) deleteRule(c *call) (reply, error) {
	var there bool
	a.state.look(func(s *state) { _, there = findRule(s, c.vars["name"]) })
	if !there {
		return reply{status: http.StatusNoContent}, nil
	}
	return a.begin(c, "Updating", "", func(ctx context.Context) error {
		err := a.state.change(func(s *state) error {
			if name, ok := findRule(s, c.vars["name"]); ok {
				delete(s.Server.Rules, name)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return a.gateClients(ctx)
	})
}

// check wants two IPv4 addresses in order.
func (r firewallRule) check() *fault {
	start, err := netip.ParseAddr(r.Start)
	if err != nil || !start.Is4() {
		return invalidValue("startIpAddress", r.Start)
	}
	end, err := netip.ParseAddr(r.End)
	if err != nil || !end.Is4() || bytes.Compare(start.AsSlice(), end.AsSlice()) > 0 {
		return invalidValue("endIpAddress", r.End)
	}
	return nil
}

// admitsAzure says whether the server's firewall lets Azure's own services in.
func (s *serverState) admitsAzure() bool {
	for _, r := range s.Rules {
		if r.Start == "0.0.0.0" {
			return true // 0.0.0.0–0.0.0.0 is the special rule; a wider one has them too
		}
	}
	return false
}

// findRule finds a rule by its name, without regard to case.
func findRule(s *state, name string) (string, bool) {
	for have := range s.Server.Rules {
		if strings.EqualFold(have, name) {
			return have, true
		}
	}
	return "", false
}

func ruleBody(s *state, name string) map[string]any {
	return map[string]any{
		"id": serverID(s) + "/firewallRules/" + name, "name": name, "type": serverType + "/firewallRules",
		"properties": s.Server.Rules[name],
	}
}
