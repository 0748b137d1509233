package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// Table is a table as the catalog describes it.
type Table struct {
	OID             uint32
	Schema, Name    string
	Owner           string
	Kind            byte // pg_class.relkind: 'r' a table, 'p' a partitioned one
	Relfilenode     uint32
	ReplicaIdentity byte     // 'd' the primary key, 'n' nothing, 'f' full, 'i' an index
	Parent          uint32   // of a partition: the partitioned table above it
	Columns         []Column // by attnum, dropped ones left out

	// Key is positions in Columns, in the order of the key: the replica identity,
	// or under FULL a primary key or else an immediate, valid, unique index
	// without NULLs. A deferrable key is no key. Empty: the table has none.
	Key       []int
	KeySource string // "primary key", "index NAME" or ""
	KeyOID    uint32 // of its constraint, or else of its index; 0 without a key

	Bytes   int64 // of heap and TOAST, as of the last VACUUM or ANALYZE
	EstRows int64 // likewise; -1 when nothing ever counted them

	// Obstacle says why the table can't be mirrored; empty when it can.
	Obstacle string

	Attnums int16  // the attnum that was given last, if only to a column that is gone
	Named   bool   // a publication names it itself, so that it can't be UNLOGGED
	Moved   uint32 // the transaction that gave its row type, and it, their schema, name or owner last

	// Leaves are the partitions that hold a partitioned table's rows, however deep,
	// ordered by schema and name; see WithLeaves. Their Key is the positions of the
	// partitioned table's key in their own columns.
	Leaves []Table

	identity    []int      // the columns of the replica identity, as Relation messages mark them
	indexes     []keyIndex // of a partitioned table: those that could be its key, the best first
	published   bool       // listed by a publication itself
	keyless     bool       // of a partitioned table: it may have no key, whatever unique indexes it has
	keyObstacle string     // why what would be the key can't be
	operations  operations // that are published
	insertsOnly bool       // of its rows

	// OtherChanges says that its publications publish its updates or deletes, not
	// only its inserts. Set by PublishedTables. A table of which only inserts are
	// published has no Key.
	OtherChanges bool

	// Passing says that its Obstacle lies outside it, as in what its publications leave
	// out, and may pass unnoticed by anybody.
	Passing bool

	// Links tells a leaf's being a partition from every other time that it was.
	Links string

	// Members tells its being in the publications from every other time that it was:
	// a table that leaves and comes back has others. Set by PublishedTables; empty
	// when no publication names it, or its schema.
	Members []uint32

	sqlASCII bool // the database stores bytes of no known encoding
}

// operations are what is published of a table, by one of its publications at least.
type operations struct{ insert, update, delete, truncate bool }

type keyIndex struct {
	source  string
	oid     uint32
	attnums []int16
}

// Column is a column as the catalog describes it, and what becomes of it.
type Column struct {
	Name        string
	Attnum      int16
	TypeOID     uint32
	Typmod      int32
	TypeName    string // as format_type shows it
	NotNull     bool
	Generated   bool // GENERATED ALWAYS AS (…): left out unless Streamed
	Streamed    bool // though generated, its publication publishes it (from PostgreSQL 18 on)
	Unpublished bool // left out of the publication's column list

	// What may change while name and type stay, so that rows read before are shown
	// otherwise than those read since.
	Defined    uint32            // the transaction that defined the column last
	Attributes string            // of the composites that its type has in it, in a form of our own
	Labels     map[uint32]string // of the enums that its type has in it, by the labels' oids

	Field string     // its name in the mirror
	Type  batch.Type // its type in the mirror; see Choices
	Loss  string     // what the mirror changes or loses of its values, or ""

	typ *pgType
}

// Equal is the operator = of the column's type in SQL, wherever that lies.
func (c *Column) Equal() string {
	typ, _ := c.typ.resolve(c.Typmod)
	return typ.Equal
}

// Mirrored says whether the column is in the mirror.
func (c *Column) Mirrored() bool { return (!c.Generated || c.Streamed) && !c.Unpublished }

// String is the table's qualified name, unquoted, as "public.orders".
func (t *Table) String() string { return t.Schema + "." + t.Name }

// SQLName is the table's qualified name, quoted for SQL.
func (t *Table) SQLName() string { return quoteIdent(t.Schema) + "." + quoteIdent(t.Name) }

// MirrorSchema is the mirror's columns: those that are mirrored, in order, under the
// names that they have there.
func (t *Table) MirrorSchema() *batch.Schema {
	s := &batch.Schema{}
	at := make([]int, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		at[i] = len(s.Fields)
		if c.Mirrored() {
			s.Fields = append(s.Fields, batch.Field{Name: c.Field, Type: c.Type})
		}
	}
	for _, i := range t.Key {
		s.Key = append(s.Key, at[i])
	}
	return s
}

// Difference says in what a Relation message differs from the table, or "" when
// tuples sent under it can be decoded as the table's. After a difference the
// catalog has to be read again.
func (t *Table) Difference(r *pgoutput.Relation) string {
	columns := t.mirrored()
	switch {
	case r.ID != t.OID:
		return fmt.Sprintf("its oid is %d, not %d", r.ID, t.OID)
	case cmpNamespace(r.Namespace) != t.Schema || r.Name != t.Name:
		return fmt.Sprintf("it is named %s.%s", cmpNamespace(r.Namespace), r.Name)
	case r.Identity != t.ReplicaIdentity:
		return fmt.Sprintf("its replica identity is %q, not %q", r.Identity, t.ReplicaIdentity)
	case len(r.Columns) != len(columns):
		return fmt.Sprintf("it has %d columns, not %d", len(r.Columns), len(columns))
	}
	for i, c := range columns {
		got := r.Columns[i]
		inKey := slices.ContainsFunc(t.identity, func(k int) bool { return &t.Columns[k] == c })
		switch {
		case got.Name != c.Name:
			return fmt.Sprintf("column %d is named %q, not %q", i+1, got.Name, c.Name)
		case got.TypeOID != c.TypeOID || got.Typmod != c.Typmod:
			return fmt.Sprintf("column %q has another type", c.Name)
		case got.Key != (inKey || r.Identity == 'f') && r.Identity != 'n':
			return fmt.Sprintf("column %q is now in, or no longer in, the replica identity", c.Name)
		}
	}
	return ""
}

func cmpNamespace(s string) string {
	if s == "" {
		return "pg_catalog"
	}
	return s
}

// mirrored is the columns that are mirrored, in order.
func (t *Table) mirrored() []*Column {
	var out []*Column
	for i := range t.Columns {
		if t.Columns[i].Mirrored() {
			out = append(out, &t.Columns[i])
		}
	}
	return out
}

// nameFields gives every column a name that Delta and Fabric take: no character
// of " ,;{}()\n\t=", no two names that differ only in case. Names are given in
// the order of attnums, so that a column added later changes no name.
func (t *Table) nameFields() {
	taken := map[string]bool{"__rowmarker__": true}
	for i := range t.Columns {
		c := &t.Columns[i]
		base := strings.Map(func(r rune) rune {
			if strings.ContainsRune(" ,;{}()\n\t=", r) {
				return '_'
			}
			return r
		}, c.Name)
		c.Field = base
		if taken[strings.ToLower(c.Field)] {
			c.Field = fmt.Sprintf("%s_%d", base, c.Attnum)
		}
		for taken[strings.ToLower(c.Field)] {
			c.Field += "_"
		}
		taken[strings.ToLower(c.Field)] = true
	}
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
