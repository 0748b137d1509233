// Package azure asks ARM and Key Vault what setting up a mirror needs.
package azure

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/pgmirror/pgmirror/internal/config"
)

// Options are how the services are reached.
type Options struct {
	Cloud      string                                          // public, usgov or china; "" is public
	Endpoint   string                                          // the service's address; "" for the cloud's own ARM
	Credential azcore.TokenCredential                          // who asks
	HTTP       *http.Client                                    // roots, proxy; nil for Go's own
	Progress   func(what string, elapsed, limit time.Duration) // told while an operation is awaited; nil: nobody
	Busy       Busy                                            // zero: 40 tries, up to 15 s apart
}

// Busy is the patience with a server that takes one write at a time.
type Busy struct {
	Tries int
	Wait  time.Duration
}

func (b Busy) orDefault(local bool) Busy {
	if b.Tries == 0 {
		b.Tries = 40
	}
	if b.Wait == 0 {
		b.Wait = 15 * time.Second
		if local {
			b.Wait = 100 * time.Millisecond
		}
	}
	return b
}

func (o Options) client() policy.ClientOptions {
	opts := policy.ClientOptions{Telemetry: policy.TelemetryOptions{ApplicationID: "pgmirror"}}
	if o.HTTP != nil {
		opts.Transport = o.HTTP
	}
	if config.Loopback(o.Endpoint) { // an emulator answers at once or not at all
		opts.Retry = policy.RetryOptions{MaxRetries: 3, RetryDelay: 50 * time.Millisecond, MaxRetryDelay: time.Second}
	}
	return opts
}

// arm makes the options of the ARM clients. A missing provider registration is
// reported, never mended: that would be a write that no plan had shown.
func (o Options) arm() *arm.ClientOptions {
	opts := &arm.ClientOptions{ClientOptions: o.client(), DisableRPRegistration: true}
	opts.Cloud = Cloud(o.Cloud)
	if o.Endpoint != "" {
		opts.Cloud.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: o.Endpoint, Audience: opts.Cloud.Services[cloud.ResourceManager].Audience},
		}
	}
	return opts
}

// Cloud is where one signs in, and where ARM is, in a cloud known by name:
// public, usgov or china.
func Cloud(name string) cloud.Configuration {
	switch name {
	case config.USGov:
		return cloud.AzureGovernment
	case config.China:
		return cloud.AzureChina
	}
	return cloud.AzurePublic
}

// PostgresScope is what a token for a sign-in to PostgreSQL by Entra is asked
// for.
func PostgresScope(name string) string {
	switch name {
	case config.USGov:
		return "https://ossrdbms-aad.database.usgovcloudapi.net/.default"
	case config.China:
		return "https://ossrdbms-aad.database.chinacloudapi.cn/.default"
	}
	return "https://ossrdbms-aad.database.windows.net/.default"
}

// Token is a credential that always gives the same bearer token. It refuses an
// endpoint that isn't on this machine: such a token would go to whoever listens.
func Token(token, endpoint string) (azcore.TokenCredential, error) {
	if !config.Loopback(endpoint) {
		return nil, fmt.Errorf("a fixed token is accepted for services on this machine only, not for %q", endpoint)
	}
	return static(token), nil
}

type static string

func (s static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// String keeps the token out of every %v.
func (static) String() string   { return "(token)" }
func (static) GoString() string { return "(token)" }
