package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// rule brings the values of a column to one form from both sides.
type rule struct {
	// expr is SQL for the value, %s being the column: PostgreSQL renders it.
	expr string
	// source makes PostgreSQL's text canonical, appending to dst. changed says
	// that the mirror can't hold the value, as documented, and holds the
	// returned one instead; null that it holds NULL. nil: the text is canonical.
	source func(dst, text []byte) (out []byte, changed, null bool, err error)
	// mirror makes value i of the mirror canonical.
	mirror func(dst []byte, c *batch.Column, i int) []byte
	// literal is a canonical value as PostgreSQL reads it; nil: it can't.
	literal func(canonical string) string
	// near is SQL that holds for every value that becomes the canonical one, where
	// that one itself isn't always what the source has; "" where it is. nil: always.
	near func(column, canonical string) string
}

func (r *rule) around(column, canonical string) string {
	if r.near == nil {
		return ""
	}
	return r.near(column, canonical)
}

// Types by their oids, which never change (src/include/catalog/pg_type.dat).
const (
	oidChar        = 18
	oidOID         = 26
	oidFloat4      = 700
	oidFloat8      = 701
	oidMoney       = 790
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
)

// ruleFor is the rule for a type of the source that is of a given type in the
// mirror, and the loss that is documented for it.
func ruleFor(t baseType, typmod int32, m batch.Type, native bool) (rule, string) {
	if t.typmod >= 0 {
		typmod = t.typmod
	}
	isTime := t.oid == oidTimestamp || t.oid == oidTimestamptz
	isFloat := m.Kind == batch.Float32 || m.Kind == batch.Float64
	switch {
	case m.Kind == batch.Decimal && t.oid == oidMoney:
		return numberRule("%s::pg_catalog.numeric"), ""
	case native && t.oid == oidNumeric:
		return nativeNumeric(typmod, m)
	case m.Kind == batch.Decimal:
		return numberRule("%s"), ""
	case m.Kind == batch.Date && t.oid == oidDate:
		return clampRule("pg_catalog.trunc(extract(epoch FROM %s) / 86400)", t.name, minDay, maxDay, dayLiteral), clampLoss
	case (m.Kind == batch.Timestamp || m.Kind == batch.TimestampNTZ) && isTime:
		return clampRule("pg_catalog.trunc(extract(epoch FROM %s) * 1000000)", t.name, minMicro, maxMicro, microLiteral), clampLoss
	case isFloat && (t.oid == oidFloat4 || t.oid == oidFloat8 && m.Kind == batch.Float64):
		return floatRule(m), ""
	case isFloat && t.oid == oidMoney:
		return numberRule("%s::pg_catalog.numeric"), ""
	case isFloat: // a float that isn't the source's number isn't equal to it
		return numberRule("%s"), ""
	case m.Kind == batch.String && t.oid == oidChar:
		return charRule(), ""
	case m.Kind == batch.String && t.isArray:
		return arrayRule(t), ""
	case m.Kind == batch.String && t.name == "hstore":
		return jsonRule("pg_catalog.to_json(%s)", appendNumber), ""
	}
	return rule{expr: "%s", mirror: renderMirror, literal: plainLiteral}, ""
}

func plainLiteral(canonical string) string { return canonical }

// renderMirror writes a value as PostgreSQL would.
func renderMirror(dst []byte, c *batch.Column, i int) []byte {
	switch c.Type.Kind {
	case batch.Bool:
		return append(dst, "ft"[c.I32[i]&1])
	case batch.Int16, batch.Int32, batch.Date:
		return strconv.AppendInt(dst, int64(c.I32[i]), 10)
	case batch.Int64, batch.Timestamp, batch.TimestampNTZ:
		return strconv.AppendInt(dst, c.I64[i], 10)
	case batch.Decimal:
		return append(dst, decimalText(c, i)...)
	case batch.Float32:
		return floatBits(dst, float64(c.F32[i]), 32)
	case batch.Float64:
		return floatBits(dst, c.F64[i], 64)
	case batch.Binary:
		return hex.AppendEncode(append(dst, `\x`...), c.Value(i))
	case batch.String:
		return append(dst, c.Value(i)...)
	}
	panic(fmt.Sprintf("verify: no rendering of %s", c.Type))
}

