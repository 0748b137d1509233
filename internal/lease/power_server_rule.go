package lease

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// serverRule is a firewall rule of a server, for the caller's address or for all
// of Azure. Its name says all that a stranger needs to delete it.
type serverRule struct{}

const rulePrefix = tagPrefix

// azureServices is the special address that stands for every Azure service.
const azureServices = "0.0.0.0"

func ruleName(l Lease) string {
	return rulePrefix + l.ID + "-" + strconv.FormatInt(l.Until.Unix(), 10) + "-" + fileName(l.Run[:min(len(l.Run), 24)])
}

// ruleLease is the lease that a firewall rule's name and address tell of.
func ruleLease(resource, name string, addresses [2]string) (Lease, bool) {
	rest, ok := strings.CutPrefix(strings.ToLower(name), rulePrefix)
	if !ok {
		return Lease{}, false
	}
	id, rest, _ := strings.Cut(rest, "-")
	expiry, run, _ := strings.Cut(rest, "-")
	seconds, _ := strconv.ParseInt(expiry, 10, 64) // 0, long past, when somebody renamed it
	l := Lease{ID: id, Run: run, Kind: ServerRule, Resource: resource, Until: time.Unix(seconds, 0).UTC(),
		Params: map[string]string{paramAddress: addresses[0], paramRule: name}}
	if addresses[0] == azureServices {
		l.Kind = AzureRule
	}
	return l, id != ""
}

func (serverRule) prepare(ctx context.Context, r Resource, _ *document, l *Lease) error {
	if l.Kind == AzureRule {
		l.Params = map[string]string{paramAddress: azureServices}
	}
	rules, err := r.Rules(ctx)
	if err != nil {
		return err
	}
	for name, have := range rules {
		if have == [2]string{l.Params[paramAddress], l.Params[paramAddress]} {
			if other, ours := ruleLease(l.Resource, name, have); ours && other.ID != l.ID {
				continue // it goes away when its holder goes
			}
			return fmt.Errorf("rule %s of %s lets it in: %w", name, shortName(l.Resource), ErrOpen)
		}
	}
	l.Params[paramRule] = ruleName(*l)
	return nil
}

func (serverRule) grant(ctx context.Context, r Resource, _ *document, l Lease) error {
	address := l.Params[paramAddress]
	return r.PutRule(ctx, l.Params[paramRule], address, address)
}

func (serverRule) closed(ctx context.Context, r Resource, _ *document, l Lease) (bool, error) {
	rules, err := r.Rules(ctx)
	if err != nil {
		return false, err
	}
	for name := range rules {
		if strings.EqualFold(name, l.Params[paramRule]) {
			return false, nil
		}
	}
	return true, nil
}

// revoke deletes nothing but what a lease made.
func (serverRule) revoke(ctx context.Context, r Resource, _ *document, l Lease) error {
	name := l.Params[paramRule]
	if !strings.HasPrefix(strings.ToLower(name), rulePrefix) {
		return fmt.Errorf("the lease says that its rule is %q: no lease made that", name)
	}
	return r.DeleteRule(ctx, name)
}
