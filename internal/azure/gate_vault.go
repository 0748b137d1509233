package azure

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
)

// ErrNoVault means that no vault of the subscription has the address. It comes
// wrapped.
var ErrNoVault = errors.New("no such vault in the subscription, or it isn't ours to see")

// FindVault is the ARM id of the vault at an address, which is how its gates are
// reached; it looks through the vaults of a subscription.
func FindVault(ctx context.Context, subscription, address string, o Options) (string, error) {
	want, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("vault address: %w", err)
	}
	c, err := armkeyvault.NewVaultsClient(subscription, o.Credential, o.arm())
	if err != nil {
		return "", fmt.Errorf("arm client: %w", err)
	}
	for p := c.NewListBySubscriptionPager(nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return "", fmt.Errorf("ask for the vaults: %w", err)
		}
		for _, v := range page.Value {
			if v.Properties == nil {
				continue
			}
			if have, err := url.Parse(str(v.Properties.VaultURI)); err == nil && strings.EqualFold(have.Host, want.Host) {
				return str(v.ID), nil
			}
		}
	}
	return "", fmt.Errorf("vault %s: %w", want.Host, ErrNoVault)
}
