package postgres

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// The sign word of a numeric's binary form (src/backend/utils/adt/numeric.c).
const (
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInf      = 0xD000
	numericNegInf   = 0xF000
)

const (
	faultNaN   = fault("NaN or infinity, which a decimal can't hold: choose text for it (run.types), start the run again, and resync the table")
	faultRange = fault("a value doesn't fit the decimal's precision and scale: choose text or a wider one for it (run.types), start the run again, and resync the table")
)

func numericCodecs(target batch.Type) (text, bin codec) {
	if target.Kind == batch.String {
		text, bin = codec{put: putBytes}, rendered(renderNumeric, nil)
	}
	if target.Kind == batch.Decimal {
		d := newDecimal(target)
		text.put, bin.put = d.putNumericText, d.putNumeric
	}
	text.json, bin.json = jsonNumericText, jsonNumeric
	return text, bin
}

// decimal appends unscaled values to a column of one decimal type.
type decimal struct {
	wide  bool // stored as Int128
	scale int
	limit uint128 // 10^precision, which no value may reach
}

type uint128 struct{ hi, lo uint64 }

func newDecimal(t batch.Type) *decimal {
	d := &decimal{wide: t.Storage() == batch.Store128, scale: t.Scale, limit: uint128{lo: 1}}
	for range t.Precision {
		d.limit, _ = d.limit.mulAdd(10, 0)
	}
	return d
}

// mulAdd is u*m+a; ok is false when that overflows.
func (u uint128) mulAdd(m, a uint64) (r uint128, ok bool) {
	over, hi := bits.Mul64(u.hi, m)
	carry, lo := bits.Mul64(u.lo, m)
	r.lo, a = bits.Add64(lo, a, 0)
	var c1, c2 uint64
	r.hi, c1 = bits.Add64(hi, carry, 0)
	r.hi, c2 = bits.Add64(r.hi, a, 0)
	return r, over|c1|c2 == 0
}

func (u uint128) less(v uint128) bool { return u.hi < v.hi || u.hi == v.hi && u.lo < v.lo }

func (d *decimal) append(c *batch.Column, negative bool, u uint128) error {
	if !u.less(d.limit) {
		return faultRange
	}
	v := batch.Int128{Hi: int64(u.hi), Lo: u.lo}
	if negative {
		lo, borrow := bits.Sub64(0, u.lo, 0)
		hi, _ := bits.Sub64(0, u.hi, borrow)
		v = batch.Int128{Hi: int64(hi), Lo: lo}
	}
	if d.wide {
		c.AppendInt128(v)
	} else {
		c.AppendInt64(int64(v.Lo))
	}
	return nil
}

// numeric is the header of a numeric's binary form: digits of base 10000, the
// first of which counts 10000^weight, and how many decimals it shows.
type numeric struct {
	weight int
	sign   uint16
	dscale int
	digits []byte // two bytes a digit
}

func readNumeric(v []byte) (n numeric, ok bool) {
	if len(v) < 8 {
		return n, false
	}
	count := int(binary.BigEndian.Uint16(v))
	n = numeric{int(int16(binary.BigEndian.Uint16(v[2:]))), binary.BigEndian.Uint16(v[4:]), int(binary.BigEndian.Uint16(v[6:])), v[8:]}
	if len(n.digits) != 2*count || n.dscale > 0x3fff {
		return n, false
	}
	for i := range count {
		if n.digit(i) > 9999 {
			return n, false
		}
	}
	switch n.sign {
	case 0, numericNegative, numericNaN, numericInf, numericNegInf:
		return n, true
	}
	return n, false
}

// digit i, also before the first and beyond the last.
func (n *numeric) digit(i int) uint64 {
	if i < 0 || 2*i >= len(n.digits) {
		return 0
	}
	return uint64(binary.BigEndian.Uint16(n.digits[2*i:]))
}

