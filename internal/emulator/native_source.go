package emulator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/store"
)

// source makes ready what the mirror reads from: replica identities and a
// publication, as the connection's user, and the entry among azure_cdc's tracked
// publications.
func (m *mirrors) source(ctx context.Context, it *itemState, l login, decided []tableState) (NativeSource, error) {
	name := slotName(it)
	root, err := store.OpenDir(m.folder(it))
	if err != nil {
		return NativeSource{}, fmt.Errorf("open the item's folder: %w", err)
	}
	src := NativeSource{Host: l.host, Port: l.port, Database: l.db, User: l.user, Password: l.password, CAPEM: m.db.ca.pem,
		Landing: store.Sub(root, landingZone), Slot: name, Publication: name}
	var taken []tableState
	for _, t := range decided {
		if t.code == "" {
			taken = append(taken, t)
			src.Tables = append(src.Tables, t.schema+"."+t.name)
		}
	}
	if len(taken) == 0 {
		return src, nil
	}
	if err := m.publish(ctx, l, name, taken); err != nil {
		return src, err
	}
	if err := m.recovered(ctx, l.db, name); err != nil {
		return src, fmt.Errorf("clear the health status: %w", err)
	}
	return src, m.track(ctx, it, l.db, name)
}

// slotName is the name of an item's slot and publication.
func slotName(it *itemState) string {
	return "azure_cdc_" + strings.ReplaceAll(it.ID, "-", "_")
}

// publish sets the publication to exactly the tables taken.
func (m *mirrors) publish(ctx context.Context, l login, name string, taken []tableState) error {
	conn, err := m.db.connect(ctx, l)
	if err != nil {
		return fmt.Errorf("sign in as the connection does: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, t := range taken {
			if err := identify(ctx, tx, t); err != nil {
				return err
			}
		}
		return setPublication(ctx, tx, name, taken)
	})
	if err != nil {
		return fmt.Errorf("publish the tables: %w", err)
	}
	return nil
}

// identify sees to it that the table's updates can be published without ever
// being refused: by its unique index, or else by whole rows.
func identify(ctx context.Context, tx pgx.Tx, t tableState) error {
	if !t.unique && !t.wholeRow {
		return nil
	}
	table := pgx.Identifier{t.schema, t.name}.Sanitize()
	var identity string
	err := tx.QueryRow(ctx, `SELECT relreplident::text FROM pg_class WHERE oid = $1::regclass`, table).Scan(&identity)
	if err != nil || identity == "f" || identity == "i" {
		return err
	}
	clause := "FULL"
	if t.unique {
		var index string
		err := tx.QueryRow(ctx, `SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		  WHERE i.indrelid = $1::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
		    AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
		  ORDER BY i.indexrelid LIMIT 1`, table).Scan(&index)
		if err != nil {
			return err
		}
		clause = "USING INDEX " + pgx.Identifier{index}.Sanitize()
	}
	_, err = tx.Exec(ctx, "ALTER TABLE "+table+" REPLICA IDENTITY "+clause)
	return err
}

func setPublication(ctx context.Context, tx pgx.Tx, name string, taken []tableState) error {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)`, name).Scan(&there); err != nil {
		return err
	}
	tables := make([]string, len(taken))
	for i, t := range taken {
		tables[i] = pgx.Identifier{t.schema, t.name}.Sanitize()
	}
	verb, set := "CREATE PUBLICATION ", " FOR TABLE "
	if there {
		verb, set = "ALTER PUBLICATION ", " SET TABLE "
	}
	_, err := tx.Exec(ctx, verb+pgx.Identifier{name}.Sanitize()+set+strings.Join(tables, ", "))
	return err
}

// track shows the publication in azure_cdc's catalog.
func (m *mirrors) track(ctx context.Context, it *itemState, db, name string) error {
	return m.db.with(ctx, db, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `INSERT INTO azure_cdc.publications
		    (publication_id, publication_name, destination_path, active, snapshot_done, generation_id, stream_start_time)
		  SELECT oid, pubname, $2, true, false, $3, now() FROM pg_publication WHERE pubname = $1
		  ON CONFLICT (publication_id) DO UPDATE SET active = true, generation_id = excluded.generation_id`,
			name, "/"+it.Workspace+"/"+it.ID+"/"+landingZone, it.Generation)
		if err != nil {
			return fmt.Errorf("track the publication: %w", err)
		}
		return nil
	})
}

// unwell tells an error of the whole server in azure_cdc's health status, once a
// publication and code.
func (m *mirrors) unwell(ctx context.Context, db, publication, code string) {
	err := m.db.with(ctx, db, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `INSERT INTO azure_cdc.errors (publication_name, error_type, error_code)
		  SELECT $1, 'S', $2 WHERE NOT EXISTS (SELECT FROM azure_cdc.errors WHERE publication_name = $1 AND error_code = $2)`, publication, code)
		return err
	})
	if err != nil && ctx.Err() == nil {
		m.log.Warn("cannot tell the health status", "database", db, "error", err)
	}
}

// recovered takes back what unwell told.
func (m *mirrors) recovered(ctx context.Context, db, publication string) error {
	return m.db.with(ctx, db, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `DELETE FROM azure_cdc.errors WHERE publication_name = $1 AND error_type = 'S'`, publication)
		return err
	})
}

// forgetTimeout bounds the clean-up after a stop.
const forgetTimeout = 30 * time.Second

// forget removes what a stopped mirror kept at the source: its slot, which would
// hold the log back for ever, and its publication.
func (m *mirrors) forget(ctx context.Context, it *itemState) {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	db := it.source().Database
	if cn := m.connectionOf(it); db == "" && cn != nil {
		db = cn.Parameters["database"]
	}
	err := m.db.with(ctx, db, func(conn *pgx.Conn) error { return forgetSource(ctx, conn, slotName(it)) })
	if err != nil {
		m.log.Warn("cannot clean up at the source", "item", it.ID, "slot", slotName(it), "error", err)
	}
}

func forgetSource(ctx context.Context, conn *pgx.Conn, name string) error {
	for _, sql := range []string{
		`SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = $1 AND active`,
		`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`,
	} {
		if _, err := conn.Exec(ctx, sql, name); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "DROP PUBLICATION IF EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
		return err
	}
	var tracked bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('azure_cdc.publications') IS NOT NULL`).Scan(&tracked); err != nil || !tracked {
		return err
	}
	_, err := conn.Exec(ctx, `DELETE FROM azure_cdc.publications WHERE publication_name = $1`, name)
	return err
}

func (m *mirrors) connectionOf(it *itemState) (cn *connectionState) {
	m.state.look(func(s *state) {
		if found, err := s.connection(strings.ToLower(it.source().Connection)); err == nil {
			c := *found
			cn = &c
		}
	})
	return cn
}
