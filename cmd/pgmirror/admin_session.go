package main

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// asAdmin signs in to the database as the administrator, whose password the
// session's plan has proved. Call done after use.
func (ses *session) asAdmin(ctx context.Context, app string) (a *admin.Session, done func(), err error) {
	e := named(ses.clients.Endpoint(&ses.facts), app)
	e.User, e.Password = ses.cfg.Admin.User, ses.cfg.Admin.Password
	if ses.clients.Vault != nil {
		value, ok, err := ses.clients.Vault.Secret(ctx, ses.cfg.Admin.Secret)
		if err != nil {
			return nil, nil, setupFailure(err)
		}
		if ok {
			e.Password = value
		}
	}
	conn, err := e.Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	return admin.NewSession(conn, nil), func() { conn.Close(context.WithoutCancel(ctx)) }, nil
}
