package setup

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// parametersStep sets what logical replication needs. Those that need a restart
// are left pending for the next step.
type parametersStep struct{ *Clients }

func (parametersStep) Name() string { return "parameters" }

// needed are the parameters that we may set, each with its rule: the value that
// is wanted, given what is.
var needed = []struct {
	name   string
	native bool // only for native mirroring
	want   func(now azure.Parameter, databases int) string
}{
	{"wal_level", false, func(azure.Parameter, int) string { return "logical" }},
	// The server's own checker demands 13; three more a mirrored database is the documented rule.
	{"max_worker_processes", true, func(p azure.Parameter, n int) string { return atLeast(p.Value, max(13, number(p.Default)+3*n)) }},
	{"max_replication_slots", false, func(p azure.Parameter, n int) string { return atLeast(p.Value, max(number(p.Default), n+1)) }},
	{"max_wal_senders", false, func(p azure.Parameter, n int) string { return atLeast(p.Value, max(number(p.Default), n+1)) }},
}

func (s parametersStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.Static = nil
	if s.Server == nil {
		return s.checkElsewhere(ctx, f)
	}
	if f.Server.Name == "" {
		return after("server"), nil
	}
	f.parameters = nil // here they are always looked at anew
	now, err := s.parameters(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	var have, want, items []string
	for _, p := range s.changes(now) {
		is := now[p.Name]
		if is.ReadOnly {
			return blocked("ParameterReadOnly", p.Name+" is "+is.Value+", "+p.Value+" is needed", s.az("parameter show", "--name", p.Name)), nil
		}
		have, want, items = append(have, p.Name+"="+is.Value), append(want, p.Name+"="+p.Value), append(items, p.Name)
		if !is.Dynamic {
			f.Static = append(f.Static, p.Name)
		}
	}
	if len(items) == 0 {
		return asWanted("wal_level=logical"), nil
	}
	f.parameters = nil
	return Finding{Action: Update, Reason: "ParametersDiffer", Have: strings.Join(have, " "), Want: strings.Join(want, " "), Items: items}, nil
}

func (s parametersStep) Apply(ctx context.Context, _ *Facts) error {
	now, err := s.Server.Parameters(ctx)
	if err != nil {
		return err
	}
	for _, p := range s.changes(now) {
		if err := s.Server.SetParameter(ctx, p.Name, p.Value); err != nil {
			return err
		}
	}
	return nil
}

// parameters lists them, or gives the list of the step before when that found
// nothing to do: the list is long, and three steps read it.
func (c *Clients) parameters(ctx context.Context, f *Facts) (map[string]azure.Parameter, error) {
	if f.parameters != nil {
		return f.parameters, nil
	}
	now, err := c.Server.Parameters(ctx)
	f.parameters = now
	return now, err
}

// changes are the parameters to set, with their wanted values. One that an older
// server doesn't have is skipped.
func (s parametersStep) changes(now map[string]azure.Parameter) []azure.Parameter {
	var out []azure.Parameter
	databases := len(s.union(now))
	for _, n := range needed {
		p, ok := now[n.name]
		if !ok || n.native && s.Config.Mode != config.Native {
			continue
		}
		if want := n.want(p, databases); want != p.Value {
			out = append(out, azure.Parameter{Name: n.name, Value: want})
		}
	}
	return out
}

// union is the databases that the server shall mirror: all of the configuration
// beside those that it mirrors already, so that one restart makes room for all.
func (c *Clients) union(now map[string]azure.Parameter) []string {
	out := listed(now)
	if c.Config.Mode != config.Native {
		return out
	}
	for _, name := range c.Config.Databases {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// listed are the databases that the server mirrors.
func listed(now map[string]azure.Parameter) []string {
	var out []string
	for name := range strings.SplitSeq(now[mirrorDatabases].Value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// checkElsewhere judges a server whose parameters we can't set.
func (s parametersStep) checkElsewhere(ctx context.Context, f *Facts) (Finding, error) {
	if !f.Admin {
		return after("admin-login"), nil
	}
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	self, err := session.Self(ctx)
	if err != nil {
		return Finding{}, err
	}
	if self.WALLevel == "logical" {
		return asWanted("wal_level=logical"), nil
	}
	return s.walLevel(ctx, f, session, self.Super)
}

// walLevel is how it is set where this server runs; in SQL by a superuser.
func (s parametersStep) walLevel(ctx context.Context, f *Facts, session *admin.Session, super bool) (Finding, error) {
	settings, err := session.ProviderSettings(ctx)
	if err != nil {
		return Finding{}, err
	}
	name, next := providerOf(f.Host, settings)
	if name == "" {
		line := s.dba
		if super {
			line = s.psql
		}
		return blocked("WALLevel", "wal_level isn't logical; it takes a restart of the server once it is set", line(f, "ALTER SYSTEM SET wal_level = 'logical'")), nil
	}
	return blocked("WALLevel", "wal_level isn't logical; "+name+" has a switch of its own for it", next), nil
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // 0 for what isn't a number: then nothing is asked of it
	return n
}

// atLeast is now when that is enough, else want.
func atLeast(now string, want int) string {
	if number(now) >= want {
		return now
	}
	return strconv.Itoa(want)
}
