package setup

import (
	"context"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

// undoConnectionStep deletes the connection, unless a person made it or another
// mirror signs in with it.
type undoConnectionStep struct{ *Clients }

func (undoConnectionStep) Name() string { return "connection" }

func (s undoConnectionStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	if f.pending["workspace"] {
		return after("workspace"), nil
	}
	f.Connection = fabric.Connection{}
	c, ok, err := s.ourConnection(ctx, f)
	switch {
	case err != nil:
		return Finding{}, err
	case !ok && s.given():
		return kept("connection "+s.Config.Connection.ID, "a person gave it"), nil
	case !ok:
		return gone("connection " + s.Config.ConnectionName(f.Host)), nil
	case f.usedBy != "":
		return kept("connection "+c.Name, f.usedBy+" uses it"), nil
	}
	f.Connection = c
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

// ourConnection is the one that apply makes: by its name, to this server and
// database.
func (c *Clients) ourConnection(ctx context.Context, f *Facts) (fabric.Connection, bool, error) {
	if c.given() || f.Host == "" {
		return fabric.Connection{}, false, nil
	}
	all, err := c.Fabric.Connections(ctx)
	if err != nil {
		return fabric.Connection{}, false, err
	}
	found, ok := connectionStep{c}.find(all, f.Host)
	return found, ok && found.Name == c.Config.ConnectionName(f.Host), nil
}
