// Package pgoutput decodes the messages of PostgreSQL's logical replication
// protocol, versions 1 and 2
// (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html).
package pgoutput

// The kinds of message.
const (
	Begin        = 'B'
	Commit       = 'C'
	Origin       = 'O'
	RelationKind = 'R'
	TypeKind     = 'Y'
	Insert       = 'I'
	Update       = 'U'
	Delete       = 'D'
	Truncate     = 'T'
	Logical      = 'M' // written by pg_logical_emit_message
	StreamStart  = 'S'
	StreamStop   = 'E'
	StreamCommit = 'c'
	StreamAbort  = 'A'
)

// Options of a Truncate.
const (
	TruncateCascade         = 1
	TruncateRestartIdentity = 2
)

// Message is one message; which fields are set depends on its Kind. Everything
// in it but a Relation points into the parsed bytes or is reused by the next
// Parse into it. Positions are LSNs, times are µs since 2000-01-01 UTC.
type Message struct {
	Kind byte

	XID    uint32 // Begin, Stream*; and of every message inside a streamed block, there of the (sub)transaction
	SubXID uint32 // StreamAbort: what was aborted; equal to XID for the whole transaction
	First  bool   // StreamStart: the first block of its transaction

	FinalLSN   uint64 // Begin: of the transaction's commit record
	CommitLSN  uint64 // Commit, StreamCommit: the same position
	EndLSN     uint64 // Commit, StreamCommit: the end of the commit record, what may be confirmed
	AbortLSN   uint64 // StreamAbort of protocol version 4, else 0
	CommitTime int64  // Begin, Commit, StreamCommit

	Relation   *Relation // Relation: newly made, may be kept
	RelationID uint32    // Insert, Update, Delete, Relation
	OldKind    byte      // Update, Delete: 'K' Old holds the key columns, 'O' all columns, 0 there is no Old
	Old, New   Tuple

	Truncated       []uint32 // Truncate: the relations
	TruncateOptions byte

	Transactional bool   // Logical
	LSN           uint64 // Logical, Origin
	Prefix        []byte // Logical
	Content       []byte // Logical

	Name     []byte // Origin: its name; Type: the type's name
	TypeOID  uint32 // Type
	TypeSpec []byte // Type: the schema, empty for pg_catalog
}

// Relation describes a table, before its first change on a connection and after
// each change of its definition.
type Relation struct {
	ID        uint32
	Namespace string // empty for pg_catalog
	Name      string
	Identity  byte // the replica identity: d, n, f or i
	Columns   []RelationColumn
}

// RelationColumn is one published column.
type RelationColumn struct {
	Name    string
	Key     bool // part of the replica identity; all columns are under 'f'
	TypeOID uint32
	Typmod  int32
}

// The kinds of a Tuple's values.
const (
	Null      = 'n'
	Unchanged = 'u' // a TOASTed value that the UPDATE left alone, not sent
	Text      = 't'
	Binary    = 'b'
)

// Tuple is a view of one row inside a Message. Its values were checked to lie
// within the message.
type Tuple struct {
	n    int
	data []byte
}

// Len is the number of values left to read.
func (t *Tuple) Len() int { return t.n }

// Size is the bytes of the values left to read.
func (t *Tuple) Size() int { return len(t.data) }

// Next takes the next value: its kind and its bytes, nil for Null and Unchanged.
// It panics when none is left. To read a tuple again, read a copy of it.
func (t *Tuple) Next() (kind byte, value []byte) {
	kind = t.data[0]
	t.n--
	if kind == Null || kind == Unchanged {
		t.data = t.data[1:]
		return kind, nil
	}
	d := t.data
	size := int(uint32(d[1])<<24 | uint32(d[2])<<16 | uint32(d[3])<<8 | uint32(d[4]))
	t.data = d[5+size:]
	return kind, d[5 : 5+size : 5+size]
}
