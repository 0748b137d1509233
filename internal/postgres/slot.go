package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SlotCreated is a new slot and the snapshot that begins where it begins: what
// committed before ConsistentPoint is in the snapshot, what commits at or after
// it is in the stream, and nothing is in both.
type SlotCreated struct {
	Name            string
	ConsistentPoint LSN
	Snapshot        string // for OpenSnapshot, as long as the connection stays idle
}

// CreateSlot makes a logical slot for pgoutput over a replication connection and
// exports its snapshot, which lives until the next command on repl or its end.
// From PostgreSQL 17 on the slot is a failover slot. It blocks until every
// transaction that is in progress has ended; ctx ends the wait and the connection.
func CreateSlot(ctx context.Context, repl *pgconn.PgConn, name string) (SlotCreated, error) {
	options := "LOGICAL pgoutput EXPORT_SNAPSHOT"
	if serverMajor(repl) >= 17 {
		options = "LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER)"
	}
	return createSlot(ctx, repl, name, options)
}

// AdvanceSlot moves a temporary slot, which repl has made, beyond at. The server
// decodes its log up to there for that, and at every place where it notes which
// transactions run it keeps what it knows of them in a file, by which any slot that
// begins to decode there is consistent at once. It blocks for as long as the log
// since the slot's creation takes to decode
// (https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION).
func AdvanceSlot(ctx context.Context, repl *pgconn.PgConn, name string, at LSN) error {
	row, err := replicationRow(ctx, repl, fmt.Sprintf("SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance('%s', '%s')", strings.ReplaceAll(name, "'", "''"), at), 1)
	if err != nil {
		return fmt.Errorf("advance slot %q: %w", name, err)
	}
	if got, err := ParseLSN(row[0]); err != nil || got < at {
		return fmt.Errorf("advance slot %q: it came to %s, not to %s", name, row[0], at)
	}
	return nil
}

// CreateTemporarySlot is CreateSlot for a slot that ends with the connection.
func CreateTemporarySlot(ctx context.Context, repl *pgconn.PgConn, name string) (SlotCreated, error) {
	return createSlot(ctx, repl, name, "TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT")
}

// KeepSnapshot takes over a snapshot that was exported with a slot, which needn't be
// there any longer then. What it returns is for OpenSnapshot while conn lives.
func KeepSnapshot(ctx context.Context, e Endpoint, snapshot string) (conn *pgx.Conn, kept string, err error) {
	if conn, err = e.Connect(ctx); err != nil {
		return nil, "", err
	}
	_, err = conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+quoteLiteral(snapshot))
	if err == nil {
		err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot()").Scan(&kept)
	}
	if err != nil {
		_ = conn.Close(ctx) // the first error is the one to tell
		return nil, "", fmt.Errorf("keep snapshot %q: %w", snapshot, err)
	}
	return conn, kept, nil
}

func createSlot(ctx context.Context, repl *pgconn.PgConn, name, options string) (SlotCreated, error) {
	row, err := replicationRow(ctx, repl, "CREATE_REPLICATION_SLOT "+quoteIdent(name)+" "+options, 4)
	if err != nil {
		return SlotCreated{}, fmt.Errorf("create slot %q: %w", name, err)
	}
	lsn, err := ParseLSN(row[1])
	if err != nil {
		return SlotCreated{}, fmt.Errorf("create slot %q: %w", name, err)
	}
	return SlotCreated{Name: row[0], ConsistentPoint: lsn, Snapshot: row[2]}, nil
}

// System identifies the server: a number given by initdb that all its replicas
// share, its timeline and how far its log is written.
func System(ctx context.Context, repl *pgconn.PgConn) (systemID string, timeline int32, at LSN, err error) {
	row, err := replicationRow(ctx, repl, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return "", 0, 0, fmt.Errorf("identify the system: %w", err)
	}
	n, err := strconv.ParseInt(row[1], 10, 32)
	if err != nil {
		return "", 0, 0, fmt.Errorf("identify the system: timeline: %w", err)
	}
	if at, err = ParseLSN(row[2]); err != nil {
		return "", 0, 0, fmt.Errorf("identify the system: %w", err)
	}
	return row[0], int32(n), at, nil
}

// Ancestor is a timeline that another one descends from.
type Ancestor struct {
	Timeline int32
	End      LSN // where its descendant left it: what it holds at or beyond that, the descendant hasn't
}

// TimelineHistory lists the ancestors of a timeline, the oldest first.
func TimelineHistory(ctx context.Context, repl *pgconn.PgConn, timeline int32) ([]Ancestor, error) {
	row, err := replicationRow(ctx, repl, fmt.Sprintf("TIMELINE_HISTORY %d", timeline), 2)
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", timeline, err)
	}
	out, err := parseHistory(row[1])
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", timeline, err)
	}
	return out, nil
}

// parseHistory reads a timeline history file: a line an ancestor, its number, its
// end and the reason, or a comment.
func parseHistory(file string) ([]Ancestor, error) {
	var out []Ancestor
	for line := range strings.Lines(file) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %q has no end", line)
		}
		n, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil {
			return nil, err
		}
		end, err := ParseLSN(fields[1])
		if err != nil {
			return nil, err
		}
		out = append(out, Ancestor{int32(n), end})
	}
	return out, nil
}

// replicationRow runs a replication command that answers with one row.
func replicationRow(ctx context.Context, repl *pgconn.PgConn, command string, columns int) ([]string, error) {
	results, err := repl.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < columns {
		return nil, errors.New("the server's answer is not one row")
	}
	row := make([]string, columns)
	for i := range row {
		row[i] = string(results[0].Rows[0][i])
	}
	return row, nil
}

// SlotInfo is a slot as pg_replication_slots shows it.
type SlotInfo struct {
	Name, Plugin, Database string
	WALStatus              string // reserved, extended, unreserved or lost
	Temporary              bool
	Active                 bool
	ActivePID              int // 0 when not active
	ConfirmedFlush         LSN
	RestartLSN             LSN   // 0 when the slot holds no log (any more)
	RetainedBytes          int64 // of log held for the slot
	SafeWALSize            int64 // bytes that may still be written before the slot is in danger of being lost; -1: no limit is set
}

// Slot looks a slot up; ok is false when there is none of that name.
func Slot(ctx context.Context, q Querier, name string) (info SlotInfo, ok bool, err error) {
	rows, err := q.Query(ctx, `SELECT s.slot_name, coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.wal_status, ''),
			s.temporary, s.active, coalesce(s.active_pid, 0), coalesce(s.confirmed_flush_lsn, '0/0')::text, coalesce(s.restart_lsn, '0/0')::text,
			coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
				ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn), 0)::bigint, coalesce(s.safe_wal_size, -1)
		FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1`, name)
	if err != nil {
		return info, false, fmt.Errorf("look up slot %q: %w", name, err)
	}
	var flush, restart string
	err = pgx.ErrNoRows
	_, scanErr := pgx.ForEachRow(rows, []any{&info.Name, &info.Plugin, &info.Database, &info.WALStatus, &info.Temporary, &info.Active,
		&info.ActivePID, &flush, &restart, &info.RetainedBytes, &info.SafeWALSize}, func() error {
		info.ConfirmedFlush, err = ParseLSN(flush)
		if err == nil {
			info.RestartLSN, err = ParseLSN(restart)
		}
		return err
	})
	switch {
	case scanErr != nil:
		return info, false, fmt.Errorf("look up slot %q: %w", name, scanErr)
	case errors.Is(err, pgx.ErrNoRows):
		return info, false, nil
	}
	return info, true, nil
}
