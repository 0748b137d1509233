package delta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/pgmirror/pgmirror/internal/batch"
)

const (
	statsColumns = 32 // columns with statistics, the first ones: what other writers do
	statsPrefix  = 32 // characters of a string's bounds
)

// Stats is a file's statistics as an Add holds them: rows, and per column the
// bounds and the number of NULLs
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics).
// The bounds of strings and timestamps are rounded outwards. Columns whose
// values have no order that all readers share (boolean, binary, NaN) have none.
func Stats(b *batch.Batch) string {
	low, high, nulls := []byte(nil), []byte(nil), []byte(nil)
	for i, f := range b.Schema.Fields {
		if i == statsColumns {
			break
		}
		c := &b.Cols[i]
		n := 0
		for _, d := range c.Def {
			if d != batch.Present {
				n++
			}
		}
		nulls = member(nulls, f.Name, strconv.AppendInt(nil, int64(n), 10))
		if lo, hi := bounds(c); lo != nil && n < b.Rows() {
			low, high = member(low, f.Name, lo), member(high, f.Name, hi)
		}
	}
	return fmt.Sprintf(`{"numRecords":%d,"minValues":{%s},"maxValues":{%s},"nullCount":{%s},"tightBounds":true}`, b.Rows(), low, high, nulls)
}

// RowStats is the statistics of a file of which only the number of rows is known.
func RowStats(rows int64) string { return fmt.Sprintf(`{"numRecords":%d}`, rows) }

// Loosen is the statistics of the same file once rows of it are deleted: its
// bounds hold, and need no longer be met.
func Loosen(stats string) (string, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(stats), &m); err != nil {
		return "", fmt.Errorf("statistics: %w", err)
	}
	if m == nil {
		return "", errors.New("statistics: null")
	}
	m["tightBounds"] = json.RawMessage("false")
	out, err := json.Marshal(m)
	return string(out), err
}

func member(dst []byte, name string, value []byte) []byte {
	if dst != nil {
		dst = append(dst, ',')
	}
	dst = append(appendText(dst, name), ':')
	return append(dst, value...)
}

func appendText(dst []byte, s string) []byte {
	t, _ := json.Marshal(s) // a string can't fail
	return append(dst, t...)
}

// bounds is the least and the greatest value as JSON; nil when there is none.
func bounds(c *batch.Column) (lo, hi []byte) {
	switch c.Type.Kind {
	case batch.Int16, batch.Int32, batch.Date:
		return bound(c, c.I32, less[int32], func(v int32, _ bool) []byte { return c32(c.Type, v) })
	case batch.Int64, batch.Timestamp, batch.TimestampNTZ:
		return bound(c, c.I64, less[int64], func(v int64, up bool) []byte { return c64(c.Type, v, up) })
	case batch.Decimal:
		if c.Type.Storage() == batch.Store64 {
			return bound(c, c.I64, less[int64], func(v int64, _ bool) []byte { return unscaled(big.NewInt(v), c.Type.Scale) })
		}
		return bound(c, c.I128, less128, func(v batch.Int128, _ bool) []byte { return unscaled(v.Big(), c.Type.Scale) })
	case batch.Float32:
		return bound(c, c.F32, less[float32], func(v float32, _ bool) []byte { return float(float64(v), 32) })
	case batch.Float64:
		return bound(c, c.F64, less[float64], func(v float64, _ bool) []byte { return float(v, 64) })
	case batch.String:
		return stringBounds(c)
	}
	return nil, nil
}

func less[T int32 | int64 | float32 | float64](a, b T) bool { return a < b }

func less128(a, b batch.Int128) bool { return a.Hi < b.Hi || a.Hi == b.Hi && a.Lo < b.Lo }

func bound[T comparable](c *batch.Column, values []T, less func(a, b T) bool, text func(v T, up bool) []byte) (lo, hi []byte) {
	var least, most T
	found := false
	for i, v := range values {
		switch {
		case c.Def[i] != batch.Present:
		case v != v:
			return nil, nil // NaN: no reader agrees with the next on its order
		case !found:
			least, most, found = v, v, true
		case less(v, least):
			least = v
		case less(most, v):
			most = v
		}
	}
	if !found {
		return nil, nil
	}
	if lo, hi = text(least, false), text(most, true); lo == nil || hi == nil {
		return nil, nil
	}
	return lo, hi
}

func c32(t batch.Type, v int32) []byte {
	if t.Kind != batch.Date {
		return strconv.AppendInt(nil, int64(v), 10)
	}
	return moment(time.Unix(int64(v)*86400, 0).UTC(), time.DateOnly)
}

func c64(t batch.Type, v int64, up bool) []byte {
	layout := "2006-01-02T15:04:05.000"
	switch t.Kind {
	case batch.Int64:
		return strconv.AppendInt(nil, v, 10)
	case batch.Timestamp:
		layout += "Z"
	}
	ms := v / 1000
	if v%1000 < 0 {
		ms--
	}
	if up && v%1000 != 0 {
		ms++
	}
	return moment(time.UnixMilli(ms).UTC(), layout)
}

// moment leaves out years that not every reader can parse.
func moment(t time.Time, layout string) []byte {
	if t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	return appendText(nil, t.Format(layout))
}

func unscaled(v *big.Int, scale int) []byte {
	digits := new(big.Int).Abs(v).String()
	for len(digits) <= scale {
		digits = "0" + digits
	}
	if scale > 0 {
		digits = digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	}
	if v.Sign() < 0 {
		digits = "-" + digits
	}
	return []byte(digits)
}

func float(v float64, bits int) []byte {
	if math.IsInf(v, 0) {
		return nil // JSON has no word for it
	}
	return strconv.AppendFloat(nil, v+0, 'g', -1, bits)
}

func stringBounds(c *batch.Column) (lo, hi []byte) {
	least, most := -1, -1
	for i, d := range c.Def {
		if d != batch.Present {
			continue
		}
		if least < 0 || bytes.Compare(c.Value(i), c.Value(least)) < 0 {
			least = i
		}
		if most < 0 || bytes.Compare(c.Value(i), c.Value(most)) > 0 {
			most = i
		}
	}
	if least < 0 || !utf8.Valid(c.Value(least)) || !utf8.Valid(c.Value(most)) {
		return nil, nil
	}
	top, ok := prefixAbove(string(c.Value(most)))
	if !ok {
		return nil, nil
	}
	low, _ := prefix(string(c.Value(least)))
	return appendText(nil, low), appendText(nil, top)
}

func prefix(s string) (cut string, whole bool) {
	n := 0
	for i := range s {
		if n == statsPrefix {
			return s[:i], false
		}
		n++
	}
	return s, true
}

// prefixAbove is a short string that is not less than s: its prefix with the
// last character that has a successor replaced by that.
func prefixAbove(s string) (string, bool) {
	p, whole := prefix(s)
	if whole {
		return s, true
	}
	r := []rune(p)
	for i := len(r) - 1; i >= 0; i-- {
		next := r[i] + 1
		if next == 0xd800 { // surrogates are no characters
			next = 0xe000
		}
		if next <= utf8.MaxRune {
			return string(append(r[:i], next)), true
		}
	}
	return "", false
}

// RowCount is the number of rows that statistics tell.
func RowCount(stats string) (int64, error) {
	var s struct {
		NumRecords *int64 `json:"numRecords"`
	}
	if err := json.Unmarshal([]byte(stats), &s); err != nil {
		return 0, fmt.Errorf("statistics: %w", err)
	}
	if s.NumRecords == nil {
		return 0, errors.New("statistics without a number of rows")
	}
	return *s.NumRecords, nil
}
