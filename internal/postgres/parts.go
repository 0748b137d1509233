package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// partsSQL walks from types to all that they are made of: what is under a domain, in
// an array, a range and a composite. Types that come with PostgreSQL don't change.
const partsSQL = `WITH RECURSIVE walk(root, type, path) AS (
	SELECT t, t, '' FROM pg_catalog.unnest($1::oid[]) t WHERE t >= 16384
	UNION ALL
	SELECT w.root, s.type, w.path || s.step
	FROM walk w JOIN pg_catalog.pg_type t ON t.oid = w.type
	CROSS JOIN LATERAL (
		SELECT t.typbasetype, '' WHERE t.typtype = 'd'
		UNION ALL SELECT t.typelem, '' WHERE t.typelem <> 0
		UNION ALL SELECT r.rngsubtype, '' FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
		UNION ALL SELECT a.atttypid, '.' || a.attnum FROM pg_catalog.pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
	) s(type, step)
)
SELECT w.root, w.path, a.attnum::int, a.atttypid, a.atttypmod, 0::oid, ''
FROM walk w JOIN pg_catalog.pg_type t ON t.oid = w.type AND t.typtype = 'c'
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 -- dropped ones, too: one may have come since
UNION ALL
SELECT w.root, w.path, 0, 0, 0, e.oid, e.enumlabel FROM walk w JOIN pg_catalog.pg_enum e ON e.enumtypid = w.type
ORDER BY 1, 2, 3, 6`

// typeParts is what may change about a type while its name stays.
type typeParts struct {
	attributes string            // of the composites in it
	labels     map[uint32]string // of the enums in it, by the labels' oids
}

// loadParts reads what types are made of.
func loadParts(ctx context.Context, q Querier, types []uint32) (map[uint32]*typeParts, error) {
	out := map[uint32]*typeParts{}
	if !slices.ContainsFunc(types, func(oid uint32) bool { return oid >= 16384 }) {
		return out, nil
	}
	rows, err := q.Query(ctx, partsSQL, types)
	if err != nil {
		return nil, err
	}
	var (
		root, typ, label uint32
		attnum, typmod   int32
		path, text       string
	)
	written := map[uint32]*strings.Builder{}
	_, err = pgx.ForEachRow(rows, []any{&root, &path, &attnum, &typ, &typmod, &label, &text}, func() error {
		p := out[root]
		if p == nil {
			p = &typeParts{labels: map[uint32]string{}}
			out[root], written[root] = p, &strings.Builder{}
		}
		if label != 0 {
			p.labels[label] = text
		} else {
			fmt.Fprintf(written[root], "%s.%d:%d/%d ", path, attnum, typ, typmod)
		}
		return nil
	})
	for root, b := range written {
		out[root].attributes = strings.TrimSpace(b.String())
	}
	return out, err
}
