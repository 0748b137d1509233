package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	pg "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/postgresql/armpostgresqlflexibleservers/v5"
)

// Gate is an ARM resource that has doors to the public network: a Key Vault or a
// flexible server. It speaks ARM's own JSON, because what is opened has to go
// back to exactly what it was, fields that no SDK knows included.
//
// A write is one attempt: whoever changes tags or rules has to read them again
// before the next one. Every error is a *GateError.
type Gate struct {
	id      string
	version string // of the API
	name    string
	group   string
	client  *arm.Client
	rules   *pg.FirewallRulesClient // nil: not a server
	wait    waiter
}

// gateVersions are the API versions of the types of resources that have gates.
var gateVersions = map[string]string{
	"microsoft.keyvault/vaults":                 "2024-11-01",
	"microsoft.dbforpostgresql/flexibleservers": "2025-08-01",
}

// NewGate makes a client of the resource with an ARM id. It asks nothing yet.
func NewGate(id string, o Options) (*Gate, error) {
	rid, err := arm.ParseResourceID(id)
	if err != nil {
		return nil, fmt.Errorf("resource id: %w", err)
	}
	kind := strings.ToLower(rid.ResourceType.String())
	g := &Gate{id: id, version: gateVersions[kind], name: rid.Name, group: rid.ResourceGroupName, wait: newWaiter(o)}
	if g.version == "" {
		return nil, fmt.Errorf("resource id: a %s has no gates that we know", rid.ResourceType)
	}
	if g.client, err = arm.NewClient("pgmirror/azure", "v0.0.0", o.Credential, o.arm()); err != nil {
		return nil, fmt.Errorf("arm client: %w", err)
	}
	if kind == "microsoft.dbforpostgresql/flexibleservers" {
		if g.rules, err = pg.NewFirewallRulesClient(rid.SubscriptionID, o.Credential, o.arm()); err != nil {
			return nil, fmt.Errorf("arm client: %w", err)
		}
	}
	return g, nil
}

// Get is the resource as ARM tells it.
func (g *Gate) Get(ctx context.Context) ([]byte, error) {
	resp, err := g.send(ctx, http.MethodGet, nil, http.StatusOK)
	if err != nil {
		return nil, gateError("ask for "+g.name, err)
	}
	body, err := runtime.Payload(resp)
	return body, gateError("ask for "+g.name, err)
}

// Patch sends a merge patch once, and waits until it is done. Whether it had an
// effect is unknown after an error that isn't Refused.
func (g *Gate) Patch(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(once(ctx), operationLimit)
	defer cancel()
	err := g.wait.once(ctx, "change "+g.name, time.Now(), func() (poller, error) {
		resp, err := g.send(ctx, http.MethodPatch, body, http.StatusOK, http.StatusCreated, http.StatusAccepted)
		if err != nil {
			return nil, err
		}
		return brisk(runtime.NewPoller[any](resp, g.client.Pipeline(), nil))
	})
	return gateError("change "+g.name, err)
}

// sendLimit is how long one request may go without an answer: a connection that
// hangs must not eat up the time that there is to close a door.
const sendLimit = time.Minute

func (g *Gate) send(ctx context.Context, method string, body []byte, want ...int) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit) // the body is read before Do returns
	defer cancel()
	q, err := runtime.NewRequest(ctx, method, runtime.JoinPaths(g.client.Endpoint(), g.id))
	if err != nil {
		return nil, err
	}
	q.Raw().URL.RawQuery = "api-version=" + g.version
	q.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		if err := q.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
			return nil, err
		}
	}
	resp, err := g.client.Pipeline().Do(q)
	if err != nil {
		return nil, err
	}
	if !runtime.HasStatusCode(resp, want...) {
		return nil, runtime.NewResponseError(resp)
	}
	return resp, nil
}

// Rules are the server's firewall rules by name, each its first and last IPv4
// address.
func (g *Gate) Rules(ctx context.Context) (map[string][2]string, error) {
	if g.rules == nil {
		return nil, errNoRules
	}
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	all := map[string][2]string{}
	for p := g.rules.NewListByServerPager(g.group, g.name, nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, gateError("ask for the firewall rules of "+g.name, err)
		}
		for _, r := range page.Value {
			if x := r.Properties; x != nil {
				all[str(r.Name)] = [2]string{str(x.StartIPAddress), str(x.EndIPAddress)}
			}
		}
	}
	return all, nil
}

// PutRule makes or replaces a firewall rule, and waits.
func (g *Gate) PutRule(ctx context.Context, name, first, last string) error {
	return g.rule(ctx, "make firewall rule "+name, func(ctx context.Context) (poller, error) {
		rule := pg.FirewallRule{Properties: &pg.FirewallRuleProperties{StartIPAddress: &first, EndIPAddress: &last}}
		return brisk(g.rules.BeginCreateOrUpdate(ctx, g.group, g.name, name, rule, nil))
	})
}

// DeleteRule deletes a firewall rule, and waits. One that isn't there is no
// error.
func (g *Gate) DeleteRule(ctx context.Context, name string) error {
	err := g.rule(ctx, "delete firewall rule "+name, func(ctx context.Context) (poller, error) {
		return brisk(g.rules.BeginDelete(ctx, g.group, g.name, name, nil))
	})
	if e, ok := errors.AsType[*GateError](err); ok && status(e) == http.StatusNotFound && !e.Gone() {
		return nil
	}
	return err
}

func (g *Gate) rule(ctx context.Context, what string, begin func(context.Context) (poller, error)) error {
	if g.rules == nil {
		return errNoRules
	}
	ctx, cancel := context.WithTimeout(once(ctx), operationLimit)
	defer cancel()
	return gateError(what, g.wait.once(ctx, what, time.Now(), func() (poller, error) { return begin(ctx) }))
}

var errNoRules = errors.New("a Key Vault has no firewall rules of its own")

// once keeps azcore from sending the same write again behind our back.
func once(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1})
}

// brisk honours a pause in milliseconds, which comes beside one in whole seconds.
func brisk[T any](p *runtime.Poller[T], err error) (poller, error) { return briskly[T]{of[T]{p}}, err }

type briskly[T any] struct{ of[T] }

func (p briskly[T]) Poll(ctx context.Context) (*http.Response, error) {
	resp, err := p.of.Poll(ctx)
	if resp != nil && resp.Header.Get("x-ms-retry-after-ms") != "" {
		resp.Header.Del("Retry-After")
	}
	return resp, err
}
