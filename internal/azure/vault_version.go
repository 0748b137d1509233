package azure

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// Version is one version of a secret. It never shows its value.
type Version struct {
	ID    string
	Value string `json:"-"`
	Tags  map[string]string
}

// String keeps the value out of every print.
func (v Version) String() string   { return "version " + v.ID }
func (v Version) GoString() string { return v.String() }

// Newest is the newest version of a secret, with its tags; ok is false when there
// is none.
func (v *Vault) Newest(ctx context.Context, name string) (out Version, ok bool, err error) {
	r, err := v.secrets.GetSecret(ctx, name, "", nil)
	if IsNotFound(err) {
		return Version{}, false, nil
	}
	if err != nil {
		return Version{}, false, fmt.Errorf("read secret %s: %w", name, err)
	}
	return version(r.Secret), r.Value != nil, nil
}

// AddVersion writes a new version that carries tags.
func (v *Vault) AddVersion(ctx context.Context, name, value string, tags map[string]string) error {
	p := azsecrets.SetSecretParameters{Value: &value, ContentType: ptr("text/plain"), Tags: pointers(tags)}
	if _, err := v.secrets.SetSecret(ctx, name, p, nil); err != nil {
		return fmt.Errorf("write secret %s: %w", name, err)
	}
	return nil
}

// SetTags replaces the tags of a version.
func (v *Vault) SetTags(ctx context.Context, name, id string, tags map[string]string) error {
	if _, err := v.secrets.UpdateSecretProperties(ctx, name, id, azsecrets.UpdateSecretPropertiesParameters{Tags: pointers(tags)}, nil); err != nil {
		return fmt.Errorf("tag secret %s: %w", name, err)
	}
	return nil
}

func version(s azsecrets.Secret) Version {
	out := Version{Tags: map[string]string{}}
	if s.ID != nil {
		out.ID = s.ID.Version()
	}
	if s.Value != nil {
		out.Value = *s.Value
	}
	for k, t := range s.Tags {
		out.Tags[k] = str(t)
	}
	return out
}

func pointers(tags map[string]string) map[string]*string {
	out := map[string]*string{}
	for k, t := range tags {
		out[k] = &t
	}
	return out
}
