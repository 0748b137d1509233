package emulator_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// engine is our own mirror in the role of azure_cdc.
func engine(ctx context.Context, n emulator.NativeSource) error {
	return mirror.Run(ctx, mirror.Config{
		Source: postgres.Endpoint{Host: n.Host, Port: n.Port, Database: n.Database, User: n.User, Password: n.Password, RootCAs: n.CAPEM},
		Slot:   n.Slot, Publications: []string{n.Publication}, Landing: n.Landing, Freshness: 50 * time.Millisecond, Workers: 1,
	})
}

const fabricUser = "fabric_user"

// prepareRole makes the role and the tables that a native mirror is tried with.
func (w *world) prepareRole(t *testing.T) *pgx.Conn {
	t.Helper()
	admin := w.admin(t)
	exec(t, admin,
		"CREATE ROLE fabric_user CREATEDB CREATEROLE LOGIN REPLICATION PASSWORD 'mirrored'",
		"GRANT azure_cdc_admin TO fabric_user",
		"GRANT CREATE ON DATABASE postgres TO fabric_user",
		"GRANT USAGE, CREATE ON SCHEMA public TO fabric_user")
	user := w.connect(t, fabricUser, "mirrored", "postgres")
	exec(t, user,
		"CREATE TABLE orders (id bigint PRIMARY KEY, note text, price numeric(12,2))",
		"INSERT INTO orders SELECT i, 'note ' || i, i / 4.0 FROM generate_series(1, 1000) i",
		"CREATE TABLE tagged (code text NOT NULL UNIQUE, n int)",
		"INSERT INTO tagged VALUES ('a', 1), ('b', 2)",
		"CREATE TABLE documents (id bigint PRIMARY KEY, body jsonb)")
	exec(t, admin, "CREATE TABLE foreigners (id int PRIMARY KEY)")
	return user
}

func (w *world) connectionBody(name, user, password string) map[string]any {
	server := fmt.Sprintf("localhost:%d", w.Cluster().Port)
	return map[string]any{
		"connectivityType": "ShareableCloud", "displayName": name, "privacyLevel": "None",
		"connectionDetails": map[string]any{"type": "AzurePostgreSQL", "creationMethod": "AzurePostgreSQL.Database", "parameters": []any{
			map[string]any{"name": "server", "dataType": "Text", "value": server}, map[string]any{"name": "database", "dataType": "Text", "value": "postgres"}}},
		"credentialDetails": map[string]any{"singleSignOnType": "None", "connectionEncryption": "Encrypted", "skipTestConnection": false,
			"credentials": map[string]any{"credentialType": "Basic", "username": user, "password": password}},
	}
}

// table finds one in the public status.
func (w *world) table(t *testing.T, mirror, name string) (status map[string]any, all []string) {
	t.Helper()
	a := w.fabric(t, "POST", w.mirrors()+"/"+mirror+"/getTablesMirroringStatus", nil).want(t, 200, "")
	for _, e := range a.body["data"].([]any) {
		e := e.(map[string]any)
		all = append(all, e["sourceTableName"].(string))
		if e["sourceTableName"] == name {
			status = e
		}
	}
	return status, all
}

func (w *world) tableState(t *testing.T, mirror, name string) string {
	t.Helper()
	s, _ := w.table(t, mirror, name)
	if s == nil {
		return ""
	}
	return s["status"].(string)
}

func (w *world) state(t *testing.T, mirror string) string {
	t.Helper()
	return w.fabric(t, "POST", w.mirrors()+"/"+mirror+"/getMirroringStatus", nil).want(t, 200, "").body["status"].(string)
}

func (w *world) start(t *testing.T, mirror string) {
	t.Helper()
	a := w.fabric(t, "POST", w.mirrors()+"/"+mirror+"/startMirroring", nil).want(t, 200, "")
	if len(a.raw) != 0 || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("start: got %q of type %q, want nothing of type application/octet-stream", a.raw, a.header.Get("Content-Type"))
	}
}

func (w *world) halt(t *testing.T, mirror string) {
	t.Helper()
	w.fabric(t, "POST", w.mirrors()+"/"+mirror+"/stopMirroring", nil).want(t, 200, "")
	eventually(t, "the mirror is stopped", func() bool { return w.state(t, mirror) == "Stopped" })
}

