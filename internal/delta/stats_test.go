package delta

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
)

func TestStats(t *testing.T) {
	long := strings.Repeat("é", 31) + "zz"
	for name, c := range map[string]struct {
		kind batch.Type
		add  func(*batch.Column)
		want string // bounds and NULLs
	}{
		"long":       {batch.Type{Kind: batch.Int64}, func(c *batch.Column) { c.AppendInt64(math.MinInt64); c.AppendNull(); c.AppendInt64(7) }, `{"c":-9223372036854775808} {"c":7} 1`},
		"nulls":      {batch.Type{Kind: batch.Int32}, func(c *batch.Column) { c.AppendNull(); c.AppendNull(); c.AppendNull() }, `{} {} 3`},
		"boolean":    {batch.Type{Kind: batch.Bool}, func(c *batch.Column) { c.AppendInt32(1); c.AppendInt32(0); c.AppendInt32(1) }, `{} {} 0`},
		"date":       {batch.Type{Kind: batch.Date}, func(c *batch.Column) { c.AppendInt32(-1); c.AppendInt32(0); c.AppendInt32(20000) }, `{"c":"1969-12-31"} {"c":"2024-10-04"} 0`},
		"old date":   {batch.Type{Kind: batch.Date}, func(c *batch.Column) { c.AppendInt32(-800000); c.AppendInt32(0); c.AppendInt32(1) }, `{} {} 0`},
		"timestamp":  {batch.Type{Kind: batch.Timestamp}, func(c *batch.Column) { c.AppendInt64(-1); c.AppendInt64(0); c.AppendInt64(1001) }, `{"c":"1969-12-31T23:59:59.999Z"} {"c":"1970-01-01T00:00:00.002Z"} 0`},
		"wall clock": {batch.Type{Kind: batch.TimestampNTZ}, func(c *batch.Column) { c.AppendInt64(0); c.AppendInt64(0); c.AppendInt64(1000) }, `{"c":"1970-01-01T00:00:00.000"} {"c":"1970-01-01T00:00:00.001"} 0`},
		"decimal":    {batch.Type{Kind: batch.Decimal, Precision: 12, Scale: 2}, func(c *batch.Column) { c.AppendInt64(-5); c.AppendInt64(0); c.AppendInt64(12345) }, `{"c":-0.05} {"c":123.45} 0`},
		"wide decimal": {batch.Type{Kind: batch.Decimal, Precision: 38}, func(c *batch.Column) {
			c.AppendInt128(batch.Int128{Hi: -1, Lo: 1<<64 - 3})
			c.AppendInt128(batch.Int128{Hi: 1})
			c.AppendInt128(batch.Int128{Lo: 1 << 63})
		}, `{"c":-3} {"c":18446744073709551616} 0`},
		"double":    {batch.Type{Kind: batch.Float64}, func(c *batch.Column) { c.AppendFloat64(1e300); c.AppendFloat64(-0.5); c.AppendFloat64(0) }, `{"c":-0.5} {"c":1e+300} 0`},
		"NaN":       {batch.Type{Kind: batch.Float64}, func(c *batch.Column) { c.AppendFloat64(1); c.AppendFloat64(math.NaN()); c.AppendFloat64(0) }, `{} {} 0`},
		"infinity":  {batch.Type{Kind: batch.Float32}, func(c *batch.Column) { c.AppendFloat32(1); c.AppendFloat32(float32(math.Inf(1))); c.AppendFloat32(0) }, `{} {} 0`},
		"text":      {batch.Type{Kind: batch.String}, func(c *batch.Column) { c.AppendBytes([]byte("b\"")); c.AppendBytes(nil); c.AppendBytes([]byte("a")) }, `{"c":""} {"c":"b\""} 0`},
		"long text": {batch.Type{Kind: batch.String}, func(c *batch.Column) { c.AppendBytes([]byte(long)); c.AppendNull(); c.AppendNull() }, `{"c":"` + long[:63] + `"} {"c":"` + long[:62] + `{"} 2`},
		"top text": {batch.Type{Kind: batch.String}, func(c *batch.Column) {
			c.AppendBytes([]byte(strings.Repeat("\U0010ffff", 33)))
			c.AppendNull()
			c.AppendNull()
		}, `{} {} 2`},
		"not UTF-8": {batch.Type{Kind: batch.String}, func(c *batch.Column) { c.AppendBytes([]byte{0xff}); c.AppendNull(); c.AppendNull() }, `{} {} 2`},
		"binary":    {batch.Type{Kind: batch.Binary}, func(c *batch.Column) { c.AppendBytes([]byte{1}); c.AppendNull(); c.AppendNull() }, `{} {} 2`},
	} {
		t.Run(name, func(t *testing.T) {
			b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "c", Type: c.kind}}}, false)
			c.add(&b.Cols[0])
			b.SetRows(3)
			part := strings.SplitN(c.want, " ", 3)
			want := `{"numRecords":3,"minValues":` + part[0] + `,"maxValues":` + part[1] + `,"nullCount":{"c":` + part[2] + `},"tightBounds":true}`
			if diff := cmp.Diff(want, Stats(b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoosenKeepsNumbersExact(t *testing.T) {
	got, err := Loosen(`{"numRecords":3,"minValues":{"c":-9223372036854775808},"tightBounds":true}`)
	if want := `{"minValues":{"c":-9223372036854775808},"numRecords":3,"tightBounds":false}`; got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
