package verify

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAppendNumber(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"0", "0"}, {"-0.00", "0"}, {"1.50", "1.5"}, {"-0012.3400", "-12.34"}, {"150e-2", "1.5"}, {"1E+3", "1000"}, {"0.001", "0.001"}, {"100", "100"},
		{"1e50", "1e50"}, {"10e49", "1e50"}, {"NaN", "NaN"}, {"", ""}, {"1.2.3", "1.2.3"}, {"12a", "12a"}, {"-", "-"},
	} {
		if got := string(appendNumber(nil, tt.in)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

// A canonical number is the same number, and canonical.
func FuzzAppendNumber(f *testing.F) {
	for _, s := range []string{"1.50", "-0", "1e50", "12345678901234567890.5", "1e-45", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := string(appendNumber(nil, s))
		if again := string(appendNumber(nil, got)); again != got {
			t.Errorf("%q: %q becomes %q", s, got, again)
		}
		if len(s) > 50 || strings.ContainsAny(s, "_/xXpPbBoO") || len(s)-strings.LastIndexAny(s, "eE") > 4 && strings.ContainsAny(s, "eE") {
			return // not written by PostgreSQL, or too large to be worth the check
		}
		want, ok := new(big.Rat).SetString(s)
		if !ok {
			return
		}
		if r, ok := new(big.Rat).SetString(got); !ok || r.Cmp(want) != 0 {
			t.Errorf("%q: got %q, another number", s, got)
		}
	})
}

func TestDiffering(t *testing.T) {
	source, mirror := newSums(4), newSums(4)
	mirror.add(0, hash{1}) // only the mirror has it
	for range 1000 {
		source.add(1, hash{1})
	}
	for _, s := range []*sums{source, mirror} { // equal, in another order
		s.add(2, hash{byte(s.n[0])})
		s.add(2, hash{byte(1 - s.n[0])})
	}
	source.add(3, hash{1})
	want := []level{{[]bool{true, true, false, false}, 2, 1000}, {[]bool{false, false, false, true}, 1, 1}}
	got := levelOf(source, mirror, 4)
	if diff := cmp.Diff(want, slices.Collect(got.groups(source, 1000)), cmp.AllowUnexported(level{})); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[0], levelOf(source, mirror, 2), cmp.AllowUnexported(level{})); diff != "" {
		t.Errorf("two of them (-want +got):\n%s", diff)
	}
	if got := levelOf(source, source, 4); got.differ != 0 || len(slices.Collect(got.groups(source, 1))) != 0 {
		t.Errorf("a side differs from itself in %v", got)
	}
}

// Finer ranges lead from many rows to the few that differ.
func TestSieve(t *testing.T) {
	const rows = 200_000
	key := func(i int) hash { return hashOf(binary.AppendVarint(nil, int64(i))) }
	var sv sieve
	passed := func() (n int) {
		for i := range rows {
			if sv.passes(key(i)) {
				n++
			}
		}
		return n
	}
	before := rows
	for range maxLevels {
		source, mirror := newSums(1<<10), newSums(1<<10)
		for i := range rows {
			if k := key(i); sv.passes(k) {
				b := k.bucket(len(sv), 1<<10)
				source.add(b, hash{1})
				if i%20_000 != 0 { // ten rows
					mirror.add(b, hash{1})
				}
			}
		}
		l := levelOf(source, mirror, 1<<10)
		sv = append(sv, l)
		n := passed()
		if int64(n) != l.rows || n > max(10, before/50) {
			t.Fatalf("level %d lets %d rows of %d through, and says %d", len(sv), n, before, l.rows)
		}
		before = n
	}
	if before != 10 {
		t.Errorf("the last level lets %d rows through, want 10", before)
	}
}

// Every value comes through COPY's text format, and so does NULL beside it.
func FuzzCopyText(f *testing.F) {
	f.Add([]byte("a\tb\n\\N\r\\"), []byte{}, 3)
	f.Fuzz(func(t *testing.T, a, b []byte, cut int) {
		p := &plan{columns: []*column{{}, {}, {}}}
		rows := 0
		w := &copyWriter{plan: p, fn: func(r *row) error {
			rows++
			va, oka := r.value(0)
			_, okn := r.value(1)
			vb, okb := r.value(2)
			if !oka || okn || !okb || !bytes.Equal(va, a) || !bytes.Equal(vb, b) || r.xmin != 7 {
				t.Errorf("got %q %t, %q %t, want %q, %q with NULL between", va, oka, vb, okb, a, b)
			}
			return nil
		}}
		line := []byte("7\t" + escape(a) + "\t\\N\t" + escape(b) + "\n")
		line = append(line, line...)
		cut = min(max(cut, 0), len(line))
		for _, part := range [][]byte{line[:cut], line[cut:]} {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if rows != 2 || len(w.rest) != 0 {
			t.Errorf("got %d rows and %q left, want 2 and none", rows, w.rest)
		}
	})
}

// escape writes a value as COPY does (CopyAttributeOutText in copyto.c).
func escape(v []byte) string {
	return strings.NewReplacer("\\", `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\v", `\v`).Replace(string(v))
}

// Spellings of one JSON value meet, different values don't.
func TestAppendJSON(t *testing.T) {
	for _, tt := range []struct {
		a, b  string
		equal bool
	}{
		{`[1.0, "a\u0041"]`, `[1,"aA"]`, true}, {`{"a":1,"b":null}`, `{ "b" : null, "a" : 1e0 }`, true}, {`[1]`, `["1"]`, false}, {`[null]`, `["null"]`, false},
		{`[[],[]]`, `[[[]]]`, false}, {`["a,b"]`, `["a","b"]`, false}, {`[12345678901234567890]`, `[12345678901234567891]`, false}, {`{"a":[1]}`, `{"a":[1,1]}`, false},
		{`{"a":1,"a":2}`, `{"a":2}`, false}, {`{"a":1,"a":2}`, `{"a":2,"a":1}`, false}, {`{"b":0,"a":1,"a":2}`, `{"a":1,"b":0,"a":2}`, true},
	} {
		a, errA := appendJSON(nil, []byte(tt.a), appendNumber)
		b, errB := appendJSON(nil, []byte(tt.b), appendNumber)
		if errA != nil || errB != nil || bytes.Equal(a, b) != tt.equal {
			t.Errorf("%s and %s: got %s and %s (%v, %v), want equal %t", tt.a, tt.b, a, b, errA, errB, tt.equal)
		}
	}
	for _, bad := range []string{"", "[1", "[1] 2", "{a:1}", strings.Repeat("[", 1<<20)} {
		if _, err := appendJSON(nil, []byte(bad), appendNumber); err == nil {
			t.Errorf("%.20q is no JSON", bad)
		}
	}
}
