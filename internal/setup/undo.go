package setup

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
)

// UndoSteps take a mirror down again, in the reverse order of Steps: what we made
// goes, what we found stays, and no row of anybody's is dropped. They are Steps:
// Check says what is left to take down, Apply takes it.
//
// last is for the database that is taken down last of a configuration: with it
// goes what its databases share.
func UndoSteps(c *Clients, last bool) []Step {
	steps := undoNative(c, last)
	if c.Config.Mode == config.Open {
		steps = undoOpen(c, last)
	}
	if c.Config.Workspace != "" {
		return steps
	}
	steps = slices.DeleteFunc(steps, func(s Step) bool { return s.Name() == "workspace" || s.Name() == "connection" })
	i := slices.IndexFunc(steps, func(s Step) bool { return s.Name() == "mirrored-database" })
	steps[i] = withServer{c, undoUnseenStep{c}}
	return steps
}

func undoNative(c *Clients, last bool) []Step {
	return []Step{
		undoServerStep{c},                      // where it is, and whether it is still there
		workspaceStep{c},                       // likewise
		withServer{c, adminStep{c}},            // the administrator signs in
		undoMirrorStep{c},                      // one that we didn't make keeps all that it stands on
		undoConnectionStep{c},                  // no mirror uses it any more
		withServer{c, undoOwnershipStep{c}},    // tables go back to their recorded owners
		withServer{c, undoSeedStep{c}},         // before its owner goes
		withServer{c, undoRoleStep{c, last}},   // its rights here, and itself when no other database needs it
		withServer{c, undoEnableStep{c, last}}, // the database out of the list, the switch with the last one
		undoRoleSecretStep{c},                  // when no role has that password any more
		leftStep{c, nativeLeft(c)},             // what stays
	}
}

func undoOpen(c *Clients, last bool) []Step {
	return []Step{
		undoServerStep{c},                      // where it is, and whether it is still there
		workspaceStep{c},                       // likewise
		withServer{c, adminStep{c}},            // the administrator signs in
		withServer{c, undoSlotStep{c}},         // run has to have ended; and a slot without a reader keeps WAL for ever
		undoMirrorStep{c},                      // with its landing zone
		withServer{c, undoPublicationsStep{c}}, // nobody else's
		withServer{c, undoRoleStep{c, last}},   // its rights here, and itself when no other database needs it
		undoRoleSecretStep{c},                  // when no role has that password any more
		leftStep{c, openLeft},                  // what stays
	}
}

// undoServerStep looks at the server. One that is gone has taken all of its own
// with it, and one that can't be mirrored any more can still be tidied.
type undoServerStep struct{ *Clients }

func (undoServerStep) Name() string { return "server" }

func (s undoServerStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	found, err := serverStep(s).Check(ctx, f)
	f.serverGone = found.Code == "ServerNotFound"
	switch found.Code {
	case "ServerNotFound":
		found = gone("server " + s.Config.Server.ID)
		found.Notes = []Note{{"ServerGone", s.Config.Server.ID, "isn't there: what was made in it went with it"}}
		return found, err
	case "ServerVersion", "ServerTier", "ServerElastic", "ServerHA", "ServerReplica":
		return asWanted(found.Have), err
	}
	return found, err
}

func (undoServerStep) Apply(context.Context, *Facts) error { return nil }

// withServer is a step that has nothing to do when the server is gone.
type withServer struct {
	*Clients
	step Step
}

func (s withServer) Name() string { return s.step.Name() }

func (s withServer) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.serverGone {
		return asWanted("went with the server"), nil
	}
	return s.step.Check(ctx, f)
}

func (s withServer) Apply(ctx context.Context, f *Facts) error { return s.step.Apply(ctx, f) }

// Patience is the step's own.
func (s withServer) Patience() time.Duration { return patience(s.step) }

// gone is the finding of something that isn't there, or not any more.
func gone(what string) Finding { return asWanted("no " + what) }

// kept is the finding of something that stays, and why.
func kept(what, why string) Finding {
	f := asWanted("stays: " + why)
	f.Notes = []Note{{"Kept", what, "stays: " + why}}
	return f
}

// leftStep tells what destroy leaves, because others may rely on it.
type leftStep struct {
	*Clients
	notes []Note
}

func (leftStep) Name() string { return "left" }

func (s leftStep) Check(context.Context, *Facts) (Finding, error) {
	f := asWanted("as it is")
	f.Notes = s.notes
	return f, nil
}

func (leftStep) Apply(context.Context, *Facts) error { return nil }

func nativeLeft(c *Clients) []Note {
	return []Note{
		{"Left", "parameters", "wal_level and the limits stay: others may need them, and going back restarts the server"},
		{"Left", "identity and sign-in modes of the server", "stay: nobody knows who else uses them"},
		{"Left", "workspace role", "the server's identity keeps its role in the workspace " + c.Config.Workspace + ": another of its mirrors may need it"},
	}
}

var openLeft = []Note{
	{"Left", "parameters", "wal_level and the limits stay: others may need them, and going back restarts the server"},
	{"Left", "replica identities", "stay: PostgreSQL doesn't say what they were"},
}

// others are the databases of a list that this run doesn't take down as well.
func (c *Clients) others(databases []string, last bool) []string {
	return slices.DeleteFunc(slices.Clone(databases), func(d string) bool {
		return d == c.Config.Server.Database || last && slices.Contains(c.Config.Databases, d)
	})
}

// made begins what we write into the description of a mirrored database.
const made = "mirrored by pgmirror"

func description(database string) string { return "PostgreSQL database " + database + ", " + made }

// isOurs is about the mirror with our name: pgmirror may have made it for another
// database.
func (c *Clients) isOurs(m fabric.MirroredDatabase) bool {
	return strings.HasSuffix(m.Description, description(c.Config.Server.Database))
}
