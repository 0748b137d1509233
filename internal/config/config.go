// Package config holds what a user wants: one YAML file, the environment, the
// azd environment, flags and defaults, and every reason to refuse them.
package config

import (
	"net"
	"net/url"
	"strings"
	"time"
)

// Mode says who moves the data.
type Mode string

const (
	Native Mode = "native" // Fabric pulls from an Azure flexible server
	Open   Mode = "open"   // pgmirror run pushes into an open mirroring landing zone
)

// Config is one mirror. Load fills it; Validate says what is wrong with it.
type Config struct {
	Name       string     `yaml:"name"`      // names the mirror: pg-mirror-<name>
	Mode       Mode       `yaml:"mode"`      //
	Server     Server     `yaml:"server"`    //
	Admin      Login      `yaml:"admin"`     // who changes the server
	Role       Role       `yaml:"role"`      // who reads for the mirror
	Vault      string     `yaml:"vault"`     // https://NAME.vault.azure.net; "": secrets come from the environment
	VaultID    string     `yaml:"vaultId"`   // the vault's ARM resource id; "": looked for by its address
	Address    string     `yaml:"address"`   // this machine's IPv4 address as Azure sees it, for refusals that name none
	Workspace  string     `yaml:"workspace"` // a Fabric workspace's GUID, or its name
	Mirror     Mirror     `yaml:"mirror"`
	Connection Connection `yaml:"connection"`
	Seed       Seed       `yaml:"seed"`
	Databases  []string   `yaml:"databases"` // several of one server, each with a mirror of its own; the first has the plain name
	Allow      []string   `yaml:"allow"`     // consents: see Consents
	Cloud      string     `yaml:"cloud"`     // public, usgov or china
	Endpoints  Endpoints  `yaml:"endpoints"`
	Run        Run        `yaml:"run"`

	Tokens Tokens `yaml:"-"` // from the environment only

	off    bool              // the scripts' switch says that nothing is to be mirrored
	values []Value           // where each value came from
	azd    map[string]string // the azd environment as it was read; nil: there is none
}

// Server is the PostgreSQL server and the database in it.
type Server struct {
	ID       string `yaml:"id"`       // ARM resource id of a flexible server; "" when it is none
	Host     string `yaml:"host"`     // "" with an id: asked from ARM
	Port     int    `yaml:"port"`     //
	Database string `yaml:"database"` //
	SSLMode  string `yaml:"sslMode"`  // verify-full; disable on loopback only
}

// Login is the administrator.
type Login struct {
	User   string `yaml:"user"`
	Secret string `yaml:"secret"` // the secret's name in the vault

	Password string `yaml:"-"` // from the environment, when the vault has none
}

// Role is the role that the mirror signs in as.
type Role struct {
	Name    string `yaml:"name"`
	Secret  string `yaml:"secret"`
	Profile string `yaml:"profile"` // full, as today's users have it, or minimal
	SignIn  string `yaml:"signIn"`  // scram, md5 for a client that can't do better, or entra
	Entra   Entra  `yaml:"entra"`   // whom the role stands for, with signIn: entra

	Password string `yaml:"-"` // from the environment, when there is no vault
}

// Entra is the principal of a role that signs in by Entra.
type Entra struct {
	ObjectID string `yaml:"objectId"` // "": found by the role's name
	Type     string `yaml:"type"`     // user, group or service
	MFA      bool   `yaml:"mfa"`      // its sign-ins need a second factor
}

// Mirror is the mirrored database in Fabric.
type Mirror struct {
	Name          string   `yaml:"name"`          // "": pg-mirror-<name>
	RetentionDays int      `yaml:"retentionDays"` // 1..30
	DefaultSchema string   `yaml:"defaultSchema"` //
	Schemas       []string `yaml:"schemas"`       // empty: all
	Tables        []string `yaml:"tables"`        // schema.table, with * and ?; empty: all that can be mirrored
}

