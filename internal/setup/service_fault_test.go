package setup_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// faults replaces those of the world's services.
func (w *world) faults(t *testing.T, list ...emulator.Fault) {
	t.Helper()
	if list == nil {
		list = []emulator.Fault{}
	}
	w.control(t, http.MethodPut, "/faults", list)
}

// control asks the emulator itself for something.
func (w *world) control(t *testing.T, method, path string, what any) {
	t.Helper()
	body, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, kv := range w.Env() {
		env[kv.Key] = kv.Value
	}
	q, err := http.NewRequestWithContext(t.Context(), method, env["EMULATOR_ENDPOINT"]+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+env["EMULATOR_TOKEN"])
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

const (
	armServer     = "/subscriptions/*/resourceGroups/*/providers/*/flexibleServers/*"
	armParameters = armServer + "/configurations/"
	workspacePath = "/v1/workspaces/*"
)

// TestPassingFaults: a first set-up through every fault that passes ends as one
// without them, in a few runs at most, and with one of each thing.
func TestPassingFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	busy := &emulator.OperationFault{Code: "ServerBusy", Message: "Server is busy with another operation."}
	w.faults(t,
		emulator.Fault{Service: "fabric", Method: "GET", Path: "/v1/connections", Count: 1, Status: 429, RetryAfter: 1},
		emulator.Fault{Service: "fabric", Method: "GET", Path: workspacePath, Count: 1, Status: 503, Body: "html"},
		emulator.Fault{Service: "arm", Method: "GET", Path: armServer, Count: 2, Status: 500, Body: "empty"},
		emulator.Fault{Service: "arm", Method: "GET", Path: armServer + "/configurations", Count: 1, Status: 500, Body: "json"},
		emulator.Fault{Service: "vault", Method: "GET", Path: "/secrets/**", After: 1, Count: 1, Status: 502, Body: "html"},
		emulator.Fault{Service: "vault", Method: "PUT", Count: 1, Done: true, Drop: true},
		emulator.Fault{Service: "arm", Method: "PATCH", Path: armServer, Count: 2, Status: 409, Code: "ServerIsBusy"},
		emulator.Fault{Service: "arm", Method: "PATCH", Path: armParameters + "wal_level", Count: 1, Operation: busy},
		emulator.Fault{Service: "arm", Method: "PATCH", Path: armParameters + "max_worker_processes", Count: 1, Operation: &emulator.OperationFault{Code: "InternalServerError", Message: "An unexpected error."}},
		emulator.Fault{Service: "arm", Method: "POST", Path: armServer + "/restart", Count: 1, Status: 409, Code: "ServerIsNotReady"},
		emulator.Fault{Service: "fabric", Method: "POST", Path: "/v1/connections", Count: 1, Done: true, Drop: true},
		emulator.Fault{Service: "fabric", Method: "POST", Path: workspacePath + "/roleAssignments", Count: 1, Done: true, Status: 504, Body: "html"},
		emulator.Fault{Service: "fabric", Method: "POST", Path: workspacePath + "/mirroredDatabases", Count: 1, Done: true, Drop: true},
		emulator.Fault{Service: "fabric", Method: "POST", Path: workspacePath + "/mirroredDatabases/*/startMirroring", Count: 2, Status: 400, Code: "MirroredDatabaseNotReady"},
		emulator.Fault{Service: "fabric", Method: "POST", Path: workspacePath + "/mirroredDatabases/*/getTablesMirroringStatus", Count: 1, Status: 500, Body: "truncated"},
	)
	cfg := w.config(t, nativeFile)
	runs := 0
	for done := false; !done; {
		r := &run{}
		err := r.apply(t, cfg)
		done = err == nil
		t.Logf("run %d: %v", runs+1, err)
		if fabric.IsNotReady(err) {
			t.Error("a mirror that isn't ready yet ended the run")
		}
		if runs++; runs > 6 {
			t.Fatalf("not done after %d runs", runs)
		}
	}
	w.faults(t)
	clean(t, plan(t, cfg))
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("an apply after the end wrote %q", again)
	}
	c, err := setup.NewClients(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	connections, err := c.Fabric.Connections(t.Context())
	if err != nil || len(connections) != 1 {
		t.Errorf("got %d connections, %v, want 1", len(connections), err)
	}
	mirrors, err := c.Fabric.MirroredDatabases(t.Context(), cfg.Workspace)
	if err != nil || len(mirrors) != 1 {
		t.Errorf("got %d mirrors, %v, want 1", len(mirrors), err)
	}
}

// TestLastingFaults: what doesn't pass stops the run with its own code. It is
// never taken for a success, and never for something else.
func TestLastingFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	vault := func(inner string) emulator.Fault {
		return emulator.Fault{Service: "vault", Path: "/secrets/**", Status: 403, Code: "Forbidden", Inner: inner}
	}
	for _, tt := range []struct {
		name, code string
		fault      emulator.Fault
	}{
		{"vault, no public access", "VaultForbidden", vault("ForbiddenByConnection")},
		{"vault, firewall", "VaultForbidden", vault("ForbiddenByFirewall")},
		{"vault, no role", "VaultForbidden", vault("ForbiddenByRbac")},
		{"vault, no policy", "VaultForbidden", vault("AccessDenied")},
		{"ARM, look", "ServerForbidden", emulator.Fault{Service: "arm", Method: "GET", Path: armServer, Status: 403, Code: "AuthorizationFailed"}},
		{"ARM, write", "ServerForbidden", emulator.Fault{Service: "arm", Method: "PATCH", Path: armServer, Status: 403, Code: "AuthorizationFailed"}},
		{"ARM, signed out", "SignInNeeded", emulator.Fault{Service: "arm", Status: 401, Code: "ExpiredAuthenticationToken"}},
		{"Fabric, workspace", "WorkspaceForbidden", emulator.Fault{Service: "fabric", Path: workspacePath, Status: 403, Code: "InsufficientPrivileges"}},
		{"Fabric, signed out", "SignInNeeded", emulator.Fault{Service: "fabric", Status: 401, Code: "TokenExpired"}},
		{"Fabric, connection", "WorkspaceForbidden", emulator.Fault{Service: "fabric", Method: "POST", Path: "/v1/connections", Status: 403, Code: "InsufficientPermissionsToManageConnection"}},
		{"Fabric, roles", "WorkspaceForbidden", emulator.Fault{Service: "fabric", Method: "POST", Path: workspacePath + "/roleAssignments", Status: 403, Code: "InsufficientWorkspaceRole"}},
		{"Fabric, mirror", "WorkspaceForbidden", emulator.Fault{Service: "fabric", Method: "POST", Path: workspacePath + "/mirroredDatabases", Status: 403, Body: "html"}},
	} { // in the order of the steps: each run gets a little further
		t.Run(tt.name, func(t *testing.T) {
			w.faults(t, tt.fault)
			defer w.faults(t)
			err := (&run{}).apply(t, cfg)
			if err == nil {
				t.Fatal("a success")
			}
			if got := setup.Code(err); got != tt.code {
				t.Errorf("got code %q, want %s: %v", got, tt.code, err)
			}
		})
	}
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
}
