package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
)

// serverStep looks at the flexible server, and refuses what can't be mirrored.
type serverStep struct{ *Clients }

func (serverStep) Name() string { return "server" }

func (s serverStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.Host = s.Config.Server.Host
	if s.Server == nil {
		return asWanted(fmt.Sprintf("%s, not managed here", f.Host)), nil
	}
	info, err := s.Server.Get(ctx)
	id := s.Config.Server.ID
	switch {
	case azure.IsNotFound(err):
		return blocked("ServerNotFound", id, "az postgres flexible-server list --query '[].id' -o tsv"), nil
	case azure.Forbidden(err) != azure.NotForbidden:
		return blocked("ServerForbidden", id, "az role assignment list --scope "+id), nil
	case isUnreachable(err):
		return blocked("ServerUnreachable", "Azure's resource manager doesn't answer", "pgmirror plan"), nil
	case err != nil:
		return Finding{}, err
	}
	f.Server = info
	if f.Host == "" {
		f.Host = info.Host
	}
	if g, refused := s.gate(info); refused {
		return g, nil
	}
	return asWanted(fmt.Sprintf("PostgreSQL %d, %s, %s", info.Version, info.Tier, info.State)), nil
}

func (serverStep) Apply(context.Context, *Facts) error { return nil }

// gate refuses servers that Fabric refuses.
func (s serverStep) gate(i azure.Info) (Finding, bool) {
	native := s.Config.Mode == config.Native
	for _, g := range []struct {
		refused    bool
		code, have string
	}{
		{i.Version < 14, "ServerVersion", fmt.Sprintf("PostgreSQL %d", i.Version)},
		{native && i.Tier == "Burstable", "ServerTier", i.Tier},
		{native && i.Elastic, "ServerElastic", "an elastic cluster"},
		{native && i.HA != "Disabled" && i.Version < 17, "ServerHA", fmt.Sprintf("high availability %s on PostgreSQL %d", i.HA, i.Version)},
		{i.ReplicationRole == "AsyncReplica" || i.ReplicationRole == "GeoAsyncReplica", "ServerReplica", i.ReplicationRole},
		{i.Admin == "", "ServerNoAdmin", "no administrator login"},
		{stopped(i.State), "ServerNotReady", i.State},
	} {
		if g.refused {
			next := s.az("show")
			if g.code == "ServerNotReady" && i.State == "Stopped" {
				next = s.az("start")
			}
			return blocked(g.code, g.have, next), true
		}
	}
	return Finding{}, false
}

// stopped states don't pass by themselves; Updating and Restarting do.
func stopped(state string) bool {
	switch state {
	case "Stopped", "Stopping", "Disabled", "Dropping", "Inaccessible":
		return true
	}
	return false
}

// isUnreachable reports whether nobody answered at all.
func isUnreachable(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	_, noName := errors.AsType[*net.DNSError](err)
	return ok || noName || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) // hung up, as a server that is shutting down does
}
