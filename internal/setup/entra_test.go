package setup_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
	"github.com/pgmirror/pgmirror/internal/setup"
)

const entraFile = `
role: {name: mirror-sp, signIn: entra, entra: {objectId: 22222222-2222-3333-4444-555555555555, type: service}}
allow: [restart]
`

// send asks a service of the emulator that takes a token.
func (w *world) send(t *testing.T, method, url, token string, body any) int {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+token)
	q.Header.Set("Content-Type", "application/json")
	resp, err := w.clients(t, w.config(t, "")).HTTP.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusConflict {
		t.Fatalf("%s %s: %s %s", method, url, resp.Status, answer)
	}
	return resp.StatusCode
}

// value is one of the emulator's environment.
func (w *world) value(name string) string {
	for _, kv := range w.Env() {
		if kv.Key == name {
			return kv.Value
		}
	}
	return ""
}

// administrator gives the server an administrator of Entra, or takes it away, and
// waits until it is so.
func (w *world) administrator(t *testing.T, method, id, name, kind string) {
	t.Helper()
	url := w.value("ARM_ENDPOINT") + w.value("POSTGRES_SERVER_ID") + "/administrators/" + id + "?api-version=2025-08-01"
	token, want := w.value("ARM_TOKEN"), map[string]int{"PUT": http.StatusOK, "DELETE": http.StatusNotFound}[method]
	body := map[string]any{"properties": map[string]any{"principalName": name, "principalType": kind}}
	for end := time.Now().Add(time.Minute); w.send(t, method, url, token, body) == http.StatusConflict && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond) // another write is under way
	}
	for end := time.Now().Add(time.Minute); w.send(t, "GET", url, token, nil) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s of administrator %s: not seen", method, name)
		}
	}
}

// me is the object id of whoever holds the emulator's tokens.
func (w *world) me(t *testing.T) string {
	t.Helper()
	parts := strings.Split(w.value("POSTGRES_TOKEN"), ".")
	var claims struct{ OID string }
	if body, err := base64.RawURLEncoding.DecodeString(parts[1]); err != nil || json.Unmarshal(body, &claims) != nil {
		t.Fatalf("the token says nothing: %v", err)
	}
	return claims.OID
}

// until applies up to a step.
func (r *run) until(t *testing.T, cfg *config.Config, step string) error {
	t.Helper()
	return r.do(t, cfg, func(c *setup.Clients) []setup.Step {
		steps, err := setup.Until(setup.Steps(c), step)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	})
}

// nobody fails unless the plan waits for an Entra administrator, and says what to
// type.
func nobody(t *testing.T, f setup.Finding, have string, hint ...string) {
	t.Helper()
	if f.Action != setup.Blocked || f.Code != "EntraAdminMissing" || !strings.Contains(f.Have, have) {
		t.Errorf("got %+v, want an Entra administrator asked for: %s", f, have)
	}
	for _, h := range append(hint, "az postgres flexible-server microsoft-entra-admin create --resource-group ") {
		if !strings.Contains(f.Hint, h) {
			t.Errorf("the hint %q lacks %q", f.Hint, h)
		}
	}
}

