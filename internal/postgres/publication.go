package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

func publicationsExist(ctx context.Context, q Querier, publications []string) error {
	there, err := Publications(ctx, q, publications)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(publications), func(name string) bool { return there[name] != 0 })
	if len(missing) > 0 {
		return fmt.Errorf("there is no publication %q", strings.Join(missing, ", "))
	}
	return nil
}

// Publications are the oids of those of some publications that are there, by name.
func Publications(ctx context.Context, q Querier, names []string) (map[string]uint32, error) {
	rows, err := q.Query(ctx, "SELECT pubname::text, oid FROM pg_catalog.pg_publication WHERE pubname = ANY ($1)", names)
	if err != nil {
		return nil, fmt.Errorf("read publications: %w", err)
	}
	out := map[string]uint32{}
	var name string
	var oid uint32
	if _, err := pgx.ForEachRow(rows, []any{&name, &oid}, func() error { out[name] = oid; return nil }); err != nil {
		return nil, fmt.Errorf("read publications: %w", err)
	}
	return out, nil
}

// publicationTables is a query for the tables of the publications $1, as the view
// pg_publication_tables has them, with columns pub, relid, attrs (the listed columns,
// or NULL) and filtered. Unlike the view, which opens each table from PostgreSQL 16 on,
// it waits for nobody's lock; and it reads nothing but what its snapshot shows, where
// the view leaves out a table that was dropped and made again since.
func publicationTables(version int) string {
	attrs, filtered, schemas := "NULL::int2[]", "false", ""
	if version >= 150000 {
		attrs = "CASE WHEN NOT coalesce(n.whole, false) THEN r.prattrs::int2[] END"
		filtered = "NOT coalesce(n.whole, false) AND r.prqual IS NOT NULL"
		schemas = `UNION ALL SELECT s.pnpubid, c.oid, true FROM pg_catalog.pg_publication_namespace s JOIN tables c ON c.relnamespace = s.pnnspid`
	}
	return `WITH RECURSIVE tables AS NOT MATERIALIZED (SELECT c.oid, c.relkind, c.relnamespace, c.relispartition FROM pg_catalog.pg_class c
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384),
	pubs AS (SELECT p.oid, p.puballtables, p.pubviaroot FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($1)),
	named AS (SELECT pub, relid, pg_catalog.bool_or(whole) AS whole FROM (
		SELECT r.prpubid AS pub, r.prrelid AS relid, false AS whole FROM pg_catalog.pg_publication_rel r ` + schemas + `) every
		WHERE pub IN (SELECT oid FROM pubs) GROUP BY 1, 2),
	below AS (SELECT n.pub, i.inhrelid AS relid FROM named n JOIN pg_catalog.pg_inherits i ON i.inhparent = n.relid JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
			WHERE c.relispartition AND NOT i.inhdetachpending
		UNION SELECT b.pub, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.relid JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
			WHERE c.relispartition AND NOT i.inhdetachpending),
	member AS (SELECT p.oid AS pub, c.oid AS relid FROM pubs p CROSS JOIN tables c
			WHERE p.puballtables AND CASE WHEN p.pubviaroot THEN NOT c.relispartition ELSE c.relkind = 'r' END
		UNION SELECT x.pub, x.relid FROM (SELECT pub, relid FROM named EXCEPT SELECT pub, relid FROM below) x JOIN pubs p ON p.oid = x.pub JOIN tables c ON c.oid = x.relid
			WHERE p.pubviaroot
		UNION SELECT x.pub, x.relid FROM (SELECT pub, relid FROM named UNION SELECT pub, relid FROM below) x JOIN pubs p ON p.oid = x.pub JOIN tables c ON c.oid = x.relid
			WHERE NOT p.pubviaroot AND c.relkind = 'r')
	SELECT m.pub, m.relid, ` + attrs + ` AS attrs, ` + filtered + ` AS filtered FROM member m
	LEFT JOIN named n ON n.pub = m.pub AND n.relid = m.relid LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = m.pub AND r.prrelid = m.relid`
}

func serverVersion(ctx context.Context, q Querier) (version int, err error) {
	rows, err := q.Query(ctx, "SELECT pg_catalog.current_setting('server_version_num')::int")
	if err == nil {
		version, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	}
	if err != nil {
		return 0, fmt.Errorf("read the server's version: %w", err)
	}
	return version, nil
}

