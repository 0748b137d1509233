package setup

import (
	"context"
	"errors"
	"slices"
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
		return s.open(ctx, f, asWanted(c.Name+" ("+c.ID+")"))
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
	found := Finding{Action: Create, Reason: "ConnectionMissing", Have: "none", Want: s.Config.ConnectionName(f.Host), After: f.waitsFor("role-secret", "role", "grants"), Notes: s.private(f)}
	if door, closed, err := s.fabricDoor(ctx, f); err != nil || closed {
		found.Code, found.Consent, found.Allowed, found.Hint = door.Code, door.Consent, door.Allowed, door.Hint
		found.Have, found.Want = "none, and "+door.Have, found.Want+"; the server "+door.Want
		return found, err
	}
	return found, nil
}

// private foretells what Fabric can't reach.
func (s connectionStep) private(f *Facts) []Note {
	if i := f.Server; i.Name == "" || i.PublicAccess && !i.InVNet || s.Config.Connection.Gateway != "" {
		return nil
	}
	return []Note{{"ServerPrivate", "", "the server has no public access: Fabric reaches it by a virtual network data gateway only (connection.gateway)"}}
}

// open looks, until the mirror has begun to move rows, whether Fabric can reach
// the server by the connection: a run that died may have left the mirror before
// that, with the doors closed again.
func (s connectionStep) open(ctx context.Context, f *Facts, found Finding) (Finding, error) {
	door, closed, err := s.fabricDoor(ctx, f)
	if err != nil || !closed {
		return found, err
	}
	if moves, err := s.moves(ctx); err != nil || moves {
		return found, err
	}
	if err := s.Fabric.TestConnection(ctx, f.Connection.ID); !fabric.IsSourceUnreachable(err) {
		return found, nil // it gets there by another way, or is refused for a reason that the proof will tell
	}
	return door, nil
}

// moves reports whether the mirror has a table whose rows have come: from then on
// the server pushes, and Fabric needn't reach it.
func (s connectionStep) moves(ctx context.Context) (bool, error) {
	m, exists, err := s.findMirror(ctx)
	if err != nil || !exists {
		return false, err
	}
	tables, err := s.Fabric.TablesStatus(ctx, s.Config.Workspace, m.ID)
	return slices.ContainsFunc(tables, func(t fabric.TableStatus) bool { return t.Status == "Replicating" }), err
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
	path := s.connectionPath(f.Host)
	if f.Host != "" && c.Path != "" && !strings.EqualFold(c.Path, path) {
		return blocked("ConnectionOther", "it leads to "+c.Path+", not to "+path, "pgmirror connection show"), nil
	}
	return s.open(ctx, f, found)
}

// find takes a connection by its name first: that is how ours is called. Another
// one to the same server, database and gateway serves as well.
func (s connectionStep) find(all []fabric.Connection, host string) (fabric.Connection, bool) {
	path := s.connectionPath(host)
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

// connectionPath is where our connection leads, as Fabric writes it.
func (c *Clients) connectionPath(host string) string {
	return c.Config.ConnectionServer(host) + ";" + c.Config.Server.Database
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

// Apply makes the connection, or opens the server to the one that there is.
func (s connectionStep) Apply(ctx context.Context, f *Facts) error {
	if id := f.Connection.ID; id != "" {
		return s.reached(ctx, f, func(ctx context.Context) error { return s.Fabric.TestConnection(ctx, id) })
	}
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
	return s.reached(ctx, f, func(ctx context.Context) error {
		_, err := s.Fabric.CreateConnection(ctx, m)
		if fabric.IsConflict(err) && s.made(ctx, f.Host) { // by our own request, whose answer was lost
			return nil
		}
		return err
	})
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
