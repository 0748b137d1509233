package verify

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
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
	case t.elem == oidFloat4:
		number = appendFloat(32)
	case t.elem == oidFloat8:
		number = appendFloat(64)
	case t.elemKind == "c":
		expr = "pg_catalog.to_json(%s::pg_catalog.text[])"
	}
	return jsonRule(expr, number)
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
	var v any
	if err := d.Decode(&v); err != nil {
		return dst, err
	}
	if _, err := d.Token(); err != io.EOF {
		return dst, io.ErrUnexpectedEOF
	}
	return appendJSONValue(dst, v, number), nil
}

func appendJSONValue(dst []byte, v any, number func(dst []byte, s string) []byte) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case json.Number:
		return number(dst, string(v))
	case string:
		return strconv.AppendQuote(dst, v)
	case []any:
		dst = append(dst, '[')
		for _, e := range v {
			dst = append(appendJSONValue(dst, e, number), ',')
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for _, k := range slices.Sorted(maps.Keys(v)) {
			dst = append(strconv.AppendQuote(dst, k), ':')
			dst = append(appendJSONValue(dst, v[k], number), ',')
		}
		return append(dst, '}')
	}
	panic("verify: encoding/json made another type")
}
