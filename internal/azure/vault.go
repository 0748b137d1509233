package azure

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/pgmirror/pgmirror/internal/config"
)

// Vault is the secrets of one Key Vault.
type Vault struct {
	URL     string
	secrets *azsecrets.Client
	patient Busy
}

// NewVault makes a client of the vault at o.Endpoint. It asks nothing yet.
func NewVault(o Options) (*Vault, error) {
	c, err := azsecrets.NewClient(o.Endpoint, o.Credential, &azsecrets.ClientOptions{
		ClientOptions: o.client(),
		// The check compares host names and can't know a loopback one.
		DisableChallengeResourceVerification: config.Loopback(o.Endpoint),
	})
	if err != nil {
		return nil, fmt.Errorf("key vault client: %w", err)
	}
	patient := Busy{Tries: 30, Wait: 2 * time.Second}
	if config.Loopback(o.Endpoint) {
		patient.Wait = 50 * time.Millisecond
	}
	return &Vault{o.Endpoint, c, patient}, nil
}

// Secret reads the newest version of a secret; ok is false when there is none.
func (v *Vault) Secret(ctx context.Context, name string) (value string, ok bool, err error) {
	return v.Version(ctx, name, "")
}

// Version reads one version of a secret, "" for the newest; ok is false when
// there is none.
func (v *Vault) Version(ctx context.Context, name, version string) (value string, ok bool, err error) {
	r, err := v.secrets.GetSecret(ctx, name, version, nil)
	if IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read secret %s: %w", name, err)
	}
	if r.Value == nil {
		return "", false, nil
	}
	return *r.Value, true, nil
}

// Deleted reports whether the name belongs to a secret that was deleted and can
// still be had back.
func (v *Vault) Deleted(ctx context.Context, name string) (bool, error) {
	_, err := v.secrets.GetDeletedSecret(ctx, name, nil)
	if IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for deleted secret %s: %w", name, err)
	}
	return true, nil
}

// Recover takes a deleted secret back, and waits until it can be read.
func (v *Vault) Recover(ctx context.Context, name string) error {
	if _, err := v.secrets.RecoverDeletedSecret(ctx, name, nil); err != nil && !isConflict(err) {
		return fmt.Errorf("recover secret %s: %w", name, err)
	}
	for range v.patient.Tries {
		if _, ok, err := v.Secret(ctx, name); err != nil || ok {
			return err
		}
		if err := pause(ctx, v.patient.Wait); err != nil {
			return err
		}
	}
	return fmt.Errorf("recover secret %s: still can't be read", name)
}

// MadeTag marks the versions of a secret that wasn't there before us.
const MadeTag = "pgmirror"

// MakeSecret is SetSecret for a secret that wasn't there: it is marked as ours.
func (v *Vault) MakeSecret(ctx context.Context, name, value string) error {
	return v.set(ctx, name, value, map[string]*string{MadeTag: ptr("made")})
}

// Made reports whether a secret is there, and whether its newest version has
// MadeTag.
func (v *Vault) Made(ctx context.Context, name string) (exists, made bool, err error) {
	r, err := v.secrets.GetSecret(ctx, name, "", nil)
	if IsNotFound(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("read secret %s: %w", name, err)
	}
	return true, r.Tags[MadeTag] != nil, nil
}

// Delete deletes a secret; the vault keeps it for some time. One that isn't there
// is no error.
func (v *Vault) Delete(ctx context.Context, name string) error {
	if _, err := v.secrets.DeleteSecret(ctx, name, nil); err != nil && !IsNotFound(err) {
		return fmt.Errorf("delete secret %s: %w", name, err)
	}
	return nil
}

// SetSecret writes a new version. A name that is just being recovered or deleted
// is refused for some seconds; that is waited for.
func (v *Vault) SetSecret(ctx context.Context, name, value string) error {
	return v.set(ctx, name, value, nil)
}

func (v *Vault) set(ctx context.Context, name, value string, tags map[string]*string) error {
	var err error
	for range v.patient.Tries {
		_, err = v.secrets.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: &value, ContentType: ptr("text/plain"), Tags: tags}, nil)
		if c := inner(err); c != "ObjectIsBeingRecovered" && c != "ObjectIsBeingDeleted" {
			break
		}
		if err := pause(ctx, v.patient.Wait); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("write secret %s: %w", name, err)
	}
	return nil
}

func isConflict(err error) bool { return status(err) == http.StatusConflict }
