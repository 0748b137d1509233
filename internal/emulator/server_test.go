package emulator_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/emulator"
)

// enable makes a server ready to be mirrored, in the order that Azure needs.
func (w *world) enable(t *testing.T, databases string) {
	t.Helper()
	w.set(t, "wal_level", "logical")
	w.set(t, "max_worker_processes", "13")
	w.write(t, "PATCH", "", map[string]any{"identity": map[string]any{"type": "SystemAssigned"}})
	w.write(t, "POST", "/restart", nil)
	w.set(t, "azure.mirror_databases", databases)
	w.set(t, "azure.fabric_mirror_enabled", "on")
}

func (w *world) parameter(t *testing.T, name string) map[string]any {
	t.Helper()
	return w.arm(t, "GET", "/configurations/"+name, nil).want(t, 200, "").body["properties"].(map[string]any)
}

// prerequisites asks azure_cdc as conn's user.
func prerequisites(t *testing.T, conn *pgx.Conn) (status string, codes []string) {
	t.Helper()
	var data []byte
	if err := conn.QueryRow(t.Context(), "SELECT status, data FROM azure_cdc.check_prerequisites()").Scan(&status, &data); err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Code string `json:"status_code"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		codes = append(codes, e.Code)
	}
	return status, codes
}

func TestEnableIsValidatedAtTheEdge(t *testing.T) {
	w := own(t, emulator.Options{})
	body := map[string]any{"properties": map[string]any{"value": "on", "source": "user-override"}}
	status, fault := w.write(t, "PUT", "/configurations/azure.fabric_mirror_enabled", body)
	if status != "Failed" || fault["code"] != "OperationFailed" {
		t.Fatalf("enable a bare server: got %s %v, want Failed OperationFailed", status, fault)
	}
	for _, reason := range []string{"IDENTITY_NOT_CONFIGURED", "wal_level", "MAX_WORKER_PROCESSES_TOO_LOW"} {
		if !strings.Contains(fault["message"].(string), reason) {
			t.Errorf("enable a bare server: got %q, want reason %s in it", fault["message"], reason)
		}
	}
	// What waits for a restart doesn't count.
	w.set(t, "wal_level", "logical")
	if p := w.parameter(t, "wal_level"); p["isConfigPendingRestart"] != true || p["value"] != "logical" {
		t.Errorf("wal_level before the restart: got %v, want logical and pending", p)
	}
	if _, fault := w.write(t, "PUT", "/configurations/azure.fabric_mirror_enabled", body); !strings.Contains(fault["message"].(string), "wal_level") {
		t.Errorf("enable before the restart: got %v, want wal_level as a reason", fault)
	}
	held := w.admin(t)
	w.enable(t, "postgres")
	if err := held.Ping(t.Context()); err == nil {
		t.Error("a connection survived the restart")
	}
	if p := w.parameter(t, "wal_level"); p["isConfigPendingRestart"] != false {
		t.Errorf("wal_level after the restart: got %v, want nothing pending", p)
	}
	book.Proved("arm.static")
	w.wantCDC(t)
}

// wantCDC looks at what enabling left in the catalog.
func (w *world) wantCDC(t *testing.T) {
	t.Helper()
	conn := w.admin(t)
	var version string
	if err := conn.QueryRow(t.Context(), "SELECT extversion FROM pg_extension WHERE extname = 'azure_cdc'").Scan(&version); err != nil {
		t.Errorf("the extension's row: %v", err)
	}
	var members int
	err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	  WHERE e.extname = 'azure_cdc' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'`).Scan(&members)
	if err != nil || members < 10 {
		t.Errorf("members of the extension: got %d %v, want at least 10", members, err)
	}
	if status, codes := prerequisites(t, conn); status != "OK" || codes != nil {
		t.Errorf("prerequisites of the administrator: got %s %v, want OK", status, codes)
	}
	exec(t, conn, "CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
	status, codes := prerequisites(t, w.connect(t, "stranger", "stranger", "postgres"))
	if want := []string{"USER_NOT_CDC_ADMIN", "NO_CREATE_PRIVILEGE_ON_DATABASE"}; status != "ERROR" || !slices.Equal(codes, want) {
		t.Errorf("prerequisites of a stranger: got %s %v, want ERROR %v", status, codes, want)
	}
	book.Proved("server.azure-cdc")
}
