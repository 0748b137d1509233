package emulator

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// retention is how long a deleted secret can be recovered.
const retention = 90 * 24 * time.Hour

func (v *vault) deleteSecret(c *call) (reply, error) {
	var body map[string]any
	err := v.state.change(func(s *state) error {
		name, secret := s.Vault.find(c.vars["name"])
		if secret == nil || secret.Deleted != nil {
			return secretNotFound(c.vars["name"])
		}
		now := v.now()
		secret.Deleted = &now
		body = v.deleted(name, secret)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (v *vault) listDeleted(*call) (reply, error) {
	list := []any{}
	v.state.look(func(s *state) {
		for _, name := range slices.Sorted(maps.Keys(s.Vault.Secrets)) {
			if secret := s.Vault.Secrets[name]; secret.Deleted != nil {
				list = append(list, v.deleted(name, secret))
			}
		}
	})
	return reply{http.StatusOK, map[string]any{"value": list, "nextLink": nil}}, nil
}

func (v *vault) getDeleted(c *call) (reply, error) {
	var body map[string]any
	err := v.state.read(func(s *state) error {
		name, secret := s.Vault.find(c.vars["name"])
		if secret == nil || secret.Deleted == nil {
			return secretNotFound(c.vars["name"])
		}
		body = v.deleted(name, secret)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (v *vault) recoverSecret(c *call) (reply, error) {
	var body map[string]any
	err := v.state.change(func(s *state) error {
		name, secret := s.Vault.find(c.vars["name"])
		if secret == nil || secret.Deleted == nil {
			return secretNotFound(c.vars["name"])
		}
		secret.Deleted = nil
		body = v.bundle(name, &secret.Versions[len(secret.Versions)-1], false)
		return nil
	})
	return reply{http.StatusOK, body}, err
}

func (v *vault) purgeSecret(c *call) (reply, error) {
	err := v.state.change(func(s *state) error {
		name, secret := s.Vault.find(c.vars["name"])
		if secret == nil || secret.Deleted == nil {
			return secretNotFound(c.vars["name"])
		}
		delete(s.Vault.Secrets, name)
		return nil
	})
	return reply{status: http.StatusNoContent}, err
}

func (v *vault) deleted(name string, secret *secretState) map[string]any {
	body := v.bundle(name, &secret.Versions[len(secret.Versions)-1], false)
	body["recoveryId"] = v.base + "/deletedsecrets/" + name
	body["deletedDate"] = secret.Deleted.Unix()
	body["scheduledPurgeDate"] = secret.Deleted.Add(retention).Unix()
	return body
}
