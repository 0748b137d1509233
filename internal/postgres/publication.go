package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

func publicationsExist(ctx context.Context, q Querier, publications []string) error {
	rows, err := q.Query(ctx, `SELECT p FROM pg_catalog.unnest($1::text[]) p
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = p)`, publications)
	if err != nil {
		return fmt.Errorf("read publications: %w", err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read publications: %w", err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("there is no publication %q", strings.Join(missing, ", "))
	}
	return nil
}

// applyPublication notes what of the tables is published: which columns, and
// which tables are filtered by rows. Both exist from PostgreSQL 15 on; the view's rows
// are read as JSON, which has no such keys before.
func applyPublication(ctx context.Context, q Querier, publications []string, tables []Table) error {
	rows, err := q.Query(ctx, `SELECT p.schemaname, p.tablename, j -> 'attnames' IS NOT NULL,
			coalesce((SELECT pg_catalog.array_agg(a) FROM pg_catalog.jsonb_array_elements_text(j -> 'attnames') a), '{}'),
			coalesce(j ->> 'rowfilter', ''), u.pubupdate OR u.pubdelete,
			pg_catalog.current_setting('server_version_num')::int >= 180000
		FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_publication u USING (pubname), pg_catalog.to_jsonb(p) j
		WHERE p.pubname = ANY ($1)`, publications)
	if err != nil {
		return fmt.Errorf("read the publications' tables: %w", err)
	}
	index := make(map[[2]string]*Table, len(tables))
	for i := range tables {
		index[[2]string{tables[i].Schema, tables[i].Name}] = &tables[i]
	}
	var (
		schema, name string
		hasList      bool
		columns      []string
		filter       string
		others       bool
		generated    bool // generated columns are streamed when they are listed; before, they are listed and yet aren't
	)
	_, err = pgx.ForEachRow(rows, []any{&schema, &name, &hasList, &columns, &filter, &others, &generated}, func() error {
		t := index[[2]string{schema, name}]
		if t == nil {
			return nil // published since the tables were listed; the next look finds it
		}
		t.published = true
		t.OtherChanges = t.OtherChanges || others
		if hasList {
			t.publish(columns, generated)
		}
		if filter != "" {
			t.Obstacle = "its publication has a row filter, which is not built yet"
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the publications' tables: %w", err)
	}
	return nil
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
	rows, err := q.Query(ctx, `SELECT n.nspname, c.relname, p.pubname,
			coalesce((SELECT pg_catalog.format('ALTER PUBLICATION %I DROP TABLE %I.%I', p.pubname, m.relnamespace::regnamespace::name, m.relname)
				FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_class m ON m.oid = r.prrelid
				WHERE r.prpubid = p.oid AND r.prrelid IN (SELECT c.oid UNION SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) a) LIMIT 1), ''),
			pg_catalog.pg_has_role(p.pubowner, 'USAGE')
		FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_tables t USING (pubname)
		JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
		WHERE p.pubname = ANY ($1) AND (p.pubupdate OR p.pubdelete) AND c.relkind = 'r' AND c.relreplident <> 'f' AND NOT EXISTS (
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

func loadMembers(ctx context.Context, q Querier, publications []string, tables []Table) error {
	rows, err := q.Query(ctx, `SELECT r.prrelid, r.oid FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
		WHERE p.pubname = ANY ($1) ORDER BY r.oid`, publications)
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

// publish leaves out what isn't among the published columns.
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
