package emulator

import (
	"context"
	"crypto/tls"
	_ "embed"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/localpg"
)

// cluster is the real PostgreSQL behind the emulated flexible server.
type cluster struct {
	pg *localpg.Cluster
	ca *authority

	// gate is held for writing while the cluster restarts, so that who only
	// asks for a setting waits and does not fail.
	gate sync.RWMutex
}

// superuser is Azure's own name for the role that customers never get.
const superuser = "azuresu"

// startCluster makes or resumes the cluster in <dir>/pg. wal_level is Azure's
// default, replica; TCP needs TLS, and nobody but the superuser has a password
// yet.
func startCluster(ctx context.Context, o Options, ca *authority, sv serverState) (*cluster, error) {
	certPEM, keyPEM, err := ca.issue()
	if err != nil {
		return nil, err
	}
	pg, err := localpg.Start(ctx, localpg.Options{
		Dir: filepath.Join(o.Dir, "pg"), Bin: o.PGBin, Superuser: sv.Superuser, Password: sv.SuperPassword, Port: sv.Port,
		CertPEM: certPEM, KeyPEM: keyPEM,
		HBA: clusterHBA,
		Settings: map[string]string{
			"wal_level": "replica", "max_worker_processes": "8", "max_replication_slots": "10", "max_wal_senders": "10",
			"fsync": onOffWord(!o.NoSync), "ssl_min_protocol_version": "TLSv1.2",
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start the flexible server: %w", err)
	}
	return &cluster{pg: pg, ca: ca}, nil
}

// clusterHBA lets nobody in without TLS.
var clusterHBA = []string{"hostnossl all all all reject", "hostnossl replication all all reject"}

func onOffWord(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (c *cluster) version() int { return c.pg.Version }

// login is how somebody signs in to a PostgreSQL server.
type login struct {
	host               string
	port               int
	user, password, db string
	plain              bool // without TLS
}

// connect signs in over TLS. It checks the certificate against our authority,
// as a client with caFile would, and takes nothing from the environment.
func (c *cluster) connect(ctx context.Context, l login) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("postgres://nobody:none@127.0.0.1:1/none?sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("prepare a connection: %w", err)
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = l.host, uint16(l.port), l.user, l.password, l.db
	cfg.Fallbacks = nil
	// Whatever the loopback name, the address is that of this machine.
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	if !l.plain {
		cfg.TLSConfig = &tls.Config{RootCAs: c.ca.pool(), ServerName: l.host, MinVersion: tls.VersionTLS12}
	}
	cfg.RuntimeParams = map[string]string{"application_name": "pgmirror emulator"}
	return pgx.ConnectConfig(ctx, cfg)
}

func (c *cluster) super(ctx context.Context, db string) (*pgx.Conn, error) {
	c.gate.RLock()
	defer c.gate.RUnlock()
	conn, err := c.connect(ctx, login{host: c.pg.Host, port: c.pg.Port, user: c.pg.Superuser, password: c.pg.Password, db: db})
	if err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", db, err)
	}
	return conn, nil
}

// with runs fn on a connection of the superuser to db.
func (c *cluster) with(ctx context.Context, db string, fn func(conn *pgx.Conn) error) error {
	conn, err := c.super(ctx, db)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

// set changes a parameter of the server with ALTER SYSTEM.
func (c *cluster) set(ctx context.Context, name, value string) error {
	c.gate.RLock()
	defer c.gate.RUnlock()
	return c.pg.Set(ctx, name, value)
}

// setCustom makes Azure's own parameters visible to SHOW.
func (c *cluster) setCustom(ctx context.Context, values map[string]string) error {
	for name, value := range values {
		if err := c.set(ctx, name, value); err != nil {
			return err
		}
	}
	return nil
}

// restart drops all connections; parameters that waited for it take effect.
func (c *cluster) restart(ctx context.Context) error {
	c.gate.Lock()
	defer c.gate.Unlock()
	if err := c.pg.Restart(ctx); err != nil {
		return fmt.Errorf("restart the server: %w", err)
	}
	return nil
}

// databases are the ones that a customer sees, by name.
func (c *cluster) databases(ctx context.Context) (names []string, err error) {
	err = c.with(ctx, "postgres", func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1`)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	return names, nil
}

//go:embed prepare.sql
var prepareSQL string

//go:embed entra.sql
var entraSQL string

// prepare gives a new cluster the roles, owners and functions that Azure's has.
// It may run again.
func (c *cluster) prepare(ctx context.Context, admin, password string) error {
	err := c.with(ctx, "postgres", func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			// The password goes in as a parameter: no statement shows it.
			const put = `SELECT set_config('emulator.admin', $1, true), set_config('emulator.password', $2, true)`
			if _, err := tx.Exec(ctx, put, admin, password); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, prepareSQL+entraSQL)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("prepare the flexible server: %w", err)
	}
	return nil
}
