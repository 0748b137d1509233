package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// vaultRule is a rule for one address in a vault's networkAcls. ARM replaces
// those whole, so they are read, changed in that one place and sent back as they
// came. Undoing takes out that rule alone: what others changed meanwhile stays.
type vaultRule struct{}

func (vaultRule) prepare(_ context.Context, _ Resource, d *document, l *Lease) error {
	address := l.Params[paramAddress]
	if !d.firewalled() {
		return fmt.Errorf("%s has no firewall: %w", shortName(l.Resource), ErrOpen)
	}
	rules, err := d.rules()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(rules, func(r json.RawMessage) bool { return covers(r, address) }) {
		return fmt.Errorf("%s has a rule for %s: %w", shortName(l.Resource), address, ErrOpen)
	}
	return nil
}

func (v vaultRule) grant(ctx context.Context, r Resource, d *document, l Lease) error {
	rules, err := d.rules()
	if err != nil {
		return err
	}
	rule, err := json.Marshal(map[string]string{"value": l.Params[paramAddress] + "/32"})
	if err != nil {
		return err
	}
	return v.set(ctx, r, d, append(rules, rule))
}

func (vaultRule) closed(_ context.Context, _ Resource, d *document, l Lease) (bool, error) {
	rules, err := d.rules()
	return err == nil && !slices.ContainsFunc(rules, func(r json.RawMessage) bool { return is(r, l.Params[paramAddress]) }), err
}

func (v vaultRule) revoke(ctx context.Context, r Resource, d *document, l Lease) error {
	rules, err := d.rules()
	if err != nil {
		return err
	}
	rules = slices.DeleteFunc(rules, func(r json.RawMessage) bool { return is(r, l.Params[paramAddress]) })
	return v.set(ctx, r, d, rules)
}

func (vaultRule) set(ctx context.Context, r Resource, d *document, rules []json.RawMessage) error {
	acls := maps.Clone(d.Properties.ACLs)
	raw, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	acls["ipRules"] = raw
	return patch(ctx, r, "properties", map[string]any{"networkAcls": acls})
}

// is reports whether a rule is for that one address: it was not there before.
func is(rule json.RawMessage, address string) bool {
	p, ok := prefixOf(rule)
	return ok && p.IsSingleIP() && p.Addr().String() == address
}

func covers(rule json.RawMessage, address string) bool {
	p, ok := prefixOf(rule)
	addr, err := netip.ParseAddr(address)
	return ok && err == nil && p.Contains(addr)
}

func prefixOf(rule json.RawMessage) (netip.Prefix, bool) {
	var r struct {
		Value string `json:"value"`
	}
	if json.Unmarshal(rule, &r) != nil {
		return netip.Prefix{}, false
	}
	if !strings.Contains(r.Value, "/") {
		r.Value += "/32"
	}
	p, err := netip.ParsePrefix(r.Value)
	return p, err == nil
}
