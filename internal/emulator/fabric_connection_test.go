package emulator_test

import (
	"testing"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

// at changes a value in a body of nested maps; the last argument is the value,
// nil removes.
func at(body map[string]any, path ...any) map[string]any {
	m := body
	keys, value := path[:len(path)-1], path[len(path)-1]
	for _, k := range keys[:len(keys)-1] {
		m = m[k.(string)].(map[string]any)
	}
	if last := keys[len(keys)-1].(string); value == nil {
		delete(m, last)
	} else {
		m[last] = value
	}
	return body
}

func (w *world) password(t *testing.T) string {
	t.Helper()
	return w.vault(t, "GET", "/secrets/postgres-admin-password", nil).body["value"].(string)
}

func TestConnectionIsChecked(t *testing.T) {
	w := common(t)
	password := w.password(t)
	parameter := func(name, kind, value string) map[string]any {
		return map[string]any{"name": name, "dataType": kind, "value": value}
	}
	database := parameter("database", "Text", "postgres")
	for name, c := range map[string]struct {
		code string
		path []any
	}{
		"kind of connectivity": {"UnsupportedConnectivityTypeInput", []any{"connectivityType", "OnPremisesGatewayPersonal"}},
		"no name":              {"InvalidInput", []any{"displayName", nil}},
		"privacy":              {"UnsupportedPrivacyLevelInput", []any{"privacyLevel", "Secret"}},
		"type by case":         {"InvalidConnectionDetails", []any{"connectionDetails", "type", "AzurePostgresql"}},
		"method by case":       {"InvalidConnectionDetails", []any{"connectionDetails", "creationMethod", "azurepostgresql.database"}},
		"method of another":    {"InvalidConnectionDetails", []any{"connectionDetails", "creationMethod", "PostgreSql"}},
		"parameter by case":    {"InvalidConnectionDetails", []any{"connectionDetails", "parameters", []any{parameter("Server", "Text", "localhost"), database}}},
		"parameter missing":    {"InvalidConnectionDetails", []any{"connectionDetails", "parameters", []any{database}}},
		"port as parameter":    {"InvalidConnectionDetails", []any{"connectionDetails", "parameters", []any{parameter("server", "Text", "localhost"), database, parameter("port", "Number", "1")}}},
		"type of parameter":    {"InvalidConnectionDetails", []any{"connectionDetails", "parameters", []any{parameter("server", "Number", "localhost"), database}}},
		"encryption":           {"UnsupportedConnectionEncryptionInput", []any{"credentialDetails", "connectionEncryption", "Any"}},
		"single sign-on":       {"UnsupportedSingleSignOnTypeInput", []any{"credentialDetails", "singleSignOnType", "Kerberos"}},
		"skipped test":         {"SkipTestConnectionNotSupported", []any{"credentialDetails", "skipTestConnection", true}},
		"workspace identity":   {"UnsupportedCredentialTypeInput", []any{"credentialDetails", "credentials", map[string]any{"credentialType": "WorkspaceIdentity"}}},
		"OAuth2":               {"InvalidCredentialDetails", []any{"credentialDetails", "credentials", map[string]any{"credentialType": "OAuth2"}}},
		"no password":          {"InvalidCredentialDetails", []any{"credentialDetails", "credentials", map[string]any{"credentialType": "Basic", "username": "pgadmin"}}},
		"wrong password":       {"IncorrectCredentials", []any{"credentialDetails", "credentials", "password", "wrong"}},
		"another machine":      {"CreateGatewayConnectionFailed", []any{"connectionDetails", "parameters", []any{parameter("server", "Text", "db.example.com"), database}}},
		"nobody listens":       {"CreateGatewayConnectionFailed", []any{"connectionDetails", "parameters", []any{parameter("server", "Text", "localhost:1"), database}}},
	} {
		t.Run(name, func(t *testing.T) {
			body := at(w.connectionBody("refused", "pgadmin", password), c.path...)
			w.fabric(t, "POST", "/connections", body).want(t, 400, c.code)
		})
	}
}

func TestConnectionLife(t *testing.T) {
	w := common(t)
	password := w.password(t)
	made := w.fabric(t, "POST", "/connections", w.connectionBody("life", "pgadmin", password)).want(t, 201, "")
	id := made.body["id"].(string)
	if got, want := made.header.Get("Location"), w.env["FABRIC_ENDPOINT"]+"/v1/connections/"+id; got != want {
		t.Errorf("Location: got %s, want %s", got, want)
	}
	w.fabric(t, "POST", "/connections", w.connectionBody("LIFE", "pgadmin", password)).want(t, 409, "DuplicateConnectionName")
	if got := w.fabric(t, "POST", "/connections/"+id+"/testConnection", nil).want(t, 200, "").body["status"]; got != "Online" {
		t.Errorf("test: got %v, want Online", got)
	}
	patch := func(body map[string]any) answer { return w.fabric(t, "PATCH", "/connections/"+id, body) }
	patch(map[string]any{"displayName": "renamed"}).want(t, 400, "InvalidInput") // connectivityType is required
	patch(map[string]any{"connectivityType": "ShareableCloud", "displayName": "renamed"}).want(t, 200, "")
	bad := w.connectionBody("", "pgadmin", "wrong")["credentialDetails"]
	patch(map[string]any{"connectivityType": "ShareableCloud", "credentialDetails": bad}).want(t, 400, "IncorrectCredentials")
	if got := w.fabric(t, "POST", "/connections/"+id+"/testConnection", nil).want(t, 200, "").body["status"]; got != "Online" {
		t.Errorf("test after a refused change: got %v, want Online", got)
	}
	if got := w.fabric(t, "GET", "/connections/"+id, nil).want(t, 200, "").body["displayName"]; got != "renamed" {
		t.Errorf("name: got %v, want renamed", got)
	}
	w.fabric(t, "DELETE", "/connections/"+id, nil).want(t, 200, "")
	w.fabric(t, "GET", "/connections/"+id, nil).want(t, 404, "EntityNotFound")
}

func TestConnectionByKeyVaultReference(t *testing.T) {
	w := common(t)
	vault := map[string]any{
		"connectivityType": "ShareableCloud", "displayName": "vault", "privacyLevel": "None",
		"connectionDetails": map[string]any{"type": "AzureKeyVault", "creationMethod": "AzureKeyVault.Actions", "parameters": []any{
			map[string]any{"name": "accountName", "dataType": "Text", "value": "kv-pgmirror"}}},
		"credentialDetails": map[string]any{"credentials": map[string]any{"credentialType": "ServicePrincipal",
			"tenantId": "t", "servicePrincipalClientId": "c", "servicePrincipalSecret": "s"}},
	}
	id := w.fabric(t, "POST", "/connections", vault).want(t, 201, "").body["id"].(string)
	t.Cleanup(func() { w.fabricCleanup("/connections/" + id) })
	by := func(secret string) map[string]any {
		body := w.connectionBody("by reference", "pgadmin", "")
		return at(body, "credentialDetails", "credentials", map[string]any{"credentialType": "Basic", "username": "pgadmin",
			"passwordReference": map[string]any{"connectionId": id, "secretName": secret}})
	}
	w.fabric(t, "POST", "/connections", by("none")).want(t, 400, "IncorrectCredentials")
	made := w.fabric(t, "POST", "/connections", by("postgres-admin-password")).want(t, 201, "")
	w.fabric(t, "DELETE", "/connections/"+made.body["id"].(string), nil).want(t, 200, "")
}

func TestFirewallKeepsFabricOut(t *testing.T) {
	w := own(t, emulator.Options{Server: emulator.ServerOptions{NoFirewall: true}})
	body := w.connectionBody("c", "pgadmin", w.password(t))
	w.fabric(t, "POST", "/connections", body).want(t, 400, "CreateGatewayConnectionFailed")
	w.write(t, "PUT", "/firewallRules/azure", `{"properties":{"startIpAddress":"0.0.0.0","endIpAddress":"0.0.0.0"}}`)
	w.fabric(t, "POST", "/connections", body).want(t, 201, "")
	w.write(t, "PATCH", "", `{"properties":{"network":{"publicNetworkAccess":"Disabled"}}}`)
	body["displayName"] = "d"
	w.fabric(t, "POST", "/connections", body).want(t, 400, "CreateGatewayConnectionFailed")
	book.Proved("arm.firewall")
}
