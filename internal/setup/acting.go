package setup

import (
	"context"
	"fmt"

	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// powerless tells of the first table whose owner the administrator can't act for;
// ok is false when there is one. Changing or granting anything of a table takes
// its owner's rights.
func (c *Clients) powerless(ctx context.Context, facts *Facts, session *admin.Session, tables []postgres.Table) (f Finding, ok bool, err error) {
	able := map[string]bool{}
	for i := range tables {
		t := &tables[i]
		if able[t.Owner] {
			continue
		}
		can, err := session.CanAct(ctx, t.Owner)
		if err != nil {
			return Finding{}, false, err
		}
		if !can {
			return blocked("AdminRights", c.Config.Admin.User+" can't act for "+t.Owner+", who owns "+t.String(),
				c.psql(facts, fmt.Sprintf("GRANT %q TO %q", t.Owner, c.Config.Admin.User))), false, nil
		}
		able[t.Owner] = true
	}
	return Finding{}, true, nil
}
