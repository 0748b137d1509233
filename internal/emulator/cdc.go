package emulator

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed azure_cdc.sql
var azureCDC string

// installCDC makes the extension-like catalog of azure_cdc in a database. It may
// run again.
func (c *cluster) installCDC(ctx context.Context, db string) error {
	err := c.with(ctx, db, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, azureCDC)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("install azure_cdc in database %s: %w", db, err)
	}
	return nil
}