// decimalText is the value as digits and exponent, for appendNumber.
func decimalText(c *batch.Column, i int) string {
	var unscaled string
	if c.Type.Storage() == batch.Store128 {
		unscaled = c.I128[i].Big().String()
	} else {
		unscaled = strconv.FormatInt(c.I64[i], 10)
	}
	return unscaled + "e-" + strconv.Itoa(c.Type.Scale)
}

// numberRule compares numbers by value: 1.50 is 1.5.
func numberRule(expr string) rule {
	return rule{
		expr: expr,
		source: func(dst, text []byte) ([]byte, bool, bool, error) {
			return appendNumber(dst, string(text)), false, false, nil
		},
		mirror:  numberMirror,
		literal: plainLiteral,
	}
}

func numberMirror(dst []byte, c *batch.Column, i int) []byte {
	if c.Type.Kind == batch.Decimal {
		return appendNumber(dst, decimalText(c, i))
	}
	switch c.Type.Kind {
	case batch.Float32:
		return appendFloatNumber(dst, float64(c.F32[i]), 32)
	case batch.Float64:
		return appendFloatNumber(dst, c.F64[i], 64)
	}
	return appendNumber(dst, string(renderMirror(nil, c, i)))
}

// appendFloatNumber writes the number of which a float is the nearest, as short as
// can be.
func appendFloatNumber(dst []byte, f float64, size int) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	return appendNumber(dst, strconv.FormatFloat(f, 'g', -1, size))
}

// nativeNumeric is Fabric's documented treatment of numeric in native mirroring:
// more than 38 digits become NULL, and without a precision the fraction is cut.
func nativeNumeric(typmod int32, m batch.Type) (rule, string) {
	r := numberRule("%s")
	if m.Kind != batch.Decimal {
		return r, ""
	}
	tooWide := typmod >= 4 && (typmod-4)>>16 > 38
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(m.Precision)), nil)
	r.source = func(dst, text []byte) ([]byte, bool, bool, error) {
		cut, whole, fits := cutNumber(string(text), m.Scale, limit)
		if tooWide || !fits {
			return dst, true, true, nil
		}
		return appendNumber(dst, cut), !whole, false, nil
	}
	r.near = func(column, canonical string) string { // what was cut off is below one of the last digit
		n, one := quoteLiteral(canonical)+"::pg_catalog.numeric", "'1e-"+strconv.Itoa(m.Scale)+"'::pg_catalog.numeric"
		return fmt.Sprintf("%s OPERATOR(pg_catalog.>) (%s OPERATOR(pg_catalog.-) %s) AND %s OPERATOR(pg_catalog.<) (%s OPERATOR(pg_catalog.+) %s)", column, n, one, column, n, one)
	}
	return r, "native mirroring keeps at most 38 digits (else NULL), and no fraction of a numeric without precision"
}

// cutNumber cuts off the digits beyond scale; whole says that they were zeros,
// fits that what is left is below limit.
func cutNumber(text string, scale int, limit *big.Int) (cut string, whole, fits bool) {
	digits, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > scale {
		whole = strings.Trim(fraction[scale:], "0") == ""
		fraction = fraction[:scale]
	} else {
		whole = true
		fraction += strings.Repeat("0", scale-len(fraction))
	}
	n, ok := new(big.Int).SetString(digits+fraction, 10)
	if !ok || n.CmpAbs(limit) >= 0 { // NaN and infinity don't fit
		return "", false, false
	}
	return n.String() + "e-" + strconv.Itoa(scale), whole, true
}

// Delta readers agree on the years 1 to 9999; what lies beyond is clamped.
var (
	minDay   = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix() / 86400
	maxDay   = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).Unix() / 86400
	minMicro = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxMicro = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - 1
)

const clampLoss = "infinity and years outside 1 to 9999 become the nearest value that fits"

// clampRule compares whole numbers that PostgreSQL computes exactly: extract
// returns a numeric (since version 14).
func clampRule(expr, typ string, lo, hi int64, literal func(int64) string) rule {
	source := func(dst, text []byte) ([]byte, bool, bool, error) {
		n, err := wholeNumber(string(text))
		if err != nil {
			return dst, false, false, err
		}
		clamped := min(max(n, lo), hi)
		return strconv.AppendInt(dst, clamped, 10), clamped != n, false, nil
	}
	spell := func(canonical string) string {
		n, err := strconv.ParseInt(canonical, 10, 64)
		if err != nil {
			return canonical // not one of ours; PostgreSQL says so
		}
		return literal(n)
	}
	near := func(column, canonical string) string {
		bound := quoteLiteral(spell(canonical)) + "::pg_catalog." + typ
		switch canonical {
		case strconv.FormatInt(hi, 10):
			return column + " OPERATOR(pg_catalog.>=) " + bound
		case strconv.FormatInt(lo, 10):
			return column + " OPERATOR(pg_catalog.<=) " + bound
		}
		return ""
	}
	return rule{expr: expr, source: source, mirror: renderMirror, literal: spell, near: near}
}

