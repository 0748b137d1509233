package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Consents: what a plan may need beyond a yes, because it hurts.
const (
	Restart         = "restart"          // the server restarts
	OpenVault       = "open-vault"       // the vault is opened for a while
	OpenServer      = "open-server"      // the server is opened for a while
	ChangeOwner     = "change-owner"     // listed tables move to the mirror's role
	ReplicaIdentity = "replica-identity" // a table's replica identity changes
	ResetPassword   = "reset-password"   // the role gets a new password
	Reseed          = "reseed"           // everything is copied again
	DropMirror      = "drop-mirror"      // destroy deletes the mirrored database, and its copy in OneLake
	DropSlot        = "drop-slot"        // destroy drops the slot and the publications of open mode
)

// Consents are all names that allow accepts.
var Consents = []string{Restart, OpenVault, OpenServer, ChangeOwner, ReplicaIdentity, ResetPassword, Reseed, DropMirror, DropSlot}

// Problem is one reason to refuse a configuration.
type Problem struct {
	Field  string // "server.host"
	Source string // where the value came from; "" when it is missing
	Reason string

	Missing bool // nothing is wrong: an input isn't there yet
}

// OnlyMissing reports whether nothing is wrong but that inputs aren't there yet,
// as before a deployment's later stages.
func (p Problems) OnlyMissing() bool {
	return !slices.ContainsFunc(p, func(x Problem) bool { return !x.Missing })
}

// Problems is an error that holds every reason at once.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, x := range p {
		lines[i] = x.Field + ": " + x.Reason
		if x.Source != "" {
			lines[i] += " (from " + x.Source + ")"
		}
	}
	return "the configuration can't be used:\n  " + strings.Join(lines, "\n  ")
}

var (
	guid       = regexp.MustCompile(`(?i)^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)
	serverID   = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.DBforPostgreSQL/flexibleServers/[^/]+$`)
	secretName = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	slotName   = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
)

// Validate returns nil, or Problems with every reason to refuse.
func (c *Config) Validate() error {
	var p Problems
	refuse := func(field, format string, args ...any) {
		p = append(p, Problem{Field: field, Source: c.Source(field), Reason: fmt.Sprintf(format, args...), Missing: strings.HasPrefix(format, missing)})
	}
	c.checkMirror(refuse)
	c.checkServer(refuse)
	c.checkNames(refuse)
	c.checkEndpoints(refuse)
	c.checkRun(refuse)
	if len(p) == 0 {
		return nil
	}
	return p
}

// missing begins the reason of an input that isn't there.
const missing = "missing"

type refuse = func(field, format string, args ...any)

func (c *Config) checkMirror(refuse refuse) {
	if c.off {
		refuse("mirror", missing+": POSTGRES_ENABLE_FABRIC_MIRRORING says that nothing is to be mirrored")
	}
	if c.Mode != Native && c.Mode != Open {
		refuse("mode", "%q is neither native nor open", c.Mode)
	}
	if c.Name == "" && c.Mirror.Name == "" {
		refuse("name", missing+": give the mirror a name")
	}
	if d := c.Mirror.RetentionDays; d < 1 || d > 30 {
		refuse("mirror.retentionDays", "%d is not in 1..30", d)
	}
	if len(c.MirrorName()) > 256 {
		refuse("mirror.name", "longer than 256 characters")
	}
	for _, t := range c.Mirror.Tables {
		if !strings.Contains(t, ".") {
			refuse("mirror.tables", "%q: want schema.table", t)
		}
	}
	for _, a := range c.Allow {
		if !slices.Contains(Consents, a) {
			refuse("allow", "%q is none of %s", a, strings.Join(Consents, ", "))
		}
	}
}

func (c *Config) checkServer(refuse refuse) {
	switch {
	case c.Server.ID == "" && c.Mode == Native:
		refuse("server.id", missing+": native mirroring needs the flexible server's resource id")
	case c.Server.ID == "" && c.Server.Host == "":
		refuse("server.host", missing)
	case c.Server.ID != "" && !serverID.MatchString(c.Server.ID):
		refuse("server.id", "%q is no resource id of a flexible server", c.Server.ID)
	}
	if c.Server.Port < 1 || c.Server.Port > 65535 {
		refuse("server.port", "%d is no port", c.Server.Port)
	}
	if c.Server.Database == "" {
		refuse("server.database", missing)
	}
	for i, d := range c.Databases {
		if d == "" || slices.Contains(c.Databases[:i], d) {
			refuse("databases", "%q: want different names", d)
		}
	}
	switch c.Server.SSLMode {
	case "verify-full":
	case "disable":
		if c.Server.Host != "" && !Loopback(c.Server.Host) && !strings.HasPrefix(c.Server.Host, "/") {
			refuse("server.sslMode", "disable is for servers on this machine only")
		}
	default:
		refuse("server.sslMode", "%q is neither verify-full nor disable", c.Server.SSLMode)
	}
}

