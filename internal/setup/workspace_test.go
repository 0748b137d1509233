package setup

import (
	"testing"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

func TestPickWorkspace(t *testing.T) {
	all := []fabric.Workspace{{ID: "1", Name: "shop"}, {ID: "2", Name: "Shop"}, {ID: "3", Name: "twice"}, {ID: "4", Name: "twice"}}
	for name, want := range map[string][2]string{"shop": {"1", ""}, "twice": {"", "WorkspaceAmbiguous"}, "none": {"", "WorkspaceNotFound"}} {
		id, found := pickWorkspace(all, name)
		if id != want[0] || found.Code != want[1] || found.Code != "" && found.Hint == "" {
			t.Errorf("%s: got %q and %+v, want %q", name, id, found, want)
		}
	}
}
