package verify

import (
	"encoding/json"
	"errors"
	"testing"
)

// FuzzReceipt: a receipt is read as it was written, or refused by ErrReceipt.
func FuzzReceipt(f *testing.F) {
	for _, s := range []string{`{"format":3,"tables":[{"schema":"public","name":"a"}]}`, `{"format":99}`, `{"Format":1,"started":"x"}`, "null", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ReadReceipt(body)
		if err != nil {
			if !errors.Is(err, ErrReceipt) {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		written, err := json.Marshal(r)
		if err != nil {
			return // a time that no RFC 3339 has
		}
		if _, err := ReadReceipt(written); err != nil {
			t.Errorf("%s is read, and written %s is not: %v", body, written, err)
		}
	})
}
