package replicator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func intHash(n uint64) hash { return hashOf(binary.LittleEndian.AppendUint64(nil, n)) }

// found asks a key file for keys.
func found(body []byte, d digest, asked []hash) ([]uint32, error) {
	k, err := openKeys(bytes.NewReader(body), int64(len(body)), d)
	if err != nil {
		return nil, err
	}
	rows := []uint32{}
	err = k.find(asked, func(row uint32) { rows = append(rows, row) })
	slices.Sort(rows)
	return rows, err
}

// TestKeyFilesFindWhatIsThere compares key files of all sizes with a map: many
// keys at once and few, keys of many rows, keys that no row has.
func TestKeyFilesFindWhatIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.IntRange(0, 5000).Draw(t, "rows")
		distinct := rapid.Uint64Range(1, 20000).Draw(t, "distinct")
		var entries []entry
		want := map[hash][]uint32{}
		for i := range rows {
			h := intHash(rapid.Uint64Range(0, distinct).Draw(t, "key"))
			if rapid.IntRange(0, 9).Draw(t, "of one key") == 0 {
				h = intHash(7) // fills blocks
			}
			entries = append(entries, entry{h, uint32(i)})
			want[h] = append(want[h], uint32(i))
		}
		d := digest{1, 2, 3}
		body := encodeKeys(d, entries)
		var asked []hash
		for range rapid.IntRange(0, 60).Draw(t, "asked") {
			asked = append(asked, intHash(rapid.Uint64Range(0, distinct+10).Draw(t, "ask")))
		}
		if rapid.Bool().Draw(t, "ask for the frequent one") {
			asked = append(asked, intHash(7))
		}
		asked = ascending(asked)
		rowsWanted := []uint32{}
		for _, h := range asked {
			rowsWanted = append(rowsWanted, want[h]...)
		}
		slices.Sort(rowsWanted)
		got, err := found(body, d, asked)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rowsWanted, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestTornKeyFilesAreFoundOut(t *testing.T) {
	var entries []entry
	var all []hash
	for i := range uint64(1000) {
		entries, all = append(entries, entry{intHash(i), uint32(i)}), append(all, intHash(i))
	}
	all = ascending(all)
	d := digest{9}
	body := encodeKeys(d, entries)
	for at := 0; at < len(body); at += 97 {
		torn := slices.Clone(body)
		torn[at] ^= 1
		if _, err := found(torn, d, all); !errors.Is(err, errKeys) {
			t.Fatalf("byte %d flipped: got %v, want errKeys", at, err)
		}
		if _, err := found(body[:at], d, all); !errors.Is(err, errKeys) {
			t.Fatalf("cut at byte %d: got %v, want errKeys", at, err)
		}
	}
	if _, err := found(body, digest{8}, all); !errors.Is(err, errKeys) {
		t.Errorf("key file of another data file: got %v, want errKeys", err)
	}
}

func FuzzKeyFile(f *testing.F) {
	d := digest{1}
	f.Add(encodeKeys(d, []entry{{intHash(1), 0}, {intHash(2), 1}}), uint64(1))
	f.Add(encodeKeys(d, nil), uint64(2))
	f.Add([]byte(keyMagic), uint64(3))
	f.Fuzz(func(t *testing.T, body []byte, key uint64) {
		rows, err := found(body, d, []hash{intHash(key)})
		if err == nil && len(rows) > len(body)/entryBytes {
			t.Fatalf("%d rows out of %d bytes", len(rows), len(body))
		}
	})
}
