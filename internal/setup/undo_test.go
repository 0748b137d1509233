package setup_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// destroy plans and takes down, as a command does.
func (r *run) destroy(t *testing.T, cfg *config.Config) error {
	t.Helper()
	return r.do(t, cfg, func(c *setup.Clients) []setup.Step { return setup.UndoSteps(c, true) })
}

func mustDestroy(t *testing.T, cfg *config.Config) []string {
	t.Helper()
	r := &run{}
	if err := r.destroy(t, cfg); err != nil {
		t.Fatalf("destroy: %v (code %s, hint %s)", err, setup.Code(err), setup.Hint(err))
	}
	return r.writes
}

func planDestroy(t *testing.T, cfg *config.Config) []setup.Finding {
	t.Helper()
	return planOf(t, cfg, func(c *setup.Clients) []setup.Step { return setup.UndoSteps(c, true) })
}

const undoAllow = "allow: [restart, change-owner, drop-mirror, drop-slot]\n"

// undoNative mirrors tables of an owner who may no longer make any in the schema.
var (
	undoNative = strings.Replace(nativeFile, "allow: [restart, change-owner]\n", undoAllow, 1)
	undoOpen   = openFile + undoAllow
)

// belongings are the application's own: what destroy gives back as it was.
func (w *world) belongings(t *testing.T) []string {
	return w.rows(t, `SELECT format('%s of %s, %s', c.oid::regclass, c.relowner::regrole, coalesce(obj_description(c.oid, 'pg_class'), 'no comment')) FROM pg_class c
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'v')
		UNION ALL SELECT format('rows %s', (SELECT count(*) FROM orders)) UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname !~ '^(pg_|azure_cdc)'
		UNION ALL SELECT format('slot %s', slot_name) FROM pg_replication_slots UNION ALL SELECT 'publication ' || pubname FROM pg_publication ORDER BY 1`)
}

// TestDestroy takes down what apply made, both modes, and leaves the database as
// it was before. Everything can be set up again.
func TestDestroy(t *testing.T) {
	for name, file := range map[string]string{"native": undoNative, "open": undoOpen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(t, "COMMENT ON TABLE orders IS 'what was ordered'", "REVOKE CREATE ON SCHEMA public FROM app")
			before := w.belongings(t)
			cfg := w.config(t, file)
			if writes := mustDestroy(t, cfg); len(writes) > 0 {
				t.Errorf("with nothing to take down: wrote %q", writes)
			}
			mustApply(t, cfg)
			w.exec(t, "SELECT pg_create_logical_replication_slot('pgmirror_dev', 'pgoutput') WHERE "+map[string]string{"native": "false", "open": "true"}[name])
			none := w.config(t, strings.Replace(file, undoAllow, "allow: [restart]\n", 1))
			r := &run{}
			if err := r.destroy(t, none); setup.Code(err) != "ConsentMissing" || len(r.writes) > 0 {
				t.Errorf("without consent: got %v and writes %q", err, r.writes)
			}
			mustDestroy(t, cfg)
			if diff := cmp.Diff(before, w.belongings(t)); diff != "" {
				t.Errorf("the database isn't as it was (-before +after):\n%s", diff)
			}
			w.wantNothing(t, cfg)
			if again := mustDestroy(t, cfg); len(again) > 0 {
				t.Errorf("the second time it wrote %q", again)
			}
			clean(t, planDestroy(t, cfg))
			w.exec(t, "GRANT CREATE ON SCHEMA public TO app")
			mustApply(t, cfg)
			clean(t, plan(t, cfg))
		})
	}
}

// wantNothing fails when something of ours is left outside of the database.
func (w *world) wantNothing(t *testing.T, cfg *config.Config) {
	t.Helper()
	c := w.clients(t, cfg)
	mirrors, err := c.Fabric.MirroredDatabases(t.Context(), cfg.Workspace)
	if err != nil || len(mirrors) > 0 {
		t.Errorf("mirrored databases: got %v, %v, want none", mirrors, err)
	}
	connections, err := c.Fabric.Connections(t.Context())
	if err != nil || len(connections) > 0 {
		t.Errorf("connections: got %v, %v, want none", connections, err)
	}
	if _, ok, err := c.Vault.Secret(t.Context(), cfg.Role.Secret); ok || err != nil {
		t.Errorf("the role's secret is there: %t, %v", ok, err)
	}
	now, err := c.Server.Parameters(t.Context())
	if p := now["azure.fabric_mirror_enabled"]; err != nil || p.Value == "on" {
		t.Errorf("mirroring is %s, %v", p.Value, err)
	}
}

