package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// pause waits for d, or for the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// await asks done every few milliseconds until it says so, fails, or limit has
// passed; then the error says what was waited for.
func await(ctx context.Context, what string, limit time.Duration, done func(context.Context) (bool, error)) error {
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := done(timed)
		if ok {
			return nil
		}
		if err != nil && timed.Err() == nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if pause(timed, 20*time.Millisecond) != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &failure{Exit: exitTimeout, Code: "TimedOut", Err: fmt.Errorf("%s: not within %s", what, seconds(limit))}
		}
	}
}

// sqlState is PostgreSQL's code for err, or "" when the server did not say one.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
