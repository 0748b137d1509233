package setup_test

import (
	"testing"
	"time"
)

func TestNativeWalk(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, nativeFile)
	first := plan(t, cfg)
	for _, f := range first {
		t.Logf("%-18s %-8s %-22s have=%q want=%q after=%s consent=%s notes=%v", f.Step, f.Action, f.Reason, f.Have, f.Want, f.After, f.Consent, f.Notes)
	}
	writes := mustApply(t, cfg)
	t.Logf("%d writes: %q", len(writes), writes)
	clean(t, plan(t, cfg))
	start := time.Now()
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("the second apply wrote %q", again)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("an apply with nothing to do took %v", took)
	}
}

func TestOpenWalk(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, openFile+"allow: [restart]\n")
	for _, f := range plan(t, cfg) {
		t.Logf("%-18s %-8s %-22s have=%q want=%q after=%s consent=%s notes=%v", f.Step, f.Action, f.Reason, f.Have, f.Want, f.After, f.Consent, f.Notes)
	}
	writes := mustApply(t, cfg)
	t.Logf("%d writes: %q", len(writes), writes)
	clean(t, plan(t, cfg))
	if again := mustApply(t, cfg); len(again) != 0 {
		t.Errorf("the second apply wrote %q", again)
	}
}
