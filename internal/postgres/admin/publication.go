package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Publication is a publication as the catalog has it.
type Publication struct {
	Name      string
	AllTables bool
	Updates   bool // it publishes updates or deletes
	ViaRoot   bool
	Tables    []string // schema.table, sorted
}

// Publication reads a publication; ok is false when there is none.
func (s *Session) Publication(ctx context.Context, name string) (p Publication, ok bool, err error) {
	rows, err := s.conn.Query(ctx, `SELECT pubname::text AS name, puballtables AS alltables, pubupdate OR pubdelete AS updates, pubviaroot AS viaroot,
		coalesce((SELECT array_agg(n.nspname || '.' || c.relname ORDER BY 1) FROM pg_catalog.pg_publication_rel r
			JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), '{}') AS tables
		FROM pg_catalog.pg_publication p WHERE pubname = $1`, name)
	if err != nil {
		return Publication{}, false, fmt.Errorf("read publication %s: %w", name, err)
	}
	p, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Publication])
	if errors.Is(err, pgx.ErrNoRows) {
		return Publication{}, false, nil
	}
	if err != nil {
		return Publication{}, false, fmt.Errorf("read publication %s: %w", name, err)
	}
	slices.Sort(p.Tables)
	return p, true, nil
}

// Member is a table of a publication.
type Member struct{ Schema, Table, Owner string }

func (m Member) String() string { return m.Schema + "." + m.Table }

// CreatePublication makes a publication of listed tables, never of all: a table
// made later without a key would have its updates refused. Leaves of partitioned
// tables are published as themselves, so that a leaf's TRUNCATE is seen.
func (s *Session) CreatePublication(ctx context.Context, name string, insertOnly bool, tables []Member) ([]Statement, error) {
	publish := "insert, update, delete, truncate"
	if insertOnly {
		publish = "insert, truncate"
	}
	sql := "CREATE PUBLICATION " + ident(name)
	if len(tables) > 0 {
		sql += " FOR TABLE " + names(tables)
	}
	sql += " WITH (publish = " + literal(publish) + ", publish_via_partition_root = false)"
	return s.as(ctx, []Statement{{"create publication " + name, sql}}, owners(tables)...)
}

// AddTables adds tables to a publication.
func (s *Session) AddTables(ctx context.Context, name string, tables []Member) ([]Statement, error) {
	return s.as(ctx, []Statement{{"add tables to publication " + name, "ALTER PUBLICATION " + ident(name) + " ADD TABLE " + names(tables)}}, owners(tables)...)
}

// SlotExists reports whether there is a replication slot of this name.
func (s *Session) SlotExists(ctx context.Context, name string) (bool, error) {
	ok, err := one[bool](ctx, s, `SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)`, name)
	return ok, wrap("look for slot "+name, err)
}

func names(tables []Member) string {
	out := make([]string, len(tables))
	for i, t := range tables {
		out[i] = ident(t.Schema, t.Table)
	}
	return strings.Join(out, ", ")
}

func owners(tables []Member) []string {
	var out []string
	for _, t := range tables {
		if !slices.Contains(out, t.Owner) {
			out = append(out, t.Owner)
		}
	}
	return out
}
