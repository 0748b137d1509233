package postgres

import (
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// appendSQLArray writes values from ≤ i < to of a column as the text form of an
// array of t, the opposite of what the decoders do.
func appendSQLArray(dst []byte, t *pgType, c *batch.Column, from, to int) ([]byte, error) {
	switch t.family() {
	case famArray, famHstore, famMoney:
		return nil, errors.New("a row can't be looked up by a value of its type")
	}
	var scratch []byte
	dst = append(dst, '{')
	for i := from; i < to; i++ {
		if c.Def[i] != batch.Present {
			return nil, errors.New("a key has no value")
		}
		if i > from {
			dst = append(dst, t.Delim)
		}
		scratch = appendSQLText(scratch[:0], t.family(), c, i)
		dst = append(dst, '"')
		for _, b := range scratch {
			if b == '"' || b == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, b)
		}
		dst = append(dst, '"')
	}
	return append(dst, '}'), nil
}

// appendSQLText writes value i of a column as PostgreSQL reads it.
func appendSQLText(dst []byte, f family, c *batch.Column, i int) []byte {
	switch c.Type.Kind {
	case batch.Bool:
		return strconv.AppendBool(dst, c.I32[i] == 1)
	case batch.Int16, batch.Int32:
		return strconv.AppendInt(dst, int64(c.I32[i]), 10)
	case batch.Int64:
		return strconv.AppendInt(dst, c.I64[i], 10)
	case batch.Float32:
		return strconv.AppendFloat(dst, float64(c.F32[i]), 'g', -1, 32)
	case batch.Float64:
		return strconv.AppendFloat(dst, c.F64[i], 'g', -1, 64)
	case batch.Decimal:
		if c.Type.Storage() == batch.Store64 {
			return appendScaled(dst, c.I64[i], c.Type.Scale)
		}
		return append(append(append(dst, c.I128[i].Big().String()...), 'e', '-'), strconv.Itoa(c.Type.Scale)...)
	case batch.Date:
		dst, _ = appendDate(dst, int64(c.I32[i])-epochDays) // a key is never clamped, so never before Christ
		return dst
	case batch.Timestamp, batch.TimestampNTZ:
		return appendTimestamp(dst, c.I64[i]-epochDays*dayMicros, f == famTimestamptz)
	case batch.Binary:
		return hex.AppendEncode(append(dst, `\x`...), c.Value(i))
	}
	return append(dst, c.Value(i)...)
}
