package emulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/microsoft/fabric-sdk-go/fabric"
	"github.com/microsoft/fabric-sdk-go/fabric/core"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

// control calls the emulator's own endpoint.
func (w *world) control(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return w.do(t, method, w.env["EMULATOR_ENDPOINT"]+path, w.env["EMULATOR_TOKEN"], body)
}

func (w *world) tenant(t *testing.T, body string) {
	t.Helper()
	w.control(t, "PATCH", "/tenant", body).want(t, 200, "")
}

// advance puts the emulated clock forward.
func (w *world) advance(t *testing.T, d time.Duration) {
	t.Helper()
	w.control(t, "POST", "/clock", map[string]any{"advance": d.String()}).want(t, 200, "")
}

// endpoints is one harmless request to each service.
func (w *world) endpoints() map[string]string {
	return map[string]string{
		"FABRIC_TOKEN":  w.env["FABRIC_ENDPOINT"] + "/v1/workspaces",
		"ARM_TOKEN":     w.env["ARM_ENDPOINT"] + w.env["POSTGRES_SERVER_ID"] + "?api-version=2025-08-01",
		"VAULT_TOKEN":   w.env["KEYVAULT_URL"] + "/secrets/postgres-admin-password?api-version=7.4",
		"STORAGE_TOKEN": w.env["ONELAKE_DFS_ENDPOINT"] + "/" + w.env["FABRIC_WORKSPACE_ID"] + "?resource=filesystem&recursive=false",
	}
}

func TestTokensExpire(t *testing.T) {
	dir := clusterDir(t)
	w := launch(t, emulator.Options{Dir: dir})
	old := map[string]string{}
	for name := range w.endpoints() {
		old[name] = w.env[name]
	}
	w.control(t, "POST", "/clock", `{"advance":"400h"}`).want(t, 200, "")
	want := map[string]string{"FABRIC_TOKEN": "TokenExpired", "ARM_TOKEN": "ExpiredAuthenticationToken", "VAULT_TOKEN": "Unauthorized", "STORAGE_TOKEN": "InvalidAuthenticationInfo"}
	for name, at := range w.endpoints() {
		w.do(t, "GET", at, old[name], nil).want(t, 401, want[name])
	}
	w.stop(t)
	w = own(t, emulator.Options{Dir: dir}) // makes new ones
	for name, at := range w.endpoints() {
		if a := w.do(t, "GET", at, w.env[name], nil); a.status == 401 || w.env[name] == old[name] {
			t.Errorf("%s after the restart: got %d", name, a.status)
		}
	}
}

// TestManagedIdentity signs in as azidentity does where there is no secret.
func TestManagedIdentity(t *testing.T) {
	w, ctx := common(t), t.Context()
	t.Setenv("IDENTITY_ENDPOINT", w.env["IDENTITY_ENDPOINT"])
	t.Setenv("IDENTITY_HEADER", w.env["IDENTITY_HEADER"])
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: w.http}})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := w.env["FABRIC_ENDPOINT"]
	client, err := fabric.NewClient(cred, &endpoint, &fabric.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := core.NewClientFactoryWithClient(*client).NewWorkspacesClient().ListWorkspaces(ctx, nil); err != nil || len(list) == 0 {
		t.Fatalf("workspaces as the managed identity: got %v %v", list, err)
	}
	secrets, err := azsecrets.NewClient(w.env["KEYVAULT_URL"], cred, &azsecrets.ClientOptions{ClientOptions: w.options(), DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.GetSecret(ctx, "postgres-admin-password", "", nil); err != nil {
		t.Fatalf("a secret as the managed identity: %v", err)
	}
	if tok, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}}); err != nil || time.Until(tok.ExpiresOn) < time.Hour {
		t.Errorf("a token for ARM: got %v %v", tok.ExpiresOn, err)
	}
	at := w.env["IDENTITY_ENDPOINT"] + "?resource=https://api.fabric.microsoft.com"
	w.do(t, "GET", at+"&api-version=2019-08-01", w.env["EMULATOR_TOKEN"], nil).want(t, 401, "Unauthorized")
	w.identity(t)
}

