package setup

import "fmt"

// Field is one entry of a form in a portal.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ConnectionForm is what a person types into Fabric's form for a new connection,
// in its order. It names the secret, never the password.
func (c *Clients) ConnectionForm(f *Facts) []Field { return connectionStep{c}.Form(f.Host) }

// Form is the fields for a server of that name.
func (s connectionStep) Form(host string) []Field {
	c := s.Config
	out := []Field{{"connection", "Cloud"}}
	if c.Connection.Gateway != "" {
		out = []Field{{"connection", "Virtual network"}, {"gateway", c.Connection.Gateway}}
	}
	out = append(out,
		Field{"connection name", c.ConnectionName(host)},
		Field{"connection type", "Azure Database for PostgreSQL"},
		Field{"server", c.ConnectionServer(host)},
		Field{"database", c.Server.Database},
	)
	switch {
	case c.Role.SignIn == "entra":
		out = append(out, Field{"authentication", "Organizational account"}, Field{"sign in as", c.Role.Name})
	case c.Vault != "":
		out = append(out, Field{"authentication", "Basic"}, Field{"username", c.Role.Name},
			Field{"password", fmt.Sprintf("the secret %s of %s", c.Role.Secret, c.Vault)})
	default:
		out = append(out, Field{"authentication", "Basic"}, Field{"username", c.Role.Name}, Field{"password", "POSTGRES_MIRROR_CONNECTION_PASSWORD"})
	}
	return append(out, Field{"privacy level", "None"}, Field{"use encrypted connection", "yes"})
}

// ConnectionPage is where that form is.
const ConnectionPage = "https://app.fabric.microsoft.com/gateways"
