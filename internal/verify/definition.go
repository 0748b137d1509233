package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// errRedefined means that a table is another than it was when it was begun with:
// it has to be begun anew. Possibly wrapped.
var errRedefined = errors.New("the table was redefined, dropped or renamed while it was compared")

// lockWait is how long a table that somebody holds locked is waited for. Nobody
// waits for us meanwhile who didn't already wait for them.
const lockWait = 2 * time.Minute

// atSource calls fn in a transaction with one snapshot, and with the table's
// definition in it. The table is locked before the snapshot is taken: to an older
// one, what TRUNCATE or a rewriting ALTER leaves behind looks empty. While the
// lock is held neither can come.
func (c *comparison) atSource(ctx context.Context, fn func(*postgres.Table) error) error {
	tx, err := c.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // it has read only; a broken session ends it anyway
	if err := c.lock(ctx); err != nil {
		return err
	}
	listed := c.pair.source
	t, err := postgres.Definition(ctx, c.conn, listed.OID, c.cfg.Publications) // its first query takes the snapshot
	switch {
	case err != nil:
		return err
	case t == nil || t.Schema != listed.Schema || t.Name != listed.Name:
		return errRedefined // and what was locked is another table, or was
	case t.Kind == 'p':
		if err := c.lockNewLeaves(ctx); err != nil {
			return err
		}
	}
	return fn(t)
}

// lock locks the table, of a partitioned one all that hold its rows. It takes no
// snapshot.
func (c *comparison) lock(ctx context.Context) error {
	t := c.pair.source
	only := "ONLY "
	if t.Kind == 'p' {
		only = ""
	}
	_, err := c.conn.Exec(ctx, "LOCK TABLE "+only+t.SQLName()+" IN ACCESS SHARE MODE")
	pgErr, said := errors.AsType[*pgconn.PgError](err)
	switch {
	case postgres.IsLockTimeout(err):
		return fmt.Errorf("another session has held the source's table locked for %s: verify it again: %w", c.cfg.lockWait, err)
	case said && (pgErr.Code == "42P01" || pgErr.Code == "3F000"): // no such table, or schema
		return fmt.Errorf("%w: %w", errRedefined, err)
	case err != nil:
		return fmt.Errorf("lock the source's table: %w", err)
	}
	return nil
}

// lockNewLeaves locks partitions that were attached after the lock and before the
// snapshot, and refuses a snapshot that is older than what is in one of them.
func (c *comparison) lockNewLeaves(ctx context.Context) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	var same bool
	err := c.conn.QueryRow(ctx, `WITH RECURSIVE below AS (SELECT $1::oid AS oid
			UNION ALL SELECT i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid)
		SELECT coalesce(pg_catalog.bool_and(c.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)), false)
		FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid WHERE c.relkind = 'r' HAVING pg_catalog.count(*) > 0`, c.pair.source.OID).Scan(&same)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // it has no partitions
		return nil
	case err != nil:
		return fmt.Errorf("look at the partitions: %w", err)
	case !same:
		return errRedefined
	}
	return nil
}

// shape is what of a table's definition decides how its rows are read and told
// apart.
func shape(t *postgres.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c %d\n", t.Kind, t.Key)
	for i := range t.Columns {
		c := &t.Columns[i]
		fmt.Fprintf(&b, "%q %d %d %d %q %t %d %q %v\n", c.Name, c.Attnum, c.TypeOID, c.Typmod, c.TypeName, c.Mirrored(), c.Defined, c.Attributes, c.Labels)
	}
	return b.String()
}
