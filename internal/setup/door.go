package setup

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// The reasons of findings whose change is that a door is opened for the time of
// the run: without it, nothing behind it can be judged.
const (
	vaultClosed    = "VaultClosed"    // the vault's public access is off
	vaultFirewall  = "VaultFirewall"  // the vault's rules don't have this machine
	serverClosed   = "ServerClosed"   // the server's public access is off
	serverFirewall = "ServerFirewall" // the server's firewall doesn't let this machine in
	fabricKeptOut  = "FabricKeptOut"  // Fabric can't reach the server
	leasesExpired  = "LeasesExpired"  // others left doors open
)

// NeedsDoor reports whether a plan can't see further before a door is opened.
func NeedsDoor(plan []Finding) bool {
	return slices.ContainsFunc(plan, func(f Finding) bool {
		return slices.Contains([]string{vaultClosed, vaultFirewall, serverClosed, serverFirewall}, f.Reason)
	})
}

// door is the finding of a closed one.
func (c *Clients) door(reason, consent, have, want string) Finding {
	return Finding{Action: Update, Reason: reason, Code: reason, Have: have, Want: want, Consent: consent, Allowed: c.Config.Allows(consent),
		Hint: "pgmirror apply --allow " + consent}
}

// vaultDoor is the door behind which the vault refuses us; ok is false when err
// is something else, or nobody could open it.
func (c *Clients) vaultDoor(ctx context.Context, err error) (f Finding, ok bool) {
	kind := azure.Forbidden(err)
	if c.Doors == nil || kind != azure.ByConnection && kind != azure.ByFirewall {
		return Finding{}, false
	}
	id, idErr := c.Doors.vaultID(ctx)
	if idErr != nil || id == "" { // then the refusal itself is the finding
		return Finding{}, false
	}
	_, name := resource(id)
	if kind == azure.ByConnection {
		return c.door(vaultClosed, config.OpenVault, "the public access of vault "+name+" is off", "on until this run ends, and then off again"), true
	}
	return c.door(vaultFirewall, config.OpenVault, "the rules of vault "+name+" don't have this machine", "a rule for it until this run ends"), true
}

// openVault opens the gate that the vault's refusal names.
func (c *Clients) openVault(ctx context.Context, refusal error) error {
	id, err := c.Doors.vaultID(ctx)
	if err != nil {
		return err
	}
	was := azure.Forbidden(refusal)
	n := lease.Need{Kind: lease.VaultAccess, Resource: id, Refusal: refusal, Message: azure.Message(refusal), Through: func(ctx context.Context) (bool, error) {
		_, _, err := c.Vault.Secret(ctx, c.Config.Admin.Secret)
		return azure.Forbidden(err) != was, nil
	}}
	if was == azure.ByFirewall {
		n.Kind = lease.VaultRule
	}
	return c.Doors.take(ctx, n)
}

// serverDoor is the door before which a sign-in to PostgreSQL ends; ok is false
// when err is something else. ARM is asked again first: what it said may be old.
func (c *Clients) serverDoor(ctx context.Context, f *Facts, err error) (found Finding, ok bool, fault error) {
	if c.Doors == nil || c.Server == nil || !keptOut(err) {
		return Finding{}, false, nil
	}
	if err := c.refresh(ctx, f); err != nil {
		return Finding{}, false, err
	}
	switch {
	case f.Server.InVNet || passes(f.Server.State) || stopped(f.Server.State):
		return Finding{}, false, nil
	case !f.Server.PublicAccess:
		return c.door(serverClosed, config.OpenServer, "the public access of server "+f.Server.Name+" is off", "on until this run ends, and then off again"), true, nil
	}
	return c.door(serverFirewall, config.OpenServer, "the firewall of server "+f.Server.Name+" doesn't let this machine in", "a rule for it until this run ends"), true, nil
}

