package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Querier is what the catalog is read through: a *pgx.Conn, pgx.Tx or pool.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Tables lists every ordinary and partitioned table outside the system schemas,
// of the given schemas only if there are any, ordered by schema and name. It
// takes no locks on them.
func Tables(ctx context.Context, q Querier, schemas ...string) ([]Table, error) {
	return loadTables(ctx, q, `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
		AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1))`, append([]string{}, schemas...), nil)
}

// PublishedTables lists the tables of some publications together, ordered by
// schema and name. It is an error when one of the publications doesn't exist. It waits
// for nobody's lock.
// Partitions are tables of their own, unless WithLeaves is asked for.
func PublishedTables(ctx context.Context, q Querier, publications []string, how ...Listing) ([]Table, error) {
	if err := publicationsExist(ctx, q, publications); err != nil {
		return nil, err
	}
	version, err := serverVersion(ctx, q)
	if err != nil {
		return nil, err
	}
	tables, err := loadTables(ctx, q, `c.oid IN (SELECT relid FROM (`+publicationTables(version)+`) published)`, publications,
		func(tables []Table) error { return applyPublication(ctx, q, version, publications, tables) })
	if err != nil {
		return nil, err
	}
	if slices.Contains(how, WithLeaves) {
		roots, err := publishedRoots(ctx, q, version, publications)
		if err != nil {
			return nil, err
		}
		if tables, err = groupLeaves(ctx, q, tables, roots); err != nil {
			return nil, err
		}
	}
	return tables, loadMembers(ctx, q, version, publications, tables)
}

// Definition reads a table that was listed before, by its oid, as it is now: nil when
// it is no more. What publications publish of it is noted as PublishedTables does,
// WithLeaves; without any it is as Tables has it. It waits for nobody's lock.
func Definition(ctx context.Context, q Querier, oid uint32, publications []string) (*Table, error) {
	oids, publish := []uint32{oid}, func([]Table) error { return nil }
	if len(publications) > 0 {
		version, err := serverVersion(ctx, q)
		if err != nil {
			return nil, err
		}
		parts, err := loadPartitions(ctx, q, oids)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			if p.Kind == "r" {
				oids = append(oids, p.OID)
			}
		}
		publish = func(tables []Table) error { return applyPublication(ctx, q, version, publications, tables) }
	}
	tables, err := loadTables(ctx, q, "c.oid = ANY ($1)", oids, publish)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(tables, func(t Table) bool { return t.published }) && len(oids) > 1 {
		if tables, err = groupLeaves(ctx, q, tables, oids[:1]); err != nil {
			return nil, err
		}
	}
	if i := slices.IndexFunc(tables, func(t Table) bool { return t.OID == oid }); i >= 0 {
		return &tables[i], nil
	}
	return nil, nil
}

// tableSQL reads pg_class; relpages and reltuples are estimates, but unlike the
// size functions they wait for nobody's lock.
const tableSQL = `SELECT c.oid, n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), c.relkind::text, c.relfilenode,
	c.relreplident::text, coalesce(i.inhparent, 0)::oid, c.relispartition, c.relpersistence::text, c.reltuples::bigint,
	(c.relpages::bigint + coalesce(toast.relpages, 0)) * pg_catalog.current_setting('block_size')::bigint,
	EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid),
	c.relnatts, EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = c.oid),
	coalesce((SELECT y.xmin FROM pg_catalog.pg_type y WHERE y.oid = c.reltype), '0'::xid),
	pg_catalog.current_setting('server_encoding')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
WHERE c.relkind IN ('r', 'p') AND `

// loadTables reads the tables that a condition holds for. publish, unless nil,
// notes what is published of them before their keys are chosen.
func loadTables(ctx context.Context, q Querier, where string, arg any, publish func([]Table) error) ([]Table, error) {
	rows, err := q.Query(ctx, tableSQL+where+` ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`, arg)
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, scanTable)
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	index := make(map[uint32]*Table, len(tables))
	oids := make([]uint32, len(tables))
	for i := range tables {
		oids[i], index[tables[i].OID] = tables[i].OID, &tables[i]
	}
	if err := loadColumns(ctx, q, oids, index); err != nil {
		return nil, err
	}
	if publish != nil {
		if err := publish(tables); err != nil {
			return nil, err
		}
	}
	if err := loadKeys(ctx, q, oids, index); err != nil {
		return nil, err
	}
	for i := range tables {
		t := &tables[i]
		t.nameFields()
		if t.insertsOnly {
			t.Key, t.KeySource, t.KeyOID, t.keyObstacle = nil, "", 0, ""
		}
		switch {
		case t.Obstacle != "":
		case len(t.mirrored()) == 0:
			t.Obstacle = "it has no column that could be mirrored"
		case len(t.Key) == 0:
			t.Obstacle = t.keyObstacle
		}
	}
	return tables, nil
}

func scanTable(row pgx.CollectableRow) (Table, error) {
	var (
		t                           Table
		kind, identity, persistence string
		partition, parent           bool
		encoding                    string
	)
	err := row.Scan(&t.OID, &t.Schema, &t.Name, &t.Owner, &kind, &t.Relfilenode, &identity, &t.Parent, &partition, &persistence,
		&t.EstRows, &t.Bytes, &parent, &t.Attnums, &t.Named, &t.Moved, &encoding)
	if err != nil {
		return t, err
	}
	t.Kind, t.ReplicaIdentity, t.sqlASCII = kind[0], identity[0], encoding == "SQL_ASCII"
	switch {
	case t.Kind == 'p':
		t.Obstacle = "a partitioned table holds no rows itself; its partitions are mirrored each as a table of its own"
	case persistence == "u":
		t.Obstacle = "an unlogged table is not in the write-ahead log"
	case persistence == "t":
		t.Obstacle = "a temporary table is not in the write-ahead log"
	}
	return t, nil
}

