package postgres

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// FuzzHistory reads any timeline history; the seed is a server's, which was
// promoted twice. What was read and written is what was read.
func FuzzHistory(f *testing.F) {
	recorded, err := os.ReadFile("testdata/00000003.history")
	if err != nil {
		f.Fatal(err)
	}
	if got, err := parseHistory(string(recorded)); err != nil || len(got) != 2 || got[0].Timeline != 1 || got[1].Timeline != 2 || got[0].End >= got[1].End {
		f.Fatalf("got %v, %v", got, err)
	}
	f.Add(string(recorded))
	f.Add("# nothing\n")
	f.Add("1")
	f.Fuzz(func(t *testing.T, file string) {
		got, err := parseHistory(file)
		if err != nil {
			return
		}
		var again string
		for _, a := range got {
			again += fmt.Sprintf("%d\t%s\treason\n\n", a.Timeline, a.End)
		}
		if back, err := parseHistory(again); err != nil || !slices.Equal(got, back) {
			t.Errorf("%q is read as %v, and that as %v (%v)", file, got, back, err)
		}
	})
}
