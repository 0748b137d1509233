package emulator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
)

// tokenLife is how long a token is good. One that still has half of it is handed
// out again after a restart.
const tokenLife = 14 * 24 * time.Hour

// serve builds the services and begins to answer.
func (e *Emulator) serve(ctx context.Context) error {
	var err error
	e.lake, err = onelake.New(onelake.Options{Root: filepath.Join(e.o.Dir, "onelake"), Authorize: e.authorizeStorage, Items: e.lakeItem})
	if err != nil {
		return err
	}
	m := newMirrors(&mirrors{state: e.state, db: e.db, o: e.o, tasks: e.tasks, log: e.o.Log, now: e.now})
	f := newFabric(&fabric{state: e.state, db: e.db, mirrors: m, base: e.base["fabric"] + "/v1", dfs: e.base["dfs"], blob: e.base["blob"], o: e.o, now: e.now},
		e.authorizer(audienceFabric, authorizeFabric), e.o.Log)
	m.login = f.login
	a := newARM(&arm{state: e.state, db: e.db, delay: e.o.ARMDelay, base: e.base["arm"], vault: e.base["vault"], tasks: e.tasks, log: e.o.Log, edge: m.edge, now: e.now, firewall: e.o.Server.ClientFirewall},
		e.authorizer(audienceARM, authorizeARM))
	if err := errors.Join(a.gateClients(ctx), e.db.putAdministrators(ctx, e.state)); err != nil {
		return err
	}
	v := newVault(&vault{state: e.state, tokens: e.tokens, base: e.base["vault"], now: e.now}, e.o.Log)
	k := newControl(&control{state: e.state, advanced: &e.advanced, faults: e.faults, mirrors: m, now: e.now}, e.secret(), e.o.Log)
	for name, s := range map[string]*service{"fabric": f.service, "arm": a.service, "vault": v.service} {
		if err := e.serveTLS(name, e.faults.wrap(name, s.refuse, s)); err != nil {
			return err
		}
	}
	for name, h := range map[string]http.Handler{"dfs": e.lake, "blob": e.lake.Blob()} {
		if err := e.serveTLS(name, e.faults.wrap(name, e.refuseLake(name), e.logged(name, h))); err != nil {
			return err
		}
	}
	e.servePlain("control", k.service)
	if err := m.resume(); err != nil {
		return err
	}
	if e.o.OpenMirror == "" {
		return nil
	}
	return f.runOpenMirror(e.o.OpenMirror)
}

// logged tells the log of every request, before it is answered.
func (e *Emulator) logged(service string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.o.Log.Debug("asked", "service", service, "method", r.Method, "path", r.URL.Path)
		h.ServeHTTP(w, r)
	})
}

// refuseLake tells a fault as OneLake does.
func (e *Emulator) refuseLake(endpoint string) refuser {
	return func(w http.ResponseWriter, r *http.Request, f *fault) {
		e.lake.Refuse(w, r, endpoint == "blob", &onelake.Refusal{Status: f.status, Code: f.code, Message: f.message})
	}
}

func (e *Emulator) secret() (secret string) {
	e.state.look(func(s *state) { secret = s.Control })
	return secret
}

func (e *Emulator) serveTLS(name string, h http.Handler) error {
	tlsConfig, err := e.db.ca.serverTLS()
	if err != nil {
		return err
	}
	srv := e.server(h)
	srv.TLSConfig = tlsConfig
	e.serving.Go(func() { _ = srv.ServeTLS(e.listeners[name], "", "") }) // ends when it is closed
	return nil
}

func (e *Emulator) servePlain(name string, h http.Handler) {
	srv := e.server(h)
	e.serving.Go(func() { _ = srv.Serve(e.listeners[name]) }) // ends when it is closed
}

func (e *Emulator) server(h http.Handler) *http.Server {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(e.o.Log.Handler(), slog.LevelDebug)}
	e.servers = append(e.servers, srv)
	return srv
}

func (e *Emulator) tokens() (ts tokens) {
	e.state.look(func(s *state) { ts = s.Tokens })
	return ts
}

// authorizer checks the token for one audience and tells a refusal as the
// service does.
func (e *Emulator) authorizer(audience string, tell func(refusal, token) *fault) func(*call) *fault {
	return func(c *call) *fault {
		t, why := e.tokens().check(c.Request, audience, e.now())
		return tell(why, t)
	}
}

