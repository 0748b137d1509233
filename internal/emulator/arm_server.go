package emulator

import (
	"context"
	"maps"
	"net/http"
	"strconv"
)

// serverPatch is what can be changed of a flexible server here. A field that is
// not sent stays as it is; tags are replaced whole.
type serverPatch struct {
	Identity *struct {
		Type string `json:"type"`
	} `json:"identity"`
	Tags       *map[string]string `json:"tags"`
	Properties struct {
		AuthConfig *struct {
			Entra    *string `json:"activeDirectoryAuth"`
			Password *string `json:"passwordAuth"`
		} `json:"authConfig"`
		Network *struct {
			Public *string `json:"publicNetworkAccess"`
		} `json:"network"`
	} `json:"properties"`
}

func (a *arm) listServers(*call) (reply, error) {
	return reply{http.StatusOK, map[string]any{"value": []any{a.serverBody()}}}, nil
}

func (a *arm) getServer(*call) (reply, error) {
	return reply{http.StatusOK, a.serverBody()}, nil
}

// patchServer changes sign-in modes, identity, public access and tags.
func (a *arm) patchServer(c *call) (reply, error) {
	var p serverPatch
	if f := c.decode(&p, badRequest); f != nil {
		return reply{}, f
	}
	var id string
	err := a.state.read(func(s *state) error {
		id = serverID(s)
		if f := p.check(&s.Server); f != nil {
			return f
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return a.begin(c, "Updating", id, func(ctx context.Context) error {
		if err := a.applyPatch(ctx, p); err != nil || p.Properties.Network == nil {
			return err
		}
		a.edge()
		return a.gateClients(ctx)
	})
}

func (p *serverPatch) check(s *serverState) *fault {
	entra, password := s.EntraAuth, s.PasswordAuth
	if auth := p.Properties.AuthConfig; auth != nil {
		for field, v := range map[**string]string{&auth.Entra: "activeDirectoryAuth", &auth.Password: "passwordAuth"} {
			if *field != nil && !onOff(**field) {
				return invalidValue(v, **field)
			}
		}
		entra, password = or(auth.Entra, entra), or(auth.Password, password)
	}
	if entra == "Disabled" && password == "Disabled" {
		return faultf(http.StatusBadRequest, "InvalidParameterValue", "At least one of activeDirectoryAuth and passwordAuth must be Enabled.")
	}
	if n := p.Properties.Network; n != nil && n.Public != nil && !onOff(*n.Public) {
		return invalidValue("publicNetworkAccess", *n.Public)
	}
	return p.checkIdentity(s)
}

func (p *serverPatch) checkIdentity(s *serverState) *fault {
	if p.Identity == nil {
		return nil
	}
	switch p.Identity.Type {
	case "None":
		if s.Params["azure.fabric_mirror_enabled"] == "on" {
			return faultf(http.StatusBadRequest, "OperationNotAllowed",
				"The system-assigned identity cannot be removed while azure.fabric_mirror_enabled is on.")
		}
	case "SystemAssigned":
	case "UserAssigned", "SystemAssigned,UserAssigned":
		return faultf(http.StatusBadRequest, "FeatureNotSupported", "User-assigned identities are not emulated; use SystemAssigned.")
	default:
		return invalidValue("identity.type", p.Identity.Type)
	}
	return nil
}

func onOff(v string) bool { return v == "Enabled" || v == "Disabled" }

func or[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

func invalidValue(name, value string) *fault {
	return faultf(http.StatusBadRequest, "InvalidParameterValue", "Invalid value given for parameter %s: '%s'. Specify a valid parameter value.", name, value)
}

func (a *arm) applyPatch(ctx context.Context, p serverPatch) error {
	var identityChanged bool
	var principal, tenant string
	err := a.state.change(func(s *state) error {
		sv := &s.Server
		if auth := p.Properties.AuthConfig; auth != nil {
			sv.EntraAuth, sv.PasswordAuth = or(auth.Entra, sv.EntraAuth), or(auth.Password, sv.PasswordAuth)
		}
		if n := p.Properties.Network; n != nil {
			sv.Public = or(n.Public, sv.Public)
		}
		if p.Tags != nil {
			sv.Tags = maps.Clone(*p.Tags)
		}
		if p.Identity != nil && p.Identity.Type != sv.Identity {
			identityChanged = true
			sv.Identity, sv.Principal = p.Identity.Type, ""
			if sv.Identity == "SystemAssigned" {
				sv.Principal = newID() // a new one each time: roles given to the former one are void
			}
		}
		if sv.Principal != "" {
			principal, tenant = sv.Principal, s.Tenant
		}
		return nil
	})
	if err != nil || !identityChanged {
		return err
	}
	// The server shows its identity to SQL, as Azure's does.
	return a.db.setCustom(ctx, map[string]string{"azure.service_principal_id": principal, "azure.service_principal_tenant_id": tenant})
}

// restartServer really restarts the cluster: connections drop, static
// parameters take effect.
func (a *arm) restartServer(c *call) (reply, error) {
	return a.begin(c, "Restarting", "", func(ctx context.Context) error {
		if err := a.db.restart(ctx); err != nil {
			return err
		}
		return a.state.change(func(s *state) error {
			s.Server.Running = ownStatic(s.Server.Params)
			return nil
		})
	})
}

func (a *arm) serverBody() (body map[string]any) {
	a.state.look(func(s *state) {
		sv := &s.Server
		body = map[string]any{
			"id": serverID(s), "name": sv.Name, "type": serverType, "location": s.Location,
			"tags": maps.Clone(sv.Tags),
			"sku":  map[string]any{"name": sv.SKU, "tier": sv.Tier},
			"properties": map[string]any{
				"administratorLogin":       sv.Admin,
				"version":                  strconv.Itoa(a.db.version()),
				"state":                    sv.Status,
				"fullyQualifiedDomainName": "localhost",
				"availabilityZone":         "1",
				"replicationRole":          "Primary",
				"replicaCapacity":          5,
				"authConfig":               map[string]any{"activeDirectoryAuth": sv.EntraAuth, "passwordAuth": sv.PasswordAuth, "tenantId": s.Tenant},
				"network":                  map[string]any{"publicNetworkAccess": sv.Public},
				"highAvailability":         map[string]any{"mode": sv.HA, "state": haState(sv.HA)},
				"storage":                  map[string]any{"storageSizeGB": 32, "autoGrow": "Disabled", "tier": "P4", "type": "Premium_LRS"},
				"backup":                   map[string]any{"backupRetentionDays": 7, "geoRedundantBackup": "Disabled"},
			},
		}
		if sv.Identity != "None" {
			body["identity"] = map[string]any{"type": sv.Identity, "principalId": sv.Principal, "tenantId": s.Tenant}
		}
	})
	return body
}

func haState(mode string) string {
	if mode == "Disabled" {
		return "NotEnabled"
	}
	return "Healthy"
}
