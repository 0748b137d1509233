package setup

import (
	"context"
	"errors"
	"strings"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

// connectionStep finds or makes the Fabric connection that native mirroring signs
// in with. One that is found is used as it is.
type connectionStep struct{ *Clients }

func (connectionStep) Name() string { return "connection" }

func (s connectionStep) Check(ctx context.Context, f *Facts) (Finding, error) {
	f.Connection = fabric.Connection{}
	if f.Host == "" {
		return after("server"), nil
	}
	if f.pending["workspace"] { // without a sign-in to Fabric nothing can be asked
		return after("workspace"), nil
	}
	if id := s.Config.Connection.ID; id != "" {
		found, err := s.given(ctx, f, id)
		if err != nil || found.Code != "ConnectionNotFound" || !s.remembered() {
			return found, err
		}
	}
	all, err := s.Fabric.Connections(ctx)
	if err != nil {
		return Finding{}, err
	}
	if c, ok := s.find(all, f.Host); ok {
		f.Connection = c
		return asWanted(c.Name + " (" + c.ID + ")"), nil
	}
	if s.Config.Connection.Manual {
		return blocked("ConnectionManual", s.portal(f.Host), "pgmirror connection show"), nil
	}
	if s.Config.Role.SignIn == "entra" {
		return blocked("ConnectionManual", s.portal(f.Host), "pgmirror connection show"), nil
	}
	if _, err := s.method(ctx, f.Host); err != nil {
		if errors.Is(err, errNoMethod) {
			return blocked("ConnectionUnsupported", s.portal(f.Host), "pgmirror connection show"), nil
		}
		return Finding{}, err
	}
	return Finding{Action: Create, Reason: "ConnectionMissing", Have: "none", Want: s.Config.ConnectionName(f.Host), After: f.waitsFor("role-secret", "role", "grants"), Notes: s.private(f)}, nil
}

// private foretells what Fabric can't reach.
func (s connectionStep) private(f *Facts) []Note {
	if i := f.Server; i.Name == "" || i.PublicAccess && !i.InVNet || s.Config.Connection.Gateway != "" {
		return nil
	}
	return []Note{{"ServerPrivate", "", "the server has no public access: Fabric reaches it by a virtual network data gateway only (connection.gateway)"}}
}

// remembered is an id that an earlier run left with azd: when that connection is
// gone, another one is looked for, and made. One that a person gave is insisted on.
func (s connectionStep) remembered() bool {
	return strings.HasPrefix(s.Config.Source("connection.id"), "azd ")
}

func (s connectionStep) given(ctx context.Context, f *Facts, id string) (Finding, error) {
	c, err := s.Fabric.Connection(ctx, id)
	if fabric.IsNotFound(err) || fabric.IsForbidden(err) {
		return blocked("ConnectionNotFound", id, "open https://app.fabric.microsoft.com/gateways"), nil
	}
	if err != nil {
		return Finding{}, err
	}
	f.Connection = c
	found := asWanted(c.Name + " (" + c.ID + "), given")
	if path := s.Config.ConnectionServer(f.Host) + ";" + s.Config.Server.Database; f.Host != "" && c.Path != "" && !strings.EqualFold(c.Path, path) {
		return blocked("ConnectionOther", "it leads to "+c.Path+", not to "+path, "pgmirror connection show"), nil
	}
	return found, nil
}

// find takes a connection by its name first: that is how ours is called. Another
// one to the same server, database and gateway serves as well.
func (s connectionStep) find(all []fabric.Connection, host string) (fabric.Connection, bool) {
	path := s.Config.ConnectionServer(host) + ";" + s.Config.Server.Database
	for _, fits := range []func(fabric.Connection) bool{
		func(c fabric.Connection) bool { return c.Name == s.Config.ConnectionName(host) },
		func(c fabric.Connection) bool { return true },
	} {
		for _, c := range all {
			if strings.Contains(strings.ToLower(c.Type), "postgresql") && strings.EqualFold(c.Path, path) &&
				strings.EqualFold(c.GatewayID, s.Config.Connection.Gateway) && fits(c) {
				return c, true
			}
		}
	}
	return fabric.Connection{}, false
}

// portal is what to enter where, when a person makes the connection.
func (s connectionStep) portal(host string) string {
	form := s.Form(host)
	parts := make([]string, len(form))
	for i, field := range form {
		parts[i] = field.Name + " " + field.Value
	}
	return "to be made in the Fabric portal: " + strings.Join(parts, ", ")
}

func (s connectionStep) Apply(ctx context.Context, f *Facts) error {
	m, err := s.method(ctx, f.Host)
	if err != nil {
		return err
	}
	m.Name, m.GatewayID = s.Config.ConnectionName(f.Host), s.Config.Connection.Gateway
	m.Username, m.Privacy = s.Config.Role.Name, "None"
	if id := s.Config.Connection.Vault; id != "" {
		m.KeyVault = &fabric.SecretReference{ConnectionID: id, Secret: s.Config.Role.Secret}
	} else {
		m.Password = string(f.rolePassword)
	}
	_, err = s.Fabric.CreateConnection(ctx, m)
	if fabric.IsConflict(err) && s.made(ctx, f.Host) { // by our own request, whose answer was lost
		return nil
	}
	return err
}

// made looks for the connection; what can't be looked at isn't there.
func (s connectionStep) made(ctx context.Context, host string) bool {
	all, err := s.Fabric.Connections(ctx)
	_, ok := s.find(all, host)
	return err == nil && ok
}

var errNoMethod = errors.New("fabric offers no PostgreSQL connection with a password here")

// method asks what Fabric supports, and fills in the address: AzurePostgreSQL
// first, then PostgreSQL.
func (s connectionStep) method(ctx context.Context, host string) (fabric.NewConnection, error) {
	types, err := s.Fabric.ConnectionTypes(ctx, s.Config.Connection.Gateway)
	if err != nil {
		return fabric.NewConnection{}, err
	}
	for _, want := range []string{"AzurePostgreSQL", "PostgreSQL"} {
		for _, t := range types {
			if t.Type != want || !contains(t.Credentials, "Basic") {
				continue
			}
			for _, m := range t.Methods {
				if values, ok := s.values(m, host); ok {
					return fabric.NewConnection{Type: t.Type, Method: m.Name, Parameters: values, Encryption: encryption(t.Encryptions)}, nil
				}
			}
		}
	}
	return fabric.NewConnection{}, errNoMethod
}

// values fills a creation method's parameters; ok is false when it requires one
// that we don't know.
func (s connectionStep) values(m fabric.CreationMethod, host string) ([]fabric.Value, bool) {
	var out []fabric.Value
	for _, p := range m.Parameters {
		switch strings.ToLower(p.Name) {
		case "server", "host":
			out = append(out, fabric.Value{Name: p.Name, DataType: p.DataType, Value: s.Config.ConnectionServer(host)})
		case "database", "databasename":
			out = append(out, fabric.Value{Name: p.Name, DataType: p.DataType, Value: s.Config.Server.Database})
		default:
			if p.Required {
				return nil, false
			}
		}
	}
	return out, len(out) > 0
}

// encryption is the strongest that is offered.
func encryption(offered []string) string {
	for _, e := range []string{"Encrypted", "Any", "NotEncrypted"} {
		if contains(offered, e) {
			return e
		}
	}
	return ""
}
