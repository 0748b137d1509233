// Package admin changes a PostgreSQL server for a mirror: its role, grants,
// ownership, seed table and publications.
//
// What it would change is computed first, as statements: a plan shows them, and
// Run, the only place that writes, executes them. No statement holds a password.
package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Statement is one SQL statement, and what it is for.
type Statement struct {
	What string // "grant CREATE on schema sales"
	SQL  string
}

// Cut stands around every write: it calls do, or doesn't, and gives the error
// that the writer sees. Tests cut a run with it before or after any write.
type Cut func(what string, do func() error) error

// Session is an open session of the administrator or of the role. It is not for
// several goroutines.
type Session struct {
	conn   *pgx.Conn
	cut    Cut
	direct bool // statements presume the rights that they need
}

// NewSession works on conn; cut may be nil.
func NewSession(conn *pgx.Conn, cut Cut) *Session {
	if cut == nil {
		cut = func(_ string, do func() error) error { return do() }
	}
	return &Session{conn: conn, cut: cut}
}

// Direct computes statements for somebody who has every right that they need: a
// DBA who runs them by hand.
func (s *Session) Direct() *Session { return &Session{s.conn, s.cut, true} }

// Query reads; with it a Session is a postgres.Querier.
func (s *Session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return s.conn.Query(ctx, sql, args...)
}

// lockTries is how often Run waits five seconds for a table's lock. Longer waits
// would queue the application's own statements behind ours.
const lockTries = 6

// Run executes statements in one transaction. Where an application holds a lock
// it gives way, and tries again some times.
func (s *Session) Run(ctx context.Context, statements ...Statement) error {
	if len(statements) == 0 {
		return nil
	}
	var err error
	for range lockTries {
		if err = s.runOnce(ctx, statements); !isLockTimeout(err) {
			return err
		}
	}
	return err
}

func (s *Session) runOnce(ctx context.Context, statements []Statement) error {
	tx, err := s.conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // after a commit it does nothing
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '5s'"); err != nil {
		return fmt.Errorf("set the lock timeout: %w", err)
	}
	for _, st := range statements {
		err := s.cut(st.What, func() error { _, err := tx.Exec(ctx, st.SQL); return err })
		if err != nil {
			return fmt.Errorf("%s: %w", st.What, err)
		}
	}
	what := statements[0].What
	if err := s.cut("commit "+what, func() error { return tx.Commit(ctx) }); err != nil {
		return fmt.Errorf("commit %s: %w", what, err)
	}
	return nil
}

// one reads a single row of one value.
func one[T any](ctx context.Context, s *Session, sql string, args ...any) (T, error) {
	rows, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		var zero T
		return zero, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}

// many reads rows of one value.
func many[T any](ctx context.Context, s *Session, sql string, args ...any) ([]T, error) {
	rows, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// relation is the oid of the table $1.$2. A cast to regclass would need USAGE on
// its schema, which an administrator may lack.
const relation = `(SELECT x.oid FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace y ON y.oid = x.relnamespace WHERE y.nspname = $1 AND x.relname = $2)`

// ident quotes an identifier, or a qualified one.
func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// SQLState is the SQLSTATE of a server's refusal; "" when err is something else.
func SQLState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// IsWrongPassword reports whether the server refused who we are.
func IsWrongPassword(err error) bool {
	s := SQLState(err)
	return s == "28P01" || s == "28000" && NotLetIn(err) == ""
}

// NotLetIn is what the server says to an address that its rules don't have; ""
// when err is something else. A role that may not sign in has the same SQLSTATE,
// and comes from elsewhere.
func NotLetIn(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "28000" && e.Routine == "ClientAuthentication" {
		return e.Message
	}
	return ""
}

// IsNoDatabase reports whether the database doesn't exist.
func IsNoDatabase(err error) bool { return SQLState(err) == "3D000" }

// IsStarting reports whether the server is just starting or shutting down.
func IsStarting(err error) bool { s := SQLState(err); return s == "57P03" || s == "57P01" }

// IsForbidden reports whether a right is missing.
func IsForbidden(err error) bool { return SQLState(err) == "42501" }

// IsUnknownFunction reports whether a function or its schema isn't there.
func IsUnknownFunction(err error) bool { s := SQLState(err); return s == "42883" || s == "3F000" }

func isLockTimeout(err error) bool { return SQLState(err) == "55P03" }
