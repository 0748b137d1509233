package setup_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestNonSuperuser is skipped, by name, where every server here is older than
// 16: there the administrator has to be a superuser, and no test of this package
// proves what an ordinary one may do.
func TestNonSuperuser(t *testing.T) {
	t.Parallel()
	if in := localpgtest.Servers(t)[0]; in.Version < 16 {
		t.Skipf("the newest PostgreSQL here is %d: make postgres-17", in.Version)
	}
	w := newWorld(t)
	if got := w.rows(t, "SELECT rolsuper::text FROM pg_roles WHERE rolname = 'pgadmin'"); len(got) != 1 || got[0] != "false" {
		t.Errorf("pgadmin is a superuser: got %v, want false", got)
	}
}

// TestOldestServer walks both modes on the oldest server here; all other tests of
// this package run on the newest.
func TestOldestServer(t *testing.T) {
	t.Parallel()
	all := localpgtest.Servers(t)
	if len(all) == 1 {
		t.Skip("there is one PostgreSQL only: make postgres-17")
	}
	w := newWorldOn(t, all[len(all)-1])
	for _, file := range []string{nativeFile, openFile + "allow: [restart]\n"} {
		cfg := w.config(t, file)
		mustApply(t, cfg)
		clean(t, plan(t, cfg))
		if again := mustApply(t, cfg); len(again) != 0 {
			t.Errorf("the second apply wrote %q", again)
		}
	}
}

func TestNativeWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	first := plan(t, cfg)
	losses(t, first, "TypeRefused public.events.body", "NumericLosesFraction public.loose.total", "SnapshotSize ", "FreeStorage ")
	if f := find(t, first, "restart"); f.Action != setup.Restart || f.After != "parameters" {
		t.Errorf("restart: got %+v", f)
	}
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	start := time.Now()
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("the second apply wrote %q", again)
	}
	t.Logf("an apply with nothing to do: %v", time.Since(start))
}

// TestNativeWithoutList mirrors what the role owns, and names the rest: nobody's
// table changes its owner without being listed.
func TestNativeWithoutList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, "allow: [restart]\n")
	losses(t, plan(t, cfg), "TableNotOwned public.orders", "TypeRefused public.events.body")
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	if got := w.rows(t, "SELECT DISTINCT tableowner::text FROM pg_tables WHERE tablename IN ('orders', 'customers')"); len(got) != 1 || got[0] != "app" {
		t.Errorf("owners of tables that aren't listed: got %q, want app", got)
	}
}

// TestOpenWalk finds its workspace by name.
func TestOpenWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nowhere := w.config(t, openFile, "FABRIC_WORKSPACE_ID=no such")
	if f := find(t, plan(t, nowhere), "workspace"); f.Code != "WorkspaceNotFound" || f.Action != setup.Blocked {
		t.Errorf("a workspace that isn't there: got %+v", f)
	}
	cfg := w.config(t, openFile+"allow: [restart]\n", "FABRIC_WORKSPACE_ID=pgmirror")
	losses(t, plan(t, cfg), "ColumnLoss public.events.body", "NoKey public.log")
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("the second apply wrote %q", again)
	}
	w.exec(t, "CREATE TABLE parted (id int PRIMARY KEY, n numeric) PARTITION BY RANGE (id)", "CREATE TABLE parted_0 PARTITION OF parted DEFAULT")
	chosen := w.config(t, openFile+"run: {types: [public.parted.n=text, 'public.parted_*.n=decimal(20,4)', public.orders.tot=text, 'public.o?ders.*=text']}\n", "FABRIC_WORKSPACE_ID=pgmirror")
	told := plan(t, chosen)
	losses(t, told, "ColumnTypeUnused public.parted.n=text", "ColumnTypeUnused public.orders.tot=text", "ColumnLoss public.parted_0.n", "ColumnLoss public.orders.total")
	for _, f := range told {
		for _, n := range f.Notes {
			if n.Code == "ColumnTypeUnused" && strings.Contains(n.Subject, "*") {
				t.Errorf("%s is used", n.Subject)
			}
		}
	}
}

// losses fails unless the plan tells each of them.
func losses(t *testing.T, plan []setup.Finding, want ...string) {
	t.Helper()
	told := map[string]bool{}
	for _, f := range plan {
		for _, n := range f.Notes {
			told[n.Code+" "+n.Subject] = true
		}
	}
	for _, l := range want {
		if !told[l] {
			t.Errorf("the plan doesn't tell %q: %v", l, told)
		}
	}
}
