package setup

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres/admin"
)

// undoRoleStep takes the role's rights in this database, and drops the role with
// the last database that needs it. One that we didn't make keeps everything.
type undoRoleStep struct {
	*Clients
	last bool
}

func (undoRoleStep) Name() string { return "role" }

func (s undoRoleStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.RoleExists, f.roleStays = false, false
	if !f.Admin {
		return after("admin-login"), nil
	}
	name := s.Config.Role.Name
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return Finding{}, err
	}
	if _, f.RoleExists, err = session.Role(ctx, name); err != nil || !f.RoleExists {
		return gone("role " + name), err
	}
	if f.usedBy != "" {
		return kept("role "+name, f.usedBy+" signs in as it"), nil
	}
	if made, err := session.RoleMade(ctx, name); err != nil || !made {
		return kept("role "+name, "pgmirror didn't make it"), err
	}
	return s.judge(ctx, f, session)
}

func (s undoRoleStep) judge(ctx context.Context, f *Facts, session *admin.Session) (Finding, error) {
	name := s.Config.Role.Name
	used, err := session.RoleUsedIn(ctx, name)
	if err != nil {
		return Finding{}, err
	}
	has, err := session.HasRights(ctx, name)
	if err != nil {
		return Finding{}, err
	}
	if !has && len(used) > 0 {
		f.roleStays = true
		return kept("role "+name, "it is used in "+strings.Join(used, ", ")), nil
	}
	grantors, err := session.Grantors(ctx, name)
	if err != nil {
		return Finding{}, err
	}
	for _, role := range append(grantors, name) {
		if can, err := session.CanAct(ctx, role); err != nil || !can {
			return s.cannotAct(f, role, ""), err
		}
	}
	found := Finding{Action: Delete, Reason: "RoleThere", Have: name, Want: "dropped, with its rights in " + s.Config.Server.Database, Items: []string{name, "rights of " + name},
		After: f.waitsFor("mirrored-database", "connection", "ownership", "seed-table", "slot", "publications")}
	if others := s.others(used, s.last); len(others) > 0 {
		f.roleStays = true
		found.Items = found.Items[1:]
		found.Want = "its rights in " + s.Config.Server.Database + " taken; it stays for " + strings.Join(others, ", ")
	}
	if found.After != "" {
		return found, nil
	}
	owned, err := session.Owned(ctx, name)
	if err != nil || len(owned) == 0 {
		return found, err
	}
	if slices.ContainsFunc(owned, func(o string) bool { return !strings.HasPrefix(o, "publication ") }) {
		return blocked("RoleOwns", name+" owns "+strings.Join(owned, ", "), s.psql(f, "ALTER TABLE "+strings.TrimPrefix(owned[0], "table ")+" OWNER TO \""+s.Config.Admin.User+"\"")), nil
	}
	return Finding{Action: Wait, Reason: "PublicationLeft", Code: "RoleOwns", Have: "the server still has " + strings.Join(owned, ", "), Items: found.Items,
		Hint: s.psql(f, "SELECT * FROM azure_cdc.list_tracked_publications()")}, nil
}

func (s undoRoleStep) Apply(ctx context.Context, f *Facts) error {
	name := s.Config.Role.Name
	session, err := s.asAdmin(ctx, f)
	if err != nil {
		return err
	}
	todo, err := session.TakeRights(ctx, name)
	if err != nil {
		return err
	}
	used, err := session.RoleUsedIn(ctx, name)
	if err != nil {
		return err
	}
	if len(used) == 0 && !f.roleStays {
		todo = append(todo, admin.DropRole(name))
	}
	return session.Run(ctx, todo...)
}