// TestEntraRole: a principal's role is made by an Entra administrator, and by
// nobody else; what is left to do with it is pgadmin's. The emulator refuses the
// principal's functions to every other session.
func TestEntraRole(t *testing.T) {
	all := localpgtest.Servers(t)
	for _, in := range slices.Compact([]localpg.Install{all[0], all[len(all)-1]}) { // from 16 on pgadmin is no superuser
		t.Run(fmt.Sprint(in.Version), func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, in)
			cfg := w.config(t, strings.Replace(entraFile, "[restart]", "[restart, change-owner, drop-mirror]", 1)+"mirror: {tables: [public.customers]}\n")
			nobody(t, find(t, plan(t, cfg), "role"), "sign-in by Entra is off", "pgmirror apply --until sign-in-modes && ")
			if f := find(t, plan(t, cfg, func(f *setup.Facts) { f.IfReady = true }), "role"); f.Action != setup.Await {
				t.Errorf("in a hook: got %+v, want it left for later", f)
			}
			if err := (&run{}).until(t, cfg, "sign-in-modes"); err != nil {
				t.Fatal(err)
			}
			nobody(t, find(t, plan(t, cfg), "role"), "the server has no Entra administrator")
			w.wantApart(t, cfg)
			w.administrator(t, "PUT", "33333333-2222-3333-4444-555555555555", "somebody@contoso.com", "User")
			w.administrator(t, "PUT", "44444444-2222-3333-4444-555555555555", "strangers", "Group")
			nobody(t, find(t, plan(t, cfg), "role"), "somebody@contoso.com, strangers")

			w.administrator(t, "PUT", w.me(t), "me@contoso.com", "User")
			if err := (&run{}).until(t, cfg, setup.Prepare); err != nil {
				t.Fatalf("%v (hint %s)", err, setup.Hint(err))
			}
			again := &run{}
			if err := again.until(t, cfg, setup.Prepare); err != nil || len(again.writes) > 0 {
				t.Errorf("the second apply: %v, wrote %q", err, again.writes)
			}
			if got := w.rows(t, "SELECT label FROM pg_shseclabel l JOIN pg_roles r ON r.oid = l.objoid WHERE rolname = 'mirror-sp' AND rolreplication AND rolcreatedb"); len(got) != 1 || got[0] != "aadauth,oid=22222222-2222-3333-4444-555555555555,type=service" {
				t.Errorf("the role's label: got %q", got)
			}

			// What is as wanted needs no Entra administrator; what isn't needs one, who
			// may be a group.
			w.administrator(t, "DELETE", w.me(t), "me@contoso.com", "User")
			all := plan(t, cfg)
			for _, step := range []string{"role", "role-secret", "grants", "ownership", "seed-table", "prerequisites"} {
				if f := find(t, all, step); f.Action != setup.None {
					t.Errorf("%s: got %+v", step, f)
				}
			}
			if f := find(t, all, "connection"); f.Code != "ConnectionManual" {
				t.Errorf("connection: got %+v, want it made by hand", f)
			}
			w.exec(t, `ALTER ROLE "mirror-sp" NOCREATEDB`)
			nobody(t, find(t, plan(t, cfg), "role"), "somebody@contoso.com, strangers")
			w.send(t, "PATCH", w.value("EMULATOR_ENDPOINT")+"/tenant", w.value("EMULATOR_TOKEN"), map[string]any{"groups": []string{"44444444-2222-3333-4444-555555555555"}})
			if in.Version >= 16 { // the members of a group have its role's rights
				w.exec(t, `GRANT "mirror-sp" TO strangers WITH ADMIN TRUE`)
			}
			if err := (&run{}).until(t, cfg, setup.Prepare); err != nil {
				t.Errorf("as a group's member: %v", err)
			}

			other := w.config(t, "role: {name: mirror-sp, signIn: entra, entra: {objectId: 33333333-2222-3333-4444-555555555555}}\nallow: [restart]\n")
			if f := find(t, plan(t, other), "role"); f.Code != "RoleNotEntra" {
				t.Errorf("somebody else's role: got %+v", f)
			}
			mustDestroy(t, cfg)
			if got := w.rows(t, "SELECT rolname::text FROM pg_roles WHERE rolname = 'mirror-sp'"); len(got) > 0 {
				t.Error("destroy left the role")
			}
		})
	}
}

// wantApart fails unless what an Entra administrator has to run stands apart.
func (w *world) wantApart(t *testing.T, cfg *config.Config) {
	t.Helper()
	c := w.clients(t, cfg)
	var facts setup.Facts
	steps := setup.Steps(c)
	found, err := setup.Plan(t.Context(), steps, &facts)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := c.Script(t.Context(), steps, &facts, found)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(parts, func(p setup.Part) bool { return p.Finding.Step == "role" })
	if i < 0 || parts[i].As != "an Entra administrator of the server" || parts[i].Database != "postgres" || !strings.Contains(parts[i].Statements[0].SQL, "pgaadauth_create_principal_with_oid") {
		t.Errorf("got %+v", parts)
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
