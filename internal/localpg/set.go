package localpg

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Set changes a setting (ALTER SYSTEM) and returns once new sessions have it. One
// that needs a restart has it after Restart, which is the caller's business. A
// name with a dot need not be known to the server. The server must be running.
func (c *Cluster) Set(ctx context.Context, name, value string) error {
	conn, err := pgconn.Connect(ctx, c.URL("", "", "postgres"))
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	before, err := ask(ctx, conn, loadTime)
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	ident := pgx.Identifier(strings.Split(name, ".")).Sanitize()
	if strings.Contains(name, ".") {
		// ALTER SYSTEM takes a name that the session knows, before version 17 no other.
		if _, err := ask(ctx, conn, "SET "+ident+" = "+sqlValue(name, value)); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	for _, sql := range []string{"ALTER SYSTEM SET " + ident + " = " + sqlValue(name, value), "SELECT pg_reload_conf()"} {
		if _, err := ask(ctx, conn, sql); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := c.awaitReload(ctx, before); err != nil {
		return fmt.Errorf("set %s: await reload: %w", name, err)
	}
	return nil
}

const loadTime = "SELECT extract(epoch FROM pg_conf_load_time())::text"

// awaitReload waits until a new session says that its settings are newer than
// before: the postmaster reads them some time after pg_reload_conf returned.
func (c *Cluster) awaitReload(ctx context.Context, before string) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		conn, err := pgconn.Connect(ctx, c.URL("", "", "postgres"))
		if err != nil {
			return err
		}
		now, err := ask(ctx, conn, loadTime)
		conn.Close(ctx)
		if err != nil || now != before {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// ask runs one statement and returns the first value of its last row.
func ask(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

// Settings that are lists of names. One quoted value would be one name to them.
var lists = []string{"search_path", "temp_tablespaces", "unix_socket_directories", "createrole_self_grant", "shared_preload_libraries",
	"session_preload_libraries", "local_preload_libraries"}

func sqlValue(name, value string) string {
	if !slices.Contains(lists, strings.ToLower(name)) {
		return quote(value)
	}
	var values []string
	for v := range strings.SplitSeq(value, ",") {
		values = append(values, quote(strings.TrimSpace(v)))
	}
	return strings.Join(values, ", ")
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