// grant gives the server's identity the role that native mirroring needs.
func (w *world) grant(t *testing.T) {
	t.Helper()
	identity := w.arm(t, "GET", "", nil).body["identity"].(map[string]any)
	w.fabric(t, "POST", "/workspaces/"+w.env["FABRIC_WORKSPACE_ID"]+"/roleAssignments", map[string]any{
		"principal": map[string]any{"id": identity["principalId"], "type": "ServicePrincipal"}, "role": "Contributor"}).want(t, 201, "")
}

// delta reads the ids and notes of the Delta table of orders.
func (w *world) delta(t *testing.T, dir, mirror string) map[int64]string {
	t.Helper()
	s, err := store.OpenDir(filepath.Join(dir, "onelake", w.env["FABRIC_WORKSPACE_ID"], mirror, "Tables", "public", "orders"))
	if err != nil {
		t.Fatal(err)
	}
	snap, err := delta.Open(t.Context(), s, -1)
	if err != nil {
		return nil // not there yet
	}
	rows := map[int64]string{}
	err = snap.Scan(t.Context(), []string{"id", "note"}, func(_ delta.File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			note := b.Cols[1]
			rows[b.Cols[0].I64[i]] = string(note.Data[note.Off[i]:note.Off[i+1]])
		}
		return nil
	})
	if err != nil {
		return nil // it was replaced meanwhile
	}
	return rows
}

func TestNativeMirror(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir, Native: engine})
	w.enable(t, "postgres")
	user := w.prepareRole(t)
	connection := w.fabric(t, "POST", "/connections", w.connectionBody("native", fabricUser, "mirrored")).want(t, 201, "").body["id"].(string)
	id := w.mirror(t, "native", nativeDefinition(connection, "postgres", nil))
	w.start(t, id)
	if got := w.state(t, id); got != "Running" {
		t.Errorf("state without the workspace role: got %s, want Running", got)
	}
	if _, all := w.table(t, id, ""); len(all) != 0 {
		t.Errorf("tables without the workspace role: got %v, want none", all)
	}
	w.grant(t)
	eventually(t, "orders are replicating", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	exec(t, user, "UPDATE orders SET note = 'changed' WHERE id = 7", "DELETE FROM orders WHERE id = 8", "INSERT INTO orders VALUES (2000, 'new', 1)")
	eventually(t, "the changes are there", func() bool {
		rows := w.delta(t, dir, id)
		return len(rows) == 1000 && rows[7] == "changed" && rows[8] == "" && rows[2000] == "new"
	})
	_, all := w.table(t, id, "")
	slices.Sort(all)
	if diff := cmp.Diff([]string{"orders", "tagged"}, all); diff != "" {
		t.Errorf("mirrored tables (-want +got): %s", diff)
	}
	w.wantTracked(t, "PUBLICATION_LIMIT_REACHED")
	w.reseeds(t, dir, id, user)
}

func (w *world) wantTracked(t *testing.T, code string) {
	t.Helper()
	if _, codes := prerequisites(t, w.connect(t, fabricUser, "mirrored", "postgres")); !slices.Equal(codes, []string{code}) {
		t.Errorf("prerequisites while mirrored: got %v, want %s", codes, code)
	}
}

// reseeds stops and starts: everything comes again, and nothing stays at the
// source meanwhile.
func (w *world) reseeds(t *testing.T, dir, id string, user *pgx.Conn) {
	t.Helper()
	w.halt(t, id)
	if got := w.tableState(t, id, "orders"); got != "Stopped" {
		t.Errorf("table of a stopped mirror: got %s, want Stopped", got)
	}
	var slots, publications int
	if err := user.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_publication)").Scan(&slots, &publications); err != nil {
		t.Fatal(err)
	}
	if slots != 0 || publications != 0 {
		t.Errorf("after the stop: got %d slots, %d publications, want none", slots, publications)
	}
	exec(t, user, "DELETE FROM orders WHERE id > 10")
	w.start(t, id)
	eventually(t, "the mirror is seeded again", func() bool { return len(w.delta(t, dir, id)) == 9 })
}

