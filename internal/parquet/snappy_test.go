package parquet

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
)

// TestSnappy compresses pages of all sizes whose beginning and rest get smaller by
// much, by little or not at all, and reads them by another decoder.
func TestSnappy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := map[string]func() []byte{
		"words": func() []byte {
			return []byte(strings.Fields("the mirror of a table is as the table was")[r.IntN(9)] + " ")
		},
		"digits": func() []byte { return []byte(fmt.Sprintf("%08d-%04x|", r.IntN(1e6), r.IntN(1<<16))) },
		"hex": func() []byte {
			sum := md5.Sum(fmt.Append(nil, r.Int()))
			return []byte(hex.EncodeToString(sum[:]))
		},
		"noise": func() []byte {
			sum := md5.Sum(fmt.Append(nil, r.Int()))
			return sum[:]
		},
	}
	names := []string{"words", "digits", "hex", "noise"}
	ways := map[string]int{}
	for _, first := range names {
		for _, rest := range names {
			for _, n := range []int{0, 1, 100, fragment, 2*fragment - 1, 2 * fragment, 2*fragment + 1, 3*fragment - 7, 5*fragment + 3, 1<<18 + 17, 3 << 20} {
				var page []byte
				for len(page) < n {
					kind := rest
					if len(page) < fragment {
						kind = first
					}
					page = append(page, kinds[kind]()...)
				}
				page = page[:n]
				dst := make([]byte, 0, fastSnappy{}.CompressBound(int64(n)))
				out := fastSnappy{}.Encode(dst, page)
				got, err := snappy.Decode(nil, out)
				if err != nil || !bytes.Equal(got, page) {
					t.Fatalf("%s and %s, %d bytes: they don't come back: %v", first, rest, n, err)
				}
				if int64(len(out)) > int64(n)+int64(n)/100+40 {
					t.Errorf("%s and %s: %d bytes became %d", first, rest, n, len(out))
				}
				if n == 1<<18+17 && first == rest {
					ways[first] = 100 * len(out) / n
				}
				if n > 0 {
					if short, err := snappy.Decode(nil, fastSnappy{}.Encode(nil, page)); err != nil || !bytes.Equal(short, page) {
						t.Fatalf("%s and %s, %d bytes without room: %v", first, rest, n, err)
					}
				}
			}
		}
	}
	if ways["words"] > 60 || ways["digits"] < 80 || ways["digits"] > 97 || ways["hex"] < 100 || ways["noise"] < 100 {
		t.Errorf("got sizes in %% %v: the ways to compress weren't all taken", ways)
	}
}
