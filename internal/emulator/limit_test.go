package emulator_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	pg "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/postgresql/armpostgresqlflexibleservers/v5"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

func count(t *testing.T, conn *pgx.Conn, sql string) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOneMirrorADatabase, and what a deleted workspace leaves at the source.
func TestOneMirrorADatabase(t *testing.T) {
	w := own(t, emulator.Options{Native: engine})
	w.enable(t, "postgres")
	user, admin := w.prepareRole(t), w.admin(t)
	connection := w.fabric(t, "POST", "/connections", w.connectionBody("native", fabricUser, "mirrored")).want(t, 201, "").body["id"].(string)
	made := w.fabric(t, "POST", "/workspaces", map[string]any{"displayName": "other", "capacityId": w.capacity(t)}).want(t, 201, "").body["id"].(string)
	other := "/workspaces/" + made
	first := w.fabric(t, "POST", other+"/mirroredDatabases", mirrorBody("first", nativeDefinition(connection, "postgres", nil))).want(t, 201, "").body["id"].(string)
	w.fabric(t, "POST", other+"/mirroredDatabases/"+first+"/startMirroring", nil).want(t, 200, "")
	w.health(t, "CDC_ERR_SYS_ONELAKE_PERMISSION_DENIED")
	book.Proved("mirroring.no-permission")

	identity := w.arm(t, "GET", "", nil).body["identity"].(map[string]any)["principalId"]
	w.fabric(t, "POST", other+"/roleAssignments", map[string]any{"principal": map[string]any{"id": identity, "type": "ServicePrincipal"}, "role": "Contributor"}).want(t, 201, "")
	w.grant(t)
	eventually(t, "the first one's slot is there", func() bool { return count(t, admin, "SELECT count(*) FROM pg_replication_slots WHERE active") == 1 })
	second := w.mirror(t, "second", nativeDefinition(connection, "postgres", nil))
	w.start(t, second)
	w.health(t, "CDC_ERR_SYS_MAX_NUMBER_OF_PUBLICATIONS_REACHED")
	if got := w.state(t, second); got != "Running" {
		t.Errorf("state of a mirror too many: got %s, want Running", got)
	}
	if _, all := w.table(t, second, ""); len(all) != 2 {
		t.Errorf("tables of a mirror too many: got %v, want those that were judged", all)
	}
	book.Proved("mirroring.max-mirrors")

	var name string // while there is no other: the second one may begin as soon as the first is gone
	if err := user.QueryRow(t.Context(), `SELECT "publicationName" FROM azure_cdc.list_tracked_publications()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	w.fabric(t, "DELETE", other, nil).want(t, 200, "")
	tracked := count(t, user, `SELECT count(*) FROM azure_cdc.list_tracked_publications() WHERE "publicationName" = '`+name+"'")
	if slots := count(t, admin, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '"+name+"'"); tracked != 1 || slots != 1 {
		t.Fatalf("after the workspace was deleted: got %d publications %s and %d slots, want both", tracked, name, slots)
	}
	exec(t, user, "SELECT azure_cdc.stop_publication('"+name+"')")
	if n := count(t, admin, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '"+name+"'"); n != 0 {
		t.Errorf("after stop_publication: got %d slots, want none", n)
	}
	if _, err := user.Exec(t.Context(), "SELECT azure_cdc.stop_publication('none')"); err == nil {
		t.Error("stop_publication took a publication that is not tracked")
	}
	eventually(t, "the second one mirrors", func() bool { return w.tableState(t, second, "orders") == "Replicating" })
	book.Proved("mirroring.orphan")
}

// TestCutOperation ends the emulator while a write to the server runs.
func TestCutOperation(t *testing.T) {
	dir := clusterDir(t)
	w := launch(t, emulator.Options{Dir: dir, ARMDelay: time.Hour})
	a := w.arm(t, "PUT", "/configurations/work_mem", parameterBody("8192"))
	at := a.header.Get("Azure-AsyncOperation")
	w.stop(t)
	w = own(t, emulator.Options{Dir: dir})
	op := w.do(t, "GET", at, w.env["ARM_TOKEN"], nil)
	if op.body["status"] != "Failed" {
		t.Errorf("operation after the end: got %s, want Failed", op.raw)
	}
	if p := w.parameter(t, "work_mem"); p["value"] == "8192" {
		t.Error("the cut operation took effect")
	}
	w.set(t, "work_mem", "8192")
	book.Proved("server.cut-operation")
}

func TestSDKEntraAdministrators(t *testing.T) {
	w, ctx := common(t), t.Context()
	id := w.serverID(t)
	f, err := pg.NewClientFactory(id.SubscriptionID, w.credential(t, "ARM_TOKEN", "https://management.azure.com/.default"), w.armOptions())
	if err != nil {
		t.Fatal(err)
	}
	c := f.NewAdministratorsMicrosoftEntraClient()
	const who = "11111111-2222-4333-8444-555555555555"
	add := pg.AdministratorMicrosoftEntraAdd{Properties: &pg.AdministratorMicrosoftEntraPropertiesForAdd{PrincipalName: to.Ptr("dba"), PrincipalType: to.Ptr(pg.PrincipalTypeGroup)}}
	_, err = c.BeginCreateOrUpdate(ctx, id.ResourceGroupName, id.Name, who, add, nil)
	wantCode(t, err, 400, "OperationNotAllowed")
	w.write(t, "PATCH", "", `{"properties":{"authConfig":{"activeDirectoryAuth":"Enabled"}}}`)
	p, err := c.BeginCreateOrUpdate(ctx, id.ResourceGroupName, id.Name, who, add, nil)
	if err != nil {
		t.Fatal(err)
	}
	if made, err := p.PollUntilDone(ctx, nil); err != nil || *made.Properties.PrincipalName != "dba" {
		t.Fatalf("create: got %+v %v", made.Properties, err)
	}
	page, err := c.NewListByServerPager(id.ResourceGroupName, id.Name, nil).NextPage(ctx)
	if err != nil || len(page.Value) != 1 {
		t.Fatalf("list: got %d %v, want 1", len(page.Value), err)
	}
	w.signInByEntra(t)
	d, err := c.BeginDelete(ctx, id.ResourceGroupName, id.Name, who, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PollUntilDone(ctx, nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(ctx, id.ResourceGroupName, id.Name, who, nil)
	wantCode(t, err, 404, "ResourceNotFound")
	w.write(t, "PATCH", "", `{"properties":{"authConfig":{"activeDirectoryAuth":"Disabled"}}}`)
}