var pow10 = [...]uint64{1, 10, 100, 1000, 10000}

func (d *decimal) putNumeric(c *batch.Column, v []byte) error {
	n, ok := readNumeric(v)
	if !ok {
		return errMalformed
	}
	if n.sign >= numericNaN {
		return faultNaN
	}
	u, err := d.unscaled(&n)
	if err != nil {
		return err
	}
	return d.append(c, n.sign == numericNegative, u)
}

// unscaled is the number times 10^scale. Digits that the scale has no place for
// are a fault unless they are zeros.
func (d *decimal) unscaled(n *numeric) (u uint128, err error) {
	count := len(n.digits) / 2
	left := d.scale // decimals still to be taken
	if n.weight < 0 {
		left += 4 * (n.weight + 1) // digits before the first one are zeros
	}
	for i := 0; i < count || i <= n.weight; i++ {
		m, q := uint64(10000), uint64(1)
		if i > n.weight {
			take := max(min(left, 4), 0)
			m, q = pow10[take], pow10[4-take]
			left -= 4
		}
		digit := n.digit(i)
		if digit%q != 0 {
			return u, faultRange
		}
		var ok bool
		if u, ok = u.mulAdd(m, digit/q); !ok {
			return u, faultRange
		}
	}
	for ; left > 0 && u != (uint128{}); left -= 4 {
		var ok bool
		if u, ok = u.mulAdd(pow10[min(left, 4)], 0); !ok {
			return u, faultRange
		}
	}
	return u, nil
}

func (d *decimal) putNumericText(c *batch.Column, v []byte) error {
	if len(v) == 0 {
		return errMalformed
	}
	negative := v[0] == '-'
	if negative {
		v = v[1:]
	}
	if s := str(v); s == "NaN" || s == "Infinity" {
		return faultNaN
	}
	u, err := d.parse(v)
	if err != nil {
		return err
	}
	return d.append(c, negative, u)
}

// parse reads digits with an optional point.
func (d *decimal) parse(v []byte) (u uint128, err error) {
	left, point := d.scale, false
	for i, b := range v {
		if b == '.' && !point && i > 0 {
			point = true
			continue
		}
		if b -= '0'; b > 9 {
			return u, errMalformed
		}
		if point {
			if left--; left < 0 && b != 0 {
				return u, faultRange
			} else if left < 0 {
				continue
			}
		}
		var ok bool
		if u, ok = u.mulAdd(10, uint64(b)); !ok {
			return u, faultRange
		}
	}
	for ; left > 0; left-- {
		var ok bool
		if u, ok = u.mulAdd(10, 0); !ok {
			return u, faultRange
		}
	}
	return u, nil
}

// renderNumeric writes a numeric as numeric_out does.
func renderNumeric(dst, v []byte) ([]byte, error) {
	n, ok := readNumeric(v)
	if !ok {
		return dst, errMalformed
	}
	switch n.sign {
	case numericNaN:
		return append(dst, "NaN"...), nil
	case numericInf:
		return append(dst, "Infinity"...), nil
	case numericNegInf:
		return append(dst, "-Infinity"...), nil
	case numericNegative:
		dst = append(dst, '-')
	}
	if n.weight < 0 {
		dst = append(dst, '0')
	}
	for i := 0; i <= n.weight; i++ {
		if i == 0 {
			dst = strconv.AppendUint(dst, n.digit(0), 10)
		} else {
			dst = appendDigits(dst, n.digit(i), 4)
		}
	}
	if n.dscale == 0 {
		return dst, nil
	}
	dst = append(dst, '.')
	end := len(dst) + n.dscale
	for i := n.weight + 1; len(dst) < end; i++ {
		dst = appendDigits(dst, n.digit(i), 4)
	}
	return dst[:end], nil
}

