package setup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
)

// mirrorStep makes the mirrored database. One that is found is adopted: what
// could only be changed by copying everything again is told and left.
type mirrorStep struct{ *Clients }

func (mirrorStep) Name() string { return "mirrored-database" }

// Patience is for the minute that a new item needs before its definition can be
// changed.
func (mirrorStep) Patience() time.Duration { return 10 * time.Minute }

func (s mirrorStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.pending["workspace"] {
		return after("workspace"), nil
	}
	m, exists, err := s.findMirror(ctx)
	if err != nil {
		return Finding{}, err
	}
	f.Mirror = m
	if f.Admin {
		if _, err := s.pick(ctx, f); err != nil {
			return Finding{}, err
		}
	}
	if !exists {
		notes, err := s.cost(ctx, f)
		return Finding{Action: Create, Reason: "MirrorMissing", Have: "none", Want: s.describe(f), Notes: notes,
			After: f.waitsFor("admin-login", "prerequisites", "publications", "connection", "workspace-role")}, err
	}
	d, err := s.Fabric.Definition(ctx, s.Config.Workspace, m.ID)
	if err != nil {
		return Finding{}, err
	}
	return s.compare(ctx, f, d)
}

// compare judges an existing mirror's definition.
func (s mirrorStep) compare(ctx context.Context, f *Facts, d fabric.Definition) (Finding, error) {
	want := s.wanted(f)
	if d.Source.Type != want.Source.Type {
		return blocked("MirrorOtherSource", f.Mirror.Name+" mirrors "+or(d.Source.Type, "nothing"), "pgmirror plan --set mirror.name=NAME"), nil
	}
	found := asWanted(f.Mirror.Name + " (" + f.Mirror.ID + ")")
	found.Notes = differences(d, want)
	if sameTables(d.MountedTables, want.MountedTables) || !f.Listed {
		return found, nil
	}
	status, err := s.Fabric.MirroringStatus(ctx, s.Config.Workspace, f.Mirror.ID)
	if err != nil {
		return Finding{}, err
	}
	return Finding{Action: Update, Reason: "TablesDiffer", Have: mounted(d.MountedTables), Want: mounted(want.MountedTables), Notes: found.Notes,
		After: f.waitsFor("ownership"), unready: unready(status)}, nil
}

// unready says of a new mirrored database that it takes no requests yet, for about a
// minute.
func unready(now fabric.MirroringStatus) string {
	if now.Status == "Initializing" {
		return "the new mirrored database is being provisioned"
	}
	return ""
}

// differences are told only: each would stop the mirror, and copy everything
// again.
func differences(d, want fabric.Definition) []Note {
	var out []Note
	for _, x := range []struct{ what, have, want string }{
		{"connection", d.Source.Connection, want.Source.Connection},
		{"database", d.Source.Database, want.Source.Database},
		{"default schema", d.Target.DefaultSchema, want.Target.DefaultSchema},
	} {
		if x.want != "" && !strings.EqualFold(x.have, x.want) {
			out = append(out, Note{"MirrorDiffers", x.what, fmt.Sprintf("is %s, not %s; left as it is: changing it copies everything again", or(x.have, "unset"), x.want)})
		}
	}
	return out
}

func (s mirrorStep) Apply(ctx context.Context, f *Facts) error {
	want := s.wanted(f)
	if f.Mirror.ID == "" {
		_, err := s.Fabric.CreateMirroredDatabase(ctx, s.Config.Workspace, s.Config.MirrorName(), description(s.Config.Server.Database), want)
		if fabric.IsConflict(err) { // by our own request, whose answer was lost?
			if _, made, look := s.findMirror(ctx); look == nil && made {
				return nil
			}
		}
		return err
	}
	d, err := s.Fabric.Definition(ctx, s.Config.Workspace, f.Mirror.ID)
	if err != nil {
		return err
	}
	d.MountedTables = want.MountedTables
	return s.Fabric.UpdateDefinition(ctx, s.Config.Workspace, f.Mirror.ID, d)
}

// findMirror looks for the mirror by its name.
func (c *Clients) findMirror(ctx context.Context) (fabric.MirroredDatabase, bool, error) {
	if found, err := c.FindWorkspace(ctx); err != nil || found.Action != "" {
		return fabric.MirroredDatabase{}, false, errors.Join(err, Refuse([]Finding{found}))
	}
	all, err := c.Fabric.MirroredDatabases(ctx, c.Config.Workspace)
	if err != nil {
		return fabric.MirroredDatabase{}, false, err
	}
	for _, m := range all {
		if m.Name == c.Config.MirrorName() {
			return m, true, nil
		}
	}
	return fabric.MirroredDatabase{}, false, nil
}

// wanted is the definition. Retention is always said: the portal's default and
// the service's differ. Without a list nothing is mounted by name, which mirrors
// all tables, also later ones.
func (s mirrorStep) wanted(f *Facts) fabric.Definition {
	days := s.Config.Mirror.RetentionDays
	d := fabric.Definition{Target: fabric.Target{DefaultSchema: s.Config.Mirror.DefaultSchema, Format: "Delta", RetentionInDays: &days}}
	if s.Config.Mode == config.Open {
		d.Source.Type = "GenericMirror"
		return d
	}
	d.Source = fabric.Source{Type: "AzurePostgreSql", Connection: f.Connection.ID, Database: s.Config.Server.Database}
	if f.Listed {
		d.MountedTables = []fabric.TableName{}
		for i := range f.Picked {
			d.MountedTables = append(d.MountedTables, fabric.TableName{Schema: f.Picked[i].Schema, Table: f.Picked[i].Name})
		}
	}
	return d
}

func (s mirrorStep) describe(f *Facts) string {
	what := "all tables"
	if f.Listed {
		what = fmt.Sprintf("%d tables", len(f.Picked))
	}
	return fmt.Sprintf("%s, %s, %d days of retention", s.Config.MirrorName(), what, s.Config.Mirror.RetentionDays)
}

func sameTables(a, b []fabric.TableName) bool {
	set := map[fabric.TableName]int{}
	for _, t := range a {
		set[t] |= 1
	}
	for _, t := range b {
		set[t] |= 2
	}
	for _, in := range set {
		if in != 3 {
			return false
		}
	}
	return (a == nil) == (b == nil)
}

func mounted(tables []fabric.TableName) string {
	if tables == nil {
		return "all tables"
	}
	var out []string
	for _, t := range tables {
		out = append(out, t.Schema+"."+t.Table)
	}
	return strings.Join(out, ", ")
}
