package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Parser reads messages in the order in which the server sent them: inside a
// streamed block messages have one field more. The zero Parser is at the start
// of a connection.
type Parser struct {
	inStream bool
}

// Streamed is a Parser for messages of a streamed block without what is around
// them.
func Streamed() Parser { return Parser{inStream: true} }

// Parse reads one message into m. It allocates nothing but for a Relation. After
// an error neither m nor the Parser is of use.
func (p *Parser) Parse(data []byte, m *Message) error {
	if len(data) == 0 {
		return fmt.Errorf("pgoutput: empty message")
	}
	*m = Message{Kind: data[0], Truncated: m.Truncated[:0]}
	r := reader{data: data[1:]}
	if err := p.parse(&r, m); err != nil {
		return err
	}
	if r.short {
		return fmt.Errorf("pgoutput: message %q of %d bytes is cut short", m.Kind, len(data))
	}
	if len(r.data) > 0 {
		return fmt.Errorf("pgoutput: message %q has %d bytes too many", m.Kind, len(r.data))
	}
	return nil
}

func (p *Parser) parse(r *reader, m *Message) error {
	if p.inStream {
		switch {
		case hasXID(m.Kind):
			m.XID = r.uint32()
		case m.Kind != Origin && m.Kind != StreamStop:
			return fmt.Errorf("pgoutput: message %q inside a streamed block", m.Kind)
		}
	}
	switch m.Kind {
	case Insert:
		m.RelationID = r.uint32()
		return r.newTuple(m)
	case Update:
		m.RelationID = r.uint32()
		if kind := r.peek(); kind != 'N' {
			if err := r.oldTuple(m); err != nil {
				return err
			}
		}
		return r.newTuple(m)
	case Delete:
		m.RelationID = r.uint32()
		return r.oldTuple(m)
	case Begin:
		m.FinalLSN, m.CommitTime, m.XID = r.uint64(), int64(r.uint64()), r.uint32()
	case Commit:
		r.byte() // flags, unused
		m.CommitLSN, m.EndLSN, m.CommitTime = r.uint64(), r.uint64(), int64(r.uint64())
	case RelationKind:
		return r.relation(m)
	case TypeKind:
		m.TypeOID, m.TypeSpec, m.Name = r.uint32(), r.string(), r.string()
	case Truncate:
		return r.truncate(m)
	case Origin:
		m.LSN, m.Name = r.uint64(), r.string()
	case Logical:
		m.Transactional = r.byte()&1 != 0
		m.LSN, m.Prefix = r.uint64(), r.string()
		m.Content = r.bytes(int(r.int32()))
	default:
		return p.stream(r, m)
	}
	return nil
}

// stream reads the messages around streamed blocks.
func (p *Parser) stream(r *reader, m *Message) error {
	switch m.Kind {
	case StreamStart:
		m.XID, m.First = r.uint32(), r.byte() == 1
		return p.enter(true)
	case StreamStop:
		return p.enter(false)
	case StreamCommit:
		m.XID = r.uint32()
		r.byte() // flags, unused
		m.CommitLSN, m.EndLSN, m.CommitTime = r.uint64(), r.uint64(), int64(r.uint64())
	case StreamAbort:
		m.XID, m.SubXID = r.uint32(), r.uint32()
		if len(r.data) > 0 { // protocol version 4 says where and when
			m.AbortLSN, m.CommitTime = r.uint64(), int64(r.uint64())
		}
	default:
		return fmt.Errorf("pgoutput: unknown message %q", m.Kind)
	}
	return nil
}

func (p *Parser) enter(inStream bool) error {
	if p.inStream == inStream {
		return fmt.Errorf("pgoutput: a streamed block ends that hasn't begun")
	}
	p.inStream = inStream
	return nil
}

// hasXID says which messages carry their transaction inside a streamed block.
func hasXID(kind byte) bool {
	switch kind {
	case Insert, Update, Delete, RelationKind, TypeKind, Truncate, Logical:
		return true
	}
	return false
}

// reader takes fields off a message. Past its end it gives zeros and remembers
// that it was short.
type reader struct {
	data  []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.data) {
		r.data, r.short = nil, true
		return nil
	}
	v := r.data[:n:n]
	r.data = r.data[n:]
	return v
}

func (r *reader) peek() byte {
	if len(r.data) == 0 {
		return 0
	}
	return r.data[0]
}

func (r *reader) byte() byte {
	if v := r.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if v := r.bytes(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) int32() int32 { return int32(r.uint32()) }

func (r *reader) uint64() uint64 {
	if v := r.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// string takes the bytes up to a zero byte.
func (r *reader) string() []byte {
	end := bytes.IndexByte(r.data, 0)
	if end < 0 {
		r.data, r.short = nil, true
		return nil
	}
	v := r.bytes(end)
	r.byte()
	return v
}

func (r *reader) newTuple(m *Message) (err error) {
	if kind := r.byte(); kind != 'N' && !r.short {
		return fmt.Errorf("pgoutput: message %q has a tuple of kind %q, want 'N'", m.Kind, kind)
	}
	m.New, err = r.tuple()
	return err
}

func (r *reader) oldTuple(m *Message) (err error) {
	if m.OldKind = r.byte(); m.OldKind != 'K' && m.OldKind != 'O' && !r.short {
		return fmt.Errorf("pgoutput: message %q has a tuple of kind %q, want 'K' or 'O'", m.Kind, m.OldKind)
	}
	m.Old, err = r.tuple()
	return err
}

// tuple walks over a tuple once, so that Tuple.Next needs no checks.
func (r *reader) tuple() (Tuple, error) {
	t := Tuple{n: int(r.uint16())}
	d := r.data
	for range t.n {
		if len(d) == 0 {
			r.data, r.short = nil, true
			return Tuple{}, nil
		}
		switch d[0] {
		case Null, Unchanged:
			d = d[1:]
		case Text, Binary:
			if len(d) < 5 {
				r.data, r.short = nil, true
				return Tuple{}, nil
			}
			size := binary.BigEndian.Uint32(d[1:])
			if size > math.MaxInt32 || int(size) > len(d)-5 {
				r.data, r.short = nil, true
				return Tuple{}, nil
			}
			d = d[5+size:]
		default:
			return Tuple{}, fmt.Errorf("pgoutput: a value of unknown kind %q", d[0])
		}
	}
	t.data = r.data[:len(r.data)-len(d)]
	r.data = d
	return t, nil
}

func (r *reader) relation(m *Message) error {
	rel := &Relation{ID: r.uint32(), Namespace: string(r.string()), Name: string(r.string()), Identity: r.byte()}
	n := int(r.uint16())
	if n*10 > len(r.data) { // a column takes at least 10 bytes: don't make room for what isn't there
		r.data, r.short = nil, true
		return nil
	}
	rel.Columns = make([]RelationColumn, n)
	for i := range rel.Columns {
		rel.Columns[i] = RelationColumn{Key: r.byte()&1 != 0, Name: string(r.string()), TypeOID: r.uint32(), Typmod: r.int32()}
	}
	m.RelationID, m.Relation = rel.ID, rel
	return nil
}

func (r *reader) truncate(m *Message) error {
	n := int(r.uint32())
	m.TruncateOptions = r.byte()
	if n > len(r.data)/4 {
		r.data, r.short = nil, true
		return nil
	}
	for range n {
		m.Truncated = append(m.Truncated, r.uint32())
	}
	return nil
}
