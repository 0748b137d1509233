package lease

import (
	"bytes"
	"testing"
)

// FuzzJournal reads any journal: what it took in are whole lines, and reading
// those again gives the same leases.
func FuzzJournal(f *testing.F) {
	for _, s := range []string{`{"v":1,"event":"intent","id":"a"}` + "\n" + `{"v":1,"event":"closed","id":"a"}` + "\n" + `{"v":1,"ev`, "\n", "null\n", `{"v":2}` + "\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var j, again journal
		good, err := j.read(body)
		if err != nil {
			return
		}
		if good > 0 && body[good-1] != '\n' || bytes.IndexByte(body[good:], '\n') >= 0 {
			t.Errorf("%q is good up to byte %d", body, good)
		}
		if n, err := again.read(body[:good]); err != nil || n != good || len(again.pending) != len(j.pending) {
			t.Errorf("%q: %d leases, and again %d (%v)", body[:good], len(j.pending), len(again.pending), err)
		}
	})
}

// FuzzTags reads any tag: its lease has an id, and none that isn't ours is told.
func FuzzTags(f *testing.F) {
	for _, key := range []string{tagPrefix + "a", tagPrefix + "a-2", tagPrefix, tagPrefix + "a-x", "other"} {
		f.Add(key, `{"v":1,"kind":"server-rule","run":"r","until":1}`)
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		id, part, ok := parseKey(key)
		list := leasesIn("resource", map[string]string{key: value, tagPrefix + "b": "{"})
		want := 1
		if ok && id != "b" {
			want = 2
		}
		if len(list) != want || ok && id == "" {
			t.Errorf("%q is %q, part %d, %t; got %d leases, want %d", key, id, part, ok, len(list), want)
		}
	})
}
