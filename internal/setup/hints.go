package setup

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// Hints are command lines that can be typed as they stand. They never hold a
// secret: where one has to be given, it is read from the terminal.

// az is an az postgres flexible-server command about the server.
func (c *Clients) az(verb string, more ...string) string {
	group, name := resource(c.Config.Server.ID)
	flag := "--server-name"
	if verb == "show" || verb == "start" || verb == "restart" {
		flag = "--name"
	}
	return strings.Join(append([]string{"az postgres flexible-server", verb, "--resource-group", group, flag, name}, more...), " ")
}

// resource takes the group and the name out of an ARM id.
func resource(id string) (group, name string) {
	parts := strings.Split(id, "/")
	for i, p := range parts {
		if strings.EqualFold(p, "resourceGroups") && i+1 < len(parts) {
			group = parts[i+1]
		}
	}
	return group, parts[len(parts)-1]
}

// setSecret is how a person writes a password into the vault, outside of argv
// and the shell's history.
func (c *Clients) setSecret(name string) string {
	return `read -rs P && printf %s "$P" | az keyvault secret set --vault-name ` + vaultName(c.Config.Vault) + " --name " + name + " --file /dev/stdin --output none"
}

// vaultRole is how whoever may do so lets the one who is signed in use secrets.
func (c *Clients) vaultRole() string {
	return `az role assignment create --role "Key Vault Secrets Officer" --assignee "$(az ad signed-in-user show --query id -o tsv)" --scope "$(az keyvault show --name ` +
		vaultName(c.Config.Vault) + ` --query id -o tsv)"`
}

// workspacePage is the workspace in the browser.
func (c *Clients) workspacePage() string {
	return "open https://app.fabric.microsoft.com/groups/" + c.Config.Workspace
}

// serverPage is a page of the server in the Azure portal.
func (c *Clients) serverPage(page string) string {
	return "open https://portal.azure.com/#resource" + c.Config.Server.ID + "/" + page
}

// psql is a statement for the administrator.
func (c *Clients) psql(f *Facts, sql string) string {
	return c.psqlAs(f, sql, "-U", c.Config.Admin.User)
}

// dba is a statement for somebody with more rights than the administrator has, whoever
// that is.
func (c *Clients) dba(f *Facts, sql string) string { return c.psqlAs(f, sql) }

func (c *Clients) psqlAs(f *Facts, sql string, user ...string) string {
	words := []string{"psql"}
	if f.Host != "" {
		words = append(words, "-h", f.Host)
	}
	if p := c.Config.Server.Port; p != 5432 {
		words = append(words, "-p", strconv.Itoa(p))
	}
	return ShellLine(append(append(words, user...), "-d", c.Config.Server.Database, "-c", sql)...)
}

// ShellLine is a command line to type: words that a shell would read as something
// else are quoted.
func ShellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

func shellWord(w string) string {
	plain := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:=,@%+", r)
	}
	if w != "" && !strings.ContainsFunc(w, func(r rune) bool { return !plain(r) }) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// vaultName is the vault's name in its address.
func vaultName(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return "VAULT"
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}
