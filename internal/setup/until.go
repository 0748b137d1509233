package setup

import (
	"fmt"
	"slices"
	"strings"
)

// Prepare names the end of what is done to the server, before anything of
// Fabric's: it needs no workspace.
const Prepare = "prepare"

// Until is the steps as far as the named one; "" is all. What only looks at the
// workspace falls away where nothing of it is needed.
func Until(steps []Step, name string) ([]Step, error) {
	if name == "" {
		return steps, nil
	}
	var names []string
	for _, s := range steps {
		names = append(names, s.Name())
	}
	if name == Prepare {
		name = lastOf(names, "seed-table", "publications")
	}
	end := slices.Index(names, name)
	if end < 0 {
		return nil, fmt.Errorf("there is no step %q; there are %s, %s", name, Prepare, strings.Join(names, ", "))
	}
	steps = steps[:end+1]
	fabric := slices.ContainsFunc(names[:end+1], func(n string) bool {
		return slices.Contains([]string{"connection", "workspace-role", "mirrored-database"}, n)
	})
	if fabric || name == "workspace" {
		return steps, nil
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return s.Name() == "workspace" }), nil
}

func lastOf(names []string, wanted ...string) string {
	for _, w := range wanted {
		if slices.Contains(names, w) {
			return w
		}
	}
	return names[len(names)-1]
}
