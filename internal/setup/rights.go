package setup

import (
	"slices"

	"github.com/pgmirror/pgmirror/internal/config"
)

// Rights are the least that a step needs: of whoever only plans, and of whoever
// runs apply or destroy.
type Rights struct {
	Step   string
	Modes  string // native, open, or both
	Look   string
	Change string // "–": the step changes nothing
}

const (
	serverReader      = "Reader on the server"
	serverContributor = "Contributor on the server"
	workspaceViewer   = "Viewer of the workspace"
	workspaceWriter   = "Contributor of the workspace"
	signIn            = "the administrator's sign-in"
	nothing           = "–"
)

// rights is what each step declares, by its name.
var rights = map[string]Rights{
	"server":            {Look: serverReader, Change: nothing},
	"leases":            {Look: serverReader + " and on the vault", Change: serverContributor + " and on the vault"},
	"workspace":         {Look: workspaceViewer, Change: nothing},
	"sign-in-modes":     {Look: serverReader, Change: serverContributor},
	"identity":          {Look: serverReader, Change: serverContributor},
	"admin-login":       {Look: "Key Vault Secrets User, for the administrator's secret", Change: "nothing; to open a door for a while, " + serverContributor + " or on the vault"},
	"role-secret":       {Look: "Key Vault Secrets User, for the role's secret", Change: "Key Vault Secrets Officer; to recover a deleted name as well"},
	"tables":            {Look: signIn, Change: nothing},
	"parameters":        {Look: serverReader + "; elsewhere " + signIn, Change: serverContributor},
	"restart":           {Look: serverReader, Change: serverContributor + " (flexibleServers/restart/action)"},
	"enable":            {Look: serverReader + ", and " + signIn, Change: serverContributor},
	"role":              {Look: signIn + "; to make an Entra role, " + serverReader, Change: "CREATEROLE with REPLICATION (azure_pg_admin); to make an Entra role, the sign-in of an Entra administrator of the server"},
	"grants":            {Look: signIn, Change: "ADMIN on azure_cdc_admin; rights of the owners of the database and the schemas"},
	"ownership":         {Look: signIn, Change: "to act for the tables' owners and for the role"},
	"seed-table":        {Look: "the role's sign-in", Change: "CREATE on the schema, which the role has by then"},
	"prerequisites":     {Look: "the role's sign-in", Change: nothing},
	"connection":        {Look: "User of the connection", Change: "nothing in the workspace; for a gateway ConnectionCreator on it; a service principal needs the tenant setting that lets it create connections"},
	"workspace-role":    {Look: "Member of the workspace. Without it the step is told and passed by: give the server's identity Read and Write on the mirrored database by hand, Share in its menu", Change: "Member of the workspace"},
	"mirrored-database": {Look: workspaceViewer, Change: workspaceWriter},
	"start":             {Look: workspaceViewer, Change: workspaceWriter},
	"proof":             {Look: workspaceViewer + ", and the role's sign-in", Change: nothing},
	"read-grants":       {Look: signIn, Change: "to act for the tables' owners"},
	"replica-identity":  {Look: signIn, Change: "to act for the tables' owners"},
	"publications":      {Look: signIn, Change: "CREATE on the database, and to act for the tables' owners"},
}

// undoRights is what each step of destroy declares, by its name.
var undoRights = map[string]Rights{
	"server":            {Look: serverReader, Change: nothing},
	"workspace":         {Look: workspaceViewer, Change: nothing},
	"admin-login":       rights["admin-login"],
	"mirrored-database": {Look: workspaceViewer, Change: workspaceWriter},
	"connection":        {Look: "User of the connection", Change: "Owner of the connection"},
	"ownership":         {Look: signIn, Change: "to act for the tables' former owners and for the role; where a former owner lacks CREATE on the schema, for the schema's owner"},
	"seed-table":        {Look: signIn, Change: "to act for the role"},
	"slot":              {Look: signIn, Change: "REPLICATION"},
	"publications":      {Look: signIn, Change: "to own the publications"},
	"role":              {Look: signIn, Change: "CREATEROLE, and to act for the role and for those who gave it rights"},
	"enable":            {Look: serverReader, Change: serverContributor},
	"role-secret":       {Look: "Key Vault Secrets User, for the role's secret", Change: "Key Vault Secrets Officer, for that secret"},
	"left":              {Look: nothing, Change: nothing},
}

// AllRights are the rights of every step of both modes, in order.
func AllRights() []Rights { return allRights(rights, Steps) }

// UndoRights are those of every step of destroy.
func UndoRights() []Rights {
	return allRights(undoRights, func(c *Clients) []Step { return UndoSteps(c, true) })
}

func allRights(declared map[string]Rights, stepsOf func(*Clients) []Step) []Rights {
	var out []Rights
	for _, mode := range []config.Mode{config.Native, config.Open} {
		for _, s := range stepsOf(&Clients{Config: &config.Config{Mode: mode, Workspace: "of any"}}) {
			i := slices.IndexFunc(out, func(r Rights) bool { return r.Step == s.Name() })
			if i >= 0 {
				out[i].Modes = "both"
				continue
			}
			r := declared[s.Name()]
			r.Step, r.Modes = s.Name(), string(mode)
			out = append(out, r)
		}
	}
	return out
}
