package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Listing is a way in which PublishedTables lists tables.
type Listing int

// WithLeaves lists a partitioned table that is published once, with the
// partitions that hold its rows as its Leaves and not beside it: changes come
// from the leaves, under their oids, and are the partitioned table's. Its schema
// and key are its own; EstRows and Bytes are the leaves' together. It has an
// Obstacle when one of them can't be mirrored as a part of it, or when a
// publication has publish_via_partition_root on. One whose Obstacle is "" may
// have no leaves yet. Of partitioned tables one in another the topmost that is
// published is listed; partitions that are published without a table above them
// stay tables of their own.
const WithLeaves Listing = 1

// GroupLeaves lists tables, as Tables gives them, as WithLeaves does: every
// partitioned table whose parent isn't among them takes its leaves. What isn't published
// yet needs no key: only of a primary key its leaves have to carry the columns.
func GroupLeaves(ctx context.Context, q Querier, tables []Table) ([]Table, error) {
	var roots []uint32
	tables = slices.Clone(tables)
	for i := range tables {
		t := &tables[i]
		if t.Kind == 'p' && !slices.ContainsFunc(tables, func(o Table) bool { return o.OID == t.Parent }) {
			roots, t.keyless = append(roots, t.OID), true
		}
	}
	return groupLeaves(ctx, q, tables, roots)
}

// publishedRoots are the partitioned tables that publications name, themselves
// or with their schema or all tables, and that are in no other such one.
func publishedRoots(ctx context.Context, q Querier, version int, publications []string) ([]uint32, error) {
	schemas := ""
	if version >= 150000 {
		schemas = `OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)`
	}
	rows, err := q.Query(ctx, `WITH named AS (
			SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'p' AND EXISTS (
				SELECT FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($1) AND (p.puballtables
					OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid) `+schemas+`)))
		SELECT oid FROM named n WHERE NOT EXISTS (
			SELECT FROM pg_catalog.pg_partition_ancestors(n.oid) a JOIN named o ON o.oid = a.relid WHERE o.oid <> n.oid)`, publications)
	if err != nil {
		return nil, fmt.Errorf("read published partitioned tables: %w", err)
	}
	roots, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, fmt.Errorf("read published partitioned tables: %w", err)
	}
	return roots, nil
}

// partition is a table below a partitioned one, at any depth.
type partition struct {
	Root, OID uint32
	Kind      string
	Name      string // with its schema
	Links     string // what attached it and the partitions above it, by the transactions that did
}

// loadPartitions reads what is below each root. pg_partition_tree would show what
// is there by now, whatever the transaction's snapshot.
func loadPartitions(ctx context.Context, q Querier, roots []uint32) ([]partition, error) {
	rows, err := q.Query(ctx, `WITH RECURSIVE below (root, oid, links) AS (
			SELECT r, r, '' FROM pg_catalog.unnest($1::oid[]) r
			UNION ALL
			SELECT b.root, i.inhrelid, b.links || ' ' || i.xmin::text FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid WHERE NOT i.inhdetachpending)
		SELECT b.root, c.oid, c.relkind::text, n.nspname || '.' || c.relname, b.links
		FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE b.oid <> b.root`, roots)
	if err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	return parts, nil
}

// groupLeaves makes the tables below each root its leaves. Roots and leaves that
// aren't among the tables are read.
func groupLeaves(ctx context.Context, q Querier, tables []Table, roots []uint32) ([]Table, error) {
	parts, err := loadPartitions(ctx, q, roots)
	if err != nil {
		return nil, err
	}
	wanted := slices.Clone(roots)
	for _, p := range parts {
		if p.Kind == "r" {
			wanted = append(wanted, p.OID)
		}
	}
	for _, t := range tables {
		wanted = slices.DeleteFunc(wanted, func(oid uint32) bool { return oid == t.OID })
	}
	more, err := loadTables(ctx, q, "c.oid = ANY ($1)", wanted, nil)
	if err != nil {
		return nil, err
	}
	byOID := map[uint32]Table{}
	for _, t := range append(tables, more...) {
		byOID[t.OID] = t
	}
	for _, oid := range roots {
		root, ok := byOID[oid]
		if !ok {
			continue // dropped meanwhile
		}
		root.takeLeaves(parts, byOID)
		byOID[oid] = root
	}
	return sortedTables(byOID), nil
}

