package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

// undoConnectionStep deletes the connection, unless a person made it or another
// mirror of the workspace signs in with it.
type undoConnectionStep struct{ *Clients }

func (undoConnectionStep) Name() string { return "connection" }

func (s undoConnectionStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.pending["workspace"] {
		return after("workspace"), nil
	}
	c, ok, err := s.ourConnection(ctx, f)
	f.Connection = c
	switch {
	case err != nil:
		return Finding{}, err
	case s.given():
		return kept("connection "+s.Config.Connection.ID, "a person gave it"), nil
	case f.Host == "":
		return kept("connection", "its server's address isn't known any more, by which it would be found; delete it in Fabric"), nil
	case c.ID == "":
		return gone("connection " + s.Config.ConnectionName(f.Host)), nil
	case !ok:
		return kept("connection "+c.Name, "pgmirror didn't make it"), nil
	case f.usedBy != "":
		return kept("connection "+c.Name, f.usedBy+" uses it"), nil
	}
	return Finding{Action: Delete, Reason: "ConnectionThere", Have: c.Name + " (" + c.ID + ")", Want: "deleted", Items: []string{c.ID}, After: f.waitsFor("mirrored-database")}, nil
}

func (s undoConnectionStep) Apply(ctx context.Context, f *Facts) error {
	err := s.Fabric.DeleteConnection(ctx, f.Connection.ID)
	if fabric.IsNotFound(err) {
		return nil
	}
	return err
}

// given is a connection that a person made.
func (c *Clients) given() bool {
	return c.Config.Connection.Manual || c.Config.Connection.ID != "" && !connectionStep{c}.remembered()
}

// ourConnection is the one to this server and database; it is ours when it has the
// name that apply gives it. What isn't looked for, because a person gave it or the
// server's address isn't known, has no id but the configuration's.
func (c *Clients) ourConnection(ctx context.Context, f *Facts) (fabric.Connection, bool, error) {
	if c.given() || f.Host == "" {
		return fabric.Connection{ID: c.Config.Connection.ID}, false, nil
	}
	all, err := c.Fabric.Connections(ctx)
	if err != nil {
		return fabric.Connection{}, false, err
	}
	found, _ := connectionStep{c}.find(all, f.Host)
	return found, found.ID != "" && found.Name == c.Config.ConnectionName(f.Host), nil
}
