package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// repairing is a request to repair that waits for the flusher, and its answer:
// whether it is over and done with, or has to be looked at again later.
type repairing struct {
	request Request
	over    chan<- bool
}

// repairPatience is how long the flusher, which publishes nothing meanwhile, waits
// for a snapshot that sees everything. A transaction that is open for longer has
// the request wait for a later look.
const repairPatience = 5 * time.Second

// passToFlusher has the flusher answer a request to repair.
func (m *mirror) passToFlusher(ctx context.Context, q Request) (over bool, err error) {
	answer := make(chan bool, 1)
	select {
	case m.repairs <- repairing{q, answer}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	select {
	case over = <-answer:
		return over, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// repair publishes the rows of the keys that are named as the source has them
// now: upserts of those that it has, deletes of the others. Whatever is wrong with
// them in the mirror is right then.
//
// The flusher does it, so that nothing is published between the look at the source
// and the file; and the look sees every transaction that was published before.
// So nothing that is newer than what was read lies before the file. What is older
// and comes after it ends, through the changes that follow it, where the source
// is. With one of the two missing the repair could bring an old row back for good.
// A crash at any line leaves the request, and doing it twice does no harm.
//
// It is over when there is nothing more to do about it; else, as while the table is
// being copied, it is looked at again.
func (m *mirror) repair(ctx context.Context, q Request) (over bool, err error) {
	t := m.requested(q)
	if t == nil {
		return true, nil
	}
	switch t.phase() {
	case phaseReplicating:
	case phaseParked:
		return m.notRepaired(t, "the table is parked"), nil
	default:
		return false, nil // it is being copied, and the rows with it
	}
	conn, err := m.cfg.Source.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // it only reads
	src, err := m.asPublished(ctx, conn, t)
	switch {
	case err != nil:
		return false, err
	case src == nil:
		return false, nil // a change of its definition is under way
	case len(src.Key) == 0 || !slices.Equal(q.Key, keyNames(src)) || slices.ContainsFunc(q.Rows, func(r []string) bool { return len(r) != len(q.Key) }):
		return m.notRepaired(t, fmt.Sprintf("the rows are named by %q, its key is %q", q.Key, keyNames(src))), nil
	}
	rows, err := t.publishRepaired(ctx, conn, src, q.Rows)
	switch {
	case errors.Is(err, postgres.ErrNotVisible):
		m.emit(Event{Kind: Waiting, Table: t.String(), Reason: "rows that can't be repaired yet: " + err.Error()})
		return false, nil
	case tableFault(err):
		return m.notRepaired(t, err.Error()), nil
	case err != nil:
		return false, fmt.Errorf("repair table %s: %w", t, err)
	}
	m.emit(Event{Kind: Repaired, Table: t.String(), Rows: rows})
	return true, nil
}

// notRepaired ends a request that can't be done.
func (m *mirror) notRepaired(t *table, why string) (over bool) {
	m.emit(Event{Kind: NotRepaired, Table: t.String(), Reason: why})
	return true
}

// requested is the table that a request is about.
func (m *mirror) requested(q Request) *table {
	for _, t := range m.tables {
		if t.state.name == tableFile(q.Schema, q.Table) {
			return t
		}
	}
	return nil
}

// asPublished is the table's definition, unless its columns are no longer those
// of the files that are published.
func (m *mirror) asPublished(ctx context.Context, conn *pgx.Conn, t *table) (*postgres.Table, error) {
	published, _, err := m.catalog(ctx, conn)
	if err != nil {
		return nil, err
	}
	s := t.snapshot()
	for i := range published {
		src := &published[i]
		if src.OID == s.OID && src.Obstacle == "" && slices.Equal(columnsOf(*src), s.Columns) && slices.Equal(keyOf(*src), s.Key) {
			return src, nil
		}
	}
	return nil, nil
}

// keyNames are the source's names of the key's columns.
func keyNames(src *postgres.Table) []string {
	var out []string
	for _, k := range src.Key {
		out = append(out, src.Columns[k].Name)
	}
	return out
}

// publishRepaired publishes the rows, those that the source has as it is reading
// them: they may be of any size. In a file they come last.
func (t *table) publishRepaired(ctx context.Context, conn *pgx.Conn, src *postgres.Table, named [][]string) (rows int64, err error) {
	dec, err := postgres.NewDecoder(src)
	if err != nil {
		return 0, err
	}
	schema := src.MirrorSchema()
	keys, found := batch.New(schema, false), batch.New(schema, false)
	if err := postgres.ParseKeys(ctx, conn, src, dec, named, keys); err != nil {
		return 0, err
	}
	if err := postgres.AwaitVisible(ctx, conn, repairPatience); err != nil {
		return 0, err
	}
	b, there := batch.New(schema, true), map[string]bool{}
	publish := func(asOf postgres.LSN, found *batch.Batch) error {
		filled := int64(0)
		for i := range found.Rows() {
			if k := string(found.AppendKey(nil, i)); !there[k] {
				there[k] = true // once
				b.AppendRow(found, i)
				b.EndMarkedRow(batch.Upsert)
				filled++
			}
		}
		found.Truncate(0)
		if b.Rows() == 0 {
			return nil
		}
		rows += int64(b.Rows())
		at := t.snapshot().Position
		meta := landing.Meta{Position: at, EndLSN: at.CommitLSN, CommitTime: time.Now(), Filled: filled} // it follows the stream no further
		err := t.publish(ctx, b, meta, func(s *tableState) { s.Seen = max(s.Seen, landing.LSN(asOf)) })
		b.Truncate(0)
		return err
	}
	asOf, err := postgres.ReadRows(ctx, conn, src, dec, keys, nil, found, postgres.Bounds{Batch: t.m.share(), Row: t.m.cfg.maxRow, Full: publish})
	if err != nil {
		return rows, err
	}
	gone := maps.Clone(there)
	for i := range found.Rows() {
		gone[string(found.AppendKey(nil, i))] = true
	}
	for i := range keys.Rows() {
		if k := string(keys.AppendKey(nil, i)); !gone[k] {
			gone[k] = true // once
			b.AppendRow(keys, i)
			b.EndMarkedRow(batch.Delete)
		}
	}
	return rows, publish(asOf, found)
}
