package setup

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// HeldError says who else is at work on the database.
type HeldError struct{ Database, Who string }

func (e *HeldError) Error() string {
	return "another pgmirror is at work on " + e.Database + ": " + e.Who
}

// Hold makes this run the only one that changes the server and the database,
// until the clients and the doors are closed. The server has a tag, which
// outlives its restart and a lost network; the database has a lock, which needs
// nobody to give it back. The error is a *HeldError or a *lease.HeldError when
// somebody else is at work.
func (c *Clients) Hold(ctx context.Context, f *Facts) error {
	if c.Doors == nil {
		return nil
	}
	if err := c.lock(ctx, f); err != nil {
		return err
	}
	return c.Doors.hold(ctx)
}

// lockName is the same for whoever changes one mirror's database.
const lockName = "pgmirror apply"

func (c *Clients) lock(ctx context.Context, f *Facts) error {
	if !f.Admin || c.sessions.lock != nil {
		return nil
	}
	e := c.endpoint(f, c.Config.Admin.User, f.adminPassword)
	e.AppName = clip("pgmirror "+c.Doors.Run()+" "+c.Doors.who, 63)
	conn, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	h := fnv.New64a()
	h.Write([]byte(lockName))
	key := int64(h.Sum64())
	got, holder, err := admin.NewSession(conn, nil).TryLock(ctx, key)
	if err == nil && !got {
		err = &HeldError{c.Config.Server.Database, or(strings.TrimPrefix(holder, "pgmirror "), "unknown")}
	}
	if err != nil {
		conn.Close(ctx) // the first error tells more
		return err
	}
	c.sessions.lock = conn
	return nil
}

// clip keeps a name within what a session's name may have.
func clip(s string, n int) string { return s[:min(len(s), n)] }

// Audited writes a change to the audit log before and after it is made. Without
// Doors there is no log.
func (d *Doors) Audited(change lease.Change, do func() error) error {
	if d == nil {
		return do()
	}
	change.Outcome = lease.Begun
	if err := d.audit.Write(change); err != nil {
		return err
	}
	err := do()
	change.Outcome = lease.Done
	if err != nil {
		change.Outcome = lease.Failed
	}
	if auditErr := d.audit.Write(change); auditErr != nil && err == nil {
		return fmt.Errorf("done, but not noted: %w", auditErr)
	}
	return err
}

// resourceOf is what a step changes.
func (c *Clients) resourceOf(step string) string {
	switch step {
	case "role-secret", "secret", "completion":
		return c.Config.Vault
	case "connection":
		return "Fabric"
	case "workspace-role", "mirrored-database", "start":
		return "workspace " + c.Config.Workspace
	}
	return or(c.Config.Server.ID, c.Config.Server.Host+"/"+c.Config.Server.Database)
}
