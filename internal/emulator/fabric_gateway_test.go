package emulator_test

import (
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/microsoft/fabric-sdk-go/fabric/core"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

func gatewayBody(capacity string) map[string]any {
	return map[string]any{"type": "VirtualNetwork", "displayName": "private", "capacityId": capacity, "inactivityMinutesBeforeSleep": 30, "numberOfMemberGateways": 1,
		"virtualNetworkAzureResource": map[string]any{"subscriptionId": "s", "resourceGroupName": "g", "virtualNetworkName": "n", "subnetName": "default"}}
}

func (w *world) capacity(t *testing.T) string {
	t.Helper()
	return w.fabric(t, "GET", "/workspaces/"+w.env["FABRIC_WORKSPACE_ID"], nil).body["capacityId"].(string)
}

// TestGatewayGoesRoundTheFirewall: a server without public access is reached by
// a virtual network gateway.
func TestGatewayGoesRoundTheFirewall(t *testing.T) {
	w := own(t, emulator.Options{Server: emulator.ServerOptions{Public: "Disabled"}})
	capacity := w.capacity(t)
	for _, c := range []struct {
		code string
		path []any
	}{
		{"UnsupportedGatewayType", []any{"type", "OnPremises"}},
		{"InvalidCapacityState", []any{"capacityId", "00000000-0000-0000-0000-000000000000"}},
		{"InvalidInput", []any{"inactivityMinutesBeforeSleep", 31}},
		{"InvalidInput", []any{"numberOfMemberGateways", 10}},
		{"InvalidInput", []any{"minMemberGatewayCount", 1}},
		{"InvalidInput", []any{"virtualNetworkAzureResource", "subnetName", nil}},
	} {
		w.fabric(t, "POST", "/gateways", at(gatewayBody(capacity), c.path...)).want(t, 400, c.code)
	}
	made := w.fabric(t, "POST", "/gateways", gatewayBody(capacity)).want(t, 201, "")
	id := made.body["id"].(string)
	w.fabric(t, "POST", "/gateways", gatewayBody(capacity)).want(t, 409, "DuplicateGatewayName")
	types := w.fabric(t, "GET", "/connections/supportedConnectionTypes?gatewayId="+id, nil).want(t, 200, "").body["value"].([]any)
	if types[0].(map[string]any)["supportsSkipTestConnection"] != true {
		t.Errorf("types by the gateway: got %v, want the test to be skippable", types[0])
	}
	w.fabric(t, "GET", "/connections/supportedConnectionTypes?gatewayId=00000000-0000-0000-0000-000000000000", nil).want(t, 404, "EntityNotFound")

	direct := w.connectionBody("direct", "pgadmin", w.password(t))
	w.fabric(t, "POST", "/connections", direct).want(t, 400, "CreateGatewayConnectionFailed")
	by := at(w.connectionBody("by gateway", "pgadmin", w.password(t)), "connectivityType", "VirtualNetworkGateway")
	w.fabric(t, "POST", "/connections", by).want(t, 400, "InvalidInput") // no gatewayId
	by["gatewayId"] = id
	cn := w.fabric(t, "POST", "/connections", by).want(t, 201, "").body
	if cn["gatewayId"] != id {
		t.Errorf("gateway of the connection: got %v, want %s", cn["gatewayId"], id)
	}
	reference := at(w.connectionBody("reference", "pgadmin", ""), "connectivityType", "VirtualNetworkGateway")
	reference["gatewayId"] = id
	at(reference, "credentialDetails", "credentials", map[string]any{"credentialType": "Basic", "username": "pgadmin", "passwordReference": map[string]any{"connectionId": id, "secretName": "s"}})
	w.fabric(t, "POST", "/connections", reference).want(t, 400, "InvalidCredentialDetails")

	w.fabric(t, "PATCH", "/gateways/"+id, `{"type":"VirtualNetwork","displayName":"renamed","minMemberGatewayCount":1,"maxMemberGatewayCount":2}`).want(t, 200, "")
	if got := w.fabric(t, "GET", "/gateways/"+id, nil).body; got["displayName"] != "renamed" || got["maxMemberGatewayCount"] != 2.0 || got["numberOfMemberGateways"] != nil {
		t.Errorf("gateway after the change: got %v", got)
	}
	w.fabric(t, "POST", "/gateways/"+id+"/checkStatus", nil).want(t, 200, "")
	w.fabric(t, "DELETE", "/gateways/"+id, nil).want(t, 200, "")
	w.fabric(t, "GET", "/gateways/"+id, nil).want(t, 404, "EntityNotFound")
	test := w.fabric(t, "POST", "/connections/"+cn["id"].(string)+"/testConnection", nil).want(t, 200, "")
	if test.body["status"] != "Offline" || !strings.Contains(string(test.raw), "GatewayContainer does not exist") {
		t.Errorf("test without the gateway: got %s, want Offline", test.raw)
	}
	book.Proved("fabric.gateway")
}

func TestConnectionRoles(t *testing.T) {
	w := common(t)
	made := w.fabric(t, "POST", "/connections", w.connectionBody("roles", "pgadmin", w.password(t))).want(t, 201, "").body["id"].(string)
	path := "/connections/" + made + "/roleAssignments"
	t.Cleanup(func() { w.fabricCleanup("/connections/" + made) })
	w.write(t, "PATCH", "", map[string]any{"identity": map[string]any{"type": "SystemAssigned"}})
	identity := w.arm(t, "GET", "", nil).body["identity"].(map[string]any)["principalId"].(string)
	body := func(id, role string) map[string]any {
		return map[string]any{"principal": map[string]any{"id": id, "type": "ServicePrincipal"}, "role": role}
	}
	w.fabric(t, "POST", path, body(identity, "Admin")).want(t, 400, "InvalidInput")
	w.fabric(t, "POST", path, body("00000000-0000-0000-0000-000000000001", "User")).want(t, 400, "PrincipalNotFound")
	w.fabric(t, "POST", path, body(identity, "User")).want(t, 201, "")
	w.fabric(t, "POST", path, body(identity, "User")).want(t, 409, "EntityConflict")
	w.fabric(t, "PATCH", path+"/"+identity, `{"role":"UserWithReshare"}`).want(t, 200, "")
	if got := w.fabric(t, "GET", path+"/"+identity, nil).want(t, 200, "").body["role"]; got != "UserWithReshare" {
		t.Errorf("role: got %v, want UserWithReshare", got)
	}
	if got := len(w.fabric(t, "GET", path, nil).want(t, 200, "").body["value"].([]any)); got != 2 {
		t.Errorf("roles: got %d, want the owner and one", got)
	}
	w.fabric(t, "DELETE", path+"/"+identity, nil).want(t, 200, "")
	w.fabric(t, "GET", path+"/"+identity, nil).want(t, 404, "EntityNotFound")
}

// TestSDKWorkspaces goes through a workspace's life with Microsoft's client.
func TestSDKWorkspaces(t *testing.T) {
	w, ctx := common(t), t.Context()
	c := core.NewClientFactoryWithClient(*w.fabricClient(t)).NewWorkspacesClient()
	made, err := c.CreateWorkspace(ctx, core.CreateWorkspaceRequest{DisplayName: to.Ptr("mine")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := "/workspaces/" + *made.ID
	w.fabric(t, "POST", "/workspaces", `{"displayName":"MINE"}`).want(t, 409, "WorkspaceNameAlreadyExists")
	w.fabric(t, "POST", "/workspaces", `{"displayName":"x","capacityId":"none"}`).want(t, 404, "CapacityNotFound")
	w.fabric(t, "POST", path+"/mirroredDatabases", mirrorBody("x", openDefinition(""))).want(t, 400, "WorkspaceHasNoCapacityAssigned")
	if _, err := c.AssignToCapacity(ctx, *made.ID, core.AssignWorkspaceToCapacityRequest{CapacityID: to.Ptr(w.capacity(t))}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateWorkspace(ctx, *made.ID, core.UpdateWorkspaceRequest{DisplayName: to.Ptr("ours")}, nil); err != nil {
		t.Fatal(err)
	}
	id := w.fabric(t, "POST", path+"/mirroredDatabases", mirrorBody("x", openDefinition(""))).want(t, 201, "").body["id"].(string)
	endpoints := w.fabric(t, "GET", path+"/sqlEndpoints", nil).want(t, 200, "").body["value"].([]any)
	w.fabric(t, "POST", path+"/sqlEndpoints/"+endpoints[0].(map[string]any)["id"].(string)+"/refreshMetadata", "{}").want(t, 200, "")
	w.fabric(t, "POST", path+"/sqlEndpoints/"+id+"/refreshMetadata", "{}").want(t, 404, "ItemNotFound")
	got, err := c.GetWorkspace(ctx, *made.ID, nil)
	if err != nil || *got.DisplayName != "ours" || *got.CapacityID != w.capacity(t) {
		t.Fatalf("get: got %+v %v", got.WorkspaceInfo, err)
	}
	if _, err := c.ProvisionIdentity(ctx, *made.ID, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteWorkspace(ctx, *made.ID, nil); err != nil {
		t.Fatal(err)
	}
	w.fabric(t, "GET", path, nil).want(t, 404, "WorkspaceNotFound")
	w.fabric(t, "DELETE", "/workspaces/"+w.env["FABRIC_WORKSPACE_ID"], nil).want(t, 403, "OperationNotAllowed")
	book.Proved("fabric.capacity-assigned")
}
