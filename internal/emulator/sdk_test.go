package emulator_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	pg "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/postgresql/armpostgresqlflexibleservers/v5"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/microsoft/fabric-sdk-go/fabric"
	"github.com/microsoft/fabric-sdk-go/fabric/core"
	"github.com/microsoft/fabric-sdk-go/fabric/mirroreddatabase"
)

// bearer is a token as Microsoft's clients take it, and asserts the scope that
// they ask for.
type bearer struct {
	t     *testing.T
	token string
	scope string
}

func (b bearer) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != b.scope {
		b.t.Errorf("scopes asked for: got %v, want %s", o.Scopes, b.scope)
	}
	return azcore.AccessToken{Token: b.token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (w *world) credential(t *testing.T, name, scope string) bearer {
	return bearer{t, w.env[name], scope}
}

func (w *world) options() policy.ClientOptions {
	return policy.ClientOptions{Transport: w.http, Retry: policy.RetryOptions{MaxRetries: -1}}
}

func (w *world) armOptions() *arm.ClientOptions {
	o := &arm.ClientOptions{ClientOptions: w.options(), DisableRPRegistration: true}
	o.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.microsoftonline.com/", Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: w.env["ARM_ENDPOINT"], Audience: "https://management.azure.com"},
	}}
	return o
}

