package emulator_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
)

// TestCertificates: OpenSSL takes a certificate whose subject is its issuer for
// one that signed itself, whatever its signature says.
func TestCertificates(t *testing.T) {
	w := common(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.CAPEM)
	for _, name := range []string{"FABRIC_ENDPOINT", "ARM_ENDPOINT", "KEYVAULT_URL", "ONELAKE_DFS_ENDPOINT", "ONELAKE_BLOB_ENDPOINT"} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(w.env[name], "https://"), &tls.Config{RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		leaf := conn.ConnectionState().PeerCertificates[0]
		conn.Close()
		if bytes.Equal(leaf.RawSubject, leaf.RawIssuer) {
			t.Errorf("%s: subject and issuer are both %s", name, leaf.Subject)
		}
		if len(leaf.AuthorityKeyId) == 0 {
			t.Errorf("%s: no authority key identifier, which strict verification wants", name)
		}
	}
}

func TestTokensAreForOneAudience(t *testing.T) {
	w := common(t)
	at := map[string]string{
		"FABRIC_TOKEN":  w.env["FABRIC_ENDPOINT"] + "/v1/workspaces",
		"ARM_TOKEN":     w.env["ARM_ENDPOINT"] + w.env["POSTGRES_SERVER_ID"] + "?api-version=2025-08-01",
		"VAULT_TOKEN":   w.env["KEYVAULT_URL"] + "/secrets?api-version=7.4",
		"STORAGE_TOKEN": w.env["ONELAKE_DFS_ENDPOINT"] + "/" + w.env["FABRIC_WORKSPACE_ID"] + "?resource=filesystem&recursive=false",
	}
	wrong := map[string]string{"FABRIC_TOKEN": "Unauthorized", "ARM_TOKEN": "InvalidAuthenticationTokenAudience", "VAULT_TOKEN": "Unauthorized", "STORAGE_TOKEN": "InvalidAuthenticationInfo"}
	missing := map[string]string{"FABRIC_TOKEN": "Unauthorized", "ARM_TOKEN": "AuthenticationFailed", "VAULT_TOKEN": "Unauthorized", "STORAGE_TOKEN": "NoAuthenticationInformation"}
	for service, url := range at {
		for token := range at {
			a := w.do(t, "GET", url, w.env[token], nil)
			if token != service {
				a.want(t, 401, wrong[service])
			} else if a.status == 401 {
				t.Errorf("%s with its own token: got %d %s", service, a.status, a.raw)
			}
		}
		w.do(t, "GET", url, "", nil).want(t, 401, missing[service])
	}
	a := w.do(t, "GET", at["VAULT_TOKEN"], "", nil)
	if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, `resource="https://vault.azure.net"`) || strings.Count(got, "/") < 5 {
		t.Errorf("challenge: got %q, want the vault's resource and a tenant", got)
	}
	book.Proved("vault.challenge")
}
