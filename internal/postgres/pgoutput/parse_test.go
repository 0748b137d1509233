package pgoutput

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// build writes fields big-endian; a string ends in a zero byte, a []byte doesn't.
func build(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case rune:
			b = append(b, byte(f))
		case byte:
			b = append(b, f)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, f)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, f)
		case string:
			b = append(append(b, f...), 0)
		case []byte:
			b = append(b, f...)
		}
	}
	return b
}

func tuple(values ...string) []byte {
	b := build(uint16(len(values)))
	for _, v := range values {
		b = append(b, v[0])
		if v[0] == Text || v[0] == Binary {
			b = append(build(b, uint32(len(v)-1)), v[1:]...)
		}
	}
	return b
}

// show is a message as text, tuples by their values.
func show(t Tuple) []string {
	var out []string
	for t.Len() > 0 {
		kind, v := t.Next()
		out = append(out, string(kind)+string(v))
	}
	return out
}

var messages = []struct {
	name string
	data []byte
	want Message
	old  []string
	new  []string
}{
	{"begin", build('B', uint64(7), uint64(8), uint32(9)), Message{Kind: Begin, FinalLSN: 7, CommitTime: 8, XID: 9}, nil, nil},
	{"commit", build('C', byte(0), uint64(7), uint64(8), uint64(9)), Message{Kind: Commit, CommitLSN: 7, EndLSN: 8, CommitTime: 9}, nil, nil},
	{"origin", build('O', uint64(7), "far"), Message{Kind: Origin, LSN: 7, Name: []byte("far")}, nil, nil},
	{"relation", build('R', uint32(5), "s", "t", 'd', uint16(2), byte(1), "id", uint32(23), uint32(0xffffffff), byte(0), "v", uint32(1700), uint32(6)),
		Message{Kind: RelationKind, RelationID: 5, Relation: &Relation{ID: 5, Namespace: "s", Name: "t", Identity: 'd',
			Columns: []RelationColumn{{Name: "id", Key: true, TypeOID: 23, Typmod: -1}, {Name: "v", TypeOID: 1700, Typmod: 6}}}}, nil, nil},
	{"type", build('Y', uint32(5), "s", "mood"), Message{Kind: TypeKind, TypeOID: 5, TypeSpec: []byte("s"), Name: []byte("mood")}, nil, nil},
	{"insert", build('I', uint32(5), 'N', tuple("t1", "n", "b\x00\x01")), Message{Kind: Insert, RelationID: 5}, nil, []string{"t1", "n", "b\x00\x01"}},
	{"update", build('U', uint32(5), 'N', tuple("t1", "u")), Message{Kind: Update, RelationID: 5}, nil, []string{"t1", "u"}},
	{"update key", build('U', uint32(5), 'K', tuple("t1", "n"), 'N', tuple("t2", "t")), Message{Kind: Update, RelationID: 5, OldKind: 'K'}, []string{"t1", "n"}, []string{"t2", "t"}},
	{"update full", build('U', uint32(5), 'O', tuple("t1"), 'N', tuple("t2")), Message{Kind: Update, RelationID: 5, OldKind: 'O'}, []string{"t1"}, []string{"t2"}},
	{"delete", build('D', uint32(5), 'K', tuple("t1", "n")), Message{Kind: Delete, RelationID: 5, OldKind: 'K'}, []string{"t1", "n"}, nil},
	{"truncate", build('T', uint32(2), byte(3), uint32(5), uint32(6)), Message{Kind: Truncate, TruncateOptions: 3, Truncated: []uint32{5, 6}}, nil, nil},
	{"message", build('M', byte(1), uint64(7), "p", uint32(2), []byte("xy")), Message{Kind: Logical, Transactional: true, LSN: 7, Prefix: []byte("p"), Content: []byte("xy")}, nil, nil},
	{"stream start", build('S', uint32(7), byte(1)), Message{Kind: StreamStart, XID: 7, First: true}, nil, nil},
	{"streamed relation", build('R', uint32(7), uint32(5), "", "t", 'f', uint16(0)), Message{Kind: RelationKind, XID: 7, RelationID: 5, Relation: &Relation{ID: 5, Name: "t", Identity: 'f', Columns: []RelationColumn{}}}, nil, nil},
	{"streamed insert", build('I', uint32(8), uint32(5), 'N', tuple("t1")), Message{Kind: Insert, XID: 8, RelationID: 5}, nil, []string{"t1"}},
	{"streamed message", build('M', uint32(7), byte(1), uint64(7), "p", uint32(0)), Message{Kind: Logical, XID: 7, Transactional: true, LSN: 7, Prefix: []byte("p"), Content: []byte{}}, nil, nil},
	{"streamed truncate", build('T', uint32(7), uint32(1), byte(0), uint32(5)), Message{Kind: Truncate, XID: 7, Truncated: []uint32{5}}, nil, nil},
	{"stream stop", build('E'), Message{Kind: StreamStop}, nil, nil},
	{"stream abort", build('A', uint32(7), uint32(8)), Message{Kind: StreamAbort, XID: 7, SubXID: 8}, nil, nil},
	{"stream abort v4", build('A', uint32(7), uint32(8), uint64(9), uint64(10)), Message{Kind: StreamAbort, XID: 7, SubXID: 8, AbortLSN: 9, CommitTime: 10}, nil, nil},
	{"stream commit", build('c', uint32(7), byte(0), uint64(8), uint64(9), uint64(10)), Message{Kind: StreamCommit, XID: 7, CommitLSN: 8, EndLSN: 9, CommitTime: 10}, nil, nil},
}

