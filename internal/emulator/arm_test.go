package emulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

func parameterBody(value string) map[string]any {
	return map[string]any{"properties": map[string]any{"value": value, "source": "user-override"}}
}

func TestARMRefuses(t *testing.T) {
	w := common(t)
	id := w.env["POSTGRES_SERVER_ID"]
	raw := func(method, path string, body any) answer {
		return w.do(t, method, w.env["ARM_ENDPOINT"]+path, w.env["ARM_TOKEN"], body)
	}
	raw("GET", id, nil).want(t, 400, "MissingApiVersionParameter")
	raw("GET", id+"x?api-version=1", nil).want(t, 404, "ResourceNotFound")
	raw("GET", "/subscriptions/none/resourceGroups/pgmirror?api-version=1", nil).want(t, 404, "SubscriptionNotFound")
	raw("GET", "/nothing?api-version=1", nil).want(t, 404, "InvalidResourceType")
	raw("DELETE", id+"?api-version=1", nil).want(t, 405, "HttpMethodNotSupported")
	for _, c := range []struct {
		name, value, code string
		status            int
	}{
		{"max_slot_wal_keep_size", "10", "OperationFailed", 400},
		{"wal_level", "minimal", "InvalidParameterValue", 400},
		{"max_wal_senders", "3", "InvalidParameterValue", 400},
		{"max_wal_senders", "ten", "InvalidParameterValue", 400},
		{"azure.extensions", "azure_cdc", "InvalidParameterValue", 400},
		{"azure.mirror_databases", "postgres,none", "InvalidParameterValue", 400},
		{"azure_cdc.max_fabric_mirrors", "7", "InvalidParameterValue", 400},
		{"shared_preload_libraries", "azure_cdc", "OperationFailed", 400},
		{"no_such_thing", "1", "ConfigurationNotExists", 404},
	} {
		w.arm(t, "PUT", "/configurations/"+c.name, parameterBody(c.value)).want(t, c.status, c.code)
	}
	for _, body := range []string{"", "{", "[]", `{"properties":{}}`, `{"properties":{"value":5}}`} {
		w.arm(t, "PUT", "/configurations/work_mem", body).want(t, 400, "InvalidRequestContent")
	}
	for _, body := range []string{
		`{"properties":{"authConfig":{"passwordAuth":"On"}}}`, `{"properties":{"network":{"publicNetworkAccess":"open"}}}`, `{"identity":{"type":"Mine"}}`,
		`{"properties":{"authConfig":{"passwordAuth":"Disabled","activeDirectoryAuth":"Disabled"}}}`,
	} {
		w.arm(t, "PATCH", "", body).want(t, 400, "InvalidParameterValue")
	}
	for _, rule := range []string{`{"startIpAddress":"::1","endIpAddress":"::1"}`, `{"startIpAddress":"10.0.0.2","endIpAddress":"10.0.0.1"}`, `{}`} {
		w.arm(t, "PUT", "/firewallRules/r", `{"properties":`+rule+`}`).want(t, 400, "InvalidParameterValue")
	}
}

func TestOneWriteAtATime(t *testing.T) {
	w := own(t, emulator.Options{ARMDelay: time.Hour})
	first := w.arm(t, "PUT", "/configurations/work_mem", parameterBody("8192"))
	if first.status != http.StatusAccepted {
		t.Fatalf("first write: got %d %s, want 202", first.status, first.raw)
	}
	w.arm(t, "PUT", "/firewallRules/r", `{"properties":{"startIpAddress":"10.0.0.1","endIpAddress":"10.0.0.1"}}`).want(t, 409, "ServerIsBusy")
	w.arm(t, "POST", "/restart", nil).want(t, 409, "ServerIsBusy")
	if got := w.arm(t, "GET", "", nil).body["properties"].(map[string]any)["state"]; got != "Updating" {
		t.Errorf("state during a write: got %v, want Updating", got)
	}
	result := w.do(t, "GET", first.header.Get("Location"), w.env["ARM_TOKEN"], nil)
	if result.status != http.StatusAccepted {
		t.Errorf("result during a write: got %d, want 202", result.status)
	}
	w.advance(t, time.Hour)
	eventually(t, "the result is there", func() bool {
		result = w.do(t, "GET", first.header.Get("Location"), w.env["ARM_TOKEN"], nil)
		return result.status == http.StatusOK
	})
	if p := result.body["properties"].(map[string]any); p["value"] != "8192" {
		t.Errorf("result: got %v, want 8192", p["value"])
	}
	var got string
	if err := w.admin(t).QueryRow(t.Context(), "SHOW work_mem").Scan(&got); err != nil || got != "8MB" {
		t.Errorf("in the cluster: got %s %v, want 8MB", got, err)
	}
	book.Proved("arm.async")
}

// identity is shown to SQL, and can't be taken from a server that is mirrored.
func (w *world) identity(t *testing.T) {
	t.Helper()
	w.enable(t, "postgres")
	principal := w.arm(t, "GET", "", nil).body["identity"].(map[string]any)["principalId"]
	var got string
	if err := w.admin(t).QueryRow(t.Context(), "SHOW azure.service_principal_id").Scan(&got); err != nil || got != principal {
		t.Errorf("the identity in SQL: got %s %v, want %s", got, err, principal)
	}
	w.arm(t, "PATCH", "", `{"identity":{"type":"None"}}`).want(t, 400, "OperationNotAllowed")
}

func TestTCPNeedsTLS(t *testing.T) {
	w := common(t)
	plain := w.connectionBody("plain", "pgadmin", w.vault(t, "GET", "/secrets/postgres-admin-password", nil).body["value"].(string))
	plain["credentialDetails"].(map[string]any)["connectionEncryption"] = "NotEncrypted"
	w.fabric(t, "POST", "/connections", plain).want(t, 400, "IncorrectCredentials")
}
