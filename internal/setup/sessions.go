package setup

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// sessions are the open SQL sessions: a plan signs in once, not once a step.
type sessions struct {
	admin *pgx.Conn
	role  *pgx.Conn
	entra *pgx.Conn // of an Entra administrator
	lock  *pgx.Conn // its life is the lock on the database
}

// Close ends the SQL sessions. Clients can be used again afterwards.
func (c *Clients) Close(ctx context.Context) {
	for _, conn := range []*pgx.Conn{c.sessions.admin, c.sessions.role, c.sessions.entra, c.sessions.lock} {
		if conn != nil {
			conn.Close(ctx) // the server forgets a session anyway
		}
	}
	c.sessions = sessions{}
	c.HTTP.CloseIdleConnections()
}

// Endpoint is the database, and the mirror's role and its password: what run
// and verify sign in with. It needs the facts of a Check of the role's secret.
func (c *Clients) Endpoint(f *Facts) postgres.Endpoint {
	return c.endpoint(f, c.Config.Role.Name, f.rolePassword)
}

func (c *Clients) endpoint(f *Facts, user string, password secret) postgres.Endpoint {
	return postgres.Endpoint{
		Host: f.Host, Port: c.Config.Server.Port, Database: c.Config.Server.Database, User: user, Password: string(password),
		RootCAs: c.Roots, SSLMode: c.Config.Server.SSLMode, AppName: "pgmirror setup",
	}
}

// asAdmin is a session of the administrator.
func (c *Clients) asAdmin(ctx context.Context, f *Facts) (*admin.Session, error) {
	conn, err := alive(ctx, &c.sessions.admin, c.endpoint(f, c.Config.Admin.User, f.adminPassword))
	if err != nil {
		return nil, err
	}
	if c.script {
		return admin.NewSession(conn, c.cut).Direct(), nil
	}
	return admin.NewSession(conn, c.cut), nil
}

// asRole is a session of the mirror's role.
func (c *Clients) asRole(ctx context.Context, f *Facts) (*admin.Session, error) {
	conn, err := alive(ctx, &c.sessions.role, c.endpoint(f, c.Config.Role.Name, f.rolePassword))
	if err != nil {
		return nil, err
	}
	return admin.NewSession(conn, c.cut), nil
}

// alive gives the session that is open, or a new one: a restart of the server
// ends all of them.
func alive(ctx context.Context, slot **pgx.Conn, e postgres.Endpoint) (*pgx.Conn, error) {
	if *slot != nil && !(*slot).IsClosed() && (*slot).Ping(ctx) == nil {
		return *slot, nil
	}
	if *slot != nil {
		(*slot).Close(ctx) // it is dead: there is nothing to say goodbye to
		*slot = nil
	}
	conn, err := e.Connect(ctx)
	if err != nil {
		return nil, err
	}
	*slot = conn
	return conn, nil
}