// TestDestroyCut kills destroy before and after every side effect, and runs it
// again: the same end.
func TestDestroyCut(t *testing.T) {
	for name, file := range map[string]string{"native": undoNative, "open": undoOpen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			before := w.belongings(t)
			cfg := w.config(t, file)
			mustApply(t, cfg)
			w.exec(t, "SELECT pg_create_logical_replication_slot('pgmirror_dev', 'pgoutput') WHERE "+map[string]string{"native": "false", "open": "true"}[name])
			cuts := cutEverywhere(t, func(r *run) error { return r.destroy(t, cfg) })
			t.Logf("%d cuts", cuts)
			if diff := cmp.Diff(before, w.belongings(t)); diff != "" {
				t.Errorf("the database isn't as it was (-before +after):\n%s", diff)
			}
			w.wantNothing(t, cfg)
		})
	}
}

// TestDestroyLeavesOthers: what somebody else made stays, and keeps what it stands
// on; what somebody has put his own into isn't dropped.
func TestDestroyLeavesOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, undoNative)
	mustApply(t, cfg)
	c := w.clients(t, cfg)

	// The mirror with our name reads another server; or nobody says where it is.
	other := *cfg
	other.Server.Host = "127.0.0.1"
	if f := find(t, planDestroy(t, &other), "mirrored-database"); f.Action != setup.None || !strings.Contains(f.Have, "it mirrors localhost") {
		t.Errorf("a mirror of another server: got %+v, want it kept", f)
	}
	if f := find(t, planDestroy(t, w.config(t, undoNative, "FABRIC_WORKSPACE_ID=")), "mirrored-database"); f.Code != "WorkspaceMissing" {
		t.Errorf("without a workspace, while the mirror runs: got %+v", f)
	}

	// Another mirrored database signs in with the same connection.
	connections, err := c.Fabric.Connections(t.Context())
	if err != nil || len(connections) != 1 {
		t.Fatal(connections, err)
	}
	another, err := c.Fabric.CreateMirroredDatabase(t.Context(), cfg.Workspace, "by hand", "", fabric.Definition{
		Source: fabric.Source{Type: "AzurePostgreSql", Connection: connections[0].ID, Database: "postgres"}, Target: fabric.Target{DefaultSchema: "public", Format: "Delta"}})
	if err != nil {
		t.Fatal(err)
	}
	writes := mustDestroy(t, cfg)
	if slices.ContainsFunc(writes, func(x string) bool { return !strings.Contains(x, "/mirroredDatabases/") }) {
		t.Errorf("what another mirror stands on was touched: %q", writes)
	}
	found := planDestroy(t, cfg)
	for _, step := range []string{"connection", "ownership", "seed-table", "role", "role-secret", "enable"} {
		if f := find(t, found, step); len(f.Notes) != 1 || f.Notes[0].Code != "Kept" {
			t.Errorf("%s: got %+v, want it kept", step, f)
		}
	}
	if err := c.Fabric.DeleteMirroredDatabase(t.Context(), cfg.Workspace, another.ID); err != nil {
		t.Fatal(err)
	}

	// Rows of somebody's in the seed table, a table of the role's own, an owner who
	// is gone: nothing is dropped, and a person is told.
	for _, tt := range []struct{ sql, undo, step, code string }{
		{"ALTER TABLE fabric_mirror_seed ADD COLUMN mine text", "ALTER TABLE fabric_mirror_seed DROP COLUMN mine", "seed-table", "SeedInUse"},
		{"COMMENT ON TABLE orders IS 'pgmirror: former owner \"nobody\"'", "COMMENT ON TABLE orders IS 'pgmirror: former owner \"app\"'", "ownership", "FormerOwnerGone"},
	} {
		w.exec(t, tt.sql)
		if f := find(t, planDestroy(t, cfg), tt.step); f.Code != tt.code || f.Action != setup.Blocked || f.Hint == "" {
			t.Errorf("%s: got %+v, want %s", tt.step, f, tt.code)
		}
		w.exec(t, tt.undo)
	}
	w.exec(t, "INSERT INTO fabric_mirror_seed DEFAULT VALUES", "SET ROLE fabric_user; CREATE TABLE own (id int)")
	if err := (&run{}).destroy(t, cfg); err == nil || !strings.Contains(err.Error(), "rows of somebody's") {
		t.Errorf("got %v, want the seed table left", err)
	}
	w.exec(t, "DELETE FROM fabric_mirror_seed WHERE id > 1")
	if err := (&run{}).destroy(t, cfg); setup.Code(err) != "RoleOwns" {
		t.Errorf("got %v (%s), want RoleOwns", err, setup.Code(err))
	}
	w.exec(t, "ALTER TABLE own OWNER TO app")
	mustDestroy(t, cfg)
	w.wantNothing(t, cfg)
	if got := w.rows(t, "SELECT relname::text FROM pg_class WHERE relname = 'own'"); len(got) != 1 {
		t.Error("somebody's table was dropped")
	}
}