// serverID is the resource id, taken apart by the SDK itself.
func (w *world) serverID(t *testing.T) *arm.ResourceID {
	t.Helper()
	id, err := arm.ParseResourceID(w.env["POSTGRES_SERVER_ID"])
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSDKServer(t *testing.T) {
	w, ctx := common(t), t.Context()
	id := w.serverID(t)
	o := w.armOptions()
	f, err := pg.NewClientFactory(id.SubscriptionID, w.credential(t, "ARM_TOKEN", "https://management.azure.com/.default"), o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.NewServersClient().Get(ctx, id.ResourceGroupName, id.Name, nil)
	if err != nil || *got.Properties.State != pg.ServerStateReady || *got.Properties.FullyQualifiedDomainName != "localhost" {
		t.Fatalf("get: got %+v %v, want a ready server on localhost", got.Server, err)
	}
	patch := pg.ServerForPatch{Tags: map[string]*string{"a": to.Ptr("b")}, Identity: &pg.UserAssignedIdentity{Type: to.Ptr(pg.IdentityTypeSystemAssigned)}}
	up, err := f.NewServersClient().BeginUpdate(ctx, id.ResourceGroupName, id.Name, patch, nil)
	if err != nil {
		t.Fatal(err)
	}
	updated, err := up.PollUntilDone(ctx, nil)
	if err != nil || *updated.Tags["a"] != "b" || *updated.Identity.PrincipalID == "" {
		t.Fatalf("update: got %+v %v, want the tag and an identity", updated.Server, err)
	}
	restart, err := f.NewServersClient().BeginRestart(ctx, id.ResourceGroupName, id.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := restart.PollUntilDone(ctx, nil); err != nil {
		t.Fatalf("restart: %v", err)
	}
	sdkParameters(t, f, id)
	sdkRules(t, f, id)
}

func sdkParameters(t *testing.T, f *pg.ClientFactory, id *arm.ResourceID) {
	t.Helper()
	c, ctx := f.NewConfigurationsClient(), t.Context()
	p, err := c.BeginUpdate(ctx, id.ResourceGroupName, id.Name, "work_mem", pg.ConfigurationForUpdate{
		Properties: &pg.ConfigurationProperties{Value: to.Ptr("8192"), Source: to.Ptr("user-override")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	done, err := p.PollUntilDone(ctx, nil)
	if err != nil || *done.Properties.Value != "8192" || *done.Properties.IsConfigPendingRestart {
		t.Fatalf("set work_mem: got %+v %v, want 8192 at once", done.Properties, err)
	}
	seen := map[string]bool{}
	for pager := c.NewListByServerPager(id.ResourceGroupName, id.Name, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Value {
			seen[*v.Name] = true
		}
	}
	for _, name := range []string{"wal_level", "max_worker_processes", "azure.fabric_mirror_enabled", "azure_cdc.max_fabric_mirrors"} {
		if !seen[name] {
			t.Errorf("list of %d configurations: %s is missing", len(seen), name)
		}
	}
}

func sdkRules(t *testing.T, f *pg.ClientFactory, id *arm.ResourceID) {
	t.Helper()
	c, ctx := f.NewFirewallRulesClient(), t.Context()
	rule := pg.FirewallRule{Properties: &pg.FirewallRuleProperties{StartIPAddress: to.Ptr("10.0.0.1"), EndIPAddress: to.Ptr("10.0.0.2")}}
	p, err := c.BeginCreateOrUpdate(ctx, id.ResourceGroupName, id.Name, "mine", rule, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := p.PollUntilDone(ctx, nil)
	if err != nil || *made.Properties.EndIPAddress != "10.0.0.2" {
		t.Fatalf("create a rule: got %+v %v", made.FirewallRule, err)
	}
	d, err := c.BeginDelete(ctx, id.ResourceGroupName, id.Name, "mine", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PollUntilDone(ctx, nil); err != nil {
		t.Fatalf("delete a rule: %v", err)
	}
	_, err = c.Get(ctx, id.ResourceGroupName, id.Name, "mine", nil)
	wantCode(t, err, 404, "ResourceNotFound")
}

func wantCode(t *testing.T, err error, status int, code string) {
	t.Helper()
	e, ok := asResponseError(err)
	if !ok || e.StatusCode != status || e.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func TestSDKVaultResource(t *testing.T) {
	w, ctx := common(t), t.Context()
	id := w.serverID(t)
	o := w.armOptions()
	c, err := armkeyvault.NewVaultsClient(id.SubscriptionID, w.credential(t, "ARM_TOKEN", "https://management.azure.com/.default"), o)
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.NewListByResourceGroupPager(id.ResourceGroupName, nil).NextPage(ctx)
	if err != nil || len(page.Value) != 1 {
		t.Fatalf("list: got %d vaults %v, want 1", len(page.Value), err)
	}
	name := *page.Value[0].Name
	got, err := c.Get(ctx, id.ResourceGroupName, name, nil)
	if err != nil || *got.Properties.VaultURI != w.env["KEYVAULT_URL"]+"/" {
		t.Fatalf("get: got %+v %v", got.Properties, err)
	}
	for _, public := range []string{"Disabled", "Enabled"} {
		up, err := c.Update(ctx, id.ResourceGroupName, name, armkeyvault.VaultPatchParameters{Properties: &armkeyvault.VaultPatchProperties{
			PublicNetworkAccess: &public,
			NetworkACLs:         &armkeyvault.NetworkRuleSet{DefaultAction: to.Ptr(armkeyvault.NetworkRuleActionAllow), IPRules: []*armkeyvault.IPRule{}},
		}}, nil)
		if err != nil || *up.Properties.PublicNetworkAccess != public {
			t.Fatalf("update: got %+v %v, want %s", up.Properties, err, public)
		}
	}
}

func TestSDKSecrets(t *testing.T) {
	w, ctx := common(t), t.Context()
	c, err := azsecrets.NewClient(w.env["KEYVAULT_URL"], w.credential(t, "VAULT_TOKEN", "https://vault.azure.net/.default"),
		&azsecrets.ClientOptions{ClientOptions: w.options(), DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.SetSecret(ctx, "sdk", azsecrets.SetSecretParameters{Value: to.Ptr("one")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetSecret(ctx, "sdk", azsecrets.SetSecretParameters{Value: to.Ptr("two")}, nil); err != nil {
		t.Fatal(err)
	}
	newest, err := c.GetSecret(ctx, "sdk", "", nil)
	if err != nil || *newest.Value != "two" {
		t.Fatalf("get the newest: got %v %v, want two", newest.Value, err)
	}
	old, err := c.GetSecret(ctx, "sdk", first.ID.Version(), nil)
	if err != nil || *old.Value != "one" {
		t.Fatalf("get the first version: got %v %v, want one", old.Value, err)
	}
	if _, err := c.DeleteSecret(ctx, "sdk", nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetSecret(ctx, "sdk", "", nil)
	wantCode(t, err, 404, "SecretNotFound")
	_, err = c.SetSecret(ctx, "sdk", azsecrets.SetSecretParameters{Value: to.Ptr("three")}, nil)
	wantCode(t, err, 409, "Conflict")
	if _, err := c.RecoverDeletedSecret(ctx, "sdk", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteSecret(ctx, "sdk", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PurgeDeletedSecret(ctx, "sdk", nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetDeletedSecret(ctx, "sdk", nil)
	wantCode(t, err, 404, "SecretNotFound")
	book.Proved("vault.life")
}

func (w *world) fabricClient(t *testing.T) *fabric.Client {
	t.Helper()
	endpoint := w.env["FABRIC_ENDPOINT"]
	c, err := fabric.NewClient(w.credential(t, "FABRIC_TOKEN", "https://api.fabric.microsoft.com/.default"), &endpoint, &fabric.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSDKFabric(t *testing.T) {
	w, ctx := common(t), t.Context()
	client, ws := w.fabricClient(t), w.env["FABRIC_WORKSPACE_ID"]
	types, err := core.NewClientFactoryWithClient(*client).NewConnectionsClient().ListSupportedConnectionTypes(ctx, nil)
	if err != nil || len(types) != 3 { // two pages: the emulator's page size is 2 here
		t.Fatalf("connection types: got %d %v, want 3", len(types), err)
	}
	f := mirroreddatabase.NewClientFactoryWithClient(*client)
	made, err := f.NewItemsClient().CreateMirroredDatabase(ctx, ws, mirroreddatabase.CreateMirroredDatabaseRequest{
		DisplayName: to.Ptr("sdk open"),
		Definition: &mirroreddatabase.Definition{Parts: []mirroreddatabase.DefinitionPart{{
			Path: to.Ptr("mirroring.json"), Payload: to.Ptr(openDefinition("dbo")), PayloadType: to.Ptr(mirroreddatabase.PayloadTypeInlineBase64)}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.NewItemsClient().GetMirroredDatabase(ctx, ws, *made.ID, nil)
	if err != nil || *got.Properties.SQLEndpointProperties.ProvisioningStatus != mirroreddatabase.SQLEndpointProvisioningStatusSuccess {
		t.Fatalf("get: got %+v %v, want a ready SQL endpoint", got.Properties, err)
	}
	if _, err := f.NewMirroringClient().StartMirroring(ctx, ws, *made.ID, nil); err != nil {
		t.Fatal(err)
	}
	status, err := f.NewMirroringClient().GetMirroringStatus(ctx, ws, *made.ID, nil)
	if err != nil || *status.Status != mirroreddatabase.MirroringStatusRunning {
		t.Fatalf("status: got %v %v, want Running", status.Status, err)
	}
	if tables, err := f.NewMirroringClient().GetTablesMirroringStatus(ctx, ws, *made.ID, nil); err != nil || len(tables) != 0 {
		t.Fatalf("tables: got %v %v, want none", tables, err)
	}
	if _, err := f.NewItemsClient().DeleteMirroredDatabase(ctx, ws, *made.ID, nil); err != nil {
		t.Fatal(err)
	}
	_, err = f.NewItemsClient().GetMirroredDatabase(ctx, ws, *made.ID, nil)
	e, ok := err.(*core.ResponseError)
	if !ok || e.ErrorCode != "ItemNotFound" || e.StatusCode != http.StatusNotFound {
		t.Errorf("get what was deleted: got %v, want ItemNotFound", err)
	}
}

func TestSDKOneLake(t *testing.T) {
	w, ctx := common(t), t.Context()
	ws, id := w.env["FABRIC_WORKSPACE_ID"], w.mirror(t, "sdk lake", openDefinition(""))
	cred := w.credential(t, "STORAGE_TOKEN", "https://storage.azure.com/.default")
	path := "/" + ws + "/" + id + "/Files/LandingZone/t/_draft"
	c, err := file.NewClient(w.env["ONELAKE_DFS_ENDPOINT"]+path, cred, &file.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.UploadBuffer(ctx, []byte("hello"), nil); err != nil {
		t.Fatal(err)
	}
	b, err := azblob.NewClient(w.env["ONELAKE_BLOB_ENDPOINT"], cred, &azblob.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.DownloadStream(ctx, ws, id+"/Files/LandingZone/t/_draft", nil)
	if err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	if *got.ContentLength != 5 {
		t.Errorf("length by the other endpoint: got %d, want 5", *got.ContentLength)
	}
}
