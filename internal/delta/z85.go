package delta

import (
	"encoding/binary"
	"fmt"
	"strings"
)

const z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// encodeZ85 encodes bytes, padded to a multiple of 4 with zeros
// (https://rfc.zeromq.org/spec/32/).
func encodeZ85(b []byte) string {
	var out []byte
	for len(b) > 0 {
		var four [4]byte
		b = b[copy(four[:], b):]
		v := binary.BigEndian.Uint32(four[:])
		var five [5]byte
		for k := 4; k >= 0; k-- {
			five[k] = z85[v%85]
			v /= 85
		}
		out = append(out, five[:]...)
	}
	return string(out)
}

func decodeZ85(s string) ([]byte, error) {
	if len(s)%5 != 0 {
		return nil, fmt.Errorf("%d characters of base 85, want a multiple of 5", len(s))
	}
	out := make([]byte, 0, len(s)/5*4)
	for i := 0; i < len(s); i += 5 {
		v := uint64(0)
		for k := range 5 {
			d := strings.IndexByte(z85, s[i+k])
			if d < 0 {
				return nil, fmt.Errorf("character %q is not of base 85", s[i+k])
			}
			v = v*85 + uint64(d)
		}
		if v > 1<<32-1 {
			return nil, fmt.Errorf("%q is more than 32 bits", s[i:i+5])
		}
		out = binary.BigEndian.AppendUint32(out, uint32(v))
	}
	return out, nil
}
