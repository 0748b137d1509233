package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// appendNumber writes a decimal number in a form that depends on its value only.
// What isn't a number (NaN, infinity, any other text) is written as it is.
func appendNumber(dst []byte, s string) []byte {
	mantissa, expText, hasExp := strings.Cut(strings.ToLower(s), "e")
	exp := 0
	if hasExp {
		e, err := strconv.Atoi(expText)
		if err != nil {
			return append(dst, s...)
		}
		exp = e
	}
	digits, negative := strings.CutPrefix(mantissa, "-")
	digits = strings.TrimPrefix(digits, "+")
	whole, fraction, _ := strings.Cut(digits, ".")
	if digits = whole + fraction; digits == "" || strings.Trim(digits, "0123456789") != "" {
		return append(dst, s...)
	}
	exp -= len(fraction)
	digits = strings.TrimLeft(digits, "0")
	trimmed := strings.TrimRight(digits, "0")
	exp += len(digits) - len(trimmed)
	if trimmed == "" {
		return append(dst, '0')
	}
	if negative {
		dst = append(dst, '-')
	}
	return appendPlain(dst, trimmed, exp)
}

// appendPlain writes digits × 10^exp, without an exponent when that is readable.
func appendPlain(dst []byte, digits string, exp int) []byte {
	switch point := len(digits) + exp; {
	case exp >= 0 && exp <= 40:
		return append(append(dst, digits...), strings.Repeat("0", exp)...)
	case exp < 0 && point > 0:
		return append(append(append(dst, digits[:point]...), '.'), digits[point:]...)
	case exp < 0 && point > -40:
		return append(append(append(dst, "0."...), strings.Repeat("0", -point)...), digits...)
	default:
		return strconv.AppendInt(append(append(dst, digits...), 'e'), int64(exp), 10)
	}
}

// arrayRule compares arrays as JSON. Numbers that to_json would write as strings
// are numbers in the mirror, and composites are text.
func arrayRule(t baseType) rule {
	expr, number := "pg_catalog.to_json(%s)", appendNumber
	switch {
	case t.elem == oidMoney:
		expr = "pg_catalog.to_json(%s::pg_catalog.numeric[])"
	case t.elem == oidOID:
		expr = "pg_catalog.to_json(%s::pg_catalog.int8[])"
	case t.elem == oidNumeric:
		number = func(dst []byte, s string) []byte { return append(dst, s...) } // with all its digits
	case t.elem == oidFloat4:
		number = appendFloat(32)
	case t.elem == oidFloat8:
		number = appendFloat(64)
	case t.elemKind == "c":
		expr = "pg_catalog.to_json(%s::pg_catalog.text[])"
	}
	r := jsonRule(expr, number)
	if inner := r.source; t.elem == oidChar {
		r.source = func(dst, text []byte) ([]byte, bool, bool, error) { return inner(dst, escapeBytes(nil, text, `\\`)) }
	}
	return r
}

// appendFloat writes the bits of the nearest float: there is more than one
// shortest spelling of some.
func appendFloat(size int) func(dst []byte, s string) []byte {
	return func(dst []byte, s string) []byte {
		f, err := strconv.ParseFloat(s, size)
		if err != nil {
			return append(dst, s...)
		}
		return floatBits(dst, f, size)
	}
}

// jsonRule compares JSON by value: blanks, the order of members and the spelling
// of strings and numbers don't count.
func jsonRule(expr string, number func(dst []byte, s string) []byte) rule {
	return rule{
		expr: expr,
		source: func(dst, text []byte) ([]byte, bool, bool, error) {
			dst, err := appendJSON(dst, text, number)
			return dst, false, false, err
		},
		mirror: func(dst []byte, c *batch.Column, i int) []byte {
			v := renderMirror(nil, c, i)
			out, err := appendJSON(dst, v, number)
			if err != nil {
				return append(append(dst, "not JSON: "...), v...) // equal to nothing that the source has
			}
			return out
		},
	}
}

func appendJSON(dst, text []byte, number func(dst []byte, s string) []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	out, err := appendJSONValue(dst, d, number, maxDepth)
	if err != nil {
		return dst, err
	}
	if _, err := d.Token(); err != io.EOF {
		return dst, io.ErrUnexpectedEOF
	}
	return out, nil
}

// maxDepth is how deep JSON may be nested; PostgreSQL itself ends sooner.
const maxDepth = 10_000

func appendJSONValue(dst []byte, d *json.Decoder, number func(dst []byte, s string) []byte, depth int) ([]byte, error) {
	v, err := d.Token()
	if err == nil && depth == 0 {
		err = errors.New("it is nested too deep")
	}
	if err != nil {
		return dst, err
	}
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case json.Number:
		return number(dst, string(v)), nil
	case string:
		return strconv.AppendQuote(dst, v), nil
	case json.Delim:
		if v == '{' {
			return appendJSONObject(dst, d, number, depth-1)
		}
		dst = append(dst, '[')
		for d.More() {
			if dst, err = appendJSONValue(dst, d, number, depth-1); err != nil {
				return dst, err
			}
			dst = append(dst, ',')
		}
		_, err := d.Token()
		return append(dst, ']'), err
	}
	panic("verify: encoding/json made another token")
}

// appendJSONObject orders the members by name. Those of the same name, which json
// may have, stay as many as they are, and in their order.
func appendJSONObject(dst []byte, d *json.Decoder, number func(dst []byte, s string) []byte, depth int) ([]byte, error) {
	type member struct {
		name string
		body []byte
	}
	var members []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return dst, err
		}
		m := member{name: name.(string)}
		if m.body, err = appendJSONValue(append(strconv.AppendQuote(nil, m.name), ':'), d, number, depth); err != nil {
			return dst, err
		}
		members = append(members, m)
	}
	if _, err := d.Token(); err != nil {
		return dst, err
	}
	slices.SortStableFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	dst = append(dst, '{')
	for _, m := range members {
		dst = append(append(dst, m.body...), ',')
	}
	return append(dst, '}'), nil
}
