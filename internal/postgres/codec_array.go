package postgres

import (
	"encoding/binary"
)

// arrayCodecs read an array as JSON. There is none for the binary form when
// there is none for its elements.
func arrayCodecs(t *pgType, n *counter) (text, bin codec) {
	elem, typmod := t.Elem.resolve(-1)
	target, _ := elem.mirror(typmod)
	elemText, elemBin := elem.codecs(target, n)
	at := &arrayText{delim: t.Elem.Delim, elem: elemText.json}
	text = rendered(at.render, at.render)
	if elemBin.json != nil {
		ab := &arrayBinary{elemOID: t.Elem.OID, elem: elemBin.json}
		bin = rendered(ab.render, ab.render)
	}
	return text, bin
}

// arrayBinary reads an array's binary form: dimensions, whether there are NULLs,
// the elements' type, length and lower bound of each dimension, the elements.
type arrayBinary struct {
	elemOID uint32
	elem    render
}

func (a *arrayBinary) render(dst, v []byte) ([]byte, error) {
	if len(v) < 12 {
		return dst, errMalformed
	}
	dims := int(binary.BigEndian.Uint32(v))
	if dims > 6 || len(v) < 12+8*dims || binary.BigEndian.Uint32(v[8:]) != a.elemOID {
		return dst, errMalformed
	}
	if dims == 0 {
		return append(dst, "[]"...), nil
	}
	bounds, v := v[12:12+8*dims], v[12+8*dims:]
	dst, v, err := a.dimension(dst, bounds, v)
	if err == nil && len(v) > 0 {
		err = errMalformed
	}
	return dst, err
}

// dimension writes one list of what is below the first of the bounds.
func (a *arrayBinary) dimension(dst, bounds, v []byte) (out, rest []byte, err error) {
	n := int32(binary.BigEndian.Uint32(bounds))
	if n < 1 {
		return dst, nil, errMalformed
	}
	for i := range n {
		if i == 0 {
			dst = append(dst, '[')
		} else {
			dst = append(dst, ',')
		}
		if len(bounds) > 8 {
			dst, v, err = a.dimension(dst, bounds[8:], v)
		} else {
			dst, v, err = a.element(dst, v)
		}
		if err != nil {
			return dst, nil, err
		}
	}
	return append(dst, ']'), v, nil
}

func (a *arrayBinary) element(dst, v []byte) (out, rest []byte, err error) {
	value, null, rest, ok := cutField(v)
	if !ok {
		return dst, nil, errMalformed
	}
	if null {
		return append(dst, "null"...), rest, nil
	}
	dst, err = a.elem(dst, value)
	return dst, rest, err
}

// arrayText reads an array's text form, as {1,NULL,"a \"b\""} or
// [0:1]={{a},{b}}.
type arrayText struct {
	delim   byte
	elem    render
	scratch []byte
}

func (a *arrayText) render(dst, v []byte) ([]byte, error) {
	v = skipBounds(v)
	depth, want := 0, true // want: the next thing is a value or a list
	for len(v) > 0 {
		switch b := v[0]; {
		case b == '{' && want:
			dst, v = append(dst, '['), v[1:]
			depth++
			if len(v) > 0 && v[0] == '}' {
				want = false
			}
		case b == '}' && !want && depth > 0:
			dst, v = append(dst, ']'), v[1:]
			if depth--; depth == 0 && len(v) > 0 {
				return dst, errMalformed
			}
		case b == a.delim && !want:
			dst, v = append(dst, ','), v[1:]
			want = true
		case want && depth > 0:
			var err error
			if dst, v, err = a.element(dst, v); err != nil {
				return dst, err
			}
			want = false
		default:
			return dst, errMalformed
		}
	}
	if depth != 0 || want {
		return dst, errMalformed
	}
	return dst, nil
}

// skipBounds takes the lower and upper bounds away that an array shows when one
// of its lower bounds isn't 1.
func skipBounds(v []byte) []byte {
	if len(v) == 0 || v[0] != '[' {
		return v
	}
	for i, b := range v {
		if b == '=' {
			return v[i+1:]
		}
	}
	return v
}

func (a *arrayText) element(dst, v []byte) (out, rest []byte, err error) {
	if v[0] == '"' {
		var ok bool
		if a.scratch, rest, ok = cutQuoted(a.scratch[:0], v); !ok {
			return dst, nil, errMalformed
		}
		dst, err = a.elem(dst, a.scratch)
		return dst, rest, err
	}
	end := 0
	for end < len(v) && v[end] != a.delim && v[end] != '}' {
		end++
	}
	if end == 0 {
		return dst, nil, errMalformed
	}
	if string(v[:end]) == "NULL" {
		return append(dst, "null"...), v[end:], nil
	}
	dst, err = a.elem(dst, v[:end])
	return dst, v[end:], err
}