func (c *Config) checkNames(refuse refuse) {
	for _, s := range []struct{ field, name string }{{"admin.secret", c.Admin.Secret}, {"role.secret", c.Role.Secret}} {
		if c.Vault != "" && !secretName.MatchString(s.name) {
			refuse(s.field, "%q is no name of a Key Vault secret", s.name)
		}
	}
	for _, s := range []struct{ field, name string }{{"admin.user", c.Admin.User}, {"role.name", c.Role.Name}} {
		if s.name == "" || len(s.name) > 63 {
			refuse(s.field, "want a role's name of 1 to 63 bytes")
		}
	}
	c.checkSignIn(refuse)
	if c.Role.Profile != "full" && c.Role.Profile != "minimal" {
		refuse("role.profile", "%q is neither full nor minimal", c.Role.Profile)
	}
	if c.Role.Name == c.Admin.User {
		refuse("role.name", "is the administrator: the mirror needs a role of its own")
	}
	if c.Seed.Create && c.Seed.Table == "" {
		refuse("seed.table", missing)
	}
	for _, s := range []struct{ field, id string }{{"connection.id", c.Connection.ID}, {"connection.gateway", c.Connection.Gateway}, {"connection.vault", c.Connection.Vault}, {"role.entra.objectId", c.Role.Entra.ObjectID}} {
		if s.id != "" && !guid.MatchString(s.id) {
			refuse(s.field, "%q is no GUID", s.id)
		}
	}
}

func (c *Config) checkSignIn(refuse refuse) {
	if !slices.Contains([]string{"scram", "md5", "entra"}, c.Role.SignIn) {
		refuse("role.signIn", "%q is none of scram, md5, entra", c.Role.SignIn)
	}
	if c.Role.SignIn == "entra" && c.Mode == Open {
		refuse("role.signIn", "entra is for native mirroring of a flexible server: pgmirror run signs in with a password")
	}
	if !slices.Contains([]string{"user", "group", "service"}, c.Role.Entra.Type) {
		refuse("role.entra.type", "%q is none of user, group, service", c.Role.Entra.Type)
	}
	if c.Connection.Vault != "" && c.Connection.Gateway != "" {
		refuse("connection.vault", "a connection by a VNet gateway takes no Key Vault reference")
	}
	for _, p := range []struct{ field, text string }{{"server.host", c.Server.Host}, {"server.id", c.Server.ID}, {"admin.user", c.Admin.User}, {"role.name", c.Role.Name}, {"workspace", c.Workspace}} {
		if _, isReference := ParseReference(p.text, c.Cloud); isReference {
			refuse(p.field, "a Key Vault reference is taken for passwords only")
		}
	}
}

func (c *Config) checkEndpoints(refuse refuse) {
	if _, ok := vaultSuffix[c.Cloud]; !ok {
		refuse("cloud", "%q is none of public, usgov, china", c.Cloud)
	}
	if c.Cloud != Public && c.Endpoints.Fabric == "" {
		refuse("endpoints.fabric", "no address of Fabric in this cloud is known: give it")
	}
	for _, e := range []struct{ field, url, token, tokenField string }{
		{"endpoints.fabric", c.Endpoints.Fabric, c.Tokens.Fabric, "tokens.fabric"},
		{"endpoints.arm", c.Endpoints.ARM, c.Tokens.ARM, "tokens.arm"},
		{"vault", c.Vault, c.Tokens.Vault, "tokens.vault"},
		{"endpoints.onelakeDfs", c.Endpoints.OneLakeDFS, c.Tokens.Storage, "tokens.storage"},
		{"endpoints.onelakeBlob", c.Endpoints.OneLakeBlob, "", ""},
	} {
		if u, err := url.Parse(e.url); e.url != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
			refuse(e.field, "want an https address")
		}
		if e.field == "vault" && e.url == "" {
			continue // its token may be for a vault that a reference names; whom it is sent to is looked at there
		}
		if e.token != "" && !Loopback(e.url) {
			refuse(e.tokenField, "tokens are accepted for services on this machine only; for the cloud sign in with az login or azd auth login")
		}
	}
	// Where the host is ARM's to say, it is looked at before the token is sent.
	if c.Tokens.Postgres != "" && c.Server.Host != "" && !Loopback(c.Server.Host) {
		refuse("tokens.postgres", "tokens are accepted for services on this machine only; for the cloud sign in with az login or azd auth login")
	}
}

// Beyond these nobody is served: the server keeps WAL for what waits, and each worker
// is a connection of its own.
const (
	maxFreshness = time.Hour
	maxWorkers   = 64
)

func (c *Config) checkRun(refuse refuse) {
	if c.Mode != Open {
		const native = "in native mode Fabric alone decides about types"
		if len(c.Run.Types) > 0 {
			refuse("run.types", native)
		}
		if c.Run.TimestampNTZ {
			refuse("run.timestampNtz", native)
		}
		return
	}
	if !slotName.MatchString(c.Slot()) {
		refuse("run.slot", "%q: want lower-case letters, digits and _", c.Run.Slot)
	}
	if c.Publication() == c.InsertOnlyPublication() {
		refuse("run.insertOnlyPublication", "must differ from run.publication")
	}
	if f := c.Run.Freshness; f <= 0 || f > maxFreshness {
		refuse("run.freshness", "%s: want more than nothing and at most 1h", f)
	}
	if w := c.Run.Workers; w < 1 || w > maxWorkers {
		refuse("run.workers", "%d is not in 1..%d", w, maxWorkers)
	}
	if c.Run.Heal < 0 {
		refuse("run.heal", "%s: want a time, or 0s for never", c.Run.Heal)
	}
	for _, text := range c.Run.Types {
		if _, err := parseColumnType(text); err != nil {
			refuse("run.types", "%q: %v", text, err)
		}
	}
	if c.Run.Budget < 16<<20 {
		refuse("run.budget", "want at least 16MiB")
	}
}
