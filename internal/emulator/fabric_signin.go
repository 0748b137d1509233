package emulator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// signInTimeout is how long a source may take to answer.
const signInTimeout = 15 * time.Second

// signIn really signs in to what a connection leads to, as Fabric does before it
// makes one.
func (f *fabric) signIn(ctx context.Context, cn *connectionState) *fault {
	if cn.Type == "AzureKeyVault" {
		return f.reachVault(cn)
	}
	l, e := f.login(cn, false)
	if e != nil {
		return e
	}
	ctx, cancel := context.WithTimeout(ctx, signInTimeout)
	defer cancel()
	conn, err := f.db.connect(ctx, l)
	if err != nil {
		return refusedSignIn(err)
	}
	conn.Close(ctx)
	return nil
}

// login is where a PostgreSQL connection leads to and with what. Who is there
// already needn't come in.
func (f *fabric) login(cn *connectionState, inside bool) (l login, e *fault) {
	password, e := f.password(cn)
	if e != nil {
		return l, e
	}
	host, port, err := splitServer(cn.Parameters["server"])
	if err != nil {
		return l, invalidConnection("server is not a host, or a host and a port")
	}
	if !inside {
		f.state.look(func(s *state) { e = s.reachable(host, port, cn.Gateway) })
	}
	l = login{host: host, port: port, user: cn.Credentials.Username, password: password, db: cn.Parameters["database"], plain: cn.Encryption == "NotEncrypted"}
	return l, e
}

// splitServer reads "host" or "host:port".
func splitServer(server string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(server)
	if err != nil {
		return strings.Trim(server, "[]"), 5432, nil
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, errors.New("no port")
	}
	return host, port, nil
}

// reachable is the network between Fabric and a source: this machine only, and
// the flexible server's own gates, which a gateway goes round.
func (s *state) reachable(host string, port int, gateway string) *fault {
	if gateway != "" {
		if _, err := s.gateway(gateway); err != nil {
			return unreachable("GatewayContainer does not exist")
		}
	}
	if !loopback(host) {
		return unreachable("The server '" + host + "' cannot be reached: the emulator reaches this machine only.")
	}
	if port != s.Server.Port || gateway != "" {
		return nil
	}
	if s.Server.Public == "Disabled" || !s.Server.admitsAzure() {
		return unreachable("A connection attempt failed because the connected party did not properly respond after a period of time. The server's firewall does not let Fabric in.")
	}
	return nil
}

func loopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// password is the connection's own, or the one that its reference names.
func (f *fabric) password(cn *connectionState) (value string, e *fault) {
	ref := cn.Credentials.Reference
	if ref == nil {
		return cn.Credentials.Password, nil
	}
	f.state.look(func(s *state) {
		kv, err := s.connection(strings.ToLower(ref.ConnectionID))
		if err != nil || kv.Type != "AzureKeyVault" {
			e = invalidCredential("passwordReference.connectionId is not an Azure Key Vault connection")
			return
		}
		if e = s.Vault.refuses("Fabric", f.now()); e != nil {
			e = incorrectCredentials("The secret cannot be read: " + e.message)
			return
		}
		_, version, missing := s.Vault.version(ref.SecretName, ref.Version)
		if missing != nil {
			e = incorrectCredentials("The secret '" + ref.SecretName + "' was not found in the key vault")
			return
		}
		value = version.Value
	})
	return value, e
}

// reachVault knows one vault, by its name.
func (f *fabric) reachVault(cn *connectionState) (e *fault) {
	f.state.look(func(s *state) {
		if !strings.EqualFold(cn.Parameters["accountName"], s.Vault.Name) {
			e = unreachable("The key vault '" + cn.Parameters["accountName"] + "' was not found")
		}
	})
	return e
}

// refusedSignIn sorts what PostgreSQL or the network answered.
func refusedSignIn(err error) *fault {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if strings.HasPrefix(pg.Code, "28") {
			return incorrectCredentials(pg.Code + ": " + pg.Message)
		}
		return unreachable(pg.Code + ": " + pg.Message)
	}
	return unreachable("The server did not properly respond.")
}

func incorrectCredentials(why string) *fault {
	e := faultf(http.StatusBadRequest, "IncorrectCredentials", "The credentials provided for the connection are incorrect")
	e.details = []detail{{ErrorCode: "AccessUnauthorized", Message: why}}
	return e
}

func unreachable(why string) *fault {
	e := faultf(http.StatusBadRequest, "CreateGatewayConnectionFailed", "Creating the connection failed: %s", why)
	e.details = []detail{{ErrorCode: "DM_GWPipeline_Gateway_MashupDataAccessError", Message: why}}
	return e
}
