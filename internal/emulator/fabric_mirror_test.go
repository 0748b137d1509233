package emulator_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

func TestMirrorIsNotReadyAtOnce(t *testing.T) {
	w := own(t, emulator.Options{ProvisionDelay: time.Hour, StartDelay: time.Hour})
	id := w.fabric(t, "POST", w.mirrors(), mirrorBody("slow", openDefinition(""))).want(t, 201, "").body["id"].(string)
	one := w.mirrors() + "/" + id
	if got := w.fabric(t, "GET", one, nil).body["properties"].(map[string]any); got["oneLakeTablesPath"] != nil || got["sqlEndpointProperties"] != nil {
		t.Errorf("properties at first: got %v, want nulls", got)
	}
	if got := w.state(t, id); got != "Initializing" {
		t.Errorf("state at first: got %s, want Initializing", got)
	}
	w.fabric(t, "POST", one+"/getTablesMirroringStatus", nil).want(t, 200, "")
	w.fabric(t, "POST", one+"/startMirroring", nil).want(t, 400, "MirroredDatabaseNotReady")
	w.fabric(t, "POST", one+"/updateDefinition", map[string]any{"definition": definitionBody(openDefinition("x"))}).want(t, 400, "MirroredDatabaseNotReady")
	if got := len(w.items(t)); got != 1 {
		t.Errorf("items at first: got %d, want 1", got)
	}
	w.advance(t, time.Hour)
	if got := w.state(t, id); got != "Initialized" {
		t.Errorf("state an hour later: got %s, want Initialized", got)
	}
	if got := w.items(t); len(got) != 2 || got["SQLEndpoint"] != "slow" {
		t.Errorf("items when ready: got %v, want a SQLEndpoint of the same name", got)
	}
	properties := w.fabric(t, "GET", one, nil).body["properties"].(map[string]any)
	if want := fmt.Sprintf("%s/%s/%s/Tables", w.env["ONELAKE_DFS_ENDPOINT"], w.env["FABRIC_WORKSPACE_ID"], id); properties["oneLakeTablesPath"] != want {
		t.Errorf("oneLakeTablesPath: got %v, want %s", properties["oneLakeTablesPath"], want)
	}
	book.Proved("fabric.provisioning")

	z := w.zone(id, "orders")
	z.metadata(t, `{"keyColumns":["id"]}`)
	z.file(t, 1, rows(t, "- 1 a"))
	started := w.fabric(t, "POST", one+"/startMirroring", nil).want(t, 200, "")
	if started.header.Get("Content-Type") != "application/octet-stream" || len(started.raw) != 0 {
		t.Errorf("start: got %s %q, want octets, none of them", started.header.Get("Content-Type"), started.raw)
	}
	if got := w.state(t, id); got != "Starting" {
		t.Errorf("state after the start: got %s, want Starting", got)
	}
	if got := w.tableState(t, id, "orders"); got != "" {
		t.Errorf("table while the mirror is Starting: got %s, want none", got)
	}
	w.advance(t, time.Hour)
	if got := w.state(t, id); got != "Running" {
		t.Errorf("state an hour later: got %s, want Running", got)
	}
	eventually(t, "the table replicates", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	w.halt(t, id)
	book.Proved("fabric.start-stop")
}

// items are the names of the workspace's items by type.
func (w *world) items(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, e := range w.fabric(t, "GET", "/workspaces/"+w.env["FABRIC_WORKSPACE_ID"]+"/items", nil).want(t, 200, "").body["value"].([]any) {
		e := e.(map[string]any)
		out[e["type"].(string)] = e["displayName"].(string)
	}
	return out
}

func TestMirrorRefuses(t *testing.T) {
	w := common(t)
	id := w.mirror(t, "refuses", openDefinition(""))
	one := w.mirrors() + "/" + id
	w.fabric(t, "POST", w.mirrors(), mirrorBody("refuses", openDefinition(""))).want(t, 409, "ItemDisplayNameAlreadyInUse")
	w.fabric(t, "GET", one+"/getTablesMirroringStatus", nil).want(t, 405, "UnsupportedMethod")
	w.fabric(t, "GET", one+"/startMirroring", nil).want(t, 405, "UnsupportedMethod")
	w.fabric(t, "GET", w.mirrors()+"/nonsense", nil).want(t, 400, "InvalidParameter")
	w.fabric(t, "GET", w.mirrors()+"/00000000-0000-0000-0000-000000000000", nil).want(t, 404, "ItemNotFound")
	w.fabric(t, "GET", "/workspaces/00000000-0000-0000-0000-000000000000", nil).want(t, 404, "WorkspaceNotFound")
	w.fabric(t, "GET", "/nonsense", nil).want(t, 404, "EndpointNotFound")
	w.fabric(t, "POST", w.mirrors()+"?continuationToken=x", nil).want(t, 400, "InvalidInput")
	w.fabric(t, "GET", w.mirrors()+"?continuationToken=x", nil).want(t, 400, "InvalidContinuationToken")
	bare := w.fabric(t, "POST", w.mirrors(), map[string]any{"displayName": "bare"}).want(t, 201, "").body["id"].(string)
	w.fabric(t, "POST", w.mirrors()+"/"+bare+"/startMirroring", nil).want(t, 400, "MirroringDefinitionMissing")
	w.fabric(t, "DELETE", w.mirrors()+"/"+bare, nil).want(t, 200, "")
	for name, definition := range map[string]string{
		"not base64":         "%%%",
		"not JSON":           base64.StdEncoding.EncodeToString([]byte("{")),
		"unknown source":     encode(map[string]any{"type": "Postgres"}, map[string]any{"format": "Delta"}, nil),
		"another source":     encode(map[string]any{"type": "Snowflake"}, map[string]any{"format": "Delta"}, nil),
		"no format":          encode(map[string]any{"type": "GenericMirror"}, map[string]any{}, nil),
		"retention":          encode(map[string]any{"type": "GenericMirror"}, map[string]any{"format": "Delta", "retentionInDays": 31}, nil),
		"unknown connection": nativeDefinition("00000000-0000-0000-0000-000000000000", "postgres", nil),
	} {
		t.Run(name, func(t *testing.T) {
			w.fabric(t, "POST", w.mirrors(), mirrorBody("x", definition)).want(t, 400, "CorruptedPayload")
		})
	}
}

func TestDefinitionIsReserialized(t *testing.T) {
	w := common(t)
	id := w.mirror(t, "definition", openDefinition("dbo"))
	parts := map[string][]byte{}
	a := w.fabric(t, "POST", w.mirrors()+"/"+id+"/getDefinition", nil).want(t, 200, "")
	for _, p := range a.body["definition"].(map[string]any)["parts"].([]any) {
		p := p.(map[string]any)
		raw, err := base64.StdEncoding.DecodeString(p["payload"].(string))
		if err != nil {
			t.Fatal(err)
		}
		parts[p["path"].(string)] = raw
	}
	if !bytes.Contains(parts["mirroring.json"], []byte("\r\n  \"properties\"")) {
		t.Errorf("mirroring.json: got %q, want it pretty-printed with CRLF", parts["mirroring.json"])
	}
	sent, err := base64.StdEncoding.DecodeString(openDefinition("dbo"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got, platform map[string]any
	for text, v := range map[string]*map[string]any{string(sent): &want, string(parts["mirroring.json"]): &got, string(parts[".platform"]): &platform} {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as JSON (-sent +got): %s", diff)
	}
	if platform["metadata"].(map[string]any)["displayName"] != "definition" {
		t.Errorf(".platform: got %v", platform)
	}
	book.Proved("fabric.reserialised")
}

func TestLongRunningOperations(t *testing.T) {
	w := own(t, emulator.Options{LongRunning: true, OperationDelay: time.Hour})
	made := w.fabric(t, "POST", "/workspaces/"+w.env["FABRIC_WORKSPACE_ID"]+"/items", map[string]any{
		"displayName": "later", "type": "MirroredDatabase", "definition": definitionBody(openDefinition(""))})
	if made.status != http.StatusAccepted || string(made.raw) != "null" || made.header.Get("x-ms-operation-id") == "" {
		t.Fatalf("create: got %d %s %v, want 202 null and an operation", made.status, made.raw, made.header)
	}
	location := made.header.Get("Location")
	op := w.do(t, "GET", location, w.env["FABRIC_TOKEN"], nil)
	if op.body["status"] != "Running" {
		t.Errorf("operation at first: got %v, want Running", op.body)
	}
	w.do(t, "GET", location+"/result", w.env["FABRIC_TOKEN"], nil).want(t, 400, "OperationNotSucceeded")
	w.advance(t, time.Hour)
	if op = w.do(t, "GET", location, w.env["FABRIC_TOKEN"], nil); op.body["status"] != "Succeeded" || strings.HasSuffix(op.body["createdTimeUtc"].(string), "Z") {
		t.Errorf("operation an hour later: got %v, want Succeeded, and times without a zone", op.body)
	}
	item := w.do(t, "GET", op.header.Get("Location"), w.env["FABRIC_TOKEN"], nil).want(t, 200, "").body
	if item["displayName"] != "later" {
		t.Errorf("result: got %v, want the item", item)
	}
	up := w.fabric(t, "POST", w.mirrors()+"/"+item["id"].(string)+"/updateDefinition", map[string]any{"definition": definitionBody(openDefinition("x"))})
	w.advance(t, time.Hour)
	w.do(t, "GET", up.header.Get("Location")+"/result", w.env["FABRIC_TOKEN"], nil).want(t, 400, "OperationHasNoResult")
	book.Proved("fabric.operations")
}

func TestRoles(t *testing.T) {
	w := common(t)
	w.write(t, "PATCH", "", map[string]any{"identity": map[string]any{"type": "SystemAssigned"}})
	identity := w.arm(t, "GET", "", nil).body["identity"].(map[string]any)["principalId"].(string)
	path := "/workspaces/" + w.env["FABRIC_WORKSPACE_ID"] + "/roleAssignments"
	body := func(id, role string) map[string]any {
		return map[string]any{"principal": map[string]any{"id": id, "type": "ServicePrincipal"}, "role": role}
	}
	refused := w.fabric(t, "POST", path, body("00000000-0000-0000-0000-000000000001", "Viewer")).want(t, 400, "PrincipalNotFound")
	if refused.header.Get("x-ms-public-api-error-code") != "PrincipalNotFound" || !strings.Contains(string(refused.raw), `"relatedResource"`) {
		t.Errorf("PrincipalNotFound: got %v %s, want its header and the related resource", refused.header, refused.raw)
	}
	w.fabric(t, "POST", path, body(identity, "Owner")).want(t, 400, "InvalidInput")
	made := w.fabric(t, "POST", path, body(identity, "Viewer")).want(t, 201, "")
	w.fabric(t, "POST", path, body(identity, "Viewer")).want(t, 409, "PrincipalAlreadyHasWorkspaceRolePermissions")
	one := path + "/" + made.body["id"].(string)
	w.fabric(t, "PATCH", one, map[string]any{"role": "Member"}).want(t, 200, "")
	if got := w.fabric(t, "GET", one, nil).want(t, 200, "").body["role"]; got != "Member" {
		t.Errorf("role: got %v, want Member", got)
	}
	w.fabric(t, "DELETE", one, nil).want(t, 200, "")
	w.fabric(t, "GET", one, nil).want(t, 404, "EntityNotFound")
	book.Proved("fabric.roles")
}
