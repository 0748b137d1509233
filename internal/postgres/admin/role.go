package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Role is a role as the catalog has it.
type Role struct {
	Name        string
	Login       bool
	CreateDB    bool
	CreateRole  bool
	Replication bool
}

// Role reads a role; ok is false when there is none.
func (s *Session) Role(ctx context.Context, name string) (r Role, ok bool, err error) {
	rows, err := s.conn.Query(ctx, `SELECT rolname::text AS name, rolcanlogin AS login, rolcreatedb AS createdb,
		rolcreaterole AS createrole, rolreplication AS replication FROM pg_catalog.pg_roles WHERE rolname = $1`, name)
	if err != nil {
		return Role{}, false, fmt.Errorf("read role %s: %w", name, err)
	}
	r, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Role])
	if errors.Is(err, pgx.ErrNoRows) {
		return Role{}, false, nil
	}
	if err != nil {
		return Role{}, false, fmt.Errorf("read role %s: %w", name, err)
	}
	return r, true, nil
}

// Missing are the attributes that want has and r lacks. None is ever taken
// away: somebody else may need it.
func (r Role) Missing(want Role) []string {
	var out []string
	for _, a := range []struct {
		has, want bool
		name      string
	}{
		{r.CreateDB, want.CreateDB, "CREATEDB"},
		{r.CreateRole, want.CreateRole, "CREATEROLE"},
		{r.Login, want.Login, "LOGIN"},
		{r.Replication, want.Replication, "REPLICATION"},
	} {
		if a.want && !a.has {
			out = append(out, a.name)
		}
	}
	return out
}

// Password is how a statement names a password: as the literal of a verifier, or
// as a variable of psql.
type Password string

// Verified is the literal of a verifier.
func Verified(verifier string) Password { return Password(literal(verifier)) }

// PasswordVariable is what a DBA's psql puts in: no script holds the password.
const PasswordVariable Password = ":'role_password'"

// CreateRole makes a role that signs in with a password.
func CreateRole(want Role, password Password) Statement {
	return Statement{"create role " + want.Name,
		"CREATE ROLE " + ident(want.Name) + " " + strings.Join(Role{}.Missing(want), " ") + " PASSWORD " + string(password)}
}

// AddAttributes gives an existing role what it lacks.
func AddAttributes(name string, missing []string) Statement {
	return Statement{"alter role " + name, "ALTER ROLE " + ident(name) + " " + strings.Join(missing, " ")}
}

// SetPassword gives a role a password.
func SetPassword(name string, password Password) Statement {
	return Statement{"set the password of role " + name, "ALTER ROLE " + ident(name) + " PASSWORD " + string(password)}
}

// literal quotes a text for SQL, whatever standard_conforming_strings says.
func literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
