package lease

import (
	"context"
	"fmt"
	"strings"
)

// access is publicNetworkAccess of a vault or a server. It is "Disabled" or
// "disabled", and goes back to exactly that.
type access struct{ kind Kind }

func (a access) prepare(_ context.Context, _ Resource, d *document, l *Lease) error {
	was := d.public(a.kind)
	switch {
	case strings.EqualFold(was, "Enabled"):
		return fmt.Errorf("%s of %s: %w", doors[a.kind], shortName(l.Resource), ErrOpen)
	case !strings.EqualFold(was, "Disabled"): // a network security perimeter guards it: that is somebody's decision
		return fmt.Errorf("publicNetworkAccess of %s is %s: only a closed one is ever opened", shortName(l.Resource), was)
	}
	l.Params = map[string]string{paramWas: was}
	return nil
}

func (a access) grant(ctx context.Context, r Resource, _ *document, _ Lease) error {
	return a.set(ctx, r, "Enabled")
}

func (a access) closed(_ context.Context, _ Resource, d *document, l Lease) (bool, error) {
	return d.public(a.kind) == l.Params[paramWas], nil
}

// revoke refuses a former value that would open something: tags can be edited.
func (a access) revoke(ctx context.Context, r Resource, _ *document, l Lease) error {
	if was := l.Params[paramWas]; !strings.EqualFold(was, "Disabled") {
		return fmt.Errorf("the lease says that publicNetworkAccess was %q: that closes nothing", was)
	}
	return a.set(ctx, r, l.Params[paramWas])
}

func (a access) set(ctx context.Context, r Resource, value string) error {
	public := map[string]any{"publicNetworkAccess": value}
	if a.kind == ServerAccess {
		return patch(ctx, r, "properties", map[string]any{"network": public})
	}
	return patch(ctx, r, "properties", public)
}
