package emulator_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

// TestShapes holds what clients read of answers that are not refusals.
func TestShapes(t *testing.T) {
	w := own(t, emulator.Options{PageSize: 2})
	cn := w.connectionBody("shapes", "pgadmin", w.password(t))
	delete(cn, "privacyLevel")
	made := w.fabric(t, "POST", "/connections", cn).want(t, 201, "")
	details := made.body["connectionDetails"].(map[string]any)
	if want := map[string]any{"type": "AzurePostgreSQL", "path": details["path"]}; !cmp.Equal(details, want) || !strings.HasSuffix(details["path"].(string), ";postgres") ||
		strings.Contains(string(made.raw), w.password(t)) || strings.Contains(string(made.raw), "pgadmin") || made.body["privacyLevel"] != "Organizational" {
		t.Errorf("a connection: got %s, want type and path, no credentials, Organizational", made.raw)
	}
	book.Proved("fabric.connection-body")

	items := "/workspaces/" + w.env["FABRIC_WORKSPACE_ID"] + "/items"
	native := w.fabric(t, "POST", items, map[string]any{"displayName": "native", "type": "MirroredDatabase",
		"definition": definitionBody(nativeDefinition(made.body["id"].(string), "postgres", nil))}).want(t, 201, "").body["id"].(string)
	open := w.mirror(t, "open", openDefinition("dbo"))
	for id, want := range map[string]int{native: 1, open: 0} {
		if got := w.fabric(t, "GET", items+"/"+id+"/connections", nil).want(t, 200, "").body["value"].([]any); len(got) != want {
			t.Errorf("connections of an item: got %v, want %d", got, want)
		}
	}
	book.Proved("fabric.item-connections")

	w.fabric(t, "PATCH", w.mirrors()+"/"+native, `{"displayName":"renamed"}`).want(t, 200, "")
	if got := w.fabric(t, "GET", items+"/"+native, nil).want(t, 200, "").body; got["displayName"] != "renamed" || got["properties"] != nil {
		t.Errorf("as an item: got %v, want it renamed, without properties", got)
	}
	w.fabric(t, "DELETE", items+"/"+native, nil).want(t, 200, "")
	gone := w.fabric(t, "GET", w.mirrors()+"/"+native, nil).want(t, 404, "ItemNotFound")
	book.Proved("fabric.one-of-two-paths")
	if gone.header.Get("x-ms-public-api-error-code") != "ItemNotFound" || gone.header.Get("RequestId") != gone.body["requestId"] || gone.body["error"] != nil {
		t.Errorf("an error: got %v %s, want it flat with its headers", gone.header, gone.raw)
	}
	book.Proved("fabric.error-body")

	for _, name := range []string{"b", "c"} {
		w.mirror(t, name, openDefinition(""))
	}
	first := w.fabric(t, "GET", w.mirrors(), nil).want(t, 200, "").body
	uri, _ := first["continuationUri"].(string)
	if !strings.HasPrefix(uri, w.env["FABRIC_ENDPOINT"]+"/v1/workspaces/") || first["continuationToken"] == nil || len(first["value"].([]any)) != 2 {
		t.Fatalf("first page: got %v, want 2 and where to go on", first)
	}
	last := w.do(t, "GET", uri, w.env["FABRIC_TOKEN"], nil).want(t, 200, "").body
	token, has := last["continuationToken"]
	if !has || token != nil || last["continuationUri"] != nil || len(last["value"].([]any)) != 1 {
		t.Errorf("last page: got %v, want 1 and nulls", last)
	}
	book.Proved("fabric.pages")
	w.tablePages(t, open)

	capacities := w.fabric(t, "GET", "/capacities", nil).want(t, 200, "").body["value"].([]any)
	if got := capacities[0].(map[string]any); got["id"] != w.capacity(t) || got["state"] != "Active" {
		t.Errorf("capacities: got %v", capacities)
	}
}

// tablePages reads the table status page by page, each by POST.
func (w *world) tablePages(t *testing.T, id string) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		z := w.zone(id, name)
		z.file(t, 1, rows(t, "- 1 a"))
		z.metadata(t, `{}`)
	}
	w.start(t, id)
	at := w.mirrors() + "/" + id + "/getTablesMirroringStatus"
	var second answer
	eventually(t, "there are two pages", func() bool {
		first := w.fabric(t, "POST", at, nil).want(t, 200, "")
		uri, ok := first.body["continuationUri"].(string)
		if ok {
			second = w.do(t, "POST", uri, w.env["FABRIC_TOKEN"], nil).want(t, 200, "")
			w.do(t, "GET", uri, w.env["FABRIC_TOKEN"], nil).want(t, 405, "UnsupportedMethod")
		}
		return ok && strings.Contains(string(second.raw), `"Replicating"`)
	})
	c := second.body["data"].([]any)[0].(map[string]any)
	last := c["metrics"].(map[string]any)["lastSyncDateTime"].(string)
	if c["sourceTableName"] != "c" || c["sourceObjectType"] != "Table" || second.body["continuationToken"] != nil || !regexp.MustCompile(`T\d\d:\d\d:\d\d\.\d{7}Z$`).MatchString(last) {
		t.Errorf("second page: got %s, want table c with 7 digits of a fraction, then null", second.raw)
	}
	book.Proved("fabric.table-status")
}