// applyPublication notes what of the tables is published: which columns, and
// which tables are filtered by rows. Both exist from PostgreSQL 15 on. Generated columns
// are streamed from 18 on, when they are listed or their publication says so.
func applyPublication(ctx context.Context, q Querier, version int, publications []string, tables []Table) error {
	stored := "false"
	if version >= 180000 {
		stored = "u.pubgencols = 's'"
	}
	rows, err := q.Query(ctx, `WITH published AS (`+publicationTables(version)+`)
		SELECT p.relid, p.attrs IS NOT NULL OR `+stored+`,
			coalesce((SELECT pg_catalog.array_agg(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid = p.relid AND a.attnum > 0
				AND (a.attnum = ANY (p.attrs) OR p.attrs IS NULL AND a.attgenerated IN ('', 's'))), '{}'),
			p.filtered, u.pubinsert, u.pubupdate, u.pubdelete, u.pubtruncate
		FROM published p JOIN pg_catalog.pg_publication u ON u.oid = p.pub`, publications)
	if err != nil {
		return fmt.Errorf("read the publications' tables: %w", err)
	}
	index := make(map[uint32]*Table, len(tables))
	for i := range tables {
		index[tables[i].OID] = &tables[i]
	}
	var (
		relid    uint32
		hasList  bool
		columns  []string
		filtered bool
		now      operations
	)
	_, err = pgx.ForEachRow(rows, []any{&relid, &hasList, &columns, &filtered, &now.insert, &now.update, &now.delete, &now.truncate}, func() error {
		t := index[relid]
		if t == nil {
			return nil // published since the tables were listed; the next look finds it
		}
		t.published = true
		o := &t.operations
		*o = operations{o.insert || now.insert, o.update || now.update, o.delete || now.delete, o.truncate || now.truncate}
		if hasList {
			t.publish(columns, version >= 180000)
		}
		if filtered {
			t.Obstacle = "its publication has a row filter, which is not built yet"
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the publications' tables: %w", err)
	}
	for i := range tables {
		tables[i].judgeOperations()
	}
	return nil
}

// judgeOperations says what the published operations make of the table. Without its
// updates and deletes it is like one without a key, whatever keys it has; what else is
// left out would be lost.
func (t *Table) judgeOperations() {
	o := t.operations
	t.OtherChanges = o.update || o.delete
	t.insertsOnly = t.published && !t.OtherChanges
	if t.published && t.Obstacle == "" && (!o.insert || !o.truncate || o.update != o.delete) {
		t.Passing, t.Obstacle = true, "its publications leave out some of what is done to its rows; publish = 'insert, update, delete, truncate', or 'insert, truncate' of a table without a key"
	}
}

// Refusal is a table whose updates and deletes PostgreSQL refuses, because a
// publication publishes them and the table has no replica identity to tell its rows
// apart by.
type Refusal struct {
	Schema, Table string
	Publication   string
	Mend          string // the statement that ends it; "" when the publication has all tables, or all of a schema
	May           bool   // whether we may execute that
}

// Refused lists the refused tables of some publications.
func Refused(ctx context.Context, q Querier, publications []string) ([]Refusal, error) {
	version, err := serverVersion(ctx, q)
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, `WITH published AS (`+publicationTables(version)+`) SELECT n.nspname, c.relname, p.pubname,
			coalesce((SELECT pg_catalog.format('ALTER PUBLICATION %I DROP TABLE %I.%I', p.pubname, m.relnamespace::regnamespace::name, m.relname)
				FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_class m ON m.oid = r.prrelid
				WHERE r.prpubid = p.oid AND r.prrelid IN (SELECT c.oid UNION SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) a) LIMIT 1), ''),
			pg_catalog.pg_has_role(p.pubowner, 'USAGE')
		FROM published t JOIN pg_catalog.pg_publication p ON p.oid = t.pub
		JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE (p.pubupdate OR p.pubdelete) AND c.relkind = 'r' AND c.relreplident <> 'f' AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
			AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END)
		ORDER BY 1, 2, 3`, publications)
	if err != nil {
		return nil, fmt.Errorf("look for tables without replica identity: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Refusal])
	if err != nil {
		return nil, fmt.Errorf("look for tables without replica identity: %w", err)
	}
	return out, nil
}

// Touched counts the rows of tables that were ever updated or deleted, by the
// server's statistics, which lag a second or so behind and may begin anew.
func Touched(ctx context.Context, q Querier, oids []uint32) (n int64, err error) {
	rows, err := q.Query(ctx, `SELECT coalesce(sum(pg_catalog.pg_stat_get_tuples_updated(o) + pg_catalog.pg_stat_get_tuples_deleted(o)), 0)::bigint
		FROM pg_catalog.unnest($1::oid[]) o`, oids)
	if err == nil {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return 0, fmt.Errorf("read the tables' statistics: %w", err)
	}
	return n, nil
}

func loadMembers(ctx context.Context, q Querier, version int, publications []string, tables []Table) error {
	schemas := ""
	if version >= 150000 {
		schemas = `UNION ALL SELECT c.oid, s.oid FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_publication p ON p.oid = s.pnpubid
			JOIN pg_catalog.pg_class c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p') WHERE p.pubname = ANY ($1)`
	}
	rows, err := q.Query(ctx, `SELECT r.prrelid, r.oid FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
		WHERE p.pubname = ANY ($1) `+schemas+` ORDER BY 2`, publications)
	if err != nil {
		return fmt.Errorf("read what the publications name: %w", err)
	}
	members := map[uint32][]uint32{}
	var table, member uint32
	_, err = pgx.ForEachRow(rows, []any{&table, &member}, func() error {
		members[table] = append(members[table], member)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what the publications name: %w", err)
	}
	for i := range tables {
		tables[i].Members = members[tables[i].OID]
	}
	return nil
}

// publish leaves out what isn't among the published columns; generated says whether
// generated ones that are there are streamed.
func (t *Table) publish(columns []string, generated bool) {
	for i := range t.Columns {
		c := &t.Columns[i]
		published := slices.Contains(columns, c.Name)
		if c.Generated {
			c.Streamed = published && generated
		} else if !published {
			c.Unpublished = true
		}
	}
}
