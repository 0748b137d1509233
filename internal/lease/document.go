package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// document is a vault or a server as ARM tells it, as far as leases read it.
type document struct {
	Tags       map[string]string `json:"tags"`
	Properties struct {
		Public  *string                    `json:"publicNetworkAccess"` // a vault's
		ACLs    map[string]json.RawMessage `json:"networkAcls"`         // a vault's; kept as it is
		Network *struct {
			Public *string `json:"publicNetworkAccess"`
		} `json:"network"` // a server's
		State string `json:"state"` // a server's
	} `json:"properties"`
}

func look(ctx context.Context, r Resource) (*document, error) {
	body, err := r.Get(ctx)
	if err != nil {
		return nil, err
	}
	d := &document{}
	if err := json.Unmarshal(body, d); err != nil {
		return nil, fmt.Errorf("read what ARM says: %w", err)
	}
	return d, nil
}

// busy reports whether a write to a server is under way.
func (d *document) busy() bool {
	switch d.Properties.State {
	case "Updating", "Restarting", "Starting", "Stopping":
		return true
	}
	return false
}

// public is publicNetworkAccess as it is written; "Enabled" is its default.
func (d *document) public(kind Kind) string {
	p := d.Properties.Public
	if kind == ServerAccess {
		p = nil
		if n := d.Properties.Network; n != nil {
			p = n.Public
		}
	}
	if p == nil {
		return "Enabled"
	}
	return *p
}

// firewalled reports whether the vault lets in only whom its rules name.
func (d *document) firewalled() bool {
	var action string
	raw := d.Properties.ACLs["defaultAction"]
	return raw != nil && json.Unmarshal(raw, &action) == nil && strings.EqualFold(action, "Deny")
}

// rules are the vault's ipRules, each as it is written.
func (d *document) rules() ([]json.RawMessage, error) {
	var rules []json.RawMessage
	if raw := d.Properties.ACLs["ipRules"]; raw != nil {
		if err := json.Unmarshal(raw, &rules); err != nil {
			return nil, fmt.Errorf("read the vault's network rules: %w", err)
		}
	}
	return rules, nil
}

func patch(ctx context.Context, r Resource, field string, value any) error {
	body, err := json.Marshal(map[string]any{field: value})
	if err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	return r.Patch(ctx, body)
}
