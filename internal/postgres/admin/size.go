package admin

import "context"

// TablesSize is what tables hold in bytes, with their partitions and TOAST and
// without their indexes.
func (s *Session) TablesSize(ctx context.Context, oids []uint32) (int64, error) {
	size, err := one[int64](ctx, s, `SELECT coalesce(sum(pg_catalog.pg_table_size(x.oid)), 0)::bigint FROM (
		SELECT t.oid FROM pg_catalog.unnest($1::oid[]) t (oid)
		UNION SELECT p.relid FROM pg_catalog.unnest($1::oid[]) t (oid), pg_catalog.pg_partition_tree(t.oid) p) x`, oids)
	return size, wrap("read the size of the tables", err)
}
