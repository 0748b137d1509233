package emulator

import (
	"net/http"
	"slices"
	"strings"
)

// gatewayState is a virtual network data gateway: the only kind that the API
// makes. A connection by it reaches the server over the private network, where
// its firewall and public access count for nothing.
type gatewayState struct {
	ID       string         `json:"id"`
	Type     string         `json:"type"`
	Name     string         `json:"displayName"`
	Capacity string         `json:"capacityId"`
	Network  gatewayNetwork `json:"virtualNetworkAzureResource"`
	Sleep    int            `json:"inactivityMinutesBeforeSleep"`
	Members  *int           `json:"numberOfMemberGateways,omitempty"`
	Least    *int           `json:"minMemberGatewayCount,omitempty"`
	Most     *int           `json:"maxMemberGatewayCount,omitempty"`

	Roles []roleAssignment `json:"roleAssignments,omitempty"` // kept, and not shown with the gateway
}

func (g gatewayState) shown() gatewayState {
	g.Roles = nil
	return g
}

type gatewayNetwork struct {
	Subscription string `json:"subscriptionId"`
	Group        string `json:"resourceGroupName"`
	Network      string `json:"virtualNetworkName"`
	Subnet       string `json:"subnetName"`
}

const vnetGateway = "VirtualNetwork"

var gatewaySleeps = []int{30, 60, 90, 120, 150, 240, 360, 480, 720, 1440}

func (f *fabric) listGateways(c *call) (reply, error) {
	all := []gatewayState{}
	f.state.look(func(s *state) {
		for _, g := range s.Gateways {
			all = append(all, g.shown())
		}
	})
	return list(f, c, "value", all)
}

func (f *fabric) getGateway(c *call) (reply, error) {
	g, err := f.gateway(c.vars["gateway"])
	return reply{http.StatusOK, g.shown()}, err
}

// gateway returns a copy.
func (f *fabric) gateway(id string) (g gatewayState, err error) {
	err = f.state.read(func(s *state) error {
		found, err := s.gateway(id)
		if err == nil {
			g = *found
		}
		return err
	})
	return g, err
}

func (s *state) gateway(id string) (*gatewayState, error) {
	for _, g := range s.Gateways {
		if strings.EqualFold(g.ID, id) {
			return g, nil
		}
	}
	return nil, faultf(http.StatusNotFound, "EntityNotFound", "The requested gateway '%s' was not found", id)
}

func (f *fabric) createGateway(c *call) (reply, error) {
	var g gatewayState
	if e := c.decode(&g, invalidInput); e != nil {
		return reply{}, e
	}
	g.ID = newID()
	err := f.state.change(func(s *state) error {
		if e := g.check(s); e != nil {
			return e
		}
		g.Roles = []roleAssignment{{ID: s.User, Principal: s.User, PrincipalType: "User", Role: "Admin"}}
		s.Gateways = append(s.Gateways, &g)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	f.location(c, "/gateways/%s", g.ID)
	return reply{http.StatusCreated, g.shown()}, nil
}

// gatewayRoles are a gateway's; its first administrator is who made it.
func (f *fabric) gatewayRoles() roles {
	return roles{
		known: gatewayRoles,
		twice: faultf(http.StatusConflict, "EntityConflict", "The principal has a role on the gateway already"),
		of: func(s *state, c *call) (*[]roleAssignment, error) {
			g, err := s.gateway(c.vars["gateway"])
			if err != nil {
				return nil, err
			}
			return &g.Roles, nil
		},
	}
}

func (g *gatewayState) check(s *state) *fault {
	n := g.Network
	switch {
	case g.Type != vnetGateway:
		return faultf(http.StatusBadRequest, "UnsupportedGatewayType", "The gateway type is not supported for this API: %s", g.Type)
	case g.Name == "" || len(g.Name) > 200:
		return invalidInput("displayName has 1 to 200 characters")
	case n.Subscription == "" || n.Group == "" || n.Network == "" || n.Subnet == "":
		return invalidInput("virtualNetworkAzureResource needs subscriptionId, resourceGroupName, virtualNetworkName and subnetName")
	case !slices.Contains(gatewaySleeps, g.Sleep):
		return invalidInput("inactivityMinutesBeforeSleep is one of 30, 60, 90, 120, 150, 240, 360, 480, 720, 1440")
	case !strings.EqualFold(g.Capacity, s.CapacityID):
		return faultf(http.StatusBadRequest, "InvalidCapacityState", "The capacity '%s' is not one that is there and active.", g.Capacity)
	case s.World.CapacityPaused:
		return faultf(http.StatusBadRequest, "InvalidCapacityState", "The capacity '%s' is paused.", g.Capacity)
	}
	if slices.ContainsFunc(s.Gateways, func(o *gatewayState) bool { return o.ID != g.ID && strings.EqualFold(o.Name, g.Name) }) {
		return faultf(http.StatusConflict, "DuplicateGatewayName", "The gateway DisplayName input is already being used by another gateway")
	}
	return g.checkMembers()
}

// checkMembers wants a fixed number of members, or the least and the most.
func (g *gatewayState) checkMembers() *fault {
	in := func(n *int) bool { return n != nil && *n >= 1 && *n <= 9 }
	fixed := in(g.Members) && g.Least == nil && g.Most == nil
	scaled := g.Members == nil && in(g.Least) && in(g.Most) && *g.Least <= *g.Most
	if !fixed && !scaled {
		return invalidInput("either numberOfMemberGateways, or minMemberGatewayCount and maxMemberGatewayCount, 1 to 9")
	}
	return nil
}

// patchGateway changes name, capacity, sleep and members.
func (f *fabric) patchGateway(c *call) (reply, error) {
	var in struct {
		Type, DisplayName, CapacityID                        *string
		InactivityMinutesBeforeSleep, NumberOfMemberGateways *int
		MinMemberGatewayCount, MaxMemberGatewayCount         *int
	}
	if e := c.decode(&in, invalidInput); e != nil {
		return reply{}, e
	}
	var body gatewayState
	err := f.state.change(func(s *state) error {
		g, err := s.gateway(c.vars["gateway"])
		if err != nil {
			return err
		}
		next := *g
		next.Type, next.Name, next.Capacity = or(in.Type, ""), or(in.DisplayName, g.Name), or(in.CapacityID, g.Capacity)
		if in.InactivityMinutesBeforeSleep != nil {
			next.Sleep = *in.InactivityMinutesBeforeSleep
		}
		if in.NumberOfMemberGateways != nil || in.MinMemberGatewayCount != nil || in.MaxMemberGatewayCount != nil {
			next.Members, next.Least, next.Most = in.NumberOfMemberGateways, in.MinMemberGatewayCount, in.MaxMemberGatewayCount
		}
		if e := next.check(s); e != nil {
			return e
		}
		*g, body = next, next.shown()
		return nil
	})
	return reply{http.StatusOK, body}, err
}

// deleteGateway leaves connections behind that reach nothing any more.
func (f *fabric) deleteGateway(c *call) (reply, error) {
	err := f.state.change(func(s *state) error {
		g, err := s.gateway(c.vars["gateway"])
		if err != nil {
			return err
		}
		s.Gateways = slices.DeleteFunc(s.Gateways, func(o *gatewayState) bool { return o == g })
		return nil
	})
	f.mirrors.edge()
	return reply{status: http.StatusOK}, err
}

func (f *fabric) gatewayStatus(c *call) (reply, error) {
	_, err := f.gateway(c.vars["gateway"])
	return reply{http.StatusOK, map[string]any{"status": "Online", "errors": []any{}}}, err
}