// appendDigits writes n with leading zeros, width digits wide.
func appendDigits(dst []byte, n uint64, width int) []byte {
	for i := width - 1; i >= 0; i-- {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; n > 0 && i >= len(dst)-width; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

func jsonNumeric(dst, v []byte) ([]byte, error) {
	start := len(dst)
	dst, err := renderNumeric(append(dst, '"'), v)
	if err != nil {
		return dst, err
	}
	if last := dst[len(dst)-1]; last < '0' || last > '9' { // NaN, Infinity
		return append(dst, '"'), nil
	}
	return append(dst[:start], dst[start+1:]...), nil
}

func jsonNumericText(dst, v []byte) ([]byte, error) {
	switch {
	case isNumber(v):
		return append(dst, v...), nil
	case string(v) == "NaN" || string(v) == "Infinity" || string(v) == "-Infinity":
		return jsonText(dst, v)
	}
	return dst, errMalformed
}

// isNumber says whether v is a numeric's text and so also a number in JSON.
func isNumber(v []byte) bool {
	whole, fraction, point := bytes.Cut(bytes.TrimPrefix(v, []byte{'-'}), []byte{'.'})
	return onlyDigits(whole) && (whole[0] != '0' || len(whole) == 1) && (!point || onlyDigits(fraction))
}

func onlyDigits(v []byte) bool {
	for _, b := range v {
		if b < '0' || b > '9' {
			return false
		}
	}
	return len(v) > 0
}

// moneyCodecs read a money, which is a whole number of the currency's smallest
// unit in binary. As text it has those very digits, among signs and separators
// that depend on lc_monetary.
func moneyCodecs(target batch.Type, scale int) (text, bin codec) {
	if target.Kind != batch.Decimal || target.Scale != scale || target.Precision < 19 {
		return codec{}, codec{}
	}
	d := newDecimal(target)
	text.put = func(c *batch.Column, v []byte) error {
		n, ok := parseMoney(v)
		if !ok {
			return errMalformed
		}
		return d.appendInt(c, n)
	}
	bin.put = func(c *batch.Column, v []byte) error {
		n, ok := readInt(famInt8, v)
		if !ok {
			return errMalformed
		}
		return d.appendInt(c, n)
	}
	text.json = func(dst, v []byte) ([]byte, error) {
		n, ok := parseMoney(v)
		if !ok {
			return dst, errMalformed
		}
		return appendScaled(dst, n, scale), nil
	}
	bin.json = func(dst, v []byte) ([]byte, error) {
		n, ok := readInt(famInt8, v)
		if !ok {
			return dst, errMalformed
		}
		return appendScaled(dst, n, scale), nil
	}
	return text, bin
}

func (d *decimal) appendInt(c *batch.Column, n int64) error {
	u := uint64(n)
	if n < 0 {
		u = -u
	}
	return d.append(c, n < 0, uint128{lo: u})
}

// parseMoney takes the digits; a minus (U+2212 too, as some locales write it) or a
// parenthesis anywhere is the sign.
func parseMoney(v []byte) (int64, bool) {
	var u uint64
	negative, digits := bytes.Contains(v, []byte("\u2212")), 0
	for _, b := range v {
		switch {
		case b == '-' || b == '(':
			negative = true
		case b >= '0' && b <= '9':
			u, digits = u*10+uint64(b-'0'), digits+1
		}
	}
	if digits == 0 || digits > 19 || u > 1<<63 || u == 1<<63 && !negative {
		return 0, false
	}
	if negative {
		u = -u
	}
	return int64(u), true
}

// appendScaled writes n/10^scale with all its decimals.
func appendScaled(dst []byte, n int64, scale int) []byte {
	u := uint64(n)
	if n < 0 {
		dst, u = append(dst, '-'), -u
	}
	unit := uint64(1)
	for range scale {
		unit *= 10
	}
	dst = strconv.AppendUint(dst, u/unit, 10)
	if scale > 0 {
		dst = appendDigits(append(dst, '.'), u%unit, scale)
	}
	return dst
}
