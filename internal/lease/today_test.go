package lease_test

import "testing"

// TestSequenceWithoutLeases makes the calls that a script makes which opens what
// it needs and closes it at its end, and remembers nothing on disk: killed after
// any call it leaves its doors open, and there is no later command that would
// know. Run to its end it sets the vault's public access to a constant: here it
// was on, behind a firewall, which such a script doesn't open.
func TestSequenceWithoutLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	vault := func(value string) func() {
		return func() { w.patch(t, w.vault, `{"properties":{"publicNetworkAccess":"`+value+`"}}`) }
	}
	server := func(value string) func() {
		return func() { w.patch(t, w.server, `{"properties":{"network":{"publicNetworkAccess":"`+value+`"}}}`) }
	}
	put := func(name, address string) func() {
		return func() {
			taken(t, func() error { return w.gate(t, w.server).PutRule(t.Context(), name, address, address) })
		}
	}
	remove := func(name string) func() {
		return func() {
			taken(t, func() error { return w.gate(t, w.server).DeleteRule(t.Context(), name) })
		}
	}
	calls := []func(){
		put("AllowCurrentClientFabricMirrorPrep", "203.0.113.7"), // outside of what cleans up
		vault("Enabled"), vault("Disabled"), // the secrets
		remove("AllowCurrentClientFabricMirrorPrep"),
		server("Enabled"), put("AllowAzureServicesFabricMirrorTemp", "0.0.0.0"), // the connection
		remove("AllowAzureServicesFabricMirrorTemp"), server("Disabled"),
	}
	open, different := 0, 0
	for cut := 1; cut <= len(calls); cut++ {
		w.close(t)
		w.patch(t, w.vault, `{"properties":{"publicNetworkAccess":"Enabled"}}`)
		w.before = w.settings(t)
		for _, call := range calls[:cut] {
			call()
		}
		now := w.settings(t)
		network := now[w.server].(map[string]any)["properties"].(map[string]any)["network"].(map[string]any)
		if network["publicNetworkAccess"] == "Enabled" || len(w.rules(t)) > 1 {
			open++
		}
		if !equal(now, w.before) {
			different++
		}
	}
	t.Logf("cut after each of %d calls: doors left open %d times, settings different %d times", len(calls), open, different)
	if open != 6 || different != 8 {
		t.Errorf("doors left open %d times, settings different %d times; want 6 and 8 of %d", open, different, len(calls))
	}
}
