package emulator

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func (a *arm) listParameters(c *call) (reply, error) {
	list, err := a.db.settings(c.Context(), "")
	if err != nil {
		return reply{}, err
	}
	list = append(list, catalog.Own...)
	slices.SortFunc(list, func(x, y parameter) int { return strings.Compare(x.Name, y.Name) })
	bodies := []any{}
	a.state.look(func(s *state) {
		for _, p := range list {
			bodies = append(bodies, shown(s, p))
		}
	})
	return reply{http.StatusOK, map[string]any{"value": bodies}}, nil
}

func (a *arm) getParameter(c *call) (reply, error) {
	p, err := a.parameter(c.Context(), c.vars["name"])
	if err != nil {
		return reply{}, err
	}
	var body map[string]any
	a.state.look(func(s *state) { body = shown(s, p) })
	return reply{http.StatusOK, body}, nil
}

// shown is a parameter with the value that was asked for last.
func shown(s *state, p parameter) map[string]any {
	p, set := current(&s.Server, p)
	return p.body(serverID(s), set)
}

// current fills in what was asked for and what is in force.
func current(sv *serverState, p parameter) (_ parameter, set bool) {
	if p.own {
		p.running = firstNonEmpty(sv.Running[p.Name], p.Default)
	}
	v, set := sv.Params[p.Name]
	switch {
	case set:
		p.Value = v
	case p.own:
		p.Value = p.Default
	default:
		p.Value = p.running
	}
	if p.Name == "azure.service_principal_id" {
		p.Value = sv.Principal
	}
	return p, set
}

// parameter finds one by name, Azure's own or PostgreSQL's.
func (a *arm) parameter(ctx context.Context, name string) (parameter, error) {
	name = strings.ToLower(name)
	if p, ok := ownParameter(name); ok {
		return p, nil
	}
	found, err := a.db.settings(ctx, name)
	if err != nil {
		return parameter{}, err
	}
	if name == "" || len(found) != 1 {
		return parameter{}, faultf(http.StatusNotFound, "ConfigurationNotExists", "The configuration '%s' does not exist for the server.", name)
	}
	return found[0], nil
}

// setParameter changes one parameter: at once when it is dynamic, else from the
// next restart on.
func (a *arm) setParameter(c *call) (reply, error) {
	var in struct {
		Properties struct {
			Value  *string `json:"value"`
			Source string  `json:"source"`
		} `json:"properties"`
	}
	if f := c.decode(&in, badRequest); f != nil {
		return reply{}, f
	}
	p, err := a.parameter(c.Context(), c.vars["name"])
	if err != nil {
		return reply{}, err
	}
	value, f := p.wanted(in.Properties.Value, in.Properties.Source)
	if f != nil {
		return reply{}, f
	}
	if f := a.admits(c.Context(), p.Name, value); f != nil {
		return reply{}, f
	}
	var id string
	a.state.look(func(s *state) { id = serverID(s) + "/configurations/" + p.Name })
	return a.begin(c, "Updating", id, func(ctx context.Context) error { return a.applyParameter(ctx, p, value) })
}

func (p *parameter) wanted(value *string, source string) (string, *fault) {
	switch {
	case p.ReadOnly:
		// Azure answers with its own unfilled template here (pulumi-azure-native#898).
		return "", faultf(http.StatusBadRequest, "OperationFailed", "{0}")
	case source == "system-default":
		return p.Default, nil
	case value == nil:
		return "", badRequest("properties.value is required")
	case !p.allows(*value):
		return "", faultf(http.StatusBadRequest, "InvalidParameterValue",
			"Invalid value given for parameter %s. Allowed values are %s.", p.Name, p.Allowed)
	}
	return *value, nil
}

