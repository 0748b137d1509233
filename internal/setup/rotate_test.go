package setup_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// rotate runs a rotation, which may be cut.
func (r *run) rotate(t *testing.T, cfg *config.Config, rotation *setup.Rotation) error {
	t.Helper()
	return r.do(t, cfg, func(c *setup.Clients) []setup.Step { return setup.RotateSteps(c, rotation) })
}

// stored is the role's password as the store has it now.
func (w *world) stored(t *testing.T, cfg *config.Config) string {
	t.Helper()
	c, err := setup.NewClients(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := c.Vault.Secret(t.Context(), cfg.Role.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// takes reports whether the server takes a password of the role.
func (w *world) takes(t *testing.T, password string) bool {
	t.Helper()
	c := w.Cluster()
	conn, err := postgres.Endpoint{Host: "localhost", Port: c.Port, Database: "postgres", User: "fabric_user", Password: password, RootCAs: w.CAPEM}.Connect(t.Context())
	if err != nil {
		if !admin.IsWrongPassword(err) {
			t.Fatal(err)
		}
		return false
	}
	conn.Close(context.Background())
	return true
}

// TestRotateCut kills a rotation before and after every side effect: at that
// moment a version in the vault has the valid password, and the next rotation
// goes on to the end, with the same password when one was written.
func TestRotateCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, "allow: [restart]\n")
	mustApply(t, cfg)
	var whole run
	if err := whole.rotate(t, cfg, &setup.Rotation{}); err != nil {
		t.Fatal(err)
	}
	for at := range len(whole.writes) {
		for _, late := range []bool{false, true} {
			before := w.stored(t, cfg)
			r := &run{at: at + 1, late: late}
			if err := r.rotate(t, cfg, &setup.Rotation{}); err == nil {
				t.Fatalf("the rotation went on after its death at %q", whole.writes[at])
			}
			last := r.writes[len(r.writes)-1]
			written := w.stored(t, cfg)
			if !w.takes(t, written) && !w.takes(t, before) {
				t.Fatalf("after a death at %q no version has the valid password", last)
			}
			var next run
			if err := next.rotate(t, cfg, &setup.Rotation{}); err != nil {
				t.Fatalf("after a death at %q: %v", last, err)
			}
			now := w.stored(t, cfg)
			if written != before && now != written && !completed(last, late) {
				t.Errorf("after a death at %q the next rotation made up another password", last)
			}
			if !w.takes(t, now) || w.takes(t, before) {
				t.Errorf("after a death at %q and one more rotation: the new one is taken: %t, the former one: %t", last, w.takes(t, now), w.takes(t, before))
			}
		}
	}
	clean(t, plan(t, cfg))
	w.wantOurs(t, cfg)
	elsewhere := w.config(t, "role: {secret: another}\nallow: [restart]\n")
	if err := (&run{}).rotate(t, elsewhere, &setup.Rotation{Given: w.stored(t, cfg), Adopt: setup.AdoptRole}); err != nil {
		t.Fatal(err)
	}
	w.wantOurs(t, elsewhere)
	t.Logf("cut at each of %q", whole.writes)
}

// wantOurs fails unless destroy would know the role's secret as ours.
func (w *world) wantOurs(t *testing.T, cfg *config.Config) {
	t.Helper()
	if exists, ours, err := w.clients(t, cfg).Vault.Made(t.Context(), cfg.Role.Secret); !exists || !ours || err != nil {
		t.Errorf("secret %s: there %t, ours %t, %v; want both", cfg.Role.Secret, exists, ours, err)
	}
}

// completed says that the rotation that was cut had done its last write.
func completed(last string, late bool) bool {
	return late && strings.HasPrefix(last, "PATCH /secrets/")
}

// TestRotateWithoutVault: the file is the store, and it has to be given.
func TestRotateWithoutVault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	master := w.config(t, openFile)
	master.Role.Secret = "postgres-admin-password"
	adminPassword := w.stored(t, master)
	w.env = slices.DeleteFunc(w.env, func(kv string) bool { return strings.HasPrefix(kv, "KEYVAULT_URL=") })
	w.env = append(w.env, "POSTGRES_ADMIN_PASSWORD="+adminPassword)
	at := func(password string) *config.Config {
		return w.config(t, openFile+"allow: [restart]\n", "POSTGRES_MIRROR_CONNECTION_PASSWORD="+password)
	}
	mustApply(t, at("The-First-1"))
	var none run
	if err := none.rotate(t, at("The-First-1"), &setup.Rotation{}); setup.Code(err) != "NoSecretStore" || len(none.writes) > 0 {
		t.Errorf("nothing given: got %v, writes %q", err, none.writes)
	}
	for _, late := range []bool{false, true} {
		given := map[bool]string{false: "The-Second-2", true: "The-Third-3"}[late]
		r := &run{at: 2, late: late} // the commit
		if err := r.rotate(t, at("The-First-1"), &setup.Rotation{Given: given}); err == nil {
			t.Fatal("the rotation went on after its death")
		}
		var next run
		if err := next.rotate(t, at("The-First-1"), &setup.Rotation{Given: given}); err != nil {
			t.Fatalf("late %t: %v", late, err)
		}
		if !w.takes(t, given) || w.takes(t, "The-First-1") {
			t.Errorf("late %t: the given one isn't taken, or the former one still is", late)
		}
		w.exec(t, "ALTER ROLE fabric_user PASSWORD 'The-First-1'")
	}
}

func TestCheckPassword(t *testing.T) {
	for password, ok := range map[string]bool{
		"Abcdefg1": true, "abcdefg-1": true, "ABCDEFG-1": true, "ÄÖÜäöüß1": true,
		"Abcdef1": false, "abcdefgh1": false, "Abcdefgh": false, "x-Fabric_User-1": false, "Abcdefg1\n": false, strings.Repeat("Aa1", 43): false,
	} {
		if err := setup.CheckPassword(password, "fabric_user"); (err == nil) != ok {
			t.Errorf("%q: got %v, want ok %t", password, err, ok)
		} else if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%q is shown in %q", password, err)
		}
	}
}
