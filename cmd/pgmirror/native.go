package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// nativeMirror does for the emulator what Fabric's own engine does: it mirrors
// the tables that native mirroring takes, signed in as the connection is, until
// ctx ends. The emulator doesn't know our data plane, so it is given this.
func nativeMirror(log *slog.Logger, freshness time.Duration) func(context.Context, emulator.NativeSource) error {
	return func(ctx context.Context, n emulator.NativeSource) error {
		return mirror.Run(ctx, mirror.Config{
			Source: postgres.Endpoint{
				Host: n.Host, Port: n.Port, Database: n.Database, User: n.User, Password: n.Password, RootCAs: n.CAPEM, AppName: "azure_cdc",
			},
			Slot: n.Slot, Publications: []string{n.Publication}, Landing: n.Landing, Freshness: freshness, Workers: 2,
			Events: func(e mirror.Event) {
				log.Debug("native mirror", "event", e.Kind, "table", e.Table, "rows", e.Rows, "reason", e.Reason)
			},
		})
	}
}