func TestParse(t *testing.T) {
	var p Parser
	var m Message
	for _, c := range messages {
		before := p
		if err := p.Parse(c.data, &m); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.old, show(m.Old)) + cmp.Diff(c.new, show(m.New)); diff != "" {
			t.Errorf("%s: tuples: %s", c.name, diff)
		}
		got := m
		got.Old, got.New = Tuple{}, Tuple{}
		if len(got.Truncated) == 0 {
			got.Truncated = nil
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(Tuple{})); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		refuseDamaged(t, c.name, before, c.data)
	}
}

// refuseDamaged checks that a message cut short anywhere, or with a byte too
// many, is an error.
func refuseDamaged(t *testing.T, name string, p Parser, data []byte) {
	t.Helper()
	for n := range data {
		if name == "stream abort v4" && n == 9 {
			continue // that is a whole abort of an older version
		}
		q := p
		if err := q.Parse(data[:n:n], new(Message)); err == nil {
			t.Errorf("%s cut to %d bytes is taken", name, n)
		}
	}
	if err := p.Parse(append(data[:len(data):len(data)], 0), new(Message)); err == nil {
		t.Errorf("%s with a byte more is taken", name)
	}
}

// Around a transaction there is nothing inside a streamed block.
func TestParseRefusesInsideABlock(t *testing.T) {
	for _, c := range messages {
		switch c.data[0] {
		case Begin, Commit, StreamStart, StreamCommit, StreamAbort:
			p := Streamed()
			if err := p.Parse(c.data, new(Message)); err == nil {
				t.Errorf("%s is taken", c.name)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"unknown kind":      build('?', uint32(1)),
		"unknown value":     build('I', uint32(5), 'N', uint16(1), 'x'),
		"no new tuple":      build('I', uint32(5), 'K', tuple("t1")),
		"no old tuple":      build('D', uint32(5), 'N', tuple("t1")),
		"stop before start": build('E'),
		"huge value":        build('I', uint32(5), 'N', uint16(1), 't', uint32(0xffffffff)),
		"huge truncate":     build('T', uint32(0xffffffff), byte(0)),
		"negative message":  build('M', byte(0), uint64(0), "", uint32(0xffffffff)),
		"huge relation":     build('R', uint32(5), "", "", 'd', uint16(0xffff)),
	} {
		if err := new(Parser).Parse(data, new(Message)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	var p Parser
	m := Message{Truncated: make([]uint32, 0, 8)}
	got := testing.AllocsPerRun(100, func() {
		for _, c := range messages {
			if c.want.Relation != nil {
				continue
			}
			if err := p.Parse(c.data, &m); err != nil {
				t.Fatal(err)
			}
			for tuple := m.New; tuple.Len() > 0; {
				tuple.Next()
			}
		}
	})
	if got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

// The recordings are what a server sent, each message with its length in front.
func TestParseRecordings(t *testing.T) {
	for name, want := range map[string]string{
		"v1": "BYRIUDTMC",
		"v2": "SEcAYRIUDTMBC",
	} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".recording"))
		if err != nil {
			t.Fatal(err)
		}
		var p Parser
		var kinds strings.Builder
		if err := eachMessage(data, func(msg []byte) error {
			var m Message
			if err := p.Parse(msg, &m); err != nil {
				return err
			}
			kinds.WriteByte(m.Kind)
			return nil
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, kind := range want {
			if !strings.ContainsRune(kinds.String(), kind) {
				t.Errorf("%s: no message %c in %.200s", name, kind, kinds.String())
			}
		}
		t.Logf("%s: %d messages", name, kinds.Len())
	}
}

// eachMessage splits bytes into messages, each with its length in front.
func eachMessage(data []byte, do func([]byte) error) error {
	for len(data) >= 4 {
		n := min(int(binary.BigEndian.Uint32(data)), len(data)-4)
		if err := do(data[4 : 4+n : 4+n]); err != nil {
			return err
		}
		data = data[4+n:]
	}
	return nil
}

// FuzzParse parses a sequence of messages and walks over their tuples.
func FuzzParse(f *testing.F) {
	for _, c := range messages {
		f.Add(append(build(uint32(len(c.data))), c.data...))
	}
	recordings, err := filepath.Glob("testdata/*.recording")
	if err != nil || len(recordings) == 0 {
		f.Fatal("no recordings", err)
	}
	for _, name := range recordings {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 8<<10)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Parser
		var m Message
		_ = eachMessage(data, func(msg []byte) error { // an error ends it, as it ends a stream
			if err := p.Parse(msg, &m); err != nil {
				return err
			}
			for _, tuple := range []Tuple{m.Old, m.New} {
				for n := tuple.Len(); n > 0; n-- {
					kind, v := tuple.Next()
					if (kind == Null || kind == Unchanged) != (v == nil) {
						t.Errorf("value of kind %q is %v", kind, v)
					}
				}
				if len(tuple.data) > 0 {
					t.Errorf("%d bytes left behind a tuple", len(tuple.data))
				}
			}
			return nil
		})
	})
}

func BenchmarkParse(b *testing.B) {
	data := build('U', uint32(5), 'N', tuple("b\x00\x00\x00\x00\x00\x00\x00\x01", "tsome text", "n", "b\x00\x00\x00\x01", "u", "tmore text that is longer", "b\x00\x00\x00\x01", "b\x01"))
	var p Parser
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Parse(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}
