package emulator_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// signInByEntra: whose token it is signs in with it as an administrator, or as a
// group of administrators, and only it makes principals.
func (w *world) signInByEntra(t *testing.T) {
	t.Helper()
	token := w.env["POSTGRES_TOKEN"]
	var claims struct{ OID string }
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || json.Unmarshal(body, &claims) != nil {
		t.Fatalf("the token says nothing: %v", err)
	}
	refused := func(user string) {
		t.Helper()
		if conn, err := w.tryConnect(t, user, token, "postgres"); err == nil {
			conn.Close(t.Context())
			t.Errorf("%s was let in", user)
		}
	}
	refused("dba")
	w.tenant(t, `{"groups":["11111111-2222-4333-8444-555555555555"]}`)
	w.connect(t, "dba", token, "postgres")
	w.tenant(t, `{"groups":[]}`)
	refused("dba")

	refused("me")
	w.write(t, "PUT", "/administrators/"+claims.OID, `{"properties":{"principalName":"me","principalType":"User"}}`)
	me := w.connect(t, "me", token, "postgres")
	const create = `SELECT pgaadauth_create_principal_with_oid('a principal', '99999999-2222-4333-8444-555555555555', 'service', false, false)`
	if _, err := w.admin(t).Exec(t.Context(), create); err == nil || !strings.Contains(err.Error(), "permission denied for function pgaadauth_create_principal") {
		t.Errorf("pgadmin: got %v, want it refused", err)
	}
	exec(t, me, create, `SELECT pgaadauth_create_principal('another', false, true)`)
	rows, err := me.Query(t.Context(), `SELECT rolname || ' ' || principaltype || ' ' || ismfa || ' ' || isadmin FROM pgaadauth_list_principals(false)`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a principal service 0 0", "another user 1 0", "dba group 0 1", "me user 0 1"}, list); diff != "" {
		t.Errorf("principals (-want +got):\n%s", diff)
	}
	w.write(t, "DELETE", "/administrators/"+claims.OID, nil)
	refused("me")
	if _, err := me.Exec(t.Context(), `SELECT pgaadauth_create_principal('third', false, false)`); err == nil {
		t.Error("who is no administrator any more made a principal")
	}
	exec(t, w.admin(t), `DROP ROLE "a principal", another`)
}
