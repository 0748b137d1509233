package emulator

import (
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// secretInput is the body of set and update.
type secretInput struct {
	Value       *string            `json:"value"`
	ContentType *string            `json:"contentType"`
	Tags        *map[string]string `json:"tags"`
	Attributes  struct {
		Enabled   *bool  `json:"enabled"`
		NotBefore *int64 `json:"nbf"`
		Expires   *int64 `json:"exp"`
	} `json:"attributes"`
}

func badParameter(why string) *fault {
	return faultf(http.StatusBadRequest, "BadParameter", "%s", why)
}

// setSecret makes a new version. A name that is deleted but recoverable is
// refused: it has to be recovered or purged first.
func (v *vault) setSecret(c *call) (reply, error) {
	var in secretInput
	if f := c.decode(&in, badParameter); f != nil {
		return reply{}, f
	}
	if in.Value == nil || len(*in.Value) > maxSecret {
		return reply{}, badParameter("The request body must have a value of at most 25 kB.")
	}
	var body map[string]any
	err := v.state.change(func(s *state) error {
		name, secret := s.Vault.find(c.vars["name"])
		if secret == nil {
			secret = &secretState{}
		}
		if secret.Deleted != nil {
			return &fault{status: http.StatusConflict, code: "Conflict", inner: "ObjectIsDeletedButRecoverable",
				message: "Secret " + name + " is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged."}
		}
		id, now := uuid.New(), v.now().Unix()
		version := secretVersion{ID: hex.EncodeToString(id[:]), Value: *in.Value, Enabled: true, Created: now, Updated: now}
		in.apply(&version)
		secret.Versions = append(secret.Versions, version)
		s.Vault.Secrets[name] = secret
		body = v.bundle(name, &version, true)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (in *secretInput) apply(v *secretVersion) {
	if in.Attributes.Enabled != nil {
		v.Enabled = *in.Attributes.Enabled
	}
	if in.Attributes.NotBefore != nil {
		v.NotBefore = in.Attributes.NotBefore
	}
	if in.Attributes.Expires != nil {
		v.Expires = in.Attributes.Expires
	}
	if in.Tags != nil {
		v.Tags = maps.Clone(*in.Tags)
	}
	v.ContentType = or(in.ContentType, v.ContentType)
}

// find returns a secret with the name as it was first written.
func (v *vaultState) find(name string) (string, *secretState) {
	for have, s := range v.Secrets {
		if strings.EqualFold(have, name) {
			return have, s
		}
	}
	return name, nil
}

// version finds a live version, "" is the newest.
func (v *vaultState) version(name, id string) (string, *secretVersion, *fault) {
	have, s := v.find(name)
	if s == nil || s.Deleted != nil {
		return "", nil, secretNotFound(name)
	}
	if id == "" {
		return have, &s.Versions[len(s.Versions)-1], nil
	}
	for i := range s.Versions {
		if strings.EqualFold(s.Versions[i].ID, id) {
			return have, &s.Versions[i], nil
		}
	}
	return "", nil, secretNotFound(name + "/" + id)
}

func secretNotFound(name string) *fault {
	return faultf(http.StatusNotFound, "SecretNotFound",
		"A secret with (name/id) %s was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command.", name)
}

func (v *vault) getSecret(c *call) (reply, error) {
	var body map[string]any
	err := v.state.read(func(s *state) error {
		name, version, f := s.Vault.version(c.vars["name"], c.vars["version"])
		if f != nil {
			return f
		}
		if !version.Enabled {
			return &fault{status: http.StatusForbidden, code: "Forbidden", inner: "SecretDisabled", message: "Operation get is not allowed on a disabled secret."}
		}
		body = v.bundle(name, version, true)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (v *vault) patchSecret(c *call) (reply, error) {
	var in secretInput
	if f := c.decode(&in, badParameter); f != nil {
		return reply{}, f
	}
	var body map[string]any
	err := v.state.change(func(s *state) error {
		name, version, f := s.Vault.version(c.vars["name"], c.vars["version"])
		if f != nil {
			return f
		}
		in.apply(version)
		version.Updated = v.now().Unix()
		body = v.bundle(name, version, false)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (v *vault) listSecrets(c *call) (reply, error) {
	list := []any{}
	v.state.look(func(s *state) {
		for _, name := range slices.Sorted(maps.Keys(s.Vault.Secrets)) {
			if secret := s.Vault.Secrets[name]; secret.Deleted == nil {
				item := v.bundle(name, &secret.Versions[len(secret.Versions)-1], false)
				item["id"] = v.base + "/secrets/" + name
				list = append(list, item)
			}
		}
	})
	return reply{http.StatusOK, map[string]any{"value": list, "nextLink": nil}}, nil
}

func (v *vault) listVersions(c *call) (reply, error) {
	list := []any{}
	v.state.look(func(s *state) {
		if name, secret := s.Vault.find(c.vars["name"]); secret != nil && secret.Deleted == nil {
			for i := range secret.Versions {
				list = append(list, v.bundle(name, &secret.Versions[i], false))
			}
		}
	})
	return reply{http.StatusOK, map[string]any{"value": list, "nextLink": nil}}, nil
}

// bundle is a version as the service shows it; only get and set show the value.
func (v *vault) bundle(name string, s *secretVersion, value bool) map[string]any {
	attributes := map[string]any{"enabled": s.Enabled, "created": s.Created, "updated": s.Updated, "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90}
	if s.NotBefore != nil {
		attributes["nbf"] = *s.NotBefore
	}
	if s.Expires != nil {
		attributes["exp"] = *s.Expires
	}
	body := map[string]any{"id": v.base + "/secrets/" + name + "/" + s.ID, "attributes": attributes}
	if value {
		body["value"] = s.Value
	}
	if s.ContentType != "" {
		body["contentType"] = s.ContentType
	}
	if s.Tags != nil {
		body["tags"] = maps.Clone(s.Tags)
	}
	return body
}
