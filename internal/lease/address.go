package lease

import (
	"fmt"
	"net/netip"
	"regexp"
)

// named is how services name the address that they refused: Key Vault's
// firewall, and PostgreSQL's "no pg_hba.conf entry".
var named = regexp.MustCompile(`(?:Client address: |for host ")([0-9A-Fa-f.:]+)`)

// AddressIn is the caller's IPv4 address in the message of a refusal; ok is
// false when it names none. No third party is asked: the one who refuses knows.
func AddressIn(message string) (addr netip.Addr, ok bool) {
	m := named.FindStringSubmatch(message)
	if m == nil {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(m[1])
	addr = addr.Unmap()
	return addr, err == nil && addr.Is4()
}

// address is the one to let in: what the refusal says, else the configuration.
func (l *Leases) address(refusal string) (string, error) {
	if addr, ok := AddressIn(refusal); ok {
		return addr.String(), nil
	}
	if l.o.Address == "" {
		return "", ErrAddress
	}
	addr, err := netip.ParseAddr(l.o.Address)
	if err != nil || !addr.Unmap().Is4() {
		return "", fmt.Errorf("the caller's address by configuration: %q is no IPv4 address", l.o.Address)
	}
	return addr.Unmap().String(), nil
}
