// Package postgres says everything that a mirror says to a PostgreSQL server:
// it reads the catalog, the snapshot and the stream.
package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Endpoint is where a database is and who signs in. It never shows its password.
type Endpoint struct {
	Host     string // a name, an address, or the directory of a socket
	Port     int    // 0: 5432
	Database string
	User     string
	Password string `json:"-"`
	RootCAs  []byte // PEM, trusted beside the system's roots
	SSLMode  string // "verify-full" (also when empty), or "disable" for a loopback host; a socket has no TLS
	AppName  string // application_name; empty: "pgmirror"
}

// String is the endpoint without its password.
func (e Endpoint) String() string {
	return fmt.Sprintf("%s at %s/%s", e.User, net.JoinHostPort(e.Host, strconv.Itoa(e.port())), e.Database)
}

// GoString is String, so that %#v has no password either.
func (e Endpoint) GoString() string { return e.String() }

// LogValue is String, for slog.
func (e Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Setting is a server parameter of a session.
type Setting struct{ Name, Value string }

// pinned are the parameters of every session: the first eight decide how values
// look as text, which must be the same in a snapshot and in the stream, a regclass by
// what it would be found as; the rest keep a long transaction or an idle slot alive. With row_security off a
// row policy is an error instead of rows missing in silence.
var pinned = []Setting{
	{"client_encoding", "UTF8"},
	{"datestyle", "ISO, MDY"},
	{"intervalstyle", "iso_8601"},
	{"timezone", "UTC"},
	{"extra_float_digits", "3"},
	{"bytea_output", "hex"},
	{"search_path", "public"},
	{"quote_all_identifiers", "off"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"row_security", "off"},
}

// Connect opens a session for SQL with the pinned settings and then the given
// ones.
func (e Endpoint) Connect(ctx context.Context, settings ...Setting) (*pgx.Conn, error) {
	cfg, err := e.config(settings)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect as %s: %w", e, err)
	}
	return conn, nil
}

// ConnectReplication opens a session that takes replication commands, with the
// same pinned settings and then the given ones.
func (e Endpoint) ConnectReplication(ctx context.Context, settings ...Setting) (*pgconn.PgConn, error) {
	cfg, err := e.config(append([]Setting{{"replication", "database"}}, settings...))
	if err != nil {
		return nil, err
	}
	cfg.DialFunc = ofChanges.dial
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, fmt.Errorf("connect for replication as %s: %w", e, err)
	}
	return conn, nil
}

func (e Endpoint) port() int {
	if e.Port == 0 {
		return 5432
	}
	return e.Port
}

func (e Endpoint) socket() bool { return strings.HasPrefix(e.Host, "/") }

// config starts from an empty parse and sets every field itself: nothing of the
// environment (PGHOST, PGSSLMODE, a password file) may decide where we connect.
func (e Endpoint) config(settings []Setting) (*pgx.ConnConfig, error) {
	tlsConfig, err := e.tlsConfig()
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig("host=localhost port=5432 user=none dbname=none password=none sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("connection settings from the environment: %w", err)
	}
	cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password = e.Host, uint16(e.port()), e.Database, e.User, e.Password
	cfg.TLSConfig, cfg.Fallbacks, cfg.ValidateConnect = tlsConfig, nil, nil
	cfg.ConnectTimeout = 30 * time.Second
	cfg.DialFunc = ofRows.dial
	cfg.AfterConnect = afterConnect
	cfg.RuntimeParams = map[string]string{"application_name": "pgmirror"}
	if e.AppName != "" {
		cfg.RuntimeParams["application_name"] = e.AppName
	}
	for _, s := range append(pinned[:len(pinned):len(pinned)], settings...) {
		cfg.RuntimeParams[s.Name] = s.Value
	}
	return cfg, nil
}

func (e Endpoint) tlsConfig() (*tls.Config, error) {
	switch {
	case e.Host == "" || e.Database == "" || e.User == "":
		return nil, errors.New("connection: host, database and user are needed")
	case e.port() < 1 || e.port() > 65535:
		return nil, fmt.Errorf("connection: port %d is not between 1 and 65535", e.Port)
	case e.socket():
		return nil, nil
	case e.SSLMode == "disable" && !loopback(e.Host):
		return nil, fmt.Errorf("connection: sslmode disable is for loopback hosts only, not for %s", e.Host)
	case e.SSLMode == "disable":
		return nil, nil
	case e.SSLMode != "" && e.SSLMode != "verify-full":
		return nil, fmt.Errorf("connection: sslmode %q: want verify-full", e.SSLMode)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without system roots: only ours are trusted
	}
	if len(e.RootCAs) > 0 && !roots.AppendCertsFromPEM(e.RootCAs) {
		return nil, errors.New("connection: the root certificates are not PEM")
	}
	return &tls.Config{ServerName: e.Host, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dialer finds a dead peer in about half a minute, also while bytes of ours are
// unacknowledged (where the system can do that).
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         limitUnacknowledged,
	}
}

func (r reading) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := dialer().DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return gather(conn, r), nil
}

// afterConnect does what can't be asked for in the startup message. A server
// that stores SQL_ASCII would refuse to send bytes that aren't UTF-8; it gives
// them as they are, and the decoders mend them.
func afterConnect(ctx context.Context, conn *pgconn.PgConn) error {
	var sql []string
	if serverMajor(conn) >= 17 {
		sql = append(sql, "SET transaction_timeout = 0")
	}
	if conn.ParameterStatus("server_encoding") == "SQL_ASCII" {
		sql = append(sql, "SET client_encoding = 'SQL_ASCII'")
	}
	if len(sql) == 0 {
		return nil
	}
	_, err := conn.Exec(ctx, strings.Join(sql, "; ")).ReadAll()
	return err
}

// serverMajor is the server's major version, or 0 when it doesn't say.
func serverMajor(conn *pgconn.PgConn) int {
	digits := strings.TrimLeft(conn.ParameterStatus("server_version"), " ")
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		digits = digits[:end]
	}
	n, _ := strconv.Atoi(digits) // 0 for a server that doesn't say, as documented
	return n
}
