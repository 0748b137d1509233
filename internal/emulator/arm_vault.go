package emulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"
)

func (a *arm) listVaults(*call) (reply, error) {
	return reply{http.StatusOK, map[string]any{"value": []any{a.vaultBody()}}}, nil
}

func (a *arm) getVault(*call) (reply, error) {
	return reply{http.StatusOK, a.vaultBody()}, nil
}

// patchVault changes the vault's two gates and its tags, at once. networkAcls are
// replaced whole.
func (a *arm) patchVault(c *call) (reply, error) {
	var in struct {
		Tags       *map[string]string `json:"tags"`
		Properties struct {
			Public *string      `json:"publicNetworkAccess"`
			ACLs   *networkACLs `json:"networkAcls"`
		} `json:"properties"`
	}
	if f := c.decode(&in, badRequest); f != nil {
		return reply{}, f
	}
	p := in.Properties
	if p.Public != nil && !strings.EqualFold(*p.Public, "Enabled") && !strings.EqualFold(*p.Public, "Disabled") {
		return reply{}, faultf(http.StatusBadRequest, "BadRequest", "The value of publicNetworkAccess must be Enabled or Disabled.")
	}
	if p.ACLs != nil && p.ACLs.DefaultAction != "Allow" && p.ACLs.DefaultAction != "Deny" {
		return reply{}, faultf(http.StatusBadRequest, "BadRequest", "The value of networkAcls.defaultAction must be Allow or Deny.")
	}
	err := a.state.change(func(s *state) error {
		if now := a.now(); s.World.VaultDelay > 0 && !now.Before(s.Vault.Changed) {
			s.Vault.Former = &vaultGate{s.Vault.Public, s.Vault.ACLs}
			s.Vault.Changed = now.Add(s.World.VaultDelay)
		}
		s.Vault.Public = or(p.Public, s.Vault.Public)
		if p.ACLs != nil {
			s.Vault.ACLs = p.ACLs
		}
		if in.Tags != nil {
			s.Vault.Tags = maps.Clone(*in.Tags)
		}
		return nil
	})
	return reply{http.StatusOK, a.vaultBody()}, err
}

func (a *arm) vaultBody() (body map[string]any) {
	a.state.look(func(s *state) {
		properties := map[string]any{
			"tenantId": s.Tenant, "vaultUri": a.vault + "/", "sku": map[string]any{"family": "A", "name": "standard"},
			"enableSoftDelete": true, "softDeleteRetentionInDays": 90, "enableRbacAuthorization": !s.World.VaultPolicies,
			"accessPolicies": []any{}, "provisioningState": "Succeeded", "publicNetworkAccess": s.Vault.Public,
		}
		if s.Vault.ACLs != nil {
			properties["networkAcls"] = s.Vault.ACLs.body()
		}
		body = map[string]any{
			"id": vaultID(s), "name": s.Vault.Name, "type": vaultType, "location": s.Location, "tags": maps.Clone(s.Vault.Tags), "properties": properties,
		}
	})
	return body
}

func (n *networkACLs) body() map[string]any {
	list := func(rules []json.RawMessage) []json.RawMessage { return append([]json.RawMessage{}, rules...) }
	return map[string]any{
		"bypass": firstNonEmpty(n.Bypass, "AzureServices"), "defaultAction": n.DefaultAction,
		"ipRules": list(n.IPRules), "virtualNetworkRules": list(n.VirtualNetworkRules),
	}
}

// refuses says why the vault's network gates keep out a caller from the loopback
// interface, or nil. Public access off beats every rule.
func (v *vaultState) refuses(address string, now time.Time) *fault {
	gate := vaultGate{v.Public, v.ACLs}
	if v.Former != nil && now.Before(v.Changed) {
		gate = *v.Former
	}
	return gate.refuses(address)
}

func (v vaultGate) refuses(address string) *fault {
	if strings.EqualFold(v.Public, "Disabled") {
		return &fault{status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByConnection",
			message: "Public network access is disabled and request is not from a trusted service nor via an approved private link."}
	}
	if v.ACLs == nil || v.ACLs.DefaultAction != "Deny" || v.ACLs.lists(address) {
		return nil
	}
	return &fault{status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByFirewall",
		message: "Client address is not authorized and caller is not a trusted service.\r\nClient address: " + address}
}