// keptOut reports whether a sign-in ended before a password was asked for: the
// firewall says no, or says nothing at all. A port that is closed is no firewall.
func keptOut(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return admin.NotLetIn(err) != "" || ok && timeout.Timeout()
}

// openServer opens the gate before which a sign-in to PostgreSQL ends.
func (c *Clients) openServer(ctx context.Context, f *Facts, refusal error) error {
	n := lease.Need{Kind: lease.ServerAccess, Resource: c.Config.Server.ID, Refusal: refusal, Message: admin.NotLetIn(refusal)}
	if f.Server.PublicAccess {
		n.Kind = lease.ServerRule
		n.Through = func(ctx context.Context) (bool, error) {
			_, err := c.asAdmin(ctx, f)
			return !keptOut(err), nil
		}
	}
	return c.Doors.take(ctx, n)
}

// fabricDoor is the door before which Fabric ends; ok is false when it isn't
// kept out by the server's own gates.
func (c *Clients) fabricDoor(ctx context.Context, f *Facts) (found Finding, ok bool, err error) {
	if c.Doors == nil || c.Server == nil || c.Config.Connection.Gateway != "" || f.Server.InVNet {
		return Finding{}, false, nil
	}
	const want = "open to all Azure services, other tenants' too, until the mirror is proved"
	if !f.Server.PublicAccess {
		return c.door(fabricKeptOut, config.OpenServer, "the public access of server "+f.Server.Name+" is off", want), true, nil
	}
	lets, err := c.letsAzureIn(ctx)
	if err != nil || lets {
		return Finding{}, false, err
	}
	return c.door(fabricKeptOut, config.OpenServer, "the firewall of server "+f.Server.Name+" doesn't let Azure services in", want), true, nil
}

// letsAzureIn looks for a rule for Azure services; a wider one has them, too.
func (c *Clients) letsAzureIn(ctx context.Context) (bool, error) {
	gate, err := azure.NewGate(c.Config.Server.ID, c.Doors.azure)
	if err != nil {
		return false, err
	}
	rules, err := gate.Rules(ctx)
	for _, r := range rules {
		if r[0] == "0.0.0.0" {
			return true, err
		}
	}
	return false, err
}

// reached does what makes Fabric sign in to the server, and opens the server's
// gates to it when it is kept out: first public access, then the rule. The gates
// stay open until the doors are closed.
func (c *Clients) reached(ctx context.Context, f *Facts, do func(context.Context) error) error {
	err := do(ctx)
	if !fabric.IsSourceUnreachable(err) {
		return err
	}
	if _, closed, doorErr := c.fabricDoor(ctx, f); doorErr != nil || !closed {
		return errors.Join(err, doorErr)
	}
	if err := c.refresh(ctx, f); err != nil {
		return err
	}
	if !f.Server.PublicAccess {
		if err := c.Doors.take(ctx, lease.Need{Kind: lease.ServerAccess, Resource: c.Config.Server.ID, Refusal: err}); err != nil {
			return err
		}
		if err = do(ctx); !fabric.IsSourceUnreachable(err) {
			return err
		}
	}
	return c.Doors.take(ctx, lease.Need{Kind: lease.AzureRule, Resource: c.Config.Server.ID, Refusal: err, Through: func(ctx context.Context) (bool, error) {
		err := do(ctx)
		if fabric.IsSourceUnreachable(err) {
			return false, nil
		}
		return err == nil, err
	}})
}

// LeftOpen reports whether a finding is about doors that others left open.
func LeftOpen(f Finding) bool { return f.Reason == leasesExpired }

// Open opens the door that a step's finding names, or closes those that it says
// were left open.
func Open(ctx context.Context, s Step, facts *Facts, approved Finding) error {
	if err := Refuse([]Finding{approved}); err != nil {
		return err
	}
	r := runner{step: s, facts: facts}
	if err := r.apply(ctx, approved); err != nil {
		return &StepError{s.Name(), "open", err}
	}
	return nil
}