// authorizeStorage is the authorizer of OneLake, whose tokens are Storage's.
func (e *Emulator) authorizeStorage(r *http.Request) error {
	t, why := e.tokens().check(r, audienceStorage, e.now())
	switch why {
	case refusedNone:
		return e.worldStorage()
	case refusedAudience:
		return fmt.Errorf("audience validation failed: the token is for %s", t.Audience)
	case refusedExpired:
		return errors.New("lifetime validation failed: the token is expired")
	}
	return errors.New("signature validation failed")
}

// worldStorage refuses everybody while the capacity is paused, and apps from
// outside Fabric while the tenant doesn't let them in.
func (e *Emulator) worldStorage() (err error) {
	e.state.look(func(s *state) {
		switch {
		case s.World.CapacityPaused:
			err = &onelake.Refusal{Status: http.StatusForbidden, Code: "CapacityNotActive", Message: capacityPaused().message}
		case s.World.NoExternalApps:
			err = &onelake.Refusal{Status: http.StatusForbidden, Code: "AccessDenied", Message: "The tenant doesn't let users access OneLake with apps external to Fabric."}
		}
	})
	return err
}

// lakeItem finds an item's directory by names or by ids, never by one of each.
// A name ends in the item's type.
func (e *Emulator) lakeItem(workspace, item string) (dir string, ok bool) {
	e.state.look(func(s *state) {
		for _, w := range s.Workspaces {
			for _, it := range s.Items {
				byID := equalFold(w.ID, workspace) && equalFold(it.ID, item)
				byName := equalFold(w.Name, workspace) && (equalFold(it.Name+".MountedRelationalDatabase", item) || equalFold(it.Name+".MirroredDatabase", item))
				if it.Workspace == w.ID && it.Type == mirrorType && (byID || byName) {
					dir, ok = w.ID+"/"+it.ID, true
				}
			}
		}
	})
	return dir, ok
}

// adminSecret is the secret that holds the administrator's password.
const adminSecret = "postgres-admin-password"

// openState reads what an earlier emulator left, or makes a tenant with one
// workspace, one server and one vault.
func (e *Emulator) openState(context.Context) (err error) {
	var fresh bool
	e.state, fresh, err = openState(filepath.Join(e.o.Dir, "state.json"))
	if err != nil {
		return err
	}
	return e.state.change(func(s *state) error {
		if fresh {
			*s = newState(e.o)
		}
		e.advanced.Store(int64(s.World.Advanced))
		s.renewTokens(e.now())
		if s.Control == "" {
			s.Control = rand.Text()
		}
		s.CapacityID = firstNonEmpty(s.CapacityID, s.Workspaces[0].Capacity)
		for _, op := range s.Server.Operations {
			if op.Status == "InProgress" { // the emulator died meanwhile
				op.Status, op.Code, op.Message, op.End = "Failed", "InternalServerError", "The operation was interrupted.", time.Now().UTC()
			}
		}
		s.Server.Status = "Ready"
		return nil
	})
}

func newState(o Options) state {
	so := o.Server
	now := time.Now()
	s := state{
		Version: stateVersion, Ports: map[string]int{}, Tenant: newID(), Subscription: newID(), Group: "pgmirror", Location: "westeurope", User: newID(),
		Operations: map[string]*fabricOperation{},
		Server: serverState{
			Name: firstNonEmpty(so.Name, "pgmirror-emulator"), Superuser: superuser, SuperPassword: password(), Admin: "pgadmin",
			Tier: firstNonEmpty(so.Tier, "GeneralPurpose"), SKU: "Standard_D2s_v3", HA: firstNonEmpty(so.HA, "Disabled"), Status: "Ready",
			EntraAuth: "Disabled", PasswordAuth: "Enabled", Public: firstNonEmpty(so.Public, "Enabled"), Identity: "None",
			Tags: map[string]string{}, Rules: map[string]firewallRule{}, Params: map[string]string{}, Running: ownStatic(nil), Operations: map[string]*armOperation{},
		},
		Vault: vaultState{Name: "kv-pgmirror", Public: "Enabled", Tags: map[string]string{}, Secrets: map[string]*secretState{}},
	}
	s.Vault.Secrets[adminSecret] = &secretState{Versions: []secretVersion{{ID: strings.ReplaceAll(newID(), "-", ""), Value: firstNonEmpty(so.AdminPassword, password()),
		Enabled: true, Created: now.Unix(), Updated: now.Unix()}}}
	if !so.NoFirewall {
		s.Server.Rules[azureServices] = firewallRule{"0.0.0.0", "0.0.0.0"}
		if so.ClientFirewall {
			s.Server.Rules["this-machine"] = firewallRule{loopbackAddress, loopbackAddress}
		}
	}
	if so.Identity {
		s.Server.Identity, s.Server.Principal = "SystemAssigned", newID()
	}
	s.Workspaces = []*workspaceState{{ID: newID(), Name: "pgmirror", Capacity: newID(),
		Roles: []roleAssignment{{ID: s.User, Principal: s.User, PrincipalType: "User", Role: "Admin"}}}}
	return s
}