func TestNativeRefusedTables(t *testing.T) {
	w := own(t, emulator.Options{Native: engine})
	w.enable(t, "postgres")
	w.prepareRole(t)
	w.grant(t)
	connection := w.fabric(t, "POST", "/connections", w.connectionBody("native", fabricUser, "mirrored")).want(t, 201, "").body["id"].(string)
	table := func(schema, name string) map[string]any {
		return map[string]any{"source": map[string]any{"typeProperties": map[string]any{"schemaName": schema, "tableName": name}}}
	}
	id := w.mirror(t, "native", nativeDefinition(connection, "postgres",
		[]any{table("public", "orders"), table("public", "documents"), table("public", "foreigners"), table("public", "none"), table("nowhere", "none2")}))
	w.start(t, id)
	eventually(t, "orders are replicating", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	for name, want := range map[string]string{
		"documents":  "UNSUPPORTED_DATA_TYPE: Table public.documents has unsupported data type in column body",
		"foreigners": "NOT_TABLE_OWNER: Table public.foreigners is not owned by fabric_user",
		"none":       "TABLE_DOES_NOT_EXIST: In schema public, table none does not exist.",
		"none2":      "SCHEMA_DOES_NOT_EXIST: Schema nowhere does not exist",
	} {
		s, all := w.table(t, id, name)
		if s == nil {
			t.Errorf("%s: not among %v", name, all)
			continue
		}
		e, _ := s["error"].(map[string]any)
		if got := fmt.Sprint(e["errorCode"], ": ", e["message"]); s["status"] != "Failed" || got != want {
			t.Errorf("%s: got %s %s, want Failed %s", name, s["status"], got, want)
		}
	}
	// Taking away the role ends it; the state stays Running.
	identity := w.arm(t, "GET", "", nil).body["identity"].(map[string]any)["principalId"].(string)
	w.fabric(t, "DELETE", "/workspaces/"+w.env["FABRIC_WORKSPACE_ID"]+"/roleAssignments/"+identity, nil).want(t, 200, "")
	admin := w.admin(t)
	eventually(t, "nobody reads the slot", func() bool {
		var active int
		if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE active").Scan(&active); err != nil {
			t.Fatal(err)
		}
		return active == 0
	})
	if got := w.state(t, id); got != "Running" {
		t.Errorf("state without the role: got %s, want Running", got)
	}
}

func TestRestartGoesOn(t *testing.T) {
	dir := clusterDir(t)
	w := launch(t, emulator.Options{Dir: dir, Native: engine})
	w.enable(t, "postgres")
	w.prepareRole(t)
	w.grant(t)
	connection := w.fabric(t, "POST", "/connections", w.connectionBody("native", fabricUser, "mirrored")).want(t, 201, "").body["id"].(string)
	id := w.fabric(t, "POST", w.mirrors(), mirrorBody("native", nativeDefinition(connection, "postgres", nil))).want(t, 201, "").body["id"].(string)
	w.start(t, id)
	eventually(t, "the mirror is seeded", func() bool { return len(w.delta(t, dir, id)) == 1000 })
	before := w.env
	w.stop(t)
	began := time.Now()
	w = own(t, emulator.Options{Dir: dir, Native: engine})
	t.Logf("started again in %s", time.Since(began))
	w.wantEnv(t, before)
	exec(t, w.connect(t, fabricUser, "mirrored", "postgres"), "UPDATE orders SET note = 'after' WHERE id = 1")
	eventually(t, "the mirror goes on", func() bool { return w.delta(t, dir, id)[1] == "after" })
	if p := w.parameter(t, "azure.mirror_databases"); p["value"] != "postgres" || p["source"] != "user-override" {
		t.Errorf("azure.mirror_databases after the restart: got %v", p)
	}
	if !strings.Contains(w.env["POSTGRES_URL"], fmt.Sprint(w.Cluster().Port)) {
		t.Errorf("POSTGRES_URL: got %s, want port %d", w.env["POSTGRES_URL"], w.Cluster().Port)
	}
	book.Proved("server.restarts")
}