const columnSQL = `SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod,
	pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '', a.xmin
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

func loadColumns(ctx context.Context, q Querier, oids []uint32, index map[uint32]*Table) error {
	rows, err := q.Query(ctx, columnSQL, oids)
	if err != nil {
		return fmt.Errorf("read columns: %w", err)
	}
	var rel uint32
	var c Column
	scan := []any{&rel, &c.Name, &c.Attnum, &c.TypeOID, &c.Typmod, &c.TypeName, &c.NotNull, &c.Generated, &c.Defined}
	var types []uint32
	if _, err = pgx.ForEachRow(rows, scan, func() error {
		index[rel].Columns = append(index[rel].Columns, c)
		types = append(types, c.TypeOID)
		return nil
	}); err != nil {
		return fmt.Errorf("read columns: %w", err)
	}
	slices.Sort(types)
	types = slices.Compact(types)
	known, err := loadTypes(ctx, q, types)
	if err != nil {
		return fmt.Errorf("read types: %w", err)
	}
	parts, err := loadParts(ctx, q, types)
	if err != nil {
		return fmt.Errorf("read what types are made of: %w", err)
	}
	for _, t := range index {
		for i := range t.Columns {
			c := &t.Columns[i]
			c.typ = known[c.TypeOID]
			if c.typ == nil {
				return fmt.Errorf("column %q of %s: its type %d is gone", c.Name, t, c.TypeOID)
			}
			c.Type, c.Loss = c.typ.mirror(c.Typmod)
			if p := parts[c.TypeOID]; p != nil {
				c.Attributes, c.Labels = p.attributes, p.labels
			}
		}
	}
	return nil
}

// keySQL lists the indexes that could be a key, the best first.
const keySQL = `SELECT x.indrelid, i.relname, x.indisprimary, x.indisreplident,
	coalesce((SELECT o.oid FROM pg_catalog.pg_constraint o WHERE o.conrelid = x.indrelid AND o.conindid = x.indexrelid AND o.contype IN ('p', 'u')), x.indexrelid),
	(SELECT pg_catalog.array_agg(k ORDER BY o) FROM pg_catalog.unnest(x.indkey::smallint[]) WITH ORDINALITY u(k, o) WHERE o <= x.indnkeyatts)
FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid = ANY ($1) AND x.indisunique AND x.indimmediate AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
ORDER BY x.indrelid, x.indisprimary DESC, x.indnkeyatts, i.relname COLLATE "C"`

func loadKeys(ctx context.Context, q Querier, oids []uint32, index map[uint32]*Table) error {
	rows, err := q.Query(ctx, keySQL, oids)
	if err != nil {
		return fmt.Errorf("read indexes: %w", err)
	}
	var (
		rel               uint32
		name              string
		primary, identity bool
		oid               uint32
		attnums           []int16
	)
	_, err = pgx.ForEachRow(rows, []any{&rel, &name, &primary, &identity, &oid, &attnums}, func() error {
		t := index[rel]
		source := "index " + name
		if primary {
			source = "primary key"
		}
		if t.Kind == 'p' {
			t.indexes = append(t.indexes, keyIndex{source, oid, attnums})
		}
		mayBe := map[byte]bool{'d': primary, 'i': identity, 'f': true}
		if len(t.Key) == 0 && mayBe[t.ReplicaIdentity] {
			t.setKey(attnums, source, oid)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read indexes: %w", err)
	}
	return nil
}

// setKey takes an index as the key unless one of its columns may be NULL or has
// an obstacle. Under FULL another one may do then.
func (t *Table) setKey(attnums []int16, source string, oid uint32) {
	key, obstacle := t.keyOf(attnums)
	switch {
	case obstacle != "":
		t.keyObstacle = obstacle
	case key != nil:
		t.Key, t.KeySource, t.KeyOID, t.identity = key, source, oid, key
	}
}

// keyOf is the positions of an index's columns, or nil if one may be NULL, and
// why they can't be a key.
func (t *Table) keyOf(attnums []int16) (key []int, obstacle string) {
	for _, n := range attnums {
		i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Attnum == n })
		if i < 0 || !t.Columns[i].NotNull {
			return nil, ""
		}
		if obstacle == "" {
			obstacle = t.Columns[i].keyObstacle()
		}
		key = append(key, i)
	}
	return key, obstacle
}

// keyObstacle says why a key can't have the column.
func (c *Column) keyObstacle() string {
	switch f := c.family(); {
	case c.Unpublished:
		return fmt.Sprintf("column %q of its key is not in the publication's column list", c.Name)
	case !c.Mirrored():
		return fmt.Sprintf("column %q of its key is generated, and the stream doesn't carry it", c.Name)
	case f == famArray || f == famHstore || f == famMoney:
		return fmt.Sprintf("column %q of its key is of type %s, by which rows can't be looked up", c.Name, c.TypeName)
	}
	return ""
}
