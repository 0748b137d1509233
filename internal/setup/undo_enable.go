package setup

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/azure"
)

// undoEnableStep takes the database out of those that the server mirrors, and
// turns mirroring off with the last one.
type undoEnableStep struct {
	*Clients
	last bool
}

func (undoEnableStep) Name() string { return "enable" }

// Patience is for an operation that takes a restart's length.
func (undoEnableStep) Patience() time.Duration { return 10 * time.Minute }

func (s undoEnableStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.Server.Name == "" {
		return after("server"), nil
	}
	now, err := s.Server.Parameters(ctx)
	if err != nil {
		return Finding{}, err
	}
	rest := slices.DeleteFunc(listed(now), func(d string) bool { return d == s.Config.Server.Database })
	todo := s.todo(now, rest)
	switch {
	case len(todo) == 0:
		return asWanted("the server doesn't mirror " + s.Config.Server.Database), nil
	case f.usedBy != "":
		return kept("mirroring of "+s.Config.Server.Database, f.usedBy+" needs it"), nil
	case f.RoleExists && (!f.pending["role"] || f.roleStays) && !s.lists(now): // the switch alone, and perhaps somebody is just preparing
		return kept(mirrorEnabled, "role "+s.Config.Role.Name+" stays"), nil
	}
	var have, want []string
	for _, p := range s.todo(now, s.others(rest, s.last)) { // without those that go before
		have, want = append(have, p.Name+"="+now[p.Name].Value), append(want, p.Name+"="+p.Value)
	}
	return Finding{Action: Delete, Reason: "MirroringOn", Have: strings.Join(have, " "), Want: strings.Join(want, " "), Items: []string{s.Config.Server.Database},
		After: f.waitsFor("mirrored-database", "role")}, nil
}

func (s undoEnableStep) lists(now map[string]azure.Parameter) bool {
	return slices.Contains(listed(now), s.Config.Server.Database)
}

// todo turns the switch off first: the server takes no empty list while it is on.
func (s undoEnableStep) todo(now map[string]azure.Parameter, rest []string) []azure.Parameter {
	var out []azure.Parameter
	if len(rest) == 0 && now[mirrorEnabled].Value == "on" {
		out = append(out, azure.Parameter{Name: mirrorEnabled, Value: "off"})
	}
	if s.lists(now) {
		out = append(out, azure.Parameter{Name: mirrorDatabases, Value: strings.Join(rest, ",")})
	}
	return out
}

func (s undoEnableStep) Apply(ctx context.Context, _ *Facts) error {
	now, err := s.Server.Parameters(ctx)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(listed(now), func(d string) bool { return d == s.Config.Server.Database })
	for _, p := range s.todo(now, rest) {
		if err := s.Server.SetParameter(ctx, p.Name, p.Value); err != nil {
			return err
		}
	}
	return nil
}
