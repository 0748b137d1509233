package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// checker is how a story or a test is told that something went wrong.
type checker interface{ Check(error) }

// gates are the server's and the vault's, as somebody else reaches them.
func gates(t checker, c *setup.Clients, cfg *config.Config) (server, vault *azure.Gate) {
	o := armOptions(t, c, cfg)
	server, err := azure.NewGate(cfg.Server.ID, o)
	t.Check(err)
	group, _, _ := strings.Cut(cfg.Server.ID, "/providers/")
	vault, err = azure.NewGate(group+"/providers/Microsoft.KeyVault/vaults/kv-pgmirror", o)
	t.Check(err)
	return server, vault
}

// closeDoors closes both gates of the vault, the server's public access, and
// leaves one rule that nobody may touch.
func closeDoors(t checker, c *setup.Clients, cfg *config.Config) {
	ctx := context.Background()
	server, vault := gates(t, c, cfg)
	t.Check(written(func() error {
		return vault.Patch(ctx, []byte(`{"tags":{"env":"dev"},"properties":{"publicNetworkAccess":"disabled","networkAcls":{"bypass":"AzureServices","defaultAction":"Deny","ipRules":[{"value":"198.51.100.0/24"}],"virtualNetworkRules":[]}}}`))
	}))
	rules, err := server.Rules(ctx)
	t.Check(err)
	for name := range rules {
		t.Check(written(func() error { return server.DeleteRule(ctx, name) }))
	}
	t.Check(written(func() error { return server.PutRule(ctx, "office", "198.51.100.1", "198.51.100.9") }))
	t.Check(written(func() error {
		return server.Patch(ctx, []byte(`{"tags":{"env":"dev"},"properties":{"network":{"publicNetworkAccess":"Disabled"}}}`))
	}))
}

// lend opens the vault at a time, for an hour, as a run on another machine that
// dies then, and gives the lease's id.
func lend(t checker, c *setup.Clients, cfg *config.Config, at time.Time) string {
	state, err := os.MkdirTemp("", "pgmirror-elsewhere-")
	t.Check(err)
	defer os.RemoveAll(state)
	_, vault := gates(t, c, cfg)
	l := lease.New(lease.Options{
		State: state, Who: "bob@elsewhere", Now: func() time.Time { return at }, Allows: func(string) bool { return true },
		Dial:   func(string) (lease.Resource, error) { return vault, nil },
		Timing: lease.Timing{Settle: time.Millisecond, Poll: 10 * time.Millisecond},
	})
	group, _, _ := strings.Cut(cfg.Server.ID, "/providers/")
	_, held, err := l.Take(context.Background(), lease.Need{Kind: lease.VaultAccess, Resource: group + "/providers/Microsoft.KeyVault/vaults/kv-pgmirror",
		Refusal: errors.New("refused"), Life: time.Hour})
	t.Check(err)
	return held.ID
}

// openDoors opens them for good.
func openDoors(t checker, c *setup.Clients, cfg *config.Config) {
	ctx := context.Background()
	server, vault := gates(t, c, cfg)
	t.Check(written(func() error {
		return vault.Patch(ctx, []byte(`{"properties":{"publicNetworkAccess":"Enabled","networkAcls":{"defaultAction":"Allow"}}}`))
	}))
	for name, address := range map[string]string{"azure": "0.0.0.0", "this-machine": "127.0.0.1"} {
		t.Check(written(func() error { return server.PutRule(ctx, name, address, address) }))
	}
	t.Check(written(func() error {
		return server.Patch(ctx, []byte(`{"properties":{"network":{"publicNetworkAccess":"Enabled"}}}`))
	}))
}

// written writes until the server isn't busy.
func written(write func() error) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := write()
		e, ok := errors.AsType[*azure.GateError](err)
		if !ok || !e.Busy() || time.Now().After(deadline) {
			return err
		}
	}
}

// settings are all that a lease may ever touch, as text.
func settings(t checker, cfg *config.Config) string {
	c, err := setup.NewClients(context.Background(), cfg)
	t.Check(err)
	defer c.Close(context.Background())
	server, vault := gates(t, c, cfg)
	rules, err := server.Rules(context.Background())
	t.Check(err)
	all := map[string]any{"rules": rules}
	for name, g := range map[string]*azure.Gate{"server": server, "vault": vault} {
		body, err := g.Get(context.Background())
		t.Check(err)
		var d struct {
			Tags       map[string]string `json:"tags"`
			Properties struct {
				Public  any `json:"publicNetworkAccess"`
				ACLs    any `json:"networkAcls"`
				Network any `json:"network"`
			} `json:"properties"`
		}
		t.Check(json.Unmarshal(body, &d))
		all[name] = d
	}
	text, err := json.MarshalIndent(all, "", "  ")
	t.Check(err)
	return string(text)
}
