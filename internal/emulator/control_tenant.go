package emulator

import (
	"net/http"
	"slices"
	"time"
)

// worldState is what stands outside the services and can be set: the time, the
// capacity, the tenant's settings, the caller's rights at the vault. Its zero
// value is a world in order.
type worldState struct {
	Advanced       time.Duration `json:"advanced,omitempty"` // of the clock
	CapacityPaused bool          `json:"capacityPaused,omitempty"`
	NoExternalApps bool          `json:"noExternalApps,omitempty"` // "Users can access data stored in OneLake with apps external to Fabric" is off
	VaultAccess    string        `json:"vaultAccess,omitempty"`    // "" is all; get, none
	VaultPolicies  bool          `json:"vaultPolicies,omitempty"`  // access policies instead of roles
	VaultDelay     time.Duration `json:"vaultDelay,omitempty"`     // until a change of the vault's gates is in force
	Groups         []string      `json:"groups,omitempty"`         // of Entra, by object id, with whoever holds the tokens as a member
}

func (k *control) getTenant(*call) (reply, error) {
	var w worldState
	k.state.look(func(s *state) { w = s.World })
	capacity, model := "Active", "rbac"
	if w.CapacityPaused {
		capacity = "Paused"
	}
	if w.VaultPolicies {
		model = "policy"
	}
	return reply{http.StatusOK, map[string]any{
		"capacity": capacity, "oneLakeExternalApps": !w.NoExternalApps,
		"vaultAccess": firstNonEmpty(w.VaultAccess, "all"), "vaultPermissionModel": model, "vaultDelay": w.VaultDelay.String(),
		"groups": append([]string{}, w.Groups...),
	}}, nil
}

// patchTenant changes what is sent.
func (k *control) patchTenant(c *call) (reply, error) {
	var in struct {
		Capacity, VaultAccess, VaultPermissionModel, VaultDelay *string
		OneLakeExternalApps                                     *bool
		Groups                                                  *[]string
	}
	if f := c.decode(&in, invalidControl); f != nil {
		return reply{}, f
	}
	delay, err := time.ParseDuration(or(in.VaultDelay, "0s"))
	switch {
	case err != nil || delay < 0:
		return reply{}, invalidControl("vaultDelay is a duration such as 30s")
	case !slices.Contains([]string{"Active", "Paused"}, or(in.Capacity, "Active")):
		return reply{}, invalidControl("capacity is Active or Paused")
	case !slices.Contains([]string{"all", "get", "none"}, or(in.VaultAccess, "all")):
		return reply{}, invalidControl("vaultAccess is all, get or none")
	case !slices.Contains([]string{"rbac", "policy"}, or(in.VaultPermissionModel, "rbac")):
		return reply{}, invalidControl("vaultPermissionModel is rbac or policy")
	}
	err = k.state.change(func(s *state) error {
		w := &s.World
		if in.Capacity != nil {
			w.CapacityPaused = *in.Capacity == "Paused"
		}
		if in.OneLakeExternalApps != nil {
			w.NoExternalApps = !*in.OneLakeExternalApps
		}
		if in.VaultPermissionModel != nil {
			w.VaultPolicies = *in.VaultPermissionModel == "policy"
		}
		if in.VaultDelay != nil {
			w.VaultDelay = delay
		}
		w.VaultAccess = or(in.VaultAccess, w.VaultAccess)
		w.Groups = or(in.Groups, w.Groups)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	if in.Groups != nil {
		if err := k.mirrors.db.putAdministrators(c.Context(), k.state); err != nil {
			return reply{}, err
		}
	}
	if in.Capacity != nil && *in.Capacity == "Paused" {
		if err := k.mirrors.pauseAll(); err != nil {
			return reply{}, err
		}
	}
	k.mirrors.edge()
	return k.getTenant(c)
}
