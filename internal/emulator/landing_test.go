package emulator_test

import (
	"testing"

	"github.com/pgmirror/pgmirror/internal/landing"
)

// zone is a table's folder in a landing zone, reached through OneLake.
type zone struct {
	w    *world
	path string
}

func (w *world) zone(mirror, table string) zone {
	return zone{w, "/" + w.env["FABRIC_WORKSPACE_ID"] + "/" + mirror + "/Files/LandingZone/" + landing.TableDir("public", table)}
}

func (z zone) metadata(t *testing.T, text string) {
	t.Helper()
	z.w.put(t, z.path+"/_metadata.json", []byte(text))
}

// file publishes by a rename, so that nobody sees a part.
func (z zone) file(t *testing.T, n int64, body []byte) {
	t.Helper()
	z.w.put(t, z.path+"/_draft", body)
	a := z.w.rename(t, z.path+"/_draft", z.path+"/"+landing.FileName(n))
	if a.status != 201 {
		t.Fatalf("publish file %d: got %d %s", n, a.status, a.raw)
	}
}
