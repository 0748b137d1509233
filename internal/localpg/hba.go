package localpg

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgconn"
)

// Admit replaces the lines of Options.HBA, and returns once new sessions are
// judged by them. The server must be running. Open sessions stay.
func (c *Cluster) Admit(ctx context.Context, lines []string) error {
	conn, err := pgconn.Connect(ctx, c.URL("", "", "postgres"))
	if err != nil {
		return fmt.Errorf("admit: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	before, err := ask(ctx, conn, loadTime)
	if err != nil {
		return fmt.Errorf("admit: %w", err)
	}
	c.opts.HBA = lines
	if err := c.write(filepath.Join(c.data(), "pg_hba.conf"), []byte(c.hba())); err != nil {
		return fmt.Errorf("admit: %w", err)
	}
	if _, err := ask(ctx, conn, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("admit: %w", err)
	}
	if err := c.awaitReload(ctx, before); err != nil {
		return fmt.Errorf("admit: await reload: %w", err)
	}
	return nil
}
