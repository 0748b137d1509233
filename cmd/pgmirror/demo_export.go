package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// exportedTable says which file holds what PostgreSQL has of a table, and where
// a mirror of it is. It is what witness/compare.py reads.
type exportedTable struct {
	Mirror  string           `json:"mirror"`
	Schema  string           `json:"schema"`
	Table   string           `json:"table"`
	File    string           `json:"file"`
	Delta   string           `json:"delta"`
	Columns []exportedColumn `json:"columns"`
}

type exportedColumn struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // text, float or json: how two texts are compared
}

// exportTables writes every table once as COPY text, by PostgreSQL's own
// output functions, and tables.json, into dir.
func exportTables(ctx context.Context, conn *pgx.Conn, dir string, tables []exportedTable) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET extra_float_digits = 3`); err != nil {
		return err
	}
	done := map[string][]exportedColumn{}
	for i, t := range tables {
		t.File = t.Schema + "." + t.Table + ".copy"
		columns, ok := done[t.File]
		if !ok {
			var err error
			if columns, err = exportTable(ctx, conn, filepath.Join(dir, t.File), t); err != nil {
				return fmt.Errorf("export %s.%s: %w", t.Schema, t.Table, err)
			}
			done[t.File] = columns
		}
		t.Columns = columns
		tables[i] = t
	}
	text, err := json.MarshalIndent(map[string]any{"v": 1, "tables": tables}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "tables.json"), append(text, '\n'), 0o644)
}

func exportTable(ctx context.Context, conn *pgx.Conn, path string, t exportedTable) ([]exportedColumn, error) {
	rows, err := conn.Query(ctx, `
		SELECT quote_ident(attname), attname, atttypid::regtype::text FROM pg_attribute
		WHERE attrelid = format('%I.%I', $1::text, $2::text)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, t.Schema, t.Table)
	if err != nil {
		return nil, err
	}
	var columns []exportedColumn
	var list []string
	var quoted, name, typ string
	if _, err := pgx.ForEachRow(rows, []any{&quoted, &name, &typ}, func() error {
		kind, expr := exportExpr(typ)
		columns = append(columns, exportedColumn{name, kind})
		list = append(list, fmt.Sprintf(expr, quoted))
		return nil
	}); err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sql := fmt.Sprintf("COPY (SELECT %s FROM %s) TO STDOUT", strings.Join(list, ", "), pgx.Identifier{t.Schema, t.Table}.Sanitize())
	if _, err := conn.PgConn().CopyTo(ctx, f, sql); err != nil {
		return nil, err
	}
	return columns, f.Close()
}

// exportExpr is how a column of a type is exported: every instant in UTC with
// six digits, bytes in hex, arrays as JSON, all else as PostgreSQL prints it.
func exportExpr(typ string) (kind, expr string) {
	const iso = `'YYYY-MM-DD"T"HH24:MI:SS.US'`
	switch {
	case typ == "timestamp with time zone", typ == "timestamp without time zone":
		return "text", "to_char(%s, " + iso + ")"
	case typ == "bytea":
		return "text", "encode(%s, 'hex')"
	case typ == "real", typ == "double precision":
		return "float", "%s"
	case strings.HasSuffix(typ, "[]"):
		return "json", "array_to_json(%s)"
	}
	return "text", "%s"
}