// takeLeaves moves the table's leaves out of all and into it.
func (t *Table) takeLeaves(parts []partition, all map[uint32]Table) {
	t.Obstacle, t.Bytes, t.EstRows = "", 0, -1
	if t.published {
		t.Obstacle = "its publication has publish_via_partition_root on, under which a partition's own TRUNCATE isn't sent; ALTER PUBLICATION … SET (publish_via_partition_root = false)"
	}
	for _, p := range parts {
		if p.Root != t.OID {
			continue
		}
		leaf, ok := all[p.OID]
		delete(all, p.OID)
		switch {
		case p.Kind == "r" && ok:
			leaf.Links = p.Links
			t.Leaves = append(t.Leaves, leaf)
			t.Bytes += leaf.Bytes
			if leaf.EstRows >= 0 {
				t.EstRows = max(t.EstRows, 0) + leaf.EstRows
			}
		case p.Kind != "p" && p.Kind != "r" && t.Obstacle == "":
			t.Obstacle = fmt.Sprintf("its partition %s is a foreign table, which is not in the write-ahead log", p.Name)
		}
	}
	slices.SortFunc(t.Leaves, compareTables)
	t.unite()
}

// unite makes the leaves one table.
func (t *Table) unite() {
	for i := range t.Columns {
		c := &t.Columns[i]
		c.Streamed = c.Generated && len(t.Leaves) > 0
		for _, l := range t.Leaves {
			c.Streamed = c.Streamed && slices.ContainsFunc(l.Columns, func(o Column) bool { return o.Name == c.Name && o.Streamed })
		}
	}
	t.OtherChanges = slices.ContainsFunc(t.Leaves, func(l Table) bool { return l.OtherChanges })
	t.chooseKey()
	if t.Obstacle == "" && len(t.mirrored()) == 0 {
		t.Obstacle = "it has no column that could be mirrored"
	}
	for i := range t.Leaves {
		t.adopt(&t.Leaves[i])
	}
}

// adopt gives a leaf the key of the whole.
func (t *Table) adopt(leaf *Table) {
	if leaf.Obstacle == leaf.keyObstacle {
		leaf.Obstacle = "" // its own key is of no matter
	}
	leaf.Key, leaf.KeySource, leaf.KeyOID = nil, "", 0
	if t.Obstacle != "" {
		return
	}
	if leaf.Obstacle != "" {
		t.Obstacle, t.Passing = fmt.Sprintf("its partition %s: %s", leaf, leaf.Obstacle), leaf.Passing
	} else if _, err := t.LeafDecoder(leaf); err != nil {
		t.Obstacle = err.Error()
	} else {
		leaf.Key, leaf.KeySource, leaf.KeyOID = leaf.positions(t.keyNames(t.Key)), t.KeySource, t.KeyOID
	}
}

// chooseKey takes the first unique index of the whole table whose columns every
// leaf's replica identity carries. That of the partitioned table itself is of no
// matter to the stream.
func (t *Table) chooseKey() {
	t.Key, t.KeySource, t.KeyOID, t.identity = nil, "", 0, nil
	if slices.ContainsFunc(t.Leaves, func(l Table) bool { return l.insertsOnly }) {
		return // it has none, and what isn't published needs none
	}
	why := ""
	for _, x := range t.indexes {
		key, obstacle := t.keyOf(x.attnums)
		if key == nil {
			continue
		}
		names := t.keyNames(key)
		for i := range t.Leaves {
			if leaf := &t.Leaves[i]; obstacle == "" && !leaf.carries(names) {
				obstacle = fmt.Sprintf("the replica identity of its partition %s doesn't have the columns of its key (%s)", leaf, strings.Join(names, ", "))
			}
		}
		if obstacle == "" {
			t.Key, t.KeySource, t.KeyOID = key, x.source, x.oid
			return
		}
		if x.source == "primary key" || !t.keyless {
			why = cmp.Or(why, obstacle)
		}
	}
	t.Obstacle = cmp.Or(t.Obstacle, why)
}

func (t *Table) keyNames(key []int) []string {
	names := make([]string, len(key))
	for k, i := range key {
		names[k] = t.Columns[i].Name
	}
	return names
}

// positions are where the table has the named columns, which it has.
func (t *Table) positions(names []string) []int {
	var out []int
	for _, name := range names {
		out = append(out, slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name }))
	}
	return out
}

// carries says whether the old values of these columns come with every UPDATE
// and DELETE that changes them.
func (t *Table) carries(names []string) bool {
	own := t.keyNames(t.identity)
	return t.ReplicaIdentity == 'f' || !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(own, n) })
}

func sortedTables(byOID map[uint32]Table) []Table {
	var out []Table
	for _, t := range byOID {
		out = append(out, t)
	}
	slices.SortFunc(out, compareTables)
	return out
}

func compareTables(a, b Table) int {
	return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name, b.Name))
}
