package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Options says where Load looks. Later sources win: defaults, azd, the file, the
// environment, flags.
type Options struct {
	File    string                                           // "" for pgmirror.yaml when there is one
	Environ []string                                         // KEY=value, as os.Environ gives it
	Azd     func(context.Context) (map[string]string, error) // the azd environment; nil: none
	Flags   map[string]string                                // by path: "server.host"
}

// DefaultFile is read when no file is named, if it is there.
const DefaultFile = "pgmirror.yaml"

// Value is a value, and where it came from.
type Value struct {
	Path   string `json:"path"`
	Value  string `json:"value"` // masked when it is a secret
	Source string `json:"source"`
}

// Load reads all sources. It fails on what can't be read; whether the whole
// makes sense is Validate's business.
func Load(ctx context.Context, o Options) (*Config, error) {
	c := Default()
	env := environ(o.Environ)
	for _, apply := range []func() error{
		func() error { return c.applyAzd(ctx, o.Azd, env) },
		func() error { return c.applyFile(o.File) },
		func() error { return c.applyURL(env["POSTGRES_URL"]) },
		func() error { return c.applyEnv(env) },
		func() error { return c.applyFlags(o.Flags) },
	} {
		if err := apply(); err != nil {
			return nil, err
		}
	}
	c.settle()
	if c.Vault != "" && c.Source("admin.password") == "POSTGRES_URL" { // the vault is the truth
		c.Admin.Password = ""
		c.values = slices.DeleteFunc(c.values, func(v Value) bool { return v.Path == "admin.password" })
	}
	return c, nil
}

// settle puts in what follows from other values.
func (c *Config) settle() {
	if len(c.Databases) == 0 {
		c.Databases = []string{c.Server.Database}
	} else if from := c.Source("server.database"); from == "default" || from == "POSTGRES_URL" {
		c.Server.Database = c.Databases[0]
		c.note("server.database", c.Source("databases"))
	}
	if strings.HasPrefix(c.Source("vault"), "azd keyVaultResourceId") { // the id doesn't say in which cloud
		name, _, _ := strings.Cut(strings.TrimPrefix(c.Vault, "https://"), ".")
		c.Vault = VaultURL(name, c.Cloud)
		c.note("vault", c.Source("vault"))
	}
}

// Default is a Config with nothing but defaults: the names that today's users
// have.
func Default() *Config {
	c := &Config{
		Mode:   Native,
		Server: Server{Port: 5432, Database: "postgres", SSLMode: "verify-full"},
		Admin:  Login{User: "pgadmin", Secret: "postgres-admin-password"},
		Role:   Role{Name: "fabric_user", Secret: "postgres-fabric-user-password", Profile: "full", SignIn: "scram", Entra: Entra{Type: "user"}},
		Cloud:  Public,
		Mirror: Mirror{RetentionDays: 7, DefaultSchema: "public"},
		Seed:   Seed{Create: true, Table: "fabric_mirror_seed"},
		Run:    Run{Freshness: 5 * time.Second, Workers: 4, Budget: 256 << 20},
	}
	for _, path := range []string{"mode", "server.port", "server.database", "server.sslMode", "admin.user", "admin.secret",
		"role.name", "role.secret", "role.profile", "role.signIn", "cloud", "mirror.retentionDays", "mirror.defaultSchema",
		"seed.create", "seed.table", "run.freshness", "run.workers", "run.budget"} {
		c.note(path, "default")
	}
	return c
}

// Explain lists every value that is set, with its source, secrets masked.
func (c *Config) Explain() []Value { return slices.Clone(c.values) }

// Source says where the value at path came from; "" when it was never set.
func (c *Config) Source(path string) string {
	for _, v := range c.values {
		if v.Path == path {
			return v.Source
		}
	}
	return ""
}

// applyAzd takes the azd environment. Where azd itself isn't at hand, its hook or
// a pipeline may have left the same names in the environment; the word in the
// file still wins over them.
func (c *Config) applyAzd(ctx context.Context, azd func(context.Context) (map[string]string, error), env map[string]string) error {
	var values map[string]string
	var err error
	if azd != nil {
		if values, err = azd(ctx); err != nil {
			return fmt.Errorf("read the azd environment: %w", err)
		}
	}
	c.azd = values
	if values == nil {
		values = env
	}
	for _, f := range fields {
		keys := f.azd
		if c.azd != nil { // people put the scripts' variables there, too
			keys = slices.Concat(f.azd, f.env)
		}
		for _, key := range keys {
			text := values[key]
			if text == "" {
				continue
			}
			if f.from != nil {
				if text, err = f.from(text); err != nil {
					return fmt.Errorf("azd %s: %w", key, err)
				}
			}
			if f.secret && c.azd == nil {
				continue // it has the same name in the environment, and is read there
			}
			if err := c.set(f.path, text, "azd "+key); err != nil {
				return err
			}
			break
		}
	}
	if err := c.applyServerName(values); err != nil {
		return err
	}
	return c.applyWords(values, "azd ")
}

