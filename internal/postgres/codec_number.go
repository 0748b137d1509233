package postgres

import (
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// str is v as a string without a copy, for functions that don't keep it.
func str(v []byte) string { return unsafe.String(unsafe.SliceData(v), len(v)) }

func putBool(c *batch.Column, v []byte) error {
	if len(v) != 1 || v[0] > 1 {
		return errMalformed
	}
	c.AppendInt32(int32(v[0]))
	return nil
}

func putBoolText(c *batch.Column, v []byte) error {
	if len(v) != 1 || v[0] != 't' && v[0] != 'f' {
		return errMalformed
	}
	if v[0] == 't' {
		c.AppendInt32(1)
	} else {
		c.AppendInt32(0)
	}
	return nil
}

func jsonBool(dst, v []byte) ([]byte, error) {
	if len(v) != 1 || v[0] > 1 {
		return dst, errMalformed
	}
	return strconv.AppendBool(dst, v[0] == 1), nil
}

func jsonBoolText(dst, v []byte) ([]byte, error) {
	if len(v) != 1 || v[0] != 't' && v[0] != 'f' {
		return dst, errMalformed
	}
	return strconv.AppendBool(dst, v[0] == 't'), nil
}

// readInt reads the binary form of an integer type.
func readInt(f family, v []byte) (int64, bool) {
	switch {
	case f == famInt2 && len(v) == 2:
		return int64(int16(binary.BigEndian.Uint16(v))), true
	case f == famInt4 && len(v) == 4:
		return int64(int32(binary.BigEndian.Uint32(v))), true
	case f == famOID && len(v) == 4:
		return int64(binary.BigEndian.Uint32(v)), true
	case f == famInt8 && len(v) == 8:
		return int64(binary.BigEndian.Uint64(v)), true
	}
	return 0, false
}

func putInt(f family) put {
	switch f {
	case famInt4:
		return func(c *batch.Column, v []byte) error {
			if len(v) != 4 {
				return errMalformed
			}
			c.AppendInt32(int32(binary.BigEndian.Uint32(v)))
			return nil
		}
	case famInt8:
		return func(c *batch.Column, v []byte) error {
			if len(v) != 8 {
				return errMalformed
			}
			c.AppendInt64(int64(binary.BigEndian.Uint64(v)))
			return nil
		}
	case famInt2:
		return func(c *batch.Column, v []byte) error {
			n, ok := readInt(f, v)
			if !ok {
				return errMalformed
			}
			c.AppendInt32(int32(n))
			return nil
		}
	}
	return func(c *batch.Column, v []byte) error {
		n, ok := readInt(f, v)
		if !ok {
			return errMalformed
		}
		c.AppendInt64(n)
		return nil
	}
}

func jsonInt(f family) render {
	return func(dst, v []byte) ([]byte, error) {
		n, ok := readInt(f, v)
		if !ok {
			return dst, errMalformed
		}
		return strconv.AppendInt(dst, n, 10), nil
	}
}

// parseInt reads digits with an optional minus. PostgreSQL writes nothing that
// doesn't fit; what doesn't is malformed.
func parseInt(v []byte) (n int64, ok bool) {
	d := v
	if len(d) > 0 && d[0] == '-' {
		d = d[1:]
	}
	if len(d) == 0 || len(d) > 19 {
		return 0, false
	}
	var u uint64
	for _, b := range d {
		if b -= '0'; b > 9 {
			return 0, false
		}
		u = u*10 + uint64(b)
	}
	if len(d) < len(v) {
		return int64(-u), u <= 1<<63
	}
	return int64(u), u < 1<<63
}

func putInt32Text(c *batch.Column, v []byte) error {
	n, ok := parseInt(v)
	if !ok || n != int64(int32(n)) {
		return errMalformed
	}
	c.AppendInt32(int32(n))
	return nil
}

func putInt64Text(c *batch.Column, v []byte) error {
	n, ok := parseInt(v)
	if !ok {
		return errMalformed
	}
	c.AppendInt64(n)
	return nil
}

func jsonIntText(dst, v []byte) ([]byte, error) {
	n, ok := parseInt(v)
	if !ok {
		return dst, errMalformed
	}
	return strconv.AppendInt(dst, n, 10), nil
}

// All NaNs are one: the text form doesn't tell them apart.
func readFloat4(v []byte) (float32, bool) {
	if len(v) != 4 {
		return 0, false
	}
	f := math.Float32frombits(binary.BigEndian.Uint32(v))
	if f != f {
		f = float32(math.NaN())
	}
	return f, true
}

func readFloat8(v []byte) (float64, bool) {
	if len(v) != 8 {
		return 0, false
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(v))
	if f != f {
		f = math.NaN()
	}
	return f, true
}

func putFloat4(c *batch.Column, v []byte) error {
	f, ok := readFloat4(v)
	if !ok {
		return errMalformed
	}
	c.AppendFloat32(f)
	return nil
}

func putFloat8(c *batch.Column, v []byte) error {
	f, ok := readFloat8(v)
	if !ok {
		return errMalformed
	}
	c.AppendFloat64(f)
	return nil
}

func putFloat4Text(c *batch.Column, v []byte) error {
	f, err := strconv.ParseFloat(str(v), 32)
	if err != nil {
		return errMalformed
	}
	c.AppendFloat32(float32(f))
	return nil
}

func putFloat8Text(c *batch.Column, v []byte) error {
	f, err := strconv.ParseFloat(str(v), 64)
	if err != nil {
		return errMalformed
	}
	c.AppendFloat64(f)
	return nil
}

func jsonFloat4(dst, v []byte) ([]byte, error) {
	f, ok := readFloat4(v)
	if !ok {
		return dst, errMalformed
	}
	return jsonFloat(dst, float64(f), 32), nil
}

func jsonFloat8(dst, v []byte) ([]byte, error) {
	f, ok := readFloat8(v)
	if !ok {
		return dst, errMalformed
	}
	return jsonFloat(dst, f, 64), nil
}

func jsonFloat4Text(dst, v []byte) ([]byte, error) { return jsonFloatText(dst, v, 32) }
func jsonFloat8Text(dst, v []byte) ([]byte, error) { return jsonFloatText(dst, v, 64) }

func jsonFloatText(dst, v []byte, bits int) ([]byte, error) {
	f, err := strconv.ParseFloat(str(v), bits)
	if err != nil {
		return dst, errMalformed
	}
	return jsonFloat(dst, f, bits), nil
}

// jsonFloat writes the shortest form that reads back equal, in PostgreSQL's
// choice between digits and an exponent; what JSON has no number for is a string.
func jsonFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case f != f:
		return append(dst, `"NaN"`...)
	case f > math.MaxFloat64:
		return append(dst, `"Infinity"`...)
	case f < -math.MaxFloat64:
		return append(dst, `"-Infinity"`...)
	case f == 0:
		return strconv.AppendFloat(dst, f, 'f', -1, bits)
	}
	digits := 15
	if bits == 32 {
		digits = 6
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, bits)
	e := len(dst) - 1
	for dst[e] != 'e' {
		e--
	}
	exp, _ := strconv.Atoi(str(dst[e+1:])) // always a number: AppendFloat wrote it
	if exp < -4 || exp >= digits {
		return dst
	}
	return strconv.AppendFloat(dst[:start], f, 'f', -1, bits)
}
