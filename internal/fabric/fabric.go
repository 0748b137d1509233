// Package fabric makes the Microsoft Fabric calls that setting up a mirror
// needs, and opens OneLake as a store.
package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	sdk "github.com/microsoft/fabric-sdk-go/fabric"
	"github.com/microsoft/fabric-sdk-go/fabric/core"
	"github.com/microsoft/fabric-sdk-go/fabric/mirroreddatabase"
)

// Options say where Fabric is and who asks.
type Options struct {
	Endpoint   string                 // "" is https://api.fabric.microsoft.com; must be https
	Credential azcore.TokenCredential // asked for the scope https://api.fabric.microsoft.com/.default
	HTTP       *http.Client           // carries the roots and the proxy; nil is the SDK's own
}

// Client asks the Fabric REST API. Every method blocks, retries what may pass
// by itself (408, 429 and 5xx; a Retry-After up to a minute is waited for) and
// may be called from several goroutines. An error of the service is an *Error.
//
// A call that creates something may have taken effect although it failed: when
// the answer to the first try got lost, the second meets its own work
// (IsConflict). The caller looks again by name.
type Client struct {
	workspaces  *core.WorkspacesClient
	capacities  *core.CapacitiesClient
	connections *core.ConnectionsClient
	gateways    *core.GatewaysClient
	items       *mirroreddatabase.ItemsClient
	mirroring   *mirroreddatabase.MirroringClient
}

// New makes a client. It asks nothing yet.
func New(o Options) (*Client, error) {
	if o.Credential == nil {
		return nil, errors.New("fabric: no credential")
	}
	endpoint, err := endpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	c, err := sdk.NewClient(signIn{o.Credential}, endpoint, &sdk.ClientOptions{ClientOptions: pipeline(o.HTTP)})
	if err != nil {
		return nil, fmt.Errorf("open Fabric: %w", err)
	}
	platform := core.NewClientFactoryWithClient(*c)
	databases := mirroreddatabase.NewClientFactoryWithClient(*c)
	return &Client{
		workspaces:  platform.NewWorkspacesClient(),
		capacities:  platform.NewCapacitiesClient(),
		connections: platform.NewConnectionsClient(),
		gateways:    platform.NewGatewaysClient(),
		items:       databases.NewItemsClient(),
		mirroring:   databases.NewMirroringClient(),
	}, nil
}

func endpoint(s string) (*string, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("fabric endpoint %q is not an https address", s)
	}
	return &s, nil
}

// pipeline puts our policy outside the SDK's retries: it sees the last answer.
func pipeline(h *http.Client) policy.ClientOptions {
	o := policy.ClientOptions{
		Retry:           policy.RetryOptions{MaxRetries: 3, RetryDelay: 400 * time.Millisecond, MaxRetryDelay: time.Minute},
		PerCallPolicies: []policy.Policy{answers{}},
	}
	if h != nil {
		o.Transport = h
	}
	return o
}

// signIn marks what the credential refuses, so that IsSignInNeeded knows it.
type signIn struct{ azcore.TokenCredential }

func (s signIn) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := s.TokenCredential.GetToken(ctx, o)
	if err != nil && ctx.Err() == nil {
		err = &signInError{err}
	}
	return t, err
}

type signInError struct{ err error }

func (e *signInError) Error() string { return "sign in: " + e.err.Error() }
func (e *signInError) Unwrap() error { return e.err }

// all collects the pages of a list. Pages are asked for one by one with the
// service's token; the SDK would follow a link, and always with GET.
func all[T any](page func(token *string) (items []T, next, link *string, err error)) ([]T, error) {
	var list []T
	var token *string
	seen := map[string]bool{}
	for {
		items, next, link, err := page(token)
		if err != nil {
			return nil, err
		}
		list = append(list, items...)
		t := nextToken(next, link)
		if t == "" {
			return list, nil
		}
		if seen[t] {
			return nil, errors.New("the service gives the same page again and again")
		}
		seen[t] = true
		token = &t
	}
}

// nextToken takes the token, or finds it in the link when only that is there.
func nextToken(token, link *string) string {
	if val(token) != "" || val(link) == "" {
		return val(token)
	}
	u, err := url.Parse(*link)
	if err != nil {
		return ""
	}
	return u.Query().Get("continuationToken")
}

func val[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

func optional[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}