// Connection is the Fabric connection that native mirroring signs in with.
type Connection struct {
	ID      string `yaml:"id"`      // made by somebody else
	Manual  bool   `yaml:"manual"`  // a person makes it in the portal
	Gateway string `yaml:"gateway"` // a VNet gateway's GUID
	Name    string `yaml:"name"`    // "": HOST;DATABASE ROLE
	Vault   string `yaml:"vault"`   // GUID of Fabric's own connection to the vault: then no password is copied
}

// Seed is the small table that makes sure that Fabric finds something to mirror.
type Seed struct {
	Create bool   `yaml:"create"`
	Table  string `yaml:"table"` // in the default schema
}

// Endpoints replace the public cloud's hosts.
type Endpoints struct {
	Fabric      string `yaml:"fabric"`
	ARM         string `yaml:"arm"`
	OneLakeDFS  string `yaml:"onelakeDfs"`
	OneLakeBlob string `yaml:"onelakeBlob"`
	CAFile      string `yaml:"caFile"` // PEM, added to the system's roots
}

// Run is how open mode moves the data.
type Run struct {
	Slot                  string        `yaml:"slot"`                  // "": pgmirror_<name>
	Publication           string        `yaml:"publication"`           // "": pgmirror_<name>
	InsertOnlyPublication string        `yaml:"insertOnlyPublication"` // "": pgmirror_<name>_insert_only
	Freshness             time.Duration `yaml:"freshness"`             // how old a change may get before it is landed
	Workers               int           `yaml:"workers"`               // snapshot readers
	Budget                Bytes         `yaml:"budget"`                // bytes in flight
	Heal                  time.Duration `yaml:"heal"`                  // a table without a key that has missed changes is copied anew this long after its last copy; 0: never
	Types                 []string      `yaml:"types"`                 // what numeric columns become: see ColumnType
	TimestampNTZ          bool          `yaml:"timestampNtz"`          // a timestamp without time zone becomes a timestamp_ntz
}

// Tokens are bearer tokens for an emulator on this machine.
type Tokens struct {
	Fabric  string
	ARM     string
	Vault   string
	Storage string

	Postgres string // for a sign-in to PostgreSQL by Entra
}

// WorkspaceNamed reports whether the workspace is given by its name.
func (c *Config) WorkspaceNamed() bool { return c.Workspace != "" && !guid.MatchString(c.Workspace) }

// MirrorName is the mirrored database's name.
func (c *Config) MirrorName() string {
	if c.Mirror.Name != "" {
		return c.Mirror.Name
	}
	return "pg-mirror-" + c.Name
}

// ConnectionName is the name that a new Fabric connection to host gets.
func (c *Config) ConnectionName(host string) string {
	if c.Connection.Name != "" {
		return c.Connection.Name
	}
	return c.ConnectionServer(host) + ";" + c.Server.Database + " " + c.Role.Name
}

// ConnectionServer is the connection's server parameter: the port is written
// only when it isn't PostgreSQL's own.
func (c *Config) ConnectionServer(host string) string {
	if c.Server.Port == 0 || c.Server.Port == 5432 {
		return host
	}
	return net.JoinHostPort(host, itoa(c.Server.Port))
}

// Slot is the replication slot of open mode.
func (c *Config) Slot() string { return orIdent(c.Run.Slot, "pgmirror_"+c.Name) }

// Publication is the publication of the tables that have a key.
func (c *Config) Publication() string { return orIdent(c.Run.Publication, "pgmirror_"+c.Name) }

// InsertOnlyPublication is the publication of the tables that have none.
func (c *Config) InsertOnlyPublication() string {
	return orIdent(c.Run.InsertOnlyPublication, "pgmirror_"+c.Name+"_insert_only")
}

// orIdent is given, or fallback as a plain lower-case identifier: slots allow
// nothing else.
func orIdent(given, fallback string) string {
	if given != "" {
		return given
	}
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, strings.ToLower(fallback))
	return id[:min(len(id), 63)]
}

// Allows reports whether the user consented to name.
func (c *Config) Allows(name string) bool {
	for _, a := range c.Allow {
		if a == name {
			return true
		}
	}
	return false
}

// Loopback reports whether host, with or without a port, or a URL's host, is
// this machine: there, and only there, tokens and private services are accepted.
func Loopback(host string) bool {
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