const asciiLoss = "bytes that are no UTF-8 become U+FFFD"

// anyBytes is the rule for texts that may hold bytes of no known encoding.
func (r rule) anyBytes() rule {
	inner := r.source
	r.source = func(dst, text []byte) (out []byte, changed, null bool, err error) {
		if !utf8.Valid(text) {
			text, changed = bytes.ToValidUTF8(text, []byte("\uFFFD")), true
		}
		if inner == nil {
			return append(dst, text...), changed, false, nil
		}
		out, also, null, err := inner(dst, text)
		return out, changed || also, null, err
	}
	exact := r
	r.near = func(column, canonical string) string {
		if strings.ContainsRune(canonical, utf8.RuneError) { // it finds bytes that are no UTF-8, too
			return "true"
		}
		return exact.around(column, canonical)
	}
	return r
}

// charRule writes a byte beyond ASCII as an octal escape, as PostgreSQL does from
// version 15 on.
func charRule() rule {
	source := func(dst, text []byte) ([]byte, bool, bool, error) {
		return escapeBytes(dst, text, `\`), false, false, nil
	}
	return rule{expr: "%s", source: source, mirror: renderMirror, literal: plainLiteral, near: func(column, canonical string) string {
		octal, ok := strings.CutPrefix(canonical, `\`)
		n, err := strconv.ParseUint(octal, 8, 8)
		if !ok || err != nil {
			return ""
		}
		return fmt.Sprintf(`%s OPERATOR(pg_catalog.=) (%d)::pg_catalog.int4::pg_catalog."char"`, column, int8(n))
	}}
}

// escapeBytes appends a text, its bytes that are no UTF-8 as octal numbers after a prefix.
func escapeBytes(dst, text []byte, prefix string) []byte {
	for len(text) > 0 {
		c, n := utf8.DecodeRune(text)
		if c == utf8.RuneError && n == 1 {
			dst = fmt.Appendf(dst, "%s%03o", prefix, text[0])
		} else {
			dst = append(dst, text[:n]...)
		}
		text = text[n:]
	}
	return dst
}

func wholeNumber(s string) (int64, error) {
	switch s {
	case "Infinity":
		return math.MaxInt64, nil
	case "-Infinity":
		return math.MinInt64, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) { // the last years of a timestamp: n is the nearest, far beyond what fits
		return n, nil
	}
	return n, err
}

func dayLiteral(day int64) string { return time.Unix(day*86400, 0).UTC().Format("2006-01-02") }

func microLiteral(us int64) string {
	return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05.000000Z07:00")
}

// floatRule compares bits: PostgreSQL's shortest text names exactly one value.
func floatRule(m batch.Type) rule {
	size := 64
	if m.Kind == batch.Float32 {
		size = 32
	}
	source := func(dst, text []byte) ([]byte, bool, bool, error) {
		f, err := strconv.ParseFloat(string(text), size)
		if err != nil {
			return dst, false, false, err
		}
		return floatBits(dst, f, size), false, false, nil
	}
	return rule{expr: "%s", source: source, mirror: renderMirror, literal: func(canonical string) string {
		u, err := strconv.ParseUint(canonical, 16, 64)
		if err != nil {
			return canonical
		}
		if size == 32 {
			return strconv.FormatFloat(float64(math.Float32frombits(uint32(u))), 'g', -1, 32)
		}
		return strconv.FormatFloat(math.Float64frombits(u), 'g', -1, 64)
	}}
}

func floatBits(dst []byte, f float64, size int) []byte {
	if math.IsNaN(f) {
		f = math.NaN() // they all are one value to PostgreSQL
	}
	if size == 32 {
		return strconv.AppendUint(dst, uint64(math.Float32bits(float32(f))), 16)
	}
	return strconv.AppendUint(dst, math.Float64bits(f), 16)
}
