package emulator

import (
	"context"
	"fmt"
	"net/netip"
)

// loopbackAddress is where every client of ours comes from.
const loopbackAddress = "127.0.0.1"

// admits says whether public access and the rules let an address in.
func (s *serverState) admits(address string) bool {
	addr, err := netip.ParseAddr(address)
	if err != nil || s.Public == "Disabled" {
		return false
	}
	for _, r := range s.Rules {
		first, err1 := netip.ParseAddr(r.Start)
		last, err2 := netip.ParseAddr(r.End)
		if err1 == nil && err2 == nil && !addr.Less(first) && !last.Less(addr) {
			return true
		}
	}
	return false
}

// gateClients makes the cluster refuse the administrator's sign-ins from this
// machine unless public access and the rules let it in. Fabric and the server's
// own mirror come from here, too, and can't be told apart by their address: so
// only the administrator's are judged.
func (a *arm) gateClients(ctx context.Context) error {
	if !a.firewall {
		return nil
	}
	var admin string
	var in bool
	a.state.look(func(s *state) { admin, in = s.Server.Admin, s.Server.admits(loopbackAddress) })
	lines := clusterHBA
	if !in {
		lines = append([]string{fmt.Sprintf("host all %q %s/32 reject", admin, loopbackAddress)}, lines...)
	}
	a.db.gate.RLock()
	defer a.db.gate.RUnlock()
	return a.db.pg.Admit(ctx, lines)
}
