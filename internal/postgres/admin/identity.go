package admin

import (
	"context"
	"fmt"
)

// IdentityByIndex offers a unique index as a table's replica identity: valid,
// immediate, without NULLs, without expressions or a predicate. index is "" when
// there is none.
func (s *Session) IdentityByIndex(ctx context.Context, schema, table, owner string) (offer []Statement, index string, err error) {
	list, err := many[string](ctx, s, `SELECT c.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = `+relation+` AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) AND NOT a.attnotnull)
		ORDER BY i.indnkeyatts, c.relname LIMIT 1`, schema, table)
	if err != nil {
		return nil, "", fmt.Errorf("read the indexes of %s.%s: %w", schema, table, err)
	}
	if len(list) == 0 {
		return nil, "", nil
	}
	offer, err = s.as(ctx, []Statement{{"replica identity of " + schema + "." + table,
		"ALTER TABLE " + ident(schema, table) + " REPLICA IDENTITY USING INDEX " + ident(list[0])}}, owner)
	return offer, list[0], err
}

// HasRows reports whether a table has at least one row.
func (s *Session) HasRows(ctx context.Context, schema, table string) (bool, error) {
	has, err := one[bool](ctx, s, "SELECT EXISTS (SELECT FROM "+ident(schema, table)+")")
	return has, wrap("look into "+schema+"."+table, err)
}
