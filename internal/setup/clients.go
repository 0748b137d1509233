package setup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// Clients are the ways to the outside world that the steps share.
type Clients struct {
	Config *config.Config
	Server *azure.Server // nil: the server is no flexible server, or not one of ours
	Vault  *azure.Vault  // nil: no vault is configured
	Fabric *fabric.Client
	HTTP   *http.Client // trusts the system's roots and endpoints.caFile
	Roots  []byte       // PEM of endpoints.caFile; nil: none
	Doors  *Doors       // nil: no door is ever opened

	limit    time.Duration // how long any step may take to be seen as done; 0: its own
	progress func(what string, elapsed, limit time.Duration)
	cut      admin.Cut
	script   bool // statements are computed for a DBA
	sessions sessions
}

// Option changes how Clients are made.
type Option func(*Clients)

// WithProgress is told while a long operation of Azure is awaited.
func WithProgress(f func(what string, elapsed, limit time.Duration)) Option {
	return func(c *Clients) { c.progress = f }
}

// WithLimit bounds how long a step is waited for, instead of its own patience.
func WithLimit(d time.Duration) Option { return func(c *Clients) { c.limit = d } }

// WithDoors lets steps open doors, and writes their changes to the audit log.
func WithDoors(d *Doors) Option { return func(c *Clients) { c.Doors = d } }

func (c *Clients) doors() *Doors { return c.Doors }

func (c *Clients) patienceLimit() time.Duration { return c.limit }

// Transport wraps what carries every HTTP request: to count or to cut them.
type Transport = func(http.RoundTripper) http.RoundTripper

// WithTransport wraps what carries every HTTP request.
func WithTransport(wrap Transport) Option {
	return func(c *Clients) { c.HTTP.Transport = wrap(c.HTTP.Transport) }
}

// WithCut is asked before and told after each SQL write: to count or to cut
// them.
func WithCut(cut admin.Cut) Option {
	return func(c *Clients) { c.cut = cut }
}

// NewClients makes the clients. It asks nothing of the outside world yet, not
// even for a token.
func NewClients(_ context.Context, cfg *config.Config, options ...Option) (*Clients, error) {
	c := &Clients{Config: cfg}
	var err error
	if c.HTTP, c.Roots, err = httpClient(cfg.Endpoints.CAFile); err != nil {
		return nil, err
	}
	for _, o := range options {
		o(c)
	}
	if err := c.makeAzure(); err != nil {
		return nil, err
	}
	cred, err := c.credential(cfg.Tokens.Fabric, cfg.Endpoints.Fabric)
	if err != nil {
		return nil, fmt.Errorf("fabric: %w", err)
	}
	if c.Fabric, err = fabric.New(fabric.Options{Endpoint: cfg.Endpoints.Fabric, Credential: cred, HTTP: c.HTTP}); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Clients) makeAzure() error {
	if id := c.Config.Server.ID; id != "" {
		cred, err := c.credential(c.Config.Tokens.ARM, c.Config.Endpoints.ARM)
		if err != nil {
			return fmt.Errorf("arm: %w", err)
		}
		c.Server, err = azure.NewServer(id, azure.Options{Cloud: c.Config.Cloud, Endpoint: c.Config.Endpoints.ARM, Credential: cred, HTTP: c.HTTP, Progress: c.progress})
		if err != nil {
			return err
		}
	}
	if url := c.Config.Vault; url != "" {
		cred, err := c.credential(c.Config.Tokens.Vault, url)
		if err != nil {
			return fmt.Errorf("key vault: %w", err)
		}
		if c.Vault, err = azure.NewVault(azure.Options{Endpoint: url, Credential: cred, HTTP: c.HTTP}); err != nil {
			return err
		}
	}
	return nil
}

// Credential signs in to Azure and Fabric as the environment, a managed
// identity, az or azd says.
func (c *Clients) credential(token, endpoint string) (azcore.TokenCredential, error) {
	if token != "" {
		return azure.Token(token, endpoint)
	}
	cred, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: azcore.ClientOptions{Cloud: azure.Cloud(c.Config.Cloud), Transport: c.HTTP},
	})
	if err != nil {
		return nil, fmt.Errorf("sign-in: %w", err)
	}
	return azure.SignIn(cred), nil
}

// OneLake says how the files of an item of the workspace are reached; path is
// relative to the item, such as "Tables" or "Files/LandingZone".
func (c *Clients) OneLake(item, path string) (fabric.OneLakeOptions, error) {
	cred, err := c.credential(c.Config.Tokens.Storage, c.Config.Endpoints.OneLakeDFS)
	if err != nil {
		return fabric.OneLakeOptions{}, fmt.Errorf("onelake: %w", err)
	}
	return fabric.OneLakeOptions{
		Endpoint: c.Config.Endpoints.OneLakeDFS, Credential: cred, HTTP: c.HTTP,
		Workspace: c.Config.Workspace, Item: item, Path: path,
	}, nil
}

func httpClient(caFile string) (*http.Client, []byte, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	if caFile == "" {
		return &http.Client{Transport: t}, nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without system roots: only ours are trusted
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, nil, errors.New("read the certificate authority: " + caFile + " is not PEM")
	}
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: t}, pem, nil
}
