package emulator_test

import (
	"strings"
	"testing"
)

// gate sets the vault's two network gates.
func (w *world) gate(t *testing.T, properties string) {
	t.Helper()
	id := strings.Replace(w.env["POSTGRES_SERVER_ID"], "Microsoft.DBforPostgreSQL/flexibleServers/pgmirror-emulator", "Microsoft.KeyVault/vaults/kv-pgmirror", 1)
	a := w.do(t, "PATCH", w.env["ARM_ENDPOINT"]+id+"?api-version=2024-11-01", w.env["ARM_TOKEN"], `{"properties":`+properties+`}`)
	if a.status != 200 {
		t.Fatalf("patch the vault: got %d %s", a.status, a.raw)
	}
}

func TestVaultGates(t *testing.T) {
	w := common(t)
	const open = `{"publicNetworkAccess":"Enabled","networkAcls":{"defaultAction":"Allow","ipRules":[]}}`
	for _, c := range []struct {
		gates, code string
		status      int
	}{
		{`{"publicNetworkAccess":"Disabled"}`, "ForbiddenByConnection", 403},
		{`{"publicNetworkAccess":"Enabled","networkAcls":{"defaultAction":"Deny","ipRules":[]}}`, "ForbiddenByFirewall", 403},
		{`{"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"127.0.0.1/32"}]}}`, "", 200},
		{`{"publicNetworkAccess":"disabled"}`, "ForbiddenByConnection", 403}, // beats the rule
		{open, "", 200},
	} {
		w.gate(t, c.gates)
		w.vault(t, "GET", "/secrets/postgres-admin-password", nil).want(t, c.status, c.code)
	}
}

func TestVaultRefuses(t *testing.T) {
	w := common(t)
	w.do(t, "GET", w.env["KEYVAULT_URL"]+"/secrets/postgres-admin-password", w.env["VAULT_TOKEN"], nil).want(t, 400, "BadParameter")
	w.vault(t, "GET", "/secrets/none", nil).want(t, 404, "SecretNotFound")
	w.vault(t, "GET", "/secrets/postgres-admin-password/none", nil).want(t, 404, "SecretNotFound")
	w.vault(t, "PUT", "/secrets/bad_name", `{"value":"x"}`).want(t, 400, "BadParameter")
	for _, body := range []string{"", "{", "{}", `{"value":1}`, `{"value":"` + strings.Repeat("x", 26<<10) + `"}`} {
		w.vault(t, "PUT", "/secrets/good", body).want(t, 400, "BadParameter")
	}
	w.vault(t, "PUT", "/secrets/off", `{"value":"x","attributes":{"enabled":false}}`).want(t, 200, "")
	w.vault(t, "GET", "/secrets/off", nil).want(t, 403, "SecretDisabled")
	w.vault(t, "PUT", "/secrets/gone", `{"value":"x"}`).want(t, 200, "")
	w.vault(t, "DELETE", "/secrets/gone", nil).want(t, 200, "")
	w.vault(t, "PUT", "/secrets/gone", `{"value":"y"}`).want(t, 409, "ObjectIsDeletedButRecoverable")
	w.vault(t, "POST", "/deletedsecrets/gone/recover", nil).want(t, 200, "")
	w.vault(t, "GET", "/secrets/gone", nil).want(t, 200, "")
	w.vault(t, "DELETE", "/deletedsecrets/gone", nil).want(t, 404, "SecretNotFound")
}
