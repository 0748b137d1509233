package setup

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/azure"
)

const (
	mirrorDatabases = "azure.mirror_databases"
	mirrorEnabled   = "azure.fabric_mirror_enabled"
	mirrorMost      = "azure_cdc.max_fabric_mirrors"
)

// enableStep turns Fabric mirroring on for the database, and proves in SQL that
// it took: the parameters alone have been seen to say "on" on servers that
// weren't ready.
type enableStep struct{ *Clients }

func (enableStep) Name() string { return "enable" }

// Patience is for an operation that takes a restart's length.
func (enableStep) Patience() time.Duration { return 10 * time.Minute }

func (s enableStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.Enabled = false
	if f.Server.Name == "" || !f.Admin {
		return after("admin-login"), nil
	}
	now, err := s.parameters(ctx, f)
	f.parameters = nil // the next look is after a write, or waits for something
	if err != nil {
		return Finding{}, err
	}
	if _, ok := now[mirrorEnabled]; !ok {
		return blocked("EnableUnavailable", "the server has no parameter "+mirrorEnabled, s.az("parameter list")), nil
	}
	databases := s.union(now)
	if most := number(now[mirrorMost].Value); most > 0 && len(databases) > most {
		return blocked("MirrorLimit", strings.Join(databases, ", "), s.az("parameter set", "--name", mirrorMost, "--value", "6")), nil
	}
	if todo := s.todo(now); len(todo) > 0 {
		return Finding{Action: Update, Reason: "MirroringOff", Have: mirrorEnabled + "=" + now[mirrorEnabled].Value + " for " + or(now[mirrorDatabases].Value, "no database"),
			Want: "on for " + strings.Join(databases, ","), After: f.waitsFor("identity", "parameters", "restart")}, nil
	}
	return s.proof(ctx, f)
}

// proof looks for the extension itself.
func (s enableStep) proof(ctx context.Context, f *Facts) (Finding, error) {
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	if f.Enabled, err = session.CDCInstalled(ctx); err != nil {
		return Finding{}, err
	}
	if !f.Enabled {
		return Finding{Action: Wait, Reason: "EnableUnproved", Code: "EnableFailed", Have: "switched on, and azure_cdc isn't in the database yet",
			Hint: s.prepare()}, nil
	}
	return asWanted("azure_cdc is in the database"), nil
}

// todo are the parameters to set, in order: the switch last, because the server
// validates when it goes from off to on.
func (s enableStep) todo(now map[string]azure.Parameter) []azure.Parameter {
	var out []azure.Parameter
	if want := strings.Join(s.union(now), ","); !sameDatabases(now[mirrorDatabases].Value, want) {
		out = append(out, azure.Parameter{Name: mirrorDatabases, Value: want})
	}
	if now[mirrorEnabled].Value != "on" {
		out = append(out, azure.Parameter{Name: mirrorEnabled, Value: "on"})
	}
	return out
}

func (s enableStep) Apply(ctx context.Context, _ *Facts) error {
	now, err := s.Server.Parameters(ctx)
	if err != nil {
		return err
	}
	for _, p := range s.todo(now) {
		err := s.Server.SetParameter(ctx, p.Name, p.Value)
		if azure.IsRefused(err) { // the server validated, and said no
			return &BlockedError{[]Finding{{Step: s.Name(), Action: Blocked, Reason: "EnableFailed", Code: "EnableFailed", Have: err.Error(), Hint: s.prepare()}}}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare is where a person does the same, and is told more.
func (s enableStep) prepare() string { return s.serverPage("fabricMirroring") }

// sameDatabases compares two lists, whatever the blanks in them.
func sameDatabases(a, b string) bool {
	split := func(s string) []string {
		var out []string
		for x := range strings.SplitSeq(s, ",") {
			if x = strings.TrimSpace(x); x != "" {
				out = append(out, x)
			}
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(split(a), split(b))
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
