package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/lease"
)

// Doors are the leases of one command, on the server and the vault of one
// configuration. Close them when all else is over.
type Doors struct {
	*lease.Leases

	cfg     *config.Config
	azure   azure.Options
	audit   *lease.Audit
	who     string
	expired func(error)

	mu    sync.Mutex
	vault *string // its ARM id, once it was asked for; "": nobody knows
	held  bool    // the server is held by this run
}

// DoorOptions say whose leases they are.
type DoorOptions struct {
	State     string            // directory of the journals and of the audit log
	Who       string            // the user and the machine; who signed in to Azure is added in the audit log
	Tell      func(what string) // told what is waited for; nil: nobody
	Expired   func(error)       // called when a lease ends that is still in use: the command has to stop
	Life      time.Duration     // how long a lease may last at most; 0: two hours, for an apply whose last step waits half an hour with a door open
	Transport Transport         // wraps what carries every request; nil: nothing
}

// NewDoors makes a command's leases. It asks nothing yet, and makes nothing.
func NewDoors(cfg *config.Config, o DoorOptions) (*Doors, error) {
	c := &Clients{Config: cfg}
	var err error
	if c.HTTP, _, err = httpClient(cfg.Endpoints.CAFile); err != nil {
		return nil, err
	}
	if o.Transport != nil {
		c.HTTP.Transport = o.Transport(c.HTTP.Transport)
	}
	cred, err := c.credential(cfg.Tokens.ARM, cfg.Endpoints.ARM)
	if err != nil {
		return nil, fmt.Errorf("arm: %w", err)
	}
	d := &Doors{cfg: cfg, who: o.Who, expired: o.Expired}
	d.azure = azure.Options{Cloud: cfg.Cloud, Endpoint: cfg.Endpoints.ARM, Credential: cred, HTTP: c.HTTP}
	run := lease.NewRun()
	d.audit = lease.NewAudit(o.State, run, func() string { return signedIn(cred, cfg.Cloud, o.Who) })
	d.Leases = lease.New(lease.Options{
		State: o.State, Run: run, Who: o.Who, Cloud: or(cfg.Endpoints.ARM, cfg.Cloud), Resources: d.resources,
		Dial:   func(id string) (lease.Resource, error) { return azure.NewGate(id, d.azure) },
		Allows: cfg.Allows, Address: cfg.Address, Audit: d.audit, Tell: o.Tell, Timing: timing(cfg.Endpoints.ARM, o.Life),
	})
	return d, nil
}

// timing is that of an apply. An emulator's requests arrive at once or not at all.
func timing(arm string, life time.Duration) lease.Timing {
	t := lease.Timing{Life: cmp.Or(life, 2*time.Hour)}
	if config.Loopback(arm) {
		t.Settle, t.InFlight, t.Poll = 5*time.Millisecond, 250*time.Millisecond, 50*time.Millisecond
	}
	return t
}

// Close gives back every lease, the newest first, and closes the audit log. The
// error is lease.ErrUnproved when something may still be open.
func (d *Doors) Close(ctx context.Context) error {
	d.mu.Lock()
	d.held = false
	d.mu.Unlock()
	return errors.Join(d.Leases.Close(ctx), d.audit.Close())
}

// resources are where leases may be. A vault that isn't ours to see has none of
// ours.
func (d *Doors) resources(ctx context.Context) ([]string, error) {
	var ids []string
	if d.cfg.Server.ID != "" {
		ids = append(ids, d.cfg.Server.ID)
	}
	vault, err := d.vaultID(ctx)
	if vault != "" {
		ids = append(ids, vault)
	}
	return ids, err
}

// vaultID is the vault's ARM id: as configured, else that of the vault with the
// address in the server's subscription; "" when it can't be found there.
func (d *Doors) vaultID(ctx context.Context) (string, error) {
	if d.cfg.VaultID != "" || d.cfg.Vault == "" || d.cfg.Server.ID == "" {
		return d.cfg.VaultID, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.vault != nil {
		return *d.vault, nil
	}
	server, err := arm.ParseResourceID(d.cfg.Server.ID)
	if err != nil {
		return "", fmt.Errorf("server id: %w", err)
	}
	id, err := azure.FindVault(ctx, server.SubscriptionID, d.cfg.Vault, d.azure)
	if err != nil && !errors.Is(err, azure.ErrNoVault) && azure.Forbidden(err) == azure.NotForbidden {
		return "", err
	}
	d.vault = &id
	return id, nil
}

// take takes a lease that lasts until Close. When it ends before, the command
// is told to stop.
func (d *Doors) take(ctx context.Context, n lease.Need) error {
	held, _, err := d.Take(ctx, n)
	if err != nil {
		return err
	}
	context.AfterFunc(held, func() {
		if cause := context.Cause(held); errors.Is(cause, lease.ErrExpired) && d.expired != nil {
			d.expired(cause)
		}
	})
	return nil
}

// Hold makes this run the only one that changes the server, on whatever machine
// others are. It may be called again. The error is a *lease.HeldError when
// somebody else has it.
func (d *Doors) hold(ctx context.Context) error {
	if d.cfg.Server.ID == "" {
		return nil
	}
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	if held {
		return nil
	}
	if err := d.take(ctx, lease.Need{Kind: lease.Hold, Resource: d.cfg.Server.ID}); err != nil {
		return err
	}
	d.mu.Lock()
	d.held = true
	d.mu.Unlock()
	return nil
}

// signedIn is who is signed in to Azure, as the token says, and where; only the
// latter when the token says nothing that we can read.
func signedIn(cred azcore.TokenCredential, cloud, where string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	scope := azure.Cloud(cloud).Services["resourceManager"].Audience + "/.default"
	token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return where // whoever isn't signed in changes nothing in Azure
	}
	claims, _ := claimsOf(token.Token)
	if who := or(claims.name(), claims.OID); who != "" {
		return who + " from " + where
	}
	return where
}