// applyServerName makes the server's id of its name, for deployments that put out
// no id.
func (c *Config) applyServerName(values map[string]string) error {
	name, group, subscription := values["postgreSqlServerNameOut"], values["AZURE_RESOURCE_GROUP"], values["AZURE_SUBSCRIPTION_ID"]
	if c.Server.ID != "" || name == "" || group == "" || subscription == "" {
		return nil
	}
	return c.set("server.id", "/subscriptions/"+subscription+"/resourceGroups/"+group+"/providers/Microsoft.DBforPostgreSQL/flexibleServers/"+name, "azd postgreSqlServerNameOut")
}

func (c *Config) applyFile(path string) error {
	named := path != ""
	if !named {
		path = DefaultFile
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	read, set, err := parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range set {
		from, ok := at(read, s.path)
		to, _ := at(c, s.path)
		if s.path == "connection" { // connection: manual
			c.Connection.Manual = read.Connection.Manual
			c.note("connection.manual", fmt.Sprintf("%s:%d", path, s.line))
			continue
		}
		if ok && from.Kind() != reflect.Struct {
			to.Set(from)
			c.note(s.path, fmt.Sprintf("%s:%d", path, s.line))
		}
	}
	return nil
}

// applyURL takes what POSTGRES_URL says; a variable of its own name wins over
// it. The password in it counts only where no vault holds one.
func (c *Config) applyURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("POSTGRES_URL: want postgres://USER@HOST:PORT/DATABASE") // never the text: it may hold a password
	}
	password, _ := u.User.Password()
	for _, v := range []struct{ path, text string }{
		{"server.host", u.Hostname()},
		{"server.port", u.Port()},
		{"server.database", strings.TrimPrefix(u.Path, "/")},
		{"server.sslMode", u.Query().Get("sslmode")},
		{"admin.user", u.User.Username()},
		{"admin.password", password},
	} {
		if v.text == "" || v.path == "server.database" && c.Source(v.path) != "default" { // a URL always names one: it says where, not which
			continue
		}
		if err := c.set(v.path, v.text, "POSTGRES_URL"); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) applyEnv(env map[string]string) error {
	for _, f := range fields {
		for _, key := range f.env {
			if env[key] == "" {
				continue
			}
			if err := c.set(f.path, env[key], key); err != nil {
				return err
			}
			break
		}
	}
	return c.applyWords(env, "")
}

// applyWords reads the scripts' variables that aren't a setting's value.
func (c *Config) applyWords(values map[string]string, from string) error {
	for _, key := range []string{"POSTGRES_MIRROR_CONNECTION_MODE", "postgreSqlMirrorConnectionModeOut"} {
		if mode := values[key]; mode != "" && mode != "fabricUser" {
			return fmt.Errorf("%s%s: %q isn't taken over: the mirror signs in as a role of its own (fabricUser)", from, key, mode)
		}
	}
	if name := values["POSTGRES_FABRIC_ENTRA_ROLE_NAME"]; name != "" {
		for path, value := range map[string]string{"role.name": name, "role.signIn": "entra"} {
			if err := c.set(path, value, from+"POSTGRES_FABRIC_ENTRA_ROLE_NAME"); err != nil {
				return err
			}
		}
	}
	for key, say := range map[string]func(yes bool){
		"POSTGRES_ENABLE_FABRIC_MIRRORING": func(yes bool) { c.off = !yes },
		"POSTGRES_TEMP_ENABLE_KV_PUBLIC_ACCESS": func(yes bool) {
			if yes && !c.Allows(OpenVault) {
				c.Allow = append(c.Allow, OpenVault)
				c.note("allow", from+"POSTGRES_TEMP_ENABLE_KV_PUBLIC_ACCESS")
			}
		},
	} {
		if values[key] == "" {
			continue
		}
		yes, err := truth(values[key])
		if err != nil {
			return fmt.Errorf("%s%s: %w", from, key, err)
		}
		say(yes)
	}
	return nil
}

func (c *Config) applyFlags(flags map[string]string) error {
	for _, path := range slices.Sorted(maps.Keys(flags)) {
		if f := fieldOf(path); f.secret {
			return fmt.Errorf("%s isn't taken from the command line, which others on this machine can read: set %s", path, f.env[0])
		}
		if err := c.set(path, flags[path], "flag"); err != nil {
			return err
		}
	}
	return nil
}

// set sets one value from text and remembers its source.
func (c *Config) set(path, text, source string) error {
	v, ok := at(c, path)
	if !ok || v.Kind() == reflect.Struct {
		return fmt.Errorf("%s: there is no setting %q", source, path)
	}
	if err := setText(v, text); err != nil {
		return fmt.Errorf("%s: %s: %w", source, path, err)
	}
	c.note(path, source)
	return nil
}

// note remembers the source of the value at path.
func (c *Config) note(path, source string) {
	v, _ := at(c, path)
	shown := fmt.Sprint(v.Interface())
	if list, ok := v.Interface().([]string); ok {
		shown = strings.Join(list, ",")
	}
	if fieldOf(path).secret {
		shown = "(secret)"
	}
	value := Value{Path: path, Value: shown, Source: source}
	i := slices.IndexFunc(c.values, func(v Value) bool { return v.Path == path })
	if i < 0 {
		c.values = append(c.values, value)
		return
	}
	c.values[i] = value
}

func environ(list []string) map[string]string {
	out := make(map[string]string, len(list))
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok {
			out[k] = v
		}
	}
	return out
}