// password makes a random one, as Azure's rules want it: it has all four kinds
// of characters.
func password() string { return strings.ReplaceAll(newID(), "-", "") + "Aa1!" }

// renewTokens drops what expired and sees to it that each audience has a token
// with at least half its life.
func (s *state) renewTokens(now time.Time) {
	var keep tokens
	for _, t := range s.Tokens {
		if t.Expires.After(now) {
			keep = append(keep, t)
		}
	}
	s.Tokens = nil
	for _, audience := range audiences {
		if t, ok := keep.newest(audience); !ok || t.Expires.Sub(now) < tokenLife/2 {
			s.Tokens = append(s.Tokens, s.mint(audience, now.Add(tokenLife))) // in front: value finds it first
		}
	}
	s.Tokens = append(s.Tokens, keep...)
}

func (s *state) mint(audience string, expires time.Time) token {
	if audience == audiencePostgres {
		return mintFor(audience, s.Tenant, s.User, expires)
	}
	return mint(audience, expires)
}

func (ts tokens) newest(audience string) (found token, ok bool) {
	for _, t := range ts {
		if t.Audience == audience && (!ok || t.Expires.After(found.Expires)) {
			found, ok = t, true
		}
	}
	return found, ok
}

// Env is what a client needs to work with this emulator, in the order in which
// it is written. POSTGRES_URL names the administrator and the database postgres
// and holds no password: that is the vault's secret postgres-admin-password.
func (e *Emulator) Env() []KV {
	var s state
	e.state.look(func(st *state) { s = *st })
	ca := filepath.Join(e.o.Dir, caFile)
	u := url.URL{Scheme: "postgres", User: url.User(s.Server.Admin), Host: net.JoinHostPort("localhost", strconv.Itoa(e.db.pg.Port)), Path: "/postgres",
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ca}}.Encode()}
	env := []KV{
		{"FABRIC_ENDPOINT", e.base["fabric"]},
		{"ARM_ENDPOINT", e.base["arm"]},
		{"KEYVAULT_URL", e.base["vault"]},
		{"ONELAKE_DFS_ENDPOINT", e.base["dfs"]},
		{"ONELAKE_BLOB_ENDPOINT", e.base["blob"]},
		{"CA_FILE", ca},
		{"FABRIC_WORKSPACE_ID", s.Workspaces[0].ID},
		{"FABRIC_TOKEN", s.Tokens.value(audienceFabric)},
		{"ARM_TOKEN", s.Tokens.value(audienceARM)},
		{"VAULT_TOKEN", s.Tokens.value(audienceVault)},
		{"STORAGE_TOKEN", s.Tokens.value(audienceStorage)},
		{"POSTGRES_TOKEN", s.Tokens.value(audiencePostgres)},
		{"POSTGRES_SERVER_ID", serverID(&s)},
		{"POSTGRES_URL", u.String()},
		{"EMULATOR_ENDPOINT", e.base["control"]},
		{"EMULATOR_TOKEN", s.Control},
		{"IDENTITY_ENDPOINT", e.base["control"] + "/msi/token"},
		{"IDENTITY_HEADER", s.Control},
	}
	if it := s.openMirror(e.o.OpenMirror); it != nil {
		at := e.base["dfs"] + "/" + it.Workspace + "/" + it.ID
		env = append(env, KV{"MIRRORED_DATABASE_ID", it.ID}, KV{"LANDING_ZONE", at + "/" + landingZone},
			KV{"TABLES_FOLDER", filepath.Join(e.o.Dir, "onelake", it.Workspace, it.ID, tablesDir)})
	}
	return env
}
