package mirror

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/store"
)

// FuzzState reads any state file: a change to it that changes nothing leaves
// what is read the same.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`null`))
	s, err := store.OpenDir(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		tryState[mirrorState](t, s, "mirror.json", body)
		tryState[tableState](t, s, "table.json", body)
	})
}

func tryState[T versioned](t *testing.T, s store.Store, name string, body []byte) {
	if _, err := s.Put(t.Context(), name, body, store.Cond{}); err != nil {
		t.Fatal(err)
	}
	read, err := load[T](t.Context(), s, name)
	if err != nil {
		return
	}
	want := read.value
	if err := read.change(t.Context(), func(*T) {}); err != nil {
		if _, fault := errors.AsType[*Fault](err); fault {
			t.Errorf("%s: %v", body, err)
		}
		return // a time that can't be written
	}
	again, err := load[T](t.Context(), s, name)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if diff := cmp.Diff(want, again.value); diff != "" {
		t.Errorf("%s (-read +read again):\n%s", body, diff)
	}
}
