package setup

import (
	"testing"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
)

// TestServerGates: what Fabric refuses is refused before anything is changed, and
// an open mirror only where PostgreSQL itself can't.
func TestServerGates(t *testing.T) {
	ready := azure.Info{Name: "pg", Admin: "pgadmin", State: "Ready", Version: 16, Tier: "GeneralPurpose", HA: "Disabled", ReplicationRole: "Primary"}
	for _, tt := range []struct {
		name         string
		change       func(*azure.Info)
		native, open string // codes
	}{
		{"ready", func(*azure.Info) {}, "", ""},
		{"old", func(i *azure.Info) { i.Version = 13 }, "ServerVersion", "ServerVersion"},
		{"burstable", func(i *azure.Info) { i.Tier = "Burstable" }, "ServerTier", ""},
		{"elastic", func(i *azure.Info) { i.Elastic = true }, "ServerElastic", ""},
		{"highly available", func(i *azure.Info) { i.HA = "ZoneRedundant" }, "ServerHA", ""},
		{"highly available 17", func(i *azure.Info) { i.HA, i.Version = "SameZone", 17 }, "", ""},
		{"replica", func(i *azure.Info) { i.ReplicationRole = "AsyncReplica" }, "ServerReplica", "ServerReplica"},
		{"geo replica", func(i *azure.Info) { i.ReplicationRole = "GeoAsyncReplica" }, "ServerReplica", "ServerReplica"},
		{"without an administrator", func(i *azure.Info) { i.Admin = "" }, "ServerNoAdmin", "ServerNoAdmin"},
		{"stopped", func(i *azure.Info) { i.State = "Stopped" }, "ServerNotReady", "ServerNotReady"},
		{"updating", func(i *azure.Info) { i.State = "Updating" }, "", ""},
	} {
		for mode, want := range map[config.Mode]string{config.Native: tt.native, config.Open: tt.open} {
			i := ready
			tt.change(&i)
			found, refused := serverStep{&Clients{Config: &config.Config{Mode: mode}}}.gate(i)
			if found.Code != want || refused != (want != "") || refused && found.Hint == "" {
				t.Errorf("%s, %s: got %+v, want %q", tt.name, mode, found, want)
			}
		}
	}
}
