package setup

import (
	"context"
	"fmt"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
)

// resolve gives a password as it is, or the secret that a Key Vault reference in
// its place names: azd's hooks and pipelines hand them on unresolved.
func (c *Clients) resolve(ctx context.Context, text string) (string, Finding, error) {
	r, ok := config.ParseReference(text, c.Config.Cloud)
	if !ok {
		return text, Finding{}, nil
	}
	vault, err := c.vaultOf(r.Vault)
	if err != nil {
		return "", Finding{}, err
	}
	value, ok, err := vault.Version(ctx, r.Name, r.Version)
	if err != nil {
		found, err := c.vaultFault(err)
		return "", found, err
	}
	if !ok {
		return "", blocked("ReferenceMissing", fmt.Sprintf("%s has no secret %s", r.Vault, r.Name), "az keyvault secret list --vault-name "+vaultName(r.Vault)+" --query '[].name' -o tsv"), nil
	}
	return value, Finding{}, nil
}

// vaultOf is the configured vault when a reference names it, else a client of
// the named one.
func (c *Clients) vaultOf(address string) (*azure.Vault, error) {
	if c.Vault != nil && (c.Vault.URL == address || vaultName(c.Vault.URL) == vaultName(address) && !config.Loopback(address)) {
		return c.Vault, nil
	}
	cred, err := c.credential(c.Config.Tokens.Vault, address)
	if err != nil {
		return nil, fmt.Errorf("key vault: %w", err)
	}
	return azure.NewVault(azure.Options{Endpoint: address, Credential: cred, HTTP: c.HTTP, Cloud: c.Config.Cloud})
}
