package mirror

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// tuple is a tuple of the stream; nil is NULL.
func tuple(b []byte, kind byte, values ...any) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			b = append(b, 'n')
			continue
		}
		text := fmt.Sprint(v)
		b = binary.BigEndian.AppendUint32(append(b, 't'), uint32(len(text)))
		b = append(b, text...)
	}
	return b
}

// Once its buffers have their size, a change of a row allocates nothing: from the
// message to its place in the columns and in the index of keys.
func TestChangeAllocatesNothing(t *testing.T) {
	b := newBench(t, "CREATE TABLE a (id bigint PRIMARY KEY, note text, price numeric(12,2), at timestamptz, u uuid)",
		"CREATE TABLE f (a int, b text, v text, PRIMARY KEY (a, b)); ALTER TABLE f REPLICA IDENTITY FULL")
	sql, err := b.config(b.landing).Source.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sql.Close(context.Background())
	published, err := postgres.PublishedTables(t.Context(), sql, []string{"p"}, postgres.WithLeaves)
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{cfg: b.config(b.landing).withDefaults(), relations: map[uint32]*table{}, watched: &watched{}}
	oids := map[string]uint32{}
	for _, src := range published {
		sh, err := newShape(src)
		if err != nil {
			t.Fatal(err)
		}
		m.relations[src.OID] = &table{m: m, name: src.Name, shape: sh, followed: true}
		oids[src.Name] = src.OID
	}
	r := &reader{m: m, limit: 1 << 30, waiting: &pending{}, alarm: newAlarm(t.Context())}
	defer r.alarm.stop()
	var raw [][]byte
	message := func(kind byte, table string) []byte {
		return binary.BigEndian.AppendUint32([]byte{kind}, oids[table])
	}
	for i := range 500 {
		raw = append(raw,
			tuple(message('I', "a"), 'N', i, "some text", "12.50", "2024-02-29 12:34:56.7+00", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
			tuple(message('U', "a"), 'N', i, "other text", nil, "2024-02-29 12:34:56.7+00", nil),
			tuple(tuple(message('U', "a"), 'K', i, nil, nil, nil, nil), 'N', 1000+i, "moved", "1", nil, nil),
			tuple(message('D', "a"), 'K', 1000+i, nil, nil, nil, nil),
			tuple(message('I', "f"), 'N', i, "key", "x"),
			tuple(tuple(message('U', "f"), 'O', i, "key", "x"), 'N', i, "key", "y"))
	}
	lsn := landing.LSN(100)
	var parser pgoutput.Parser
	var msg pgoutput.Message
	file := func() { // what comes between two flushes
		lsn++
		r.tx = transaction{open: true, final: lsn, touched: r.tx.touched[:0]}
		for _, data := range raw {
			if err := parser.Parse(data, &msg); err != nil {
				t.Fatal(err)
			}
			if err := r.change(t.Context(), &msg); err != nil {
				t.Fatal(err)
			}
		}
		for _, x := range r.waiting.tables {
			x.spare, x.changes = x.changes, nil
		}
		*r.waiting = pending{tables: r.waiting.tables[:0]}
	}
	file()
	got := testing.AllocsPerRun(5, file)
	for try := 0; got != 0 && try < 10; try++ { // the whole process's are counted: those of others don't come every time
		got = min(got, testing.AllocsPerRun(5, file))
	}
	if got != 0 {
		t.Errorf("%v allocations for %d changes, want none", got, len(raw))
	}
}
