package postgres

import "encoding/binary"

// renderHstore writes an hstore as a JSON object; its binary form is a count,
// then each key and value with its length in front, -1 for NULL.
func renderHstore(dst, v []byte) ([]byte, error) {
	if len(v) < 4 {
		return dst, errMalformed
	}
	count := int32(binary.BigEndian.Uint32(v))
	v = v[4:]
	dst = append(dst, '{')
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		key, null, rest, ok := cutField(v)
		if !ok || null {
			return dst, errMalformed
		}
		dst, _ = jsonText(dst, key) // never fails
		dst = append(dst, ':')
		value, null, rest, ok := cutField(rest)
		if !ok {
			return dst, errMalformed
		}
		if null {
			dst = append(dst, "null"...)
		} else {
			dst, _ = jsonText(dst, value)
		}
		v = rest
	}
	if len(v) > 0 || count < 0 {
		return dst, errMalformed
	}
	return append(dst, '}'), nil
}

// cutField takes a value with its length in front off v.
func cutField(v []byte) (value []byte, null bool, rest []byte, ok bool) {
	if len(v) < 4 {
		return nil, false, nil, false
	}
	n := int(int32(binary.BigEndian.Uint32(v)))
	v = v[4:]
	if n == -1 {
		return nil, true, v, true
	}
	if n < 0 || n > len(v) {
		return nil, false, nil, false
	}
	return v[:n], false, v[n:], true
}

// renderHstoreText reads `"a"=>"1", "b"=>NULL`, where a backslash escapes.
func renderHstoreText() render {
	var scratch []byte
	return func(dst, v []byte) ([]byte, error) {
		dst = append(dst, '{')
		for first := true; len(v) > 0; first = false {
			if !first {
				if len(v) < 2 || v[0] != ',' || v[1] != ' ' {
					return dst, errMalformed
				}
				dst, v = append(dst, ','), v[2:]
			}
			var ok bool
			if scratch, v, ok = cutQuoted(scratch[:0], v); !ok || len(v) < 3 || v[0] != '=' || v[1] != '>' {
				return dst, errMalformed
			}
			dst, _ = jsonText(dst, scratch) // never fails
			dst, v = append(dst, ':'), v[2:]
			if len(v) >= 4 && string(v[:4]) == "NULL" {
				dst, v = append(dst, "null"...), v[4:]
				continue
			}
			if scratch, v, ok = cutQuoted(scratch[:0], v); !ok {
				return dst, errMalformed
			}
			dst, _ = jsonText(dst, scratch)
		}
		return append(dst, '}'), nil
	}
}

// cutQuoted takes a text in double quotes off v and appends what it says to dst.
func cutQuoted(dst, v []byte) (text, rest []byte, ok bool) {
	if len(v) == 0 || v[0] != '"' {
		return dst, nil, false
	}
	done := 1
	for i := 1; i < len(v); i++ {
		switch v[i] {
		case '"':
			return append(dst, v[done:i]...), v[i+1:], true
		case '\\':
			dst = append(dst, v[done:i]...)
			i++
			done = i
		}
	}
	return dst, nil, false
}