// admits refuses names of databases that the server doesn't have, and more of
// them than it may mirror.
func (a *arm) admits(ctx context.Context, name, value string) *fault {
	if name != "azure.mirror_databases" {
		return nil
	}
	have, err := a.db.databases(ctx)
	if err != nil {
		return faultf(http.StatusInternalServerError, "InternalServerError", "The server cannot be asked for its databases.")
	}
	for _, db := range databaseList(value) {
		if !slices.Contains(have, db) {
			return faultf(http.StatusBadRequest, "InvalidParameterValue", "Invalid value given for parameter %s: database '%s' does not exist.", name, db)
		}
	}
	return nil
}

// databaseList reads azure.mirror_databases.
func databaseList(value string) (dbs []string) {
	for db := range strings.SplitSeq(value, ",") {
		if db = strings.TrimSpace(db); db != "" {
			dbs = append(dbs, db)
		}
	}
	return dbs
}

func (a *arm) applyParameter(ctx context.Context, p parameter, value string) error {
	if err := a.enabling(ctx, p.Name, value); err != nil {
		return err
	}
	if err := a.db.set(ctx, p.Name, value); err != nil {
		return err
	}
	err := a.state.change(func(s *state) error {
		s.Server.Params[p.Name] = value
		return nil
	})
	if err != nil {
		return err
	}
	if p.Name != "azure.fabric_mirror_enabled" && p.Name != "azure.mirror_databases" {
		return nil
	}
	if err := a.installCDC(ctx); err != nil {
		return err
	}
	a.edge()
	return nil
}

// enabling checks what mirroring needs, at the very moment when it is switched
// from off to on and at no other.
func (a *arm) enabling(ctx context.Context, name, value string) error {
	var sv serverState
	a.state.look(func(s *state) { sv = s.Server; sv.Params = maps.Clone(s.Server.Params) })
	if name != "azure.fabric_mirror_enabled" || value != "on" || sv.Params[name] == "on" {
		return nil
	}
	reasons, err := a.unmet(ctx, &sv)
	if err != nil {
		return err
	}
	if len(reasons) > 0 {
		return faultf(http.StatusBadRequest, "OperationFailed", "The prerequisites of Fabric mirroring are not met: %s.", strings.Join(reasons, "; "))
	}
	return nil
}

// prerequisites are the parameters that mirroring needs, judged by what is in
// force and not by what waits for a restart.
var prerequisites = []struct {
	name, reason string
	holds        func(running string) bool
}{
	{"wal_level", "wal_level must be logical", func(v string) bool { return v == "logical" }},
	{"max_worker_processes", "MAX_WORKER_PROCESSES_TOO_LOW: max_worker_processes must be at least 13", func(v string) bool { return inRange("13-262143", v) }},
}

// unmet names the prerequisites that the running server lacks, with the codes of
// azure_cdc.check_prerequisites where it has one.
func (a *arm) unmet(ctx context.Context, sv *serverState) (reasons []string, err error) {
	if sv.Tier == "Burstable" {
		reasons = append(reasons, "the Burstable tier is not supported")
	}
	if sv.HA != "Disabled" && a.db.version() < 17 {
		reasons = append(reasons, "high availability is supported from version 17 on")
	}
	if sv.Principal == "" {
		reasons = append(reasons, "IDENTITY_NOT_CONFIGURED: the system-assigned managed identity is off")
	}
	for _, need := range prerequisites {
		p, err := a.parameter(ctx, need.name)
		if err != nil {
			return nil, err
		}
		if !need.holds(p.running) {
			reasons = append(reasons, need.reason+", and is "+p.running)
		}
	}
	return reasons, nil
}

// installCDC gives each mirrored database the catalog of azure_cdc, while
// mirroring is on. It stays when mirroring is switched off, as an extension does.
func (a *arm) installCDC(ctx context.Context) error {
	var dbs []string
	a.state.look(func(s *state) {
		if s.Server.Params["azure.fabric_mirror_enabled"] == "on" {
			dbs = append(databaseList(s.Server.Params["azure.mirror_databases"]), "postgres")
		}
	})
	slices.Sort(dbs)
	for _, db := range slices.Compact(dbs) {
		if err := a.db.installCDC(ctx, db); err != nil {
			return err
		}
	}
	return nil
}
