package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// plainColumns says, by table and attnum, which columns hold NULL in every row
// that is older than they are: those without default, NOT NULL and identity.
type plainColumns map[uint32]map[int16]bool

// catalog reads the published tables, in one snapshot: what is dropped meanwhile
// would else be there in part.
func (m *mirror) catalog(ctx context.Context, conn *pgx.Conn) (published []postgres.Table, plain plainColumns, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, nil, fmt.Errorf("look at the catalog: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // it only reads
	if published, err = m.published(ctx, tx); err != nil {
		return nil, nil, err
	}
	if plain, err = loadPlain(ctx, tx, published); err != nil {
		return nil, nil, err
	}
	refuseTwins(published)
	return published, plain, nil
}

// published reads the published tables as they are to be mirrored.
func (m *mirror) published(ctx context.Context, q postgres.Querier) ([]postgres.Table, error) {
	tables, err := postgres.PublishedTables(ctx, q, m.publications(), postgres.WithLeaves)
	for i := range tables {
		m.cfg.Types.Apply(&tables[i])
	}
	return tables, err
}

// refuseTwins refuses tables whose names are an older one's for Fabric.
func refuseTwins(published []postgres.Table) {
	oldest := map[string]*postgres.Table{}
	name := func(t *postgres.Table) string { return fabricName(landing.TableDir(t.Schema, t.Name)) }
	for i := range published {
		if t := &published[i]; oldest[name(t)] == nil || t.OID < oldest[name(t)].OID {
			oldest[name(t)] = t
		}
	}
	for i := range published {
		if t := &published[i]; oldest[name(t)] != t && t.Obstacle == "" {
			t.Obstacle = fmt.Sprintf("its name differs only in case from that of %s, and Fabric takes both for one table", oldest[name(t)])
			t.Passing = true
		}
	}
}

func loadPlain(ctx context.Context, q postgres.Querier, tables []postgres.Table) (plainColumns, error) {
	var oids []uint32
	for _, t := range tables {
		oids = append(oids, t.OID)
	}
	rows, err := q.Query(ctx, `SELECT attrelid::oid, attnum FROM pg_catalog.pg_attribute WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped
		AND NOT (atthasmissing OR atthasdef OR attnotnull OR attidentity <> '' OR attgenerated <> '')`, oids)
	if err != nil {
		return nil, fmt.Errorf("read column defaults: %w", err)
	}
	out := plainColumns{}
	var oid uint32
	var attnum int16
	_, err = pgx.ForEachRow(rows, []any{&oid, &attnum}, func() error {
		if out[oid] == nil {
			out[oid] = map[int16]bool{}
		}
		out[oid][attnum] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read column defaults: %w", err)
	}
	return out, nil
}

// evolves says why a table that is now src has to be built anew, or "" when its
// files can go on as they are: columns were only dropped, which stay and hold
// NULL from now on, or added such that all older rows hold NULL in them, which
// is what they hold in the mirror too; or partitions were only added. What is not
// certain is built anew.
func (s *tableState) evolves(src postgres.Table, plain plainColumns) string {
	now, shown := columnsOf(src), s.Stored.changed(storedOf(src))
	switch {
	case len(s.Members) > 0 && !slices.Equal(src.Members, s.Members):
		return "it was taken out of a publication, or put into one, meanwhile"
	case !slices.Equal(leavesOf(src), s.Leaves) && (!s.grows(src) || len(src.Key) == 0 || s.Phase != phaseReplicating):
		return "its partitions have changed"
	case slices.Equal(now, s.Columns) && slices.Equal(keyOf(src), s.Key):
		return shown
	case !slices.Equal(keyOf(src), s.Key):
		return "its key has changed"
	case len(src.Leaves) > 0:
		return "the columns of a partitioned table have changed"
	case src.Relfilenode != s.Stored.Files[src.OID]:
		return "its columns have changed and it was rewritten"
	case shown != "":
		return shown
	}
	last, added := s.Stored.Last, int16(0)
	taken := map[string]bool{} // names that mean something else in the mirror
	for _, c := range s.Columns {
		last = max(last, c.Attnum)
		taken[strings.ToLower(c.Field)] = true
	}
	for _, name := range s.Gone {
		taken[strings.ToLower(name)] = true
	}
	for _, c := range src.Columns {
		if c.Attnum > last {
			added++
		}
	}
	if added > 0 && s.Stored.Last > 0 && added != src.Attnums-last { // the stream says names, which may have been those' of what is gone
		return "columns were added, and some of them dropped again"
	}
	for _, c := range now {
		switch {
		case slices.Contains(s.Columns, c):
		case slices.ContainsFunc(s.Columns, func(o columnState) bool { return o.Attnum == c.Attnum }):
			return fmt.Sprintf("column %q was renamed, here or in the mirror, or has another type", c.Name)
		case slices.Contains(s.Stored.LeftOut, c.Attnum):
			return fmt.Sprintf("column %q was left out until now", c.Name)
		case c.Attnum <= last || taken[strings.ToLower(c.Field)]:
			return fmt.Sprintf("column %q was dropped and added again", c.Name)
		case !plain[src.OID][c.Attnum]:
			return fmt.Sprintf("column %q was added with a value for the rows that were there", c.Name)
		}
	}
	return ""
}

// adopt notes the columns that the next file has.
func (s *tableState) adopt(now []columnState) {
	for _, c := range s.Columns {
		if !slices.Contains(now, c) && !slices.Contains(s.Gone, c.Field) {
			s.Gone = append(slices.Clone(s.Gone), c.Field)
		}
	}
	for _, c := range now {
		s.Stored.Last = max(s.Stored.Last, c.Attnum)
	}
	s.Columns = now
}

// evolve has the table go on under the definition that the stream has described,
// or leaves it to be built anew. What was gathered under the old one is given to
// the flusher first: a file has one schema.
func (r *reader) evolve(ctx context.Context, t *table, relation *pgoutput.Relation) error {
	difference := "the definition of a partition"
	if t.src.Kind != 'p' {
		difference = t.src.Difference(relation)
	}
	src, plain, err := r.m.describe(ctx, t.src.OID)
	if err != nil {
		return err
	}
	if src != nil {
		withoutLater(src, relation)
	}
	if src == nil || src.String() != t.String() || src.Obstacle != "" || src.Kind == 'p' || src.Difference(relation) != "" {
		r.leave(t, "its definition has changed, and again since: "+difference, true)
		return nil
	}
	s := t.snapshot()
	if why := s.evolves(*src, plain); why != "" {
		r.leave(t, why, true)
		return nil
	}
	if t.changes != nil {
		if err := r.force(ctx); err != nil {
			return err
		}
	}
	shape, err := newShape(*src)
	if err != nil {
		r.leave(t, err.Error(), false)
		return nil
	}
	delete(t.others, relation.ID)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shape, t.definition = shape, definition(*src) // without what came later: that, the catalog's next look judges
	return nil
}

// withoutLater leaves out the columns that the table has only got since the
// stream described it.
func withoutLater(src *postgres.Table, relation *pgoutput.Relation) {
	for i := range src.Columns {
		c := &src.Columns[i]
		if c.Mirrored() && !slices.ContainsFunc(relation.Columns, func(r pgoutput.RelationColumn) bool { return r.Name == c.Name }) {
			c.Unpublished = true
		}
	}
}

// describe reads a published table's definition as it is now; nil when it isn't
// published any more.
func (m *mirror) describe(ctx context.Context, oid uint32) (src *postgres.Table, plain plainColumns, err error) {
	err = m.ask(ctx, func(conn *pgx.Conn) error {
		published, all, err := m.catalog(ctx, conn)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(published, func(p postgres.Table) bool { return p.OID == oid })
		if i < 0 {
			return nil
		}
		src, plain = &published[i], all
		return nil
	})
	return src, plain, err
}
