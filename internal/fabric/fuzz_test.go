package fabric

import (
	"testing"
	"unicode/utf8"
)

func FuzzError(f *testing.F) {
	for _, s := range []string{`{"errorCode":"A","message":"m"}`, `{"error":{"code":"A"}}`, `{"error":{"error":{}}}`, "null", "[]", "<a", "", "<p>x</p>", "\xff\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e := decodeError(body)
		if e == nil || utf8.Valid(body) && !utf8.ValidString(e.Error()) {
			t.Errorf("%q: %+v", body, e)
		}
	})
}

// FuzzDefinition: what was read and written is what was read.
func FuzzDefinition(f *testing.F) {
	f.Add([]byte(`{"properties":{"source":{"type":"GenericMirror","typeProperties":{}},"target":{"typeProperties":{"format":"Delta"}},"mountedTables":[{"source":{}}]}}`))
	f.Add([]byte(`{"properties":null,"x":[1,{"y":2.5}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := ParseDefinition(body)
		if err != nil {
			return
		}
		out, err := d.MarshalJSON()
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		again, err := ParseDefinition(out)
		if err != nil || !again.Equal(d) {
			t.Fatalf("%s became %s: %v", body, out, err)
		}
	})
}
