package parquet

import (
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	arrow "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// lineitem is TPC-H's widest table: numbers that repeat and numbers that don't,
// short strings that repeat and a comment.
func lineitem(rows int) *batch.Batch {
	r := rand.New(rand.NewPCG(1, 1))
	s := &batch.Schema{Key: []int{0, 3}}
	for _, f := range [][2]string{{"l_orderkey", "long"}, {"l_partkey", "integer"}, {"l_suppkey", "integer"}, {"l_linenumber", "integer"},
		{"l_quantity", "decimal(15,2)"}, {"l_extendedprice", "decimal(15,2)"}, {"l_discount", "decimal(15,2)"}, {"l_tax", "decimal(15,2)"},
		{"l_returnflag", "string"}, {"l_linestatus", "string"}, {"l_shipdate", "date"}, {"l_commitdate", "date"}, {"l_receiptdate", "date"},
		{"l_shipinstruct", "string"}, {"l_shipmode", "string"}, {"l_comment", "string"}} {
		t, _ := batch.ParseType(f[1])
		s.Fields = append(s.Fields, batch.Field{Name: f[0], Type: t})
	}
	b := batch.New(s, false)
	pick := func(c int, v ...string) { b.Cols[c].AppendBytes([]byte(v[r.IntN(len(v))])) }
	words := []string{"furiously", "sly", "careful", "blithe", "quick", "fluffy", "slow", "quiet", "ruthless", "thin", "close", "dogged", "daring", "brave", "stealthy",
		"permanent", "enticing", "idle", "busy", "regular", "final", "ironic", "even", "bold", "silent", "foxes", "ideas", "theodolites", "pinto beans", "instructions"}
	for i := range rows {
		quantity := int64(1 + r.IntN(50))
		date := 8000 + int32(r.IntN(2500))
		b.Cols[0].AppendInt64(int64(i / 4 * 8))
		b.Cols[1].AppendInt32(int32(r.IntN(2_000_000)))
		b.Cols[2].AppendInt32(int32(r.IntN(100_000)))
		b.Cols[3].AppendInt32(int32(i % 4))
		b.Cols[4].AppendInt64(quantity * 100)
		b.Cols[5].AppendInt64(quantity * int64(90_000+r.IntN(110_000)))
		b.Cols[6].AppendInt64(int64(r.IntN(11)))
		b.Cols[7].AppendInt64(int64(r.IntN(9)))
		pick(8, "A", "N", "R")
		pick(9, "F", "O")
		b.Cols[10].AppendInt32(date)
		b.Cols[11].AppendInt32(date + int32(r.IntN(60)) - 30)
		b.Cols[12].AppendInt32(date + int32(r.IntN(30)))
		pick(13, "DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")
		pick(14, "REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB")
		for n := 2 + r.IntN(5); n > 0; n-- {
			c := &b.Cols[15]
			c.Data = append(append(c.Data, words[r.IntN(len(words))]...), ' ')
		}
		b.Cols[15].EndBytes()
		b.EndRow()
	}
	return b
}

// BenchmarkWrite writes the lineitem shape, and again as arrow-go does it when it
// is left alone, turn by turn: what counts is the ratio.
func BenchmarkWrite(b *testing.B) {
	const rows = 500_000
	in := lineitem(rows)
	var ours, stock time.Duration
	b.ReportAllocs()
	for b.Loop() {
		ours += cpu(func() { check(b, Write(io.Discard, in, nil)) })
		b.StopTimer()
		stock += cpu(func() { check(b, writeStock(io.Discard, in)) })
		b.StartTimer()
	}
	n := float64(b.N) * rows
	b.ReportMetric(n/ours.Seconds()/1e6, "Mrows/CPU-s")
	b.ReportMetric(n/stock.Seconds()/1e6, "stock-Mrows/CPU-s")
}

func check(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

func cpu(f func()) time.Duration {
	var from, to syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &from) // can't fail with these arguments
	f()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &to)
	return time.Duration(to.Utime.Nano() + to.Stime.Nano() - from.Utime.Nano() - from.Stime.Nano())
}

// writeStock lets arrow-go build the dictionaries, as far as it will.
func writeStock(w io.Writer, b *batch.Batch) error {
	root, err := fileSchema(b)
	if err != nil {
		return err
	}
	fw := file.NewParquetWriter(w, root, file.WithWriterProps(arrow.NewWriterProperties(arrow.WithCompression(compress.Codecs.Snappy))))
	rg, err := fw.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	for i := range b.Cols {
		cw, err := rg.NextColumn()
		if err != nil {
			return err
		}
		switch c := &b.Cols[i]; w := cw.(type) {
		case *file.Int32ColumnChunkWriter:
			_, err = w.WriteBatch(c.I32, c.Def, nil)
		case *file.Int64ColumnChunkWriter:
			_, err = w.WriteBatch(c.I64, c.Def, nil)
		case *file.ByteArrayColumnChunkWriter:
			v := make([]arrow.ByteArray, b.Rows())
			for i := range v {
				v[i] = c.Value(i)
			}
			_, err = w.WriteBatch(v, c.Def, nil)
		}
		if err != nil {
			return err
		}
		if err := cw.Close(); err != nil {
			return err
		}
	}
	return fw.Close()
}