func TestControlRefuses(t *testing.T) {
	w := common(t)
	w.do(t, "GET", w.env["EMULATOR_ENDPOINT"]+"/faults", "", nil).want(t, 401, "Unauthorized")
	w.do(t, "GET", w.env["EMULATOR_ENDPOINT"]+"/faults", w.env["FABRIC_TOKEN"], nil).want(t, 401, "Unauthorized")
	w.control(t, "GET", "/nothing", nil).want(t, 404, "NotFound")
	w.control(t, "DELETE", "/clock", nil).want(t, 405, "MethodNotAllowed")
	for path, bodies := range map[string][]string{
		"POST /clock":   {"", "{", `{}`, `{"advance":"-1h"}`, `{"advance":"soon"}`},
		"PATCH /tenant": {"", "[]", `{"capacity":"Off"}`, `{"vaultAccess":"some"}`, `{"vaultPermissionModel":"x"}`, `{"vaultDelay":"-1s"}`},
		"PUT /faults": {"", "{}", "[{}]", `[{"status":200}]`, `[{"status":500,"service":"other"}]`, `[{"latency":"long"}]`, `[{"drop":true,"count":-1}]`,
			`[{"body":"xml","status":500}]`, `[{"unknown":1}]`, `[{"operation":{}}]`, `[{"drop":true,"path":"/x?%zz"}]`},
	} {
		method, at, _ := strings.Cut(path, " ")
		for _, body := range bodies {
			w.control(t, method, at, body).want(t, 400, "InvalidInput")
		}
	}
	var rules struct{ Rules []json.RawMessage }
	if err := json.Unmarshal(w.control(t, "GET", "/rules", nil).want(t, 200, "").raw, &rules); err != nil || len(rules.Rules) < 100 {
		t.Errorf("rules: got %d %v, want at least 100", len(rules.Rules), err)
	}
}

