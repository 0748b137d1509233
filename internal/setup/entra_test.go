package setup_test

import (
	"testing"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// principals stand in for Azure's own functions, which make a role and label it.
const principals = `
SET allow_system_table_mods = on;
CREATE FUNCTION pg_catalog.pgaadauth_create_principal_with_oid(name text, oid text, kind text, admin bool, mfa bool) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  SET LOCAL allow_system_table_mods = on;
  EXECUTE format('CREATE ROLE %I LOGIN', $1);
  EXECUTE format('GRANT %I TO pgadmin WITH ADMIN OPTION', $1);
  INSERT INTO pg_shseclabel SELECT r.oid, 'pg_authid'::regclass, 'pgaadauth', 'aadauth,oid=' || $2 || ',type=' || $3 FROM pg_roles r WHERE rolname = $1;
  RETURN 'Created role for ' || $1;
END $$`

const entraFile = `
role: {name: mirror-sp, signIn: entra, entra: {objectId: 22222222-2222-3333-4444-555555555555, type: service}}
allow: [restart]
`

// TestEntraRole: a principal's role is made once, with its rights and its seed
// table; its connection can only be made by hand.
func TestEntraRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, principals)
	cfg := w.config(t, entraFile)
	for range 2 { // the second time there is nothing to do
		c, err := setup.NewClients(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		steps, err := setup.Until(setup.Steps(c), setup.Prepare)
		if err != nil {
			t.Fatal(err)
		}
		var facts setup.Facts
		approved, err := setup.Plan(t.Context(), steps, &facts)
		if err != nil {
			t.Fatal(err)
		}
		if err := setup.Apply(t.Context(), steps, &facts, approved, func(setup.Event) {}); err != nil {
			t.Fatal(err)
		}
	}
	all := plan(t, cfg)
	for _, step := range []string{"role", "role-secret", "grants", "seed-table", "prerequisites"} {
		if f := find(t, all, step); f.Action != setup.None {
			t.Errorf("%s: got %+v", step, f)
		}
	}
	if f := find(t, all, "connection"); f.Code != "ConnectionManual" {
		t.Errorf("connection: got %+v, want it made by hand", f)
	}
	other := w.config(t, "role: {name: mirror-sp, signIn: entra, entra: {objectId: 33333333-2222-3333-4444-555555555555}}\nallow: [restart]\n")
	if f := find(t, plan(t, other), "role"); f.Code != "RoleNotEntra" {
		t.Errorf("somebody else's role: got %+v", f)
	}
}

// TestMD5 holds our md5 against the server's own.
func TestMD5(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, "SET password_encryption = 'md5'; CREATE ROLE old PASSWORD 'a secret'")
	want := admin.MD5("a secret", "old")
	if got := w.rows(t, "SELECT rolpassword FROM pg_authid WHERE rolname = 'old'"); len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
