package setup

import (
	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// Facts are what earlier Checks learned and later steps need. A fact that isn't
// known, or no longer true, is zero.
type Facts struct {
	Server      azure.Info        // of a flexible server
	Host        string            // of PostgreSQL
	Static      []string          // parameters that will be set and need a restart
	Version     int               // PostgreSQL's major version
	Admin       bool              // the administrator can sign in
	RoleExists  bool              //
	RoleSignsIn bool              // with the password that the store has
	Enabled     bool              // azure_cdc is there
	Tables      []postgres.Table  // of the database; in open mode a partitioned table may be one, see takeWhole
	Within      map[string]string // partitions of those, by their names: the table's
	Picked      []postgres.Table  // those that are to be mirrored
	Joined      []postgres.Table  // those of them that are in the mirror, or come into it by apply
	Listed      bool              // the configuration lists tables
	Connection  fabric.Connection //
	Mirror      fabric.MirroredDatabase
	ByHand      bool // the workspace's roles can't be read: a person gives the server's identity what it needs

	// IfReady leaves for later what somebody else has to give first, with all that
	// follows from it, instead of being blocked by it.
	IfReady bool

	publications  []admin.Publication // ours, those that are there
	begun         bool                // of an open mirror: tables come and go by tables add and remove
	unpublished   bool                // it has, and its publication is gone
	capacity      string              // of the workspace
	adminPassword secret
	rolePassword  secret
	recovering    bool                       // the role's password is in a deleted secret: it will be had back
	serverGone    bool                       // destroy found it so
	roleStays     bool                       // destroy found another database that needs it
	usedBy        string                     // a mirror that isn't taken down, and keeps what it stands on
	parameters    map[string]azure.Parameter // as last listed; nil: to be listed anew
	pending       map[string]bool            // steps that have something to do
	waiting       map[string]bool            // steps that are left for later
}

// note remembers whether a step has something to do.
func (f *Facts) note(step string, todo bool) {
	if f.pending == nil {
		f.pending = map[string]bool{}
	}
	f.pending[step] = todo
}

func with(set map[string]bool, name string) map[string]bool {
	if set == nil {
		set = map[string]bool{}
	}
	set[name] = true
	return set
}

// waitsFor is the last of some earlier steps that has something to do, one that
// is left for later before all others; "" when none has.
func (f *Facts) waitsFor(steps ...string) string {
	last := ""
	for _, s := range steps {
		if f.waiting[s] {
			return s
		}
		if f.pending[s] {
			last = s
		}
	}
	return last
}

// secret is a password that no print shows.
type secret string

func (secret) String() string               { return "(secret)" }
func (secret) GoString() string             { return "(secret)" }
func (secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }
