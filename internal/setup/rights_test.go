package setup

import "testing"

func TestEveryStepDeclaresItsRights(t *testing.T) {
	if steps := undeclared(); steps != "" {
		t.Errorf("without rights: %s", steps)
	}
	for name := range rights {
		known := false
		for _, r := range AllRights() {
			known = known || r.Step == name
		}
		if !known {
			t.Errorf("rights of %s, which is no step", name)
		}
	}
}
