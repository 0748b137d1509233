package admin

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// TryLock takes an advisory lock for as long as the session lives; when another
// one has it, holder is that one's application_name, as far as it may be seen.
func (s *Session) TryLock(ctx context.Context, key int64) (got bool, holder string, err error) {
	got, err = one[bool](ctx, s, `SELECT pg_catalog.pg_try_advisory_lock($1)`, key)
	if err != nil || got {
		return got, "", wrap("take the lock", err)
	}
	holder, err = one[string](ctx, s, `SELECT coalesce(a.application_name, '') FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::bigint << 32 | l.objid::bigint) = $1
		AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) LIMIT 1`, key)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, "", nil // it has just ended
	}
	return false, holder, wrap("ask who has the lock", err)
}
