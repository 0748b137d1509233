package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// wideTable makes a table with 16 columns of the types that people have, and a
// publication p of it; makeRows fills it.
const wideTable = `CREATE TABLE wide (id bigint PRIMARY KEY, part int, supp int, line smallint, quantity numeric(15,2), price numeric(15,2), total numeric(30,4),
	weight double precision, flag boolean, shipped date, at timestamptz, u uuid, mode text, comment text, tags text[], doc jsonb);
	CREATE PUBLICATION p FOR TABLE wide`

func makeRows(n int) string {
	return fmt.Sprintf(`INSERT INTO wide SELECT i, i*7, i%%100, i%%7, i%%50, (i*13%%1000000)/100.0, i*1.5, i/3.0, i%%2 = 0, '2020-01-01'::date + i%%1000, '2020-01-01'::timestamptz + i * interval '1 second',
	md5(i::text)::uuid, (ARRAY['AIR','RAIL','SHIP','TRUCK'])[1+i%%4], repeat('comment ', 3) || i, ARRAY['a', i::text, NULL], jsonb_build_object('k', i) FROM generate_series(1, %d) i`, n)
}

// copyMessages is COPY's data of a table as the server sends it, header, rows and
// trailer.
type copyMessages [][]byte

func (c *copyMessages) Write(p []byte) (int, error) {
	*c = append(*c, bytes.Clone(p))
	return len(p), nil
}

func copyRows(t testing.TB, e postgres.Endpoint) [][]byte {
	t.Helper()
	var c copyMessages
	if _, err := connect(t, e).PgConn().CopyTo(context.Background(), &c, "COPY wide TO STDOUT (FORMAT binary)"); err != nil {
		t.Fatal(err)
	}
	c[0] = c[0][19:]
	return c[:len(c)-1]
}

func tuples(t testing.TB, messages [][]byte) []pgoutput.Tuple {
	t.Helper()
	var p pgoutput.Parser
	var out []pgoutput.Tuple
	for _, data := range messages {
		var m pgoutput.Message
		if err := p.Parse(data, &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == pgoutput.Insert {
			out = append(out, m.New)
		}
	}
	return out
}

// decoding is one way of decoding the rows of the wide table into b.
type decoding struct {
	name string
	rows int
	row  func(i int) error
}

func decodings(t testing.TB, e postgres.Endpoint, rows int, b *batch.Batch, d *postgres.Decoder) []decoding {
	newSlot(t, e, "wide_text")
	newSlot(t, e, "wide_binary")
	run(t, e, makeRows(rows), "SELECT pg_logical_emit_message(false, 'end', '')")
	copied := copyRows(t, e)
	text := tuples(t, rawMessages(t, e, "wide_text", "proto_version '1', messages 'true'"))
	bin := tuples(t, rawMessages(t, e, "wide_binary", "proto_version '1', messages 'true', binary 'true'"))
	return []decoding{
		{"copy", len(copied), func(i int) error { return d.AppendCopyRow(b, copied[i]) }},
		{"text", len(text), func(i int) error { return d.AppendTuple(b, text[i]) }},
		{"binary", len(bin), func(i int) error { return d.AppendTuple(b, bin[i]) }},
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	e := database(t, "")
	run(t, e, wideTable)
	tab := table(t, e, "wide")
	b := batch.New(tab.MirrorSchema(), false)
	for _, c := range decodings(t, e, 100, b, decoder(t, tab)) {
		if c.rows != 100 {
			t.Fatalf("%s: %d rows, want 100", c.name, c.rows)
		}
		got := testing.AllocsPerRun(10, func() {
			b.Truncate(0)
			for i := range c.rows {
				if err := c.row(i); err != nil {
					t.Fatal(err)
				}
				b.EndRow()
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations for 100 rows, want none", c.name, got)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	e := database(b, "")
	run(b, e, wideTable)
	tab := table(b, e, "wide")
	dst := batch.New(tab.MirrorSchema(), false)
	for _, c := range decodings(b, e, 1000, dst, decoder(b, tab)) {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i == c.rows {
					i = 0
					dst.Truncate(0)
				}
				if err := c.row(i); err != nil {
					b.Fatal(err)
				}
				dst.EndRow()
				i++
			}
		})
	}
}

// benchRows is how many rows one pass over the server's data has.
const benchRows = 100_000

// BenchmarkCopyChunk copies the wide table from the server; an op is a pass.
func BenchmarkCopyChunk(b *testing.B) {
	e := database(b, "")
	run(b, e, wideTable, makeRows(benchRows))
	tab := table(b, e, "wide")
	r := openSnapshot(b, e, "")
	dst, d := batch.New(tab.MirrorSchema(), false), decoder(b, tab)
	empty := func(dst *batch.Batch) error { dst.Truncate(0); return nil }
	b.ReportAllocs()
	for b.Loop() {
		dst.Truncate(0)
		if err := r.CopyChunk(context.Background(), tab, d, 0, math.MaxUint32, dst, empty); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b)
}

// BenchmarkStream reads as many inserts from a slot that nothing confirms; an op
// is a pass.
func BenchmarkStream(b *testing.B) {
	e := database(b, "")
	run(b, e, wideTable)
	newSlot(b, e, "bench")
	run(b, e, makeRows(benchRows))
	tab := table(b, e, "wide")
	dst, d := batch.New(tab.MirrorSchema(), true), decoder(b, tab)
	b.ReportAllocs()
	for b.Loop() {
		s, err := postgres.StartStream(context.Background(), e, postgres.StreamOptions{Slot: "bench", Publications: []string{"p"}, Binary: true})
		if err != nil {
			b.Fatal(err)
		}
		for rows := 0; rows < benchRows; {
			ev, err := s.Next(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			if ev.Kind != postgres.EventMessage || ev.Msg.Kind != pgoutput.Insert {
				continue
			}
			if err := d.AppendTuple(dst, ev.Msg.New); err != nil {
				b.Fatal(err)
			}
			dst.EndMarkedRow(batch.Upsert)
			if rows++; dst.Bytes() > 32<<20 {
				dst.Truncate(0)
			}
		}
		if err := s.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b)
}

func perRow(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}
