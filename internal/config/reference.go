package config

import (
	"net/url"
	"strings"
)

// Reference is a secret in a Key Vault, as azd and App Service write it in place
// of a value.
type Reference struct {
	Vault   string // its address
	Name    string
	Version string // "": the newest
}

// ParseReference reads akvs://SUBSCRIPTION/VAULT/SECRET and
// @Microsoft.KeyVault(SecretUri=…) or (VaultName=…;SecretName=…); ok is false for
// any other text.
func ParseReference(text, cloud string) (r Reference, ok bool) {
	if rest, is := strings.CutPrefix(text, "akvs://"); is {
		parts := strings.Split(rest, "/")
		if len(parts) != 3 || parts[1] == "" || parts[2] == "" {
			return Reference{}, false
		}
		return Reference{Vault: VaultURL(parts[1], cloud), Name: parts[2]}, true
	}
	inner, is := strings.CutPrefix(text, "@Microsoft.KeyVault(")
	if inner, is = cutEnd(inner, ")", is); !is {
		return Reference{}, false
	}
	values := map[string]string{}
	for pair := range strings.SplitSeq(inner, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		values[strings.ToLower(key)] = value
	}
	if at := values["secreturi"]; at != "" {
		return secretURI(at)
	}
	r = Reference{Vault: VaultURL(values["vaultname"], cloud), Name: values["secretname"], Version: values["secretversion"]}
	return r, values["vaultname"] != "" && r.Name != ""
}

func cutEnd(s, end string, is bool) (string, bool) {
	s, had := strings.CutSuffix(s, end)
	return s, is && had
}

// secretURI takes https://VAULT/secrets/NAME[/VERSION] apart.
func secretURI(text string) (Reference, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return Reference{}, false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 || parts[0] != "secrets" || parts[1] == "" {
		return Reference{}, false
	}
	r := Reference{Vault: "https://" + u.Host, Name: parts[1]}
	if len(parts) > 2 {
		r.Version = parts[2]
	}
	return r, true
}
