package setup_test

import (
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/setup"
)

func TestNativeWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	first := plan(t, cfg)
	losses(t, first, "TypeRefused public.events.body", "NumericLosesFraction public.loose.total")
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

func TestOpenWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config(t, openFile+"allow: [restart]\n")
	losses(t, plan(t, cfg), "ColumnLoss public.events.body", "NoKey public.log")
	mustApply(t, cfg)
	clean(t, plan(t, cfg))
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("the second apply wrote %q", again)
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
