package admin

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CDCInstalled reports whether the extension azure_cdc is in the database. A
// schema of that name proves nothing: people have made one by hand.
func (s *Session) CDCInstalled(ctx context.Context) (bool, error) {
	ok, err := one[bool](ctx, s, `SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'azure_cdc')`)
	return ok, wrap("look for azure_cdc", err)
}

// Verdict is one thing that azure_cdc says about the server or a table.
type Verdict struct {
	Status  string `json:"status"`      // OK, WARNING, ERROR
	Code    string `json:"status_code"` // MAX_WORKER_PROCESSES_TOO_LOW, HAS_PRIMARY_KEY, …
	Details struct {
		Current  any    `json:"current_value"`
		Required any    `json:"required_value"`
		Message  string `json:"message"`
	} `json:"details"`
}

// Prerequisites asks azure_cdc what the server lacks; none means that it is
// ready. The answer is about the session's own role.
func (s *Session) Prerequisites(ctx context.Context) ([]Verdict, error) {
	rows, err := s.conn.Query(ctx, `SELECT status, coalesce(data, '[]')::text FROM azure_cdc.check_prerequisites()`)
	if err != nil {
		return nil, fmt.Errorf("ask azure_cdc for prerequisites: %w", err)
	}
	var status, data string
	if _, err := pgx.ForEachRow(rows, []any{&status, &data}, func() error { return nil }); err != nil {
		return nil, fmt.Errorf("ask azure_cdc for prerequisites: %w", err)
	}
	all, err := verdicts(data)
	if err != nil || status == "OK" {
		return nil, err
	}
	missing := notOK(all)
	if len(missing) == 0 {
		missing = []Verdict{{Status: status, Code: "UNKNOWN"}}
	}
	return missing, nil
}

// TableVerdict is what azure_cdc says about a table, for the session's own role.
type TableVerdict struct {
	Schema, Table string
	Status        string // OK, WARNING, ERROR
	Verdicts      []Verdict
}

// TableVerdicts asks azure_cdc about all tables.
func (s *Session) TableVerdicts(ctx context.Context) ([]TableVerdict, error) {
	rows, err := s.conn.Query(ctx, `SELECT table_schema::text, table_name::text, mirroring_status::text, coalesce(mirroring_data, '[]')::text
		FROM azure_cdc.get_all_tables_mirror_status()`)
	if err != nil {
		return nil, fmt.Errorf("ask azure_cdc for its tables: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t TableVerdict, err error) {
		var data string
		if err := row.Scan(&t.Schema, &t.Table, &t.Status, &data); err != nil {
			return t, err
		}
		t.Verdicts, err = verdicts(data)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("ask azure_cdc for its tables: %w", err)
	}
	return list, nil
}

// verdicts reads a list of them, or one alone.
func verdicts(data string) ([]Verdict, error) {
	var list []Verdict
	if json.Unmarshal([]byte(data), &list) == nil {
		return list, nil
	}
	var v Verdict
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return nil, fmt.Errorf("read azure_cdc's answer: %w", err)
	}
	return []Verdict{v}, nil
}

func notOK(all []Verdict) []Verdict {
	var out []Verdict
	for _, v := range all {
		if v.Status != "OK" {
			out = append(out, v)
		}
	}
	return out
}

// Complaints are what azure_cdc says is wrong with the server as a whole.
func (s *Session) Complaints(ctx context.Context) ([]string, error) {
	codes, err := many[string](ctx, s, `SELECT DISTINCT error_code::text FROM azure_cdc.get_health_status('', '')
		WHERE error_type = 'S' ORDER BY 1`)
	return codes, wrap("ask azure_cdc for its health", err)
}

// ExtensionTables are the oids of tables that belong to an extension: they are
// never mirrored.
func (s *Session) ExtensionTables(ctx context.Context) (map[uint32]bool, error) {
	oids, err := many[uint32](ctx, s, `SELECT objid FROM pg_catalog.pg_depend
		WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_extension'::regclass AND deptype = 'e'`)
	if err != nil {
		return nil, fmt.Errorf("read the extensions' tables: %w", err)
	}
	out := map[uint32]bool{}
	for _, o := range oids {
		out[o] = true
	}
	return out, nil
}
