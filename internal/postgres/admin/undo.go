package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// madeRole marks, in a role's comment, that it was made for a mirror: another
// one is never dropped.
const madeRole = "pgmirror: made for a mirror"

// MarkRole marks a role that was just made.
func MarkRole(name string) Statement {
	return Statement{"mark role " + name, "COMMENT ON ROLE " + ident(name) + " IS " + literal(madeRole)}
}

// RoleMade reports whether a role has MarkRole's mark.
func (s *Session) RoleMade(ctx context.Context, name string) (bool, error) {
	made, err := one[bool](ctx, s, `SELECT coalesce((SELECT pg_catalog.shobj_description(r.oid, 'pg_authid') = $2 FROM pg_catalog.pg_roles r WHERE r.rolname = $1), false)`, name, madeRole)
	return made, wrap("read the comment of role "+name, err)
}

// Moved is a table that TakeOver moved.
type Moved struct {
	Schema, Table string
	Former        string // the recorded owner
	FormerExists  bool

	comment string // what users wrote
}

func (m Moved) String() string { return m.Schema + "." + m.Table }

// Moved are the tables of a role that have a recorded former owner.
func (s *Session) Moved(ctx context.Context, role string) ([]Moved, error) {
	rows, err := s.conn.Query(ctx, `SELECT n.nspname::text, c.relname::text, pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
		WHERE r.rolname = $1 AND c.relkind IN ('r', 'p') AND pg_catalog.obj_description(c.oid, 'pg_class') LIKE '%' || $2 || '%' ORDER BY 1, 2`, role, formerOwner)
	if err != nil {
		return nil, fmt.Errorf("read the moved tables: %w", err)
	}
	var all []Moved
	var m Moved
	var comment string
	_, err = pgx.ForEachRow(rows, []any{&m.Schema, &m.Table, &comment}, func() error {
		m.comment, m.Former = OwnerRecord(comment)
		all = append(all, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the moved tables: %w", err)
	}
	for i := range all {
		if _, all[i].FormerExists, err = s.Role(ctx, all[i].Former); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// GiveBack returns a table to its recorded owner, and takes the record out of its
// comment. PostgreSQL wants a new owner to have CREATE on the schema: one that
// lacks it has it as long as that takes.
func (s *Session) GiveBack(ctx context.Context, m Moved, from string) ([]Statement, error) {
	name, comment := ident(m.Schema, m.Table), "NULL"
	if m.comment != "" {
		comment = literal(m.comment)
	}
	give := []Statement{
		{"take the record out of the comment of " + m.String(), "COMMENT ON TABLE " + name + " IS " + comment},
		{"give " + m.String() + " back to " + m.Former, "ALTER TABLE " + name + " OWNER TO " + ident(m.Former)},
	}
	roles := []string{from, m.Former}
	may, err := one[bool](ctx, s, `SELECT pg_catalog.has_schema_privilege($1, $2::regnamespace, 'CREATE')`, m.Former, ident(m.Schema))
	if err != nil {
		return nil, fmt.Errorf("read the rights on schema %s: %w", m.Schema, err)
	}
	if !may {
		owner, err := s.schemaOwner(ctx, m.Schema)
		if err != nil {
			return nil, err
		}
		on := " CREATE ON SCHEMA " + ident(m.Schema)
		give = slices.Concat([]Statement{{"grant CREATE on schema " + m.Schema, "GRANT" + on + " TO " + ident(m.Former)}}, give,
			[]Statement{{"take CREATE on schema " + m.Schema + " back", "REVOKE" + on + " FROM " + ident(m.Former)}})
		roles = append(roles, owner)
	}
	return s.as(ctx, give, roles...)
}

// DropSeed drops the seed table, unless it has more than our one row. Its lock
// keeps others from writing one between the look and the drop.
func DropSeed(schema, table string) []Statement {
	name := ident(schema, table)
	return []Statement{
		{"lock the seed table", "LOCK TABLE " + name + " IN ACCESS EXCLUSIVE MODE"},
		{"look that the seed table has no row of anybody's", "DO $$ BEGIN IF (SELECT count(*) > 1 FROM (SELECT FROM " + name + " LIMIT 2) x) " +
			"THEN RAISE EXCEPTION 'the seed table has rows of somebody''s' USING ERRCODE = 'dependent_objects_still_exist'; END IF; END $$"},
		{"drop the seed table", "DROP TABLE " + name},
	}
}

// PlainSeed reports whether the seed table has the columns that we make.
func (s *Session) PlainSeed(ctx context.Context, schema, table string) (bool, error) {
	columns, err := one[string](ctx, s, `SELECT coalesce(string_agg(attname::text, ' ' ORDER BY attnum), '') FROM pg_catalog.pg_attribute
		WHERE attrelid = `+relation+` AND attnum > 0 AND NOT attisdropped`, schema, table)
	return columns == "id created_at", wrap("read the seed table", err)
}

// AsRole puts statements between becoming a member of a role and leaving it.
func (s *Session) AsRole(ctx context.Context, role string, statements ...Statement) ([]Statement, error) {
	return s.as(ctx, statements, role)
}

// Owned are the objects in this database that a role owns, in words; an index or
// a sequence goes with its table.
func (s *Session) Owned(ctx context.Context, role string) ([]string, error) {
	list, err := many[string](ctx, s, `SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_catalog.pg_shdepend d
		JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid JOIN pg_catalog.pg_database b ON b.oid = d.dbid AND b.datname = current_database()
		WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname = $1 AND d.deptype = 'o'
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = d.classid AND x.objid = d.objid AND x.deptype IN ('a', 'i')) ORDER BY 1`, role)
	return list, wrap("read what role "+role+" owns", err)
}

// RoleUsedIn are the other databases in which a role owns something or has
// rights.
func (s *Session) RoleUsedIn(ctx context.Context, role string) ([]string, error) {
	list, err := many[string](ctx, s, `SELECT DISTINCT b.datname::text FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
		JOIN pg_catalog.pg_database b ON b.oid = d.dbid OR d.dbid = 0 AND d.classid = 'pg_database'::regclass AND b.oid = d.objid
		WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname = $1 AND b.datname <> current_database() ORDER BY 1`, role)
	return list, wrap("read where role "+role+" is used", err)
}

// HasRights reports whether a role owns something or has rights in this database.
func (s *Session) HasRights(ctx context.Context, role string) (bool, error) {
	has, err := one[bool](ctx, s, `SELECT EXISTS (SELECT FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
		JOIN pg_catalog.pg_database b ON b.datname = current_database() AND (b.oid = d.dbid OR d.dbid = 0 AND d.classid = 'pg_database'::regclass AND b.oid = d.objid)
		WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname = $1)`, role)
	return has, wrap("read the rights of role "+role, err)
}

// Grantors are the owners of what a role has rights on in this database: whoever
// takes the rights back has to act for them.
func (s *Session) Grantors(ctx context.Context, role string) ([]string, error) {
	list, err := many[string](ctx, s, `SELECT DISTINCT w.rolname::text FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
		JOIN pg_catalog.pg_database b ON b.datname = current_database() AND (b.oid = d.dbid OR d.dbid = 0 AND d.classid = 'pg_database'::regclass AND b.oid = d.objid)
		JOIN pg_catalog.pg_shdepend o ON o.dbid = d.dbid AND o.classid = d.classid AND o.objid = d.objid AND o.refclassid = d.refclassid AND o.deptype = 'o'
		JOIN pg_catalog.pg_roles w ON w.oid = o.refobjid
		WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname = $1 AND d.deptype = 'a' AND w.rolname <> r.rolname ORDER BY 1`, role)
	return list, wrap("read who gave rights to role "+role, err)
}

// TakeRights takes a role's rights in this database. DROP OWNED would drop what
// the role owns as well, so that nothing may be left of that: it is looked at
// again in the same transaction. It takes only what the session itself may, so
// that the session acts for everybody who gave something.
func (s *Session) TakeRights(ctx context.Context, role string) ([]Statement, error) {
	roles, err := s.Grantors(ctx, role)
	if err != nil {
		return nil, err
	}
	elsewhere, owners, err := s.onOtherDatabases(ctx, role)
	if err != nil {
		return nil, err
	}
	return s.as(ctx, append([]Statement{
		{"look that " + role + " owns nothing", `DO $$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
			LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o'
			AND (b.datname = current_database() OR d.dbid = 0) AND r.rolname = ` + literal(role) + `)
			THEN RAISE EXCEPTION 'the role owns something' USING ERRCODE = 'dependent_objects_still_exist'; END IF; END $$`},
		{"take the rights of " + role, "DROP OWNED BY " + ident(role)},
	}, elsewhere...), append(append(roles, owners...), role)...)
}

// onOtherDatabases gives a role the rights on other databases that DROP OWNED
// takes along, and says whose rights that needs.
func (s *Session) onOtherDatabases(ctx context.Context, role string) (give []Statement, owners []string, err error) {
	rows, err := s.conn.Query(ctx, `SELECT b.datname::text, pg_catalog.pg_get_userbyid(b.datdba)::text, a.privilege_type FROM pg_catalog.pg_database b,
		pg_catalog.aclexplode(b.datacl) a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee WHERE r.rolname = $1 AND b.datname <> current_database() ORDER BY 1, 3`, role)
	if err != nil {
		return nil, nil, fmt.Errorf("read the rights on other databases: %w", err)
	}
	type right struct{ database, owner, what string }
	var all []right
	var r right
	_, err = pgx.ForEachRow(rows, []any{&r.database, &r.owner, &r.what}, func() error { all = append(all, r); return nil })
	if err != nil {
		return nil, nil, fmt.Errorf("read the rights on other databases: %w", err)
	}
	for _, r := range all {
		can, err := s.CanAct(ctx, r.owner)
		if err != nil {
			return nil, nil, err
		}
		if can { // else DROP OWNED couldn't take it either
			give = append(give, Statement{"keep " + r.what + " on database " + r.database, "GRANT " + r.what + " ON DATABASE " + ident(r.database) + " TO " + ident(role)})
			owners = append(owners, r.owner)
		}
	}
	return give, owners, nil
}

// DropRole drops a role.
func DropRole(role string) Statement {
	return Statement{"drop role " + role, "DROP ROLE " + ident(role)}
}

// DropPublication drops a publication.
func DropPublication(name string) Statement {
	return Statement{"drop publication " + name, "DROP PUBLICATION " + ident(name)}
}

// Slot is a replication slot.
type Slot struct {
	Active bool   // somebody reads from it
	Other  string // what it is for, when a mirror of this database has none such; else ""
}

// Slot reads a replication slot, whose name is the only one on the server; ok is
// false when there is none.
func (s *Session) Slot(ctx context.Context, name string) (slot Slot, ok bool, err error) {
	rows, err := s.conn.Query(ctx, `SELECT active, CASE WHEN slot_type <> 'logical' THEN 'physical replication' WHEN database <> current_database() THEN 'database ' || database
		WHEN plugin <> 'pgoutput' THEN 'output plugin ' || plugin ELSE '' END AS other FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, name)
	if err == nil {
		slot, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Slot])
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return Slot{}, false, nil
	}
	return slot, err == nil, wrap("look for slot "+name, err)
}

// DropSlot drops a replication slot.
func DropSlot(name string) Statement {
	return Statement{"drop slot " + name, "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = " + literal(name)}
}
