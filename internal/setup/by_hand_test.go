package setup_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestRightsGivenByHand: who isn't a member of the workspace makes the mirror all
// the same, is told what a member has to give, and goes on once it is given.
func TestRightsGivenByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	noMember := emulator.Fault{Service: "fabric", Path: workspacePath + "/roleAssignments", Status: http.StatusForbidden, Code: "InsufficientPrivileges"}
	w.faults(t, noMember)
	err := (&run{}).apply(t, cfg)
	if setup.Code(err) != "OneLakeForbidden" || !strings.Contains(err.Error(), "Read and Write") {
		t.Fatalf("got %v (%s), want OneLakeForbidden and what to give", err, setup.Code(err))
	}
	hook := plan(t, cfg, func(f *setup.Facts) { f.IfReady = true })
	if f := find(t, hook, "proof"); f.Action != setup.Await {
		t.Errorf("in a hook: got %+v, want it left for later", f)
	}

	w.faults(t)
	c := w.clients(t, cfg)
	server, err := c.Server.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	role := fabric.RoleAssignment{PrincipalID: server.PrincipalID, PrincipalType: "ServicePrincipal", Role: "Viewer"}
	if err := c.Fabric.AddWorkspaceRole(t.Context(), cfg.Workspace, role); err != nil {
		t.Fatal(err)
	}
	if f := find(t, plan(t, cfg), "workspace-role"); f.Reason != "RoleTooLow" || f.Action != setup.Update {
		t.Errorf("a role that can't write: got %+v", f)
	}
	if err := c.Fabric.SetWorkspaceRole(t.Context(), cfg.Workspace, server.PrincipalID, "Contributor"); err != nil {
		t.Fatal(err)
	}
	w.faults(t, noMember)
	w.await(t, cfg, "proof", setup.None)
	if again := mustApply(t, cfg); len(again) > 0 {
		t.Errorf("what was given by hand is written again: %q", again)
	}
	if f := find(t, plan(t, cfg), "workspace-role"); len(f.Notes) != 1 {
		t.Errorf("the plan doesn't say what it can't see: %+v", f)
	}
}

// TestRoleTooLow: a role that can't write is raised.
func TestRoleTooLow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	c := w.clients(t, cfg)
	server, err := c.Server.Get(t.Context())
	if err == nil {
		err = c.Server.EnableIdentity(t.Context(), server)
	}
	if err == nil {
		server, err = c.Server.Get(t.Context())
	}
	if err == nil {
		err = c.Fabric.AddWorkspaceRole(t.Context(), cfg.Workspace, fabric.RoleAssignment{PrincipalID: server.PrincipalID, PrincipalType: "ServicePrincipal", Role: "Viewer"})
	}
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
}

// TestDeletedSecret: a name that was deleted is recovered, with the password that
// the role has.
func TestDeletedSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, openFile+"allow: [restart]\n")
	mustApply(t, cfg)
	c := w.clients(t, cfg)
	q, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, cfg.Vault+"/secrets/"+cfg.Role.Secret+"?api-version=7.4", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+cfg.Tokens.Vault)
	resp, err := c.HTTP.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("delete the secret: %s", resp.Status)
	}
	if f := find(t, plan(t, cfg), "role-secret"); f.Reason != "SecretDeleted" || f.Action != setup.Create {
		t.Errorf("got %+v, want it recovered", f)
	}
	for _, write := range mustApply(t, cfg) {
		if !strings.HasSuffix(write, "/recover") {
			t.Errorf("beside recovering, apply wrote %q", write)
		}
	}
	clean(t, plan(t, cfg))
}

// clients are those of a configuration; they are closed with the test.
func (w *world) clients(t *testing.T, cfg *config.Config) *setup.Clients {
	t.Helper()
	c, err := setup.NewClients(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// await plans until a step has an action.
func (w *world) await(t *testing.T, cfg *config.Config, step string, want setup.Action) {
	t.Helper()
	for end := time.Now().Add(10 * time.Minute); ; {
		f := find(t, plan(t, cfg), step)
		if f.Action == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is still %+v", step, f)
		}
	}
}
