package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// plan says how the rows of a table are read on both sides.
type plan struct {
	from    string // FROM clause of the source
	columns []*column
	key     []int         // in columns; empty: none
	schema  []batch.Field // of the mirror
	fields  []string      // in it, that are read
	left    []Loss        // columns that the mirror leaves out, as documented
	extra   []string      // fields that the source doesn't have
}

// column is a column that is compared.
type column struct {
	name    string // at the source
	sqlType string // as format_type shows it
	equal   string // the operator = of its type
	at      int    // in plan.fields; -1: the mirror has no such column, which is NULL in every row
	rule    rule
	lost    int64  // rows whose value the mirror can't hold, as documented
	why     string // the documented loss
}

// newPlan pairs the source's columns with the mirror's fields.
func newPlan(ctx context.Context, conn *pgx.Conn, t *postgres.Table, fields []batch.Field, native bool) (*plan, error) {
	types, err := baseTypes(ctx, conn, t)
	if err != nil {
		return nil, err
	}
	var ascii bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'").Scan(&ascii); err != nil {
		return nil, fmt.Errorf("ask for the encoding: %w", err)
	}
	p := &plan{from: "ONLY " + t.SQLName(), schema: fields}
	if t.Kind == 'p' {
		p.from = t.SQLName()
	}
	place := make([]int, len(t.Columns)) // of the source's columns in p.columns
	for i := range t.Columns {
		c := &t.Columns[i]
		place[i] = -1
		f := slices.IndexFunc(fields, func(f batch.Field) bool { return f.Name == c.Field })
		if f < 0 && (!c.Mirrored() || native && !nativeTypes[c.TypeOID]) {
			p.left = append(p.left, Loss{Column: c.Name, Why: leftOut(c)})
			continue
		}
		col := &column{name: c.Name, sqlType: c.TypeName, equal: c.Equal(), at: -1}
		kind := batch.Type{Kind: batch.String}
		if f >= 0 {
			kind, col.at = fields[f].Type, len(p.fields)
			p.fields = append(p.fields, fields[f].Name)
		}
		t := types[c.TypeOID]
		col.rule, col.why = ruleFor(t, c.Typmod, kind, native)
		if kind.Kind == batch.String && (ascii || t.oid >= firstUserOID) && !t.chars() {
			col.rule, col.why = col.rule.anyBytes(), cmp.Or(col.why, asciiLoss)
		}
		place[i] = len(p.columns)
		p.columns = append(p.columns, col)
	}
	for _, k := range t.Key {
		if place[k] < 0 {
			return nil, fmt.Errorf("the mirror lacks the key column %s", t.Columns[k].Name)
		}
		p.key = append(p.key, place[k])
	}
	for _, f := range fields {
		if !slices.Contains(p.fields, f.Name) {
			p.extra = append(p.extra, f.Name)
		}
	}
	if len(p.columns) == 0 {
		return nil, fmt.Errorf("the mirror has none of the table's columns")
	}
	return p, nil
}

// keys is the plan that reads the mirror's key columns and nothing else: the
// rows have the same key hashes. It is nil when there is no key.
func (p *plan) keys() *plan {
	if len(p.key) == 0 {
		return nil
	}
	k := &plan{}
	for i, at := range p.key {
		col := *p.columns[at]
		if col.at >= 0 {
			k.fields = append(k.fields, p.fields[col.at])
			col.at = len(k.fields) - 1
		}
		k.columns, k.key = append(k.columns, &col), append(k.key, i)
	}
	return k
}

// nativeTypes are those that native mirroring takes, by their oids in pg_type.dat; see
// nativeTypes of internal/setup. A column of one of them that is missing is lost.
var nativeTypes = map[uint32]bool{
	16: true, 17: true, 20: true, 21: true, 23: true, 25: true, oidOID: true, oidFloat4: true, oidFloat8: true, oidMoney: true,
	1042: true, 1043: true, oidDate: true, 1083: true, oidTimestamp: true, oidTimestamptz: true, 1266: true, oidNumeric: true, 2950: true,
}

func leftOut(c *postgres.Column) string {
	switch {
	case c.Generated:
		return "a generated column, which the stream doesn't carry"
	case c.Unpublished:
		return "not in the publication's column list"
	default:
		return "native mirroring doesn't take " + c.TypeName
	}
}

// copySQL reads rows as text that PostgreSQL renders, their xmin first.
func (p *plan) copySQL(where string) string {
	exprs := []string{"xmin"}
	for _, c := range p.columns {
		exprs = append(exprs, fmt.Sprintf(c.rule.expr, quoteIdent(c.name)))
	}
	return "COPY (SELECT " + strings.Join(exprs, ", ") + " FROM " + p.from + where + ") TO STDOUT"
}

// baseType is what a column's type is under its domains.
type baseType struct {
	oid      uint32
	typmod   int32 // of the innermost domain; -1: the column's own
	name     string
	isArray  bool
	elem     uint32 // of an array, under domains
	elemKind string // its pg_type.typtype
}

// firstUserOID is the first oid that isn't PostgreSQL's own: a type that somebody made
// shows what it likes.
const firstUserOID = 16384

// chars says that its text has no bytes but what "char" shows, which charRule escapes.
func (t baseType) chars() bool { return t.oid == oidChar || t.elem == oidChar }

const baseTypeSQL = `WITH RECURSIVE d AS (
	SELECT t.oid AS root, t.oid, -1 AS typmod FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1)
	UNION ALL
	SELECT d.root, t.typbasetype, t.typtypmod FROM d JOIN pg_catalog.pg_type t ON t.oid = d.oid AND t.typtype = 'd')
SELECT d.root, t.oid, d.typmod, t.typname, t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc,
	coalesce(e.oid, 0)::oid, coalesce(e.typtype::text, '')
FROM d JOIN pg_catalog.pg_type t ON t.oid = d.oid
LEFT JOIN LATERAL (WITH RECURSIVE e AS (
		SELECT t.typelem AS oid UNION ALL SELECT b.typbasetype FROM e JOIN pg_catalog.pg_type b ON b.oid = e.oid WHERE b.typtype = 'd')
	SELECT b.oid, b.typtype FROM e JOIN pg_catalog.pg_type b ON b.oid = e.oid WHERE b.typtype <> 'd') e ON true
WHERE t.typtype <> 'd'`

func baseTypes(ctx context.Context, conn *pgx.Conn, t *postgres.Table) (map[uint32]baseType, error) {
	var oids []uint32
	for i := range t.Columns {
		oids = append(oids, t.Columns[i].TypeOID)
	}
	rows, err := conn.Query(ctx, baseTypeSQL, oids)
	if err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	types := map[uint32]baseType{}
	var root uint32
	var b baseType
	_, err = pgx.ForEachRow(rows, []any{&root, &b.oid, &b.typmod, &b.name, &b.isArray, &b.elem, &b.elemKind}, func() error {
		types[root] = b
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	return types, nil
}
