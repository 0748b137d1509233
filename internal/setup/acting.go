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
			return c.cannotAct(facts, t.Owner, ", who owns "+t.String()), false, nil
		}
		able[t.Owner] = true
	}
	return Finding{}, true, nil
}

// cannotAct tells of a role whose rights the administrator lacks, and can't give itself.
func (c *Clients) cannotAct(f *Facts, role, more string) Finding {
	return blocked("AdminRights", c.Config.Admin.User+" can't act for "+role+more, c.dba(f, fmt.Sprintf("GRANT %q TO %q", role, c.Config.Admin.User)))
}
