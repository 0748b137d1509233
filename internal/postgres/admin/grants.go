package admin

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// Rights of a role that isn't there yet are all missing: none of these fails
// because of that.

// Member gives a role membership in a group, unless it is a member already.
func (s *Session) Member(ctx context.Context, group, role string) ([]Statement, error) {
	has, err := one[bool](ctx, s, `SELECT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
		JOIN pg_catalog.pg_roles r ON r.oid = m.member WHERE g.rolname = $1 AND r.rolname = $2)`, group, role)
	if err != nil {
		return nil, fmt.Errorf("read the members of %s: %w", group, err)
	}
	if has {
		return nil, nil
	}
	return []Statement{{"grant " + group, "GRANT " + ident(group) + " TO " + ident(role)}}, nil
}

// CreateOnDatabase lets a role create schemas and publications in the database
// of the session.
func (s *Session) CreateOnDatabase(ctx context.Context, role string) ([]Statement, error) {
	rows, err := s.conn.Query(ctx, `SELECT datname::text, pg_catalog.pg_get_userbyid(datdba)::text, coalesce((SELECT pg_catalog.has_database_privilege(r.oid, d.oid, 'CREATE')
		FROM pg_catalog.pg_roles r WHERE r.rolname = $1), false) FROM pg_catalog.pg_database d WHERE datname = current_database()`, role)
	if err != nil {
		return nil, fmt.Errorf("read the rights on the database: %w", err)
	}
	var db, owner string
	var has bool
	if _, err := pgx.ForEachRow(rows, []any{&db, &owner, &has}, func() error { return nil }); err != nil {
		return nil, fmt.Errorf("read the rights on the database: %w", err)
	}
	if has {
		return nil, nil
	}
	what := Statement{"grant CREATE on database " + db, "GRANT CREATE ON DATABASE " + ident(db) + " TO " + ident(role)}
	return s.as(ctx, []Statement{what}, owner)
}

// OnSchema gives a role the rights on a schema that it lacks: USAGE, CREATE.
func (s *Session) OnSchema(ctx context.Context, schema, role string, rights ...string) ([]Statement, error) {
	var missing []Statement
	for _, right := range rights {
		has, err := one[bool](ctx, s, `SELECT coalesce((SELECT pg_catalog.has_schema_privilege(r.oid, $2::regnamespace, $3) FROM pg_catalog.pg_roles r WHERE r.rolname = $1), false)`, role, ident(schema), right)
		if err != nil {
			return nil, fmt.Errorf("read the rights on schema %s: %w", schema, err)
		}
		if !has {
			missing = append(missing, Statement{"grant " + right + " on schema " + schema, "GRANT " + right + " ON SCHEMA " + ident(schema) + " TO " + ident(role)})
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	owner, err := s.schemaOwner(ctx, schema)
	if err != nil {
		return nil, err
	}
	return s.as(ctx, missing, owner)
}

// schemaOwner is the schema's owner; the stand-in for the database's owner,
// which nobody can be made a member of, is resolved.
func (s *Session) schemaOwner(ctx context.Context, schema string) (string, error) {
	owner, err := one[string](ctx, s, `SELECT CASE n.nspowner::regrole::text WHEN 'pg_database_owner' THEN pg_catalog.pg_get_userbyid(d.datdba) ELSE pg_catalog.pg_get_userbyid(n.nspowner) END::text
		FROM pg_catalog.pg_namespace n, pg_catalog.pg_database d WHERE n.nspname = $1 AND d.datname = current_database()`, schema)
	return owner, wrap("read the owner of schema "+schema, err)
}

// SchemaExists reports whether there is such a schema.
func (s *Session) SchemaExists(ctx context.Context, schema string) (bool, error) {
	ok, err := one[bool](ctx, s, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, schema)
	return ok, wrap("look for schema "+schema, err)
}

// DefaultRights gives a role rights ("ALL", "SELECT") on the tables that owner
// will make in schema. Owners that the session can't act for are left alone: ok
// is false then.
func (s *Session) DefaultRights(ctx context.Context, owner, schema, role, rights string) (missing []Statement, ok bool, err error) {
	probe := "SELECT"
	if rights == "ALL" {
		probe = "INSERT"
	}
	has, err := one[bool](ctx, s, `SELECT EXISTS (SELECT FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) a
		WHERE d.defaclrole = $1::regrole AND d.defaclnamespace = $2::regnamespace AND d.defaclobjtype = 'r' AND a.grantee = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = $3) AND a.privilege_type = $4)`,
		ident(owner), ident(schema), role, probe)
	if err != nil {
		return nil, false, fmt.Errorf("read the default rights in schema %s: %w", schema, err)
	}
	if has || owner == role {
		return nil, true, nil
	}
	if can, err := s.CanAct(ctx, owner); err != nil || !can {
		return nil, false, err
	}
	missing, err = s.as(ctx, []Statement{{
		"default rights on tables of " + owner + " in schema " + schema,
		"ALTER DEFAULT PRIVILEGES FOR ROLE " + ident(owner) + " IN SCHEMA " + ident(schema) + " GRANT " + rights + " ON TABLES TO " + ident(role),
	}}, owner)
	return missing, true, err
}

// SelectOn lets a role read a table, unless it may.
func (s *Session) SelectOn(ctx context.Context, t *postgres.Table, role string) ([]Statement, error) {
	missing, err := s.Unreadable(ctx, role, []postgres.Table{*t})
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	return s.as(ctx, []Statement{{"grant SELECT on " + t.String(), "GRANT SELECT ON TABLE " + ident(t.Schema, t.Name) + " TO " + ident(role)}}, t.Owner)
}

// Unreadable are the tables that a role may not read; all of them when there is
// no such role yet.
func (s *Session) Unreadable(ctx context.Context, role string, tables []postgres.Table) ([]postgres.Table, error) {
	oids := make([]uint32, len(tables))
	for i := range tables {
		oids[i] = tables[i].OID
	}
	may, err := many[bool](ctx, s, `SELECT coalesce((SELECT pg_catalog.has_table_privilege(r.oid, t.oid, 'SELECT')
		FROM pg_catalog.pg_roles r WHERE r.rolname = $1), false) FROM unnest($2::oid[]) WITH ORDINALITY t(oid, n) ORDER BY t.n`, role, oids)
	if err != nil {
		return nil, fmt.Errorf("read the rights on tables: %w", err)
	}
	var out []postgres.Table
	for i, ok := range may {
		if !ok {
			out = append(out, tables[i])
		}
	}
	return out, nil
}
