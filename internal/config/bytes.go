package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size, written as 256MiB, 1GiB or a plain number.
type Bytes int64

var units = []struct {
	suffix string
	size   int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"", 1}}

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.size {
			break
		}
		*b = Bytes(n * u.size)
		return nil
	}
	return fmt.Errorf("size %q: %s", s, wantBytes)
}

const wantBytes = "want a number with KiB, MiB or GiB, like 256MiB"

// String writes the size with the largest unit that divides it.
func (b Bytes) String() string {
	for i := len(units) - 2; i >= 0; i-- {
		if u := units[i]; b > 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// About is the size as people read it: "0 B", "1.4 MiB".
func (b Bytes) About() string {
	const units = "KMGTP"
	if b < 1024 {
		return fmt.Sprintf("%d B", int64(b))
	}
	f, i := float64(b)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

func itoa(n int) string { return strconv.Itoa(n) }
