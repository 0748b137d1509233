package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"github.com/pgmirror/pgmirror/internal/batch"
)

func renderUUID(dst, v []byte) ([]byte, error) {
	if len(v) != 16 {
		return dst, errMalformed
	}
	start := 0
	for _, end := range [...]int{4, 6, 8, 10} {
		dst = append(hex.AppendEncode(dst, v[start:end]), '-')
		start = end
	}
	return hex.AppendEncode(dst, v[10:]), nil
}

// renderJSONB takes the version off a jsonb.
func renderJSONB(dst, v []byte) ([]byte, error) {
	if len(v) == 0 || v[0] != 1 {
		return dst, errMalformed
	}
	return append(dst, v[1:]...), nil
}

// renderChar writes a "char" as PostgreSQL 15 and later do: a byte beyond ASCII
// as an octal escape, a zero byte as nothing.
func renderChar(dst, v []byte) ([]byte, error) {
	if len(v) != 1 {
		return dst, errMalformed
	}
	switch b := v[0]; {
	case b == 0:
		return dst, nil
	case b < 0x80:
		return append(dst, b), nil
	default:
		return append(dst, '\\', '0'+b>>6, '0'+b>>3&7, '0'+b&7), nil
	}
}

// renderCharText takes also what servers before 15 send: the raw byte or, where
// they convert texts, the character that it becomes.
func renderCharText(dst, v []byte) ([]byte, error) {
	switch {
	case len(v) == 0:
		return dst, nil
	case len(v) == 1:
		return renderChar(dst, v)
	case len(v) == 4 && v[0] == '\\', utf8.Valid(v) && utf8.RuneCount(v) == 1:
		return append(dst, v...), nil
	}
	return dst, errMalformed
}

func putByteaText(c *batch.Column, v []byte) error {
	if len(v) < 2 || v[0] != '\\' || v[1] != 'x' {
		return errMalformed
	}
	data, err := hex.AppendDecode(c.Data, v[2:])
	if err != nil {
		return errMalformed
	}
	c.Data = data
	c.EndBytes()
	return nil
}

// renderBytea writes a bytea inside JSON, where its backslash is escaped.
func renderBytea(dst, v []byte) ([]byte, error) {
	return hex.AppendEncode(append(dst, `\\x`...), v), nil
}

// renderBit writes a bit string, which is sent as its length and its bytes.
func renderBit(dst, v []byte) ([]byte, error) {
	if len(v) < 4 {
		return dst, errMalformed
	}
	n := int(int32(binary.BigEndian.Uint32(v)))
	v = v[4:]
	if n < 0 || (n+7)/8 != len(v) {
		return dst, errMalformed
	}
	for i := range n {
		dst = append(dst, '0'+v[i/8]>>(7-i%8)&1)
	}
	return dst, nil
}

func renderMACAddr(dst, v []byte) ([]byte, error) {
	if len(v) != 6 && len(v) != 8 {
		return dst, errMalformed
	}
	for i := range v {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = hex.AppendEncode(dst, v[i:i+1])
	}
	return dst, nil
}

func renderLSN(dst, v []byte) ([]byte, error) {
	if len(v) != 8 {
		return dst, errMalformed
	}
	return appendLSN(dst, binary.BigEndian.Uint64(v)), nil
}

// renderLSNText takes the zeros away that some versions put behind the slash.
func renderLSNText(dst, v []byte) ([]byte, error) {
	high, low, ok := bytes.Cut(v, []byte{'/'})
	h, err := strconv.ParseUint(str(high), 16, 32)
	l, err2 := strconv.ParseUint(str(low), 16, 32)
	if !ok || err != nil || err2 != nil {
		return dst, errMalformed
	}
	return appendLSN(dst, h<<32|l), nil
}

func appendLSN(dst []byte, n uint64) []byte {
	start := len(dst)
	dst = append(strconv.AppendUint(dst, n>>32, 16), '/')
	dst = strconv.AppendUint(dst, n&0xffffffff, 16)
	for i := start; i < len(dst); i++ {
		if dst[i] >= 'a' {
			dst[i] -= 'a' - 'A'
		}
	}
	return dst
}
