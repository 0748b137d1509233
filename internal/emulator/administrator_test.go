package emulator_test

import (
	"fmt"
	"testing"

	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/localpg"
)

// TestAdministrator does what set-up needs of pgadmin, on each version at hand:
// from 16 on it is no superuser.
func TestAdministrator(t *testing.T) {
	all := localpg.Installed()
	if len(all) == 0 {
		t.Skip("no PostgreSQL binaries")
	}
	for _, in := range all {
		t.Run(fmt.Sprint(in.Version), func(t *testing.T) {
			w := own(t, emulator.Options{PGBin: in.Bin})
			w.enable(t, "postgres")
			admin := w.admin(t)
			var super bool
			if err := admin.QueryRow(t.Context(), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&super); err != nil {
				t.Fatal(err)
			}
			if super != (in.Version < 16) {
				t.Errorf("pgadmin on %d: got superuser %v, want %v", in.Version, super, in.Version < 16)
			}
			w.prepareRole(t)
			if super {
				return
			}
			// The application's role made its table; taking it over needs grants.
			exec(t, admin, "CREATE ROLE app LOGIN PASSWORD 'app'", "GRANT CREATE ON SCHEMA public TO app")
			exec(t, w.connect(t, "app", "app", "postgres"), "CREATE TABLE apples (id int PRIMARY KEY)")
			if _, err := admin.Exec(t.Context(), "ALTER TABLE apples OWNER TO fabric_user"); err == nil {
				t.Error("pgadmin took over a table without any grant")
			}
			exec(t, admin, "GRANT app, fabric_user TO CURRENT_USER WITH SET TRUE, INHERIT TRUE", "ALTER TABLE apples OWNER TO fabric_user")
		})
	}
}
