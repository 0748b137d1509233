package setup_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestDrift breaks a finished set-up in one place at a time, and expects the plan
// to name that step, and apply to mend it and no other.
func TestDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	mustApply(t, cfg)
	for _, tt := range []struct {
		name, step, reason string
		sql                string
	}{
		{"attribute lost", "role", "AttributesMissing", "ALTER ROLE fabric_user NOCREATEDB"},
		{"grant revoked", "grants", "GrantsMissing", "SET ROLE pgadmin; REVOKE azure_cdc_admin FROM fabric_user"}, // from 16 on a grant is its grantor's to revoke
		{"schema right revoked", "grants", "GrantsMissing", "REVOKE CREATE ON SCHEMA public FROM fabric_user"},
		{"owner changed", "ownership", "TableNotOwned", "ALTER TABLE customers OWNER TO app"},
		{"seed emptied", "seed-table", "SeedEmpty", "DELETE FROM fabric_mirror_seed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.exec(t, tt.sql)
			if f := find(t, plan(t, cfg), tt.step); f.Reason != tt.reason || f.Action != setup.Update {
				t.Errorf("got %s (%s), want update (%s)", f.Action, f.Reason, tt.reason)
			}
			if writes := mustApply(t, cfg); len(writes) == 0 {
				t.Error("apply mended nothing")
			}
			clean(t, plan(t, cfg))
		})
	}
}

// TestPasswordDrift: a password that isn't the store's is set again by consent
// only; a store without one is blocked as long as the role exists.
func TestPasswordDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const file = openFile + "allow: [restart]\n"
	mustApply(t, w.config(t, file))

	w.exec(t, "ALTER ROLE fabric_user PASSWORD 'changed by hand'")
	r := &run{}
	if err := r.apply(t, w.config(t, file)); setup.Code(err) != "ConsentMissing" || len(r.writes) > 0 {
		t.Errorf("got %v and writes %q, want a refusal", err, r.writes)
	}
	mustApply(t, w.config(t, strings.Replace(file, "restart", "restart, "+config.ResetPassword, 1)))
	clean(t, plan(t, w.config(t, file)))

	other := "role: {secret: another-secret}\n" + file
	if f := find(t, plan(t, w.config(t, other)), "role-secret"); f.Code != "RoleSecretMissing" || f.Action != setup.Blocked {
		t.Errorf("got %+v, want it blocked", f)
	}
	mustApply(t, w.config(t, strings.Replace(other, "restart", "restart, "+config.ResetPassword, 1)))
	clean(t, plan(t, w.config(t, other)))
}

// TestFormerOwnerGoesOn: the application writes as before once its tables belong
// to the mirror's role, through its sequences too, and may no longer TRUNCATE.
func TestFormerOwnerGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mustApply(t, w.config(t, nativeFile))
	conn, err := pgx.Connect(t.Context(), w.Cluster().URL("app", "app", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{
		"INSERT INTO orders (customer, total) VALUES (1, 9.99)",
		"UPDATE orders SET total = 1 WHERE id = 1",
		"DELETE FROM orders WHERE id = 2",
		"INSERT INTO customers (id, name) VALUES (1000, 'new')",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := conn.Exec(t.Context(), "TRUNCATE orders"); err == nil {
		t.Error("app may still truncate")
	}
	got := w.rows(t, "SELECT obj_description('orders'::regclass, 'pg_class')")
	if want := []string{`pgmirror: former owner "app"`}; !slices.Equal(got, want) {
		t.Errorf("comment: got %q, want %q", got, want)
	}
}

// TestAdoption: a mirror and a connection that somebody made are used and left as
// they are, whatever their retention or tables.
func TestAdoption(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mustApply(t, w.config(t, nativeFile))
	all := w.config(t, "mirror: {retentionDays: 3}\nallow: [restart]\n")
	f := find(t, plan(t, all), "mirrored-database")
	if f.Action != setup.None {
		t.Errorf("a mirror with a list, found without one: got %s (%s), want it left", f.Action, f.Reason)
	}
	open := w.config(t, "mode: open\nallow: [restart]\n")
	if f := find(t, plan(t, open), "mirrored-database"); f.Code != "MirrorOtherSource" {
		t.Errorf("an open mirror of a native one's name: got %+v, want MirrorOtherSource", f)
	}
	fewer := w.config(t, strings.Replace(nativeFile, ", public.loose", "", 1))
	if f := find(t, plan(t, fewer), "mirrored-database"); f.Reason != "TablesDiffer" {
		t.Errorf("a table less: got %+v, want TablesDiffer", f)
	}
	mustApply(t, fewer)
	clean(t, plan(t, fewer))
}
