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
			coalesce(j ->> 'rowfilter', '')
		FROM pg_catalog.pg_publication_tables p, pg_catalog.to_jsonb(p) j
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
	)
	_, err = pgx.ForEachRow(rows, []any{&schema, &name, &hasList, &columns, &filter}, func() error {
		t := index[[2]string{schema, name}]
		if t == nil {
			return nil // published since the tables were listed; the next look finds it
		}
		t.published = true
		if hasList {
			t.publish(columns)
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

// publish leaves out what isn't among the published columns. A generated one is
// among them when the stream carries it.
func (t *Table) publish(columns []string) {
	for i := range t.Columns {
		c := &t.Columns[i]
		published := slices.Contains(columns, c.Name)
		if c.Generated {
			c.Streamed = published
		} else if !published {
			c.Unpublished = true
		}
	}
}
