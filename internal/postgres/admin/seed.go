package admin

import (
	"context"
	"fmt"
)

// Seed is the seed table as it is.
type Seed struct {
	Exists bool
	Owner  string
	Rows   bool // it has one; false also when the session may not look
}

// Seed reads the seed table.
func (s *Session) Seed(ctx context.Context, schema, table string) (Seed, error) {
	owners, err := many[string](ctx, s, `SELECT pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r'`, schema, table)
	if err != nil {
		return Seed{}, fmt.Errorf("read the seed table: %w", err)
	}
	if len(owners) == 0 {
		return Seed{}, nil
	}
	seed := Seed{Exists: true, Owner: owners[0]}
	may, err := one[bool](ctx, s, `SELECT pg_catalog.has_table_privilege(`+relation+`, 'SELECT')`, schema, table)
	if err == nil && may {
		seed.Rows, err = one[bool](ctx, s, "SELECT EXISTS (SELECT FROM "+ident(schema, table)+")")
	}
	return seed, wrap("read the seed table", err)
}

// CreateSeed makes the seed table and its one row. The session's own role
// becomes its owner.
func CreateSeed(schema, table string) []Statement {
	return []Statement{{"create the seed table", "CREATE TABLE IF NOT EXISTS " + ident(schema, table) +
		" (id bigserial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now())"}, FillSeed(schema, table)}
}

// GiveSeed gives the seed table to the role, where somebody else made it.
func GiveSeed(schema, table, role string) Statement {
	return Statement{"give the seed table to " + role, "ALTER TABLE " + ident(schema, table) + " OWNER TO " + ident(role)}
}

// FillSeed gives the seed table a row when it has none.
func FillSeed(schema, table string) Statement {
	t := ident(schema, table)
	return Statement{"fill the seed table", "INSERT INTO " + t + " (created_at) SELECT now() WHERE NOT EXISTS (SELECT FROM " + t + ")"}
}