// TestDestroyAdopted: a mirror and a role that others made stay, and everything
// with them.
func TestDestroyAdopted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret(t, "postgres-fabric-user-password", "an-old-password-1a!")
	w.exec(t, "CREATE ROLE fabric_user LOGIN REPLICATION PASSWORD 'an-old-password-1a!'", "GRANT fabric_user TO pgadmin WITH ADMIN OPTION")
	cfg := w.config(t, undoOpen)
	mustApply(t, cfg)
	mustDestroy(t, cfg)
	found := planDestroy(t, cfg)
	for _, step := range []string{"role", "role-secret"} {
		if f := find(t, found, step); f.Action != setup.None || len(f.Notes) != 1 || f.Notes[0].Code != "Kept" {
			t.Errorf("%s: got %+v, want it kept", step, f)
		}
	}
	if got := w.rows(t, "SELECT rolname::text FROM pg_roles WHERE rolname = 'fabric_user'"); len(got) != 1 {
		t.Error("a role that others made was dropped")
	}
}

// TestDestroyRunActive: as long as run reads, nothing is taken from under it.
func TestDestroyRunActive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, undoOpen)
	mustApply(t, cfg)
	w.exec(t, "SELECT pg_create_logical_replication_slot('pgmirror_dev', 'pgoutput')")
	reader, err := pgconn.Connect(t.Context(), w.superuser()+"&replication=database&wal_sender_timeout=0") // it answers no keepalive, however long a plan takes
	if err != nil {
		t.Fatal(err)
	}
	reader.Frontend().Send(&pgproto3.Query{String: "START_REPLICATION SLOT pgmirror_dev LOGICAL 0/0 (proto_version '1', publication_names 'pgmirror_dev')"})
	if err := reader.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := reader.ReceiveMessage(t.Context()); err != nil {
		t.Fatal(m, err)
	}
	r := &run{}
	if err := r.destroy(t, cfg); setup.Code(err) != "RunActive" || len(r.writes) > 0 {
		t.Errorf("got %v and writes %q, want RunActive", err, r.writes)
	}
	reader.Close(t.Context())
	for end := time.Now().Add(10 * time.Minute); find(t, planDestroy(t, cfg), "slot").Action != setup.Delete; {
		if time.Now().After(end) {
			t.Fatal("the slot is still read")
		}
	}

	// What has our names isn't ours.
	w.exec(t, "SELECT pg_drop_replication_slot('pgmirror_dev')", "SELECT pg_create_physical_replication_slot('pgmirror_dev')",
		"DROP PUBLICATION pgmirror_dev", "CREATE PUBLICATION pgmirror_dev FOR ALL TABLES")
	found := planDestroy(t, cfg)
	if f := find(t, found, "slot"); f.Action != setup.None || !strings.Contains(f.Have, "physical") {
		t.Errorf("another's slot: got %+v, want it kept", f)
	}
	if f := find(t, found, "publications"); slices.Contains(f.Items, "pgmirror_dev") {
		t.Errorf("another's publication: got %+v, want it left", f)
	}
}

// TestDestroyWithoutServer: a server that is gone has taken its own with it; the
// rest is tidied all the same.
func TestDestroyWithoutServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, undoNative)
	mustApply(t, cfg)
	elsewhere := w.config(t, undoNative, "POSTGRES_SERVER_ID="+w.serverID()+"x")
	nameless := *elsewhere
	nameless.Server.Host = ""
	if f := find(t, planDestroy(t, &nameless), "connection"); len(f.Notes) != 1 || f.Notes[0].Code != "Kept" {
		t.Errorf("a connection that can't be looked for: got %+v, want it told", f)
	}
	mustDestroy(t, elsewhere)
	c := w.clients(t, cfg)
	mirrors, err := c.Fabric.MirroredDatabases(t.Context(), cfg.Workspace)
	if err != nil || len(mirrors) > 0 {
		t.Errorf("mirrored databases: got %v, %v, want none", mirrors, err)
	}
	if got := w.rows(t, "SELECT rolname::text FROM pg_roles WHERE rolname = 'fabric_user'"); len(got) != 1 {
		t.Error("a server that was said to be gone was changed")
	}
}
