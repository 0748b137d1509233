package setup

import (
	"slices"
	"testing"
)

func TestEveryStepDeclaresItsRights(t *testing.T) {
	for _, x := range []struct {
		declared map[string]Rights
		all      []Rights
	}{{rights, AllRights()}, {undoRights, UndoRights()}} {
		for _, r := range x.all {
			if r.Look == "" || r.Change == "" {
				t.Errorf("%s declares no rights", r.Step)
			}
		}
		for name := range x.declared {
			if !slices.ContainsFunc(x.all, func(r Rights) bool { return r.Step == name }) {
				t.Errorf("rights of %s, which is no step", name)
			}
		}
	}
}
