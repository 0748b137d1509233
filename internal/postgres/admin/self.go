package admin

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Self is who the session is, and on what.
type Self struct {
	User       string
	Super      bool
	CreateRole bool
	Version    int // major
	InRecovery bool
	WALLevel   string
}

// Self asks.
func (s *Session) Self(ctx context.Context) (Self, error) {
	rows, err := s.conn.Query(ctx, `SELECT rolname::text AS "user", rolsuper AS super, rolcreaterole AS createrole,
		current_setting('server_version_num')::int / 10000 AS version, pg_is_in_recovery() AS inrecovery, current_setting('wal_level') AS wallevel
		FROM pg_catalog.pg_roles WHERE rolname = current_user`)
	if err != nil {
		return Self{}, fmt.Errorf("ask who we are: %w", err)
	}
	self, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Self])
	if err != nil {
		return Self{}, fmt.Errorf("ask who we are: %w", err)
	}
	return self, nil
}

// ProviderSettings are the names of settings that only one provider has.
func (s *Session) ProviderSettings(ctx context.Context) (string, error) {
	names, err := one[string](ctx, s, `SELECT coalesce(string_agg(name, ' '), '') FROM pg_catalog.pg_settings WHERE name LIKE 'cloudsql.%' OR name LIKE 'rds.%' OR name LIKE 'neon.%'`)
	return names, wrap("read the provider's settings", err)
}

// lent is what makes the session act with another role's rights, and what takes
// that back.
type lent struct{ before, after []Statement }

// CanAct reports whether the session has, or can lend itself, the rights of
// role.
func (s *Session) CanAct(ctx context.Context, role string) (bool, error) {
	self, err := s.Self(ctx)
	if err != nil || self.Super || s.direct {
		return err == nil, err
	}
	has, err := s.hasRights(ctx, self, role)
	if err != nil || has {
		return has, err
	}
	if self.Version < 16 { // CREATEROLE may grant any role but a superuser's
		super, err := one[bool](ctx, s, `SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1`, role)
		return self.CreateRole && !super, wrap("ask for role "+role, err)
	}
	ok, err := one[bool](ctx, s, `SELECT pg_catalog.pg_has_role(current_user, $1, 'MEMBER WITH ADMIN OPTION')`, role)
	return ok, wrap("ask for the rights on role "+role, err)
}

// lend makes the session act with the rights of role: whoever changes an owner
// has to be, or be able to be, the old one and the new one.
func (s *Session) lend(ctx context.Context, role string) (lent, error) {
	self, err := s.Self(ctx)
	if err != nil || s.direct || self.Super || self.User == role {
		return lent{}, err
	}
	has, err := s.hasRights(ctx, self, role)
	if err != nil || has {
		return lent{}, err
	}
	if self.Version < 16 {
		return lent{
			[]Statement{{"become a member of " + role, "GRANT " + ident(role) + " TO " + ident(self.User)}},
			[]Statement{{"leave " + role, "REVOKE " + ident(role) + " FROM " + ident(self.User)}},
		}, nil
	}
	back, err := s.giveBack(ctx, self, role)
	if err != nil {
		return lent{}, err
	}
	return lent{
		[]Statement{{"become a member of " + role, "GRANT " + ident(role) + " TO " + ident(self.User) + " WITH INHERIT TRUE, SET TRUE"}},
		[]Statement{{"leave " + role, back}},
	}, nil
}

// hasRights: INHERIT decides what may be done with a role's objects; from 16 on
// SET decides whether something may be given to it, and is apart.
func (s *Session) hasRights(ctx context.Context, self Self, role string) (bool, error) {
	sql := `SELECT pg_catalog.pg_has_role(current_user, $1, 'USAGE')`
	if self.Version >= 16 {
		sql += ` AND pg_catalog.pg_has_role(current_user, $1, 'SET')`
	}
	has, err := one[bool](ctx, s, sql, role)
	return has, wrap("ask for the rights of role "+role, err)
}

// giveBack restores the membership that we had given ourselves before, with its
// options; from 16 on memberships by several grantors live side by side.
func (s *Session) giveBack(ctx context.Context, self Self, role string) (string, error) {
	options, err := many[string](ctx, s, `SELECT concat_ws(', ', 'ADMIN ' || m.admin_option, 'INHERIT ' || m.inherit_option, 'SET ' || m.set_option)
		FROM pg_catalog.pg_auth_members m WHERE m.roleid = $1::regrole AND m.member = current_user::regrole AND m.grantor = current_user::regrole`, ident(role))
	if err != nil {
		return "", fmt.Errorf("read the memberships of %s: %w", role, err)
	}
	if len(options) > 0 {
		return "GRANT " + ident(role) + " TO " + ident(self.User) + " WITH " + options[0] + " GRANTED BY " + ident(self.User), nil
	}
	return "REVOKE " + ident(role) + " FROM " + ident(self.User) + " GRANTED BY " + ident(self.User), nil
}

// as puts statements between the lending and the taking back of some roles.
func (s *Session) as(ctx context.Context, statements []Statement, roles ...string) ([]Statement, error) {
	var before, after []Statement
	seen := map[string]bool{}
	for _, r := range roles {
		if r == "" || seen[r] {
			continue
		}
		seen[r] = true
		l, err := s.lend(ctx, r)
		if err != nil {
			return nil, err
		}
		before = append(before, l.before...)
		after = append(l.after, after...)
	}
	return append(append(before, statements...), after...), nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