func TestCapacityPauseStopsMirrors(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir, Native: engine})
	w.enable(t, "postgres")
	w.prepareRole(t)
	w.grant(t)
	connection := w.fabric(t, "POST", "/connections", w.connectionBody("native", fabricUser, "mirrored")).want(t, 201, "").body["id"].(string)
	id := w.mirror(t, "native", nativeDefinition(connection, "postgres", nil))
	w.start(t, id)
	eventually(t, "orders are replicating", func() bool { return w.tableState(t, id, "orders") == "Replicating" })

	// The tenant's setting off: it says Running, and no table gets there again.
	w.tenant(t, `{"oneLakeExternalApps":false}`)
	w.do(t, "GET", w.endpoints()["STORAGE_TOKEN"], w.env["STORAGE_TOKEN"], nil).want(t, 403, "AccessDenied")
	w.halt(t, id)
	w.start(t, id)
	eventually(t, "orders are decided", func() bool { return w.tableState(t, id, "orders") == "Initialized" })
	w.health(t, "CDC_ERR_SYS_ONELAKE_PERMISSION_DENIED")
	if got := w.state(t, id); got != "Running" {
		t.Errorf("state while the setting is off: got %s, want Running", got)
	}
	w.tenant(t, `{"oneLakeExternalApps":true}`)
	eventually(t, "orders are replicating again", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	book.Proved("mirroring.external-apps")

	w.tenant(t, `{"capacity":"Paused"}`)
	if got := w.state(t, id); got != "Paused" {
		t.Errorf("state while the capacity is paused: got %s, want Paused", got)
	}
	w.do(t, "GET", w.endpoints()["STORAGE_TOKEN"], w.env["STORAGE_TOKEN"], nil).want(t, 403, "CapacityNotActive")
	w.fabric(t, "POST", w.mirrors()+"/"+id+"/startMirroring", nil).want(t, 400, "CapacityNotInActiveState")
	w.tenant(t, `{"capacity":"Active"}`)
	if got := w.state(t, id); got != "Paused" {
		t.Errorf("state after the capacity came back: got %s, want Paused", got)
	}
	w.fabric(t, "POST", w.mirrors()+"/"+id+"/startMirroring", nil).want(t, 400, "InvalidItemState")
	w.halt(t, id)
	w.start(t, id)
	eventually(t, "orders are replicating", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	book.Proved("mirroring.capacity-paused")
}

// health waits until azure_cdc tells an error.
func (w *world) health(t *testing.T, code string) {
	t.Helper()
	admin := w.admin(t)
	eventually(t, "azure_cdc tells "+code, func() bool {
		var n int
		if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM azure_cdc.get_health_status('','') WHERE error_code = $1", code).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
}

func TestStatusOfAStoppedMirrorStays(t *testing.T) {
	dir := clusterDir(t)
	w := launch(t, emulator.Options{Dir: dir})
	id := w.fabric(t, "POST", w.mirrors(), mirrorBody("shop", openDefinition("dbo"))).want(t, 201, "").body["id"].(string)
	z := w.zone(id, "orders")
	z.metadata(t, `{"keyColumns":["id"]}`)
	z.file(t, 1, ordersFile(t, 10))
	w.start(t, id)
	eventually(t, "the table is there", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	w.halt(t, id)
	w.stop(t)
	w = own(t, emulator.Options{Dir: dir})
	s, _ := w.table(t, id, "orders")
	if s == nil || s["status"] != "Stopped" || s["metrics"].(map[string]any)["processedRows"] != 10.0 {
		t.Errorf("table of a stopped mirror after a restart: got %v, want Stopped with 10 rows", s)
	}
}

func TestVaultRights(t *testing.T) {
	w := common(t)
	get := func() answer { return w.vault(t, "GET", "/secrets/postgres-admin-password", nil) }
	set := func() answer { return w.vault(t, "PUT", "/secrets/mine", `{"value":"x"}`) }
	w.tenant(t, `{"vaultAccess":"get"}`)
	get().want(t, 200, "")
	if a := set().want(t, 403, "ForbiddenByRbac"); !strings.Contains(string(a.raw), "vaults/secrets/setSecret/action") {
		t.Errorf("set by a reader: got %s, want the action in it", a.raw)
	}
	w.tenant(t, `{"vaultAccess":"none","vaultPermissionModel":"policy"}`)
	get().want(t, 403, "AccessDenied")
	w.tenant(t, `{"vaultAccess":"all"}`)
	set().want(t, 200, "")

	// A gate that is changed stays as it was for a while.
	w.tenant(t, `{"vaultDelay":"1m"}`)
	w.gate(t, `{"publicNetworkAccess":"Disabled"}`)
	get().want(t, 200, "")
	w.control(t, "POST", "/clock", `{"advance":"61s"}`).want(t, 200, "")
	get().want(t, 403, "ForbiddenByConnection")
	w.gate(t, `{"publicNetworkAccess":"Enabled"}`)
	get().want(t, 403, "ForbiddenByConnection")
	w.control(t, "POST", "/clock", `{"advance":"61s"}`).want(t, 200, "")
	get().want(t, 200, "")
	w.tenant(t, `{"vaultDelay":"0s","vaultPermissionModel":"rbac"}`)
	book.Proved("server.vault-delay")
}

func TestFaults(t *testing.T) {
	w := own(t, emulator.Options{Faults: []emulator.Fault{{Service: "fabric", Method: "GET", Path: "/v1/workspaces", Status: 503, Body: "html", Count: 2}}})
	faults := func(list string) { w.control(t, "PUT", "/faults", list).want(t, 200, "") }
	workspaces := func() answer { return w.fabric(t, "GET", "/workspaces", nil) }
	for range 2 {
		if a := workspaces(); a.status != 503 || a.header.Get("Content-Type") != "text/html" || !strings.Contains(string(a.raw), "<title>503 Service Unavailable") {
			t.Errorf("the option's fault: got %d %s %s, want a page of 503", a.status, a.header.Get("Content-Type"), a.raw)
		}
	}
	workspaces().want(t, 200, "")
	faults(`[{"service":"fabric","path":"/v1/workspaces","status":429,"retryAfter":54,"after":1,"count":1}]`)
	workspaces().want(t, 200, "")
	a := workspaces().want(t, 429, "RequestBlocked")
	if a.header.Get("Retry-After") != "54" || a.header.Get("x-ms-public-api-error-code") != "RequestBlocked" || !strings.Contains(string(a.raw), "Request is blocked by the upstream service until: ") {
		t.Errorf("throttled: got %v %s", a.header, a.raw)
	}
	workspaces().want(t, 200, "")
	book.Proved("fabric.throttled")
	for body, want := range map[string]string{"empty": "", "text": "oops", "truncated": `{"requestId":"`} {
		faults(`[{"path":"/**","status":500,"body":"` + body + `","message":"oops","headers":{"X-A":"b"}}]`)
		if a := workspaces(); a.status != 500 || string(a.raw) != want || a.header.Get("X-A") != "b" {
			t.Errorf("body %s: got %d %q, want %q", body, a.status, a.raw, want)
		}
	}
	faults(`[{"service":"vault","status":403,"code":"Forbidden","inner":"ForbiddenByPolicy"},{"service":"dfs","path":"/**?resource=filesystem","status":503,"code":"ServerBusy"},
	  {"service":"arm","status":409,"code":"ServerIsBusy","latency":"1ms"}]`)
	w.vault(t, "GET", "/secrets", nil).want(t, 403, "ForbiddenByPolicy")
	w.arm(t, "GET", "", nil).want(t, 409, "ServerIsBusy")
	if a := w.do(t, "GET", w.endpoints()["STORAGE_TOKEN"], w.env["STORAGE_TOKEN"], nil).want(t, 503, "ServerBusy"); a.header.Get("x-ms-error-code") != "ServerBusy" {
		t.Errorf("OneLake's fault: got %v", a.header)
	}
	w.control(t, "DELETE", "/faults", nil).want(t, 200, "")
	w.arm(t, "GET", "", nil).want(t, 200, "")
}

// TestLostAnswers cuts the connection before and after the effect.
func TestLostAnswers(t *testing.T) {
	w := common(t)
	create := func(name string) error {
		body, err := json.Marshal(mirrorBody(name, openDefinition("")))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.env["FABRIC_ENDPOINT"]+"/v1"+w.mirrors(), strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.env["FABRIC_TOKEN"])
		resp, err := w.http.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	for _, done := range []string{"false", "true"} {
		w.control(t, "PUT", "/faults", `[{"method":"POST","path":"/v1/workspaces/*/mirroredDatabases","drop":true,"done":`+done+`,"count":1}]`).want(t, 200, "")
		if err := create("lost " + done); err == nil {
			t.Fatalf("done %s: the answer came", done)
		}
	}
	w.mirror(t, "lost false", openDefinition("")) // nothing was done
	w.fabric(t, "POST", w.mirrors(), mirrorBody("lost true", openDefinition(""))).want(t, 409, "ItemDisplayNameAlreadyInUse")
}

func TestOperationsFail(t *testing.T) {
	w := common(t)
	w.control(t, "PUT", "/faults", `[
	  {"service":"arm","method":"PUT","path":"/**","operation":{"code":"ServerBusy","message":"Server is busy with another operation."},"count":1},
	  {"service":"fabric","method":"POST","path":"/v1/workspaces/*/mirroredDatabases","operation":{"code":"UnknownError","message":"It did not work."},"count":1}]`).want(t, 200, "")
	status, fault := w.write(t, "PUT", "/configurations/statement_timeout", parameterBody("12345"))
	if status != "Failed" || fault["code"] != "ServerBusy" {
		t.Errorf("ARM: got %s %v, want Failed ServerBusy", status, fault)
	}
	if p := w.parameter(t, "statement_timeout"); p["value"] == "12345" {
		t.Error("the failed operation took effect")
	}
	w.set(t, "statement_timeout", "12345")
	made := w.fabric(t, "POST", w.mirrors(), mirrorBody("fails", openDefinition(""))).want(t, 202, "")
	op := w.do(t, "GET", made.header.Get("Location"), w.env["FABRIC_TOKEN"], nil)
	if e, _ := op.body["error"].(map[string]any); op.body["status"] != "Failed" || e["errorCode"] != "UnknownError" {
		t.Errorf("Fabric: got %s, want Failed UnknownError", op.raw)
	}
	w.do(t, "GET", made.header.Get("Location")+"/result", w.env["FABRIC_TOKEN"], nil).want(t, 400, "OperationNotSucceeded")
	w.mirror(t, "fails", openDefinition("")) // nothing was done
}
