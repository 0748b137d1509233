package setup

import "testing"

func TestCapacityUnits(t *testing.T) {
	for sku, want := range map[string]int{"F2": 2, "F2048": 2048, "P1": 0, "FT1": 0, "": 0, "64": 0} {
		if got, ok := capacityUnits(sku); got != want && ok || ok != (want > 0) {
			t.Errorf("%s: got %d, %t, want %d", sku, got, ok, want)
		}
	}
}

// TestCostMakesNoPlanStale: rows come in while a plan waits for its approval.
func TestCostMakesNoPlanStale(t *testing.T) {
	plan := func(size string) []Finding {
		return []Finding{{Action: Create, Reason: "MirrorMissing", Notes: []Note{{"TableLimit", "", "many"}, {snapshotSize, "", size}}}}
	}
	if err := (Saved{Findings: plan("1.0 MiB")}).SameWorld(plan("1.1 MiB")); err != nil {
		t.Error(err)
	}
	if err := (Saved{Findings: plan("1.0 MiB")}).SameWorld([]Finding{{Action: Create, Reason: "MirrorMissing"}}); err == nil {
		t.Error("a note that is gone made no plan stale")
	}
}
