package setup

import (
	"cmp"
	"context"
	"slices"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// takeWhole lists tables as an open mirror has them: a partitioned table that is asked
// for, or published, is one table, with its partitions as its leaves and not beside it;
// of several one in another the topmost is. Others hold no rows, and their partitions
// are tables of their own.
func (c *Clients) takeWhole(ctx context.Context, q postgres.Querier, f *Facts) error {
	taken := c.takenRoots(f)
	f.Within = map[string]string{}
	var others, grouped []postgres.Table
	for i := range f.Tables {
		t := &f.Tables[i]
		top := taken[t.OID]
		if top != nil && top != t {
			f.Within[t.String()] = top.String()
		}
		switch {
		case t.Kind != 'p' || top == t:
			grouped = append(grouped, *t)
		case top == nil:
			others = append(others, *t)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	grouped, err := postgres.GroupLeaves(ctx, q, grouped)
	if err != nil {
		return err
	}
	f.Tables = append(grouped, others...)
	slices.SortFunc(f.Tables, func(a, b postgres.Table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return nil
}

// takenRoots is, by their oids, the topmost partitioned table that is taken as one, of
// that table itself and of everything below it.
func (c *Clients) takenRoots(f *Facts) map[uint32]*postgres.Table {
	byOID := map[uint32]*postgres.Table{}
	for i := range f.Tables {
		byOID[f.Tables[i].OID] = &f.Tables[i]
	}
	taken := map[uint32]*postgres.Table{}
	for oid, t := range byOID {
		for ; t != nil; t = byOID[t.Parent] {
			if c.whole(f, t) {
				taken[oid] = t
			}
		}
	}
	return taken
}

// whole reports whether a partitioned table is taken as one.
func (c *Clients) whole(f *Facts, t *postgres.Table) bool {
	wanted, _ := c.Config.Mirror.Wants(t.Schema, t.Name)
	return t.Kind == 'p' && (wanted || len(f.named(t.String())) > 0)
}

// Above are the partitioned tables that a partition is in, the nearest first.
func (f *Facts) Above(t *postgres.Table) []*postgres.Table {
	var out []*postgres.Table
	for t.Parent != 0 {
		i := slices.IndexFunc(f.Tables, func(o postgres.Table) bool { return o.OID == t.Parent })
		if i < 0 {
			break
		}
		t = &f.Tables[i]
		out = append(out, t)
	}
	return out
}

// WithLeaves are tables, and the leaves of those that have any.
func WithLeaves(tables []postgres.Table) []postgres.Table {
	var out []postgres.Table
	for _, t := range tables {
		out = append(append(out, t), t.Leaves...)
	}
	return out
}

// toRead are the tables that the role needs rights on. Once the mirror has begun its
// partitions are none of them: whoever made one, it can be read through its table.
func (f *Facts) toRead() []postgres.Table {
	if f.begun {
		return f.Joined
	}
	return WithLeaves(f.Joined)
}

// Keyed reports whether updates of a table can be mirrored, those of partitions that
// come later too: what isn't a primary key is no new partition's replica identity, and
// PostgreSQL would refuse its updates.
func Keyed(t *postgres.Table) bool {
	if t.Kind == 'p' {
		return len(t.Key) > 0 && t.KeySource == "primary key"
	}
	return len(t.Key) > 0 && t.ReplicaIdentity != 'n'
}
