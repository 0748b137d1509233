package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	osexec "os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	pg "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/postgresql/armpostgresqlflexibleservers/v5"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestSetupScripts runs testdata/setup/*.txtar: the stories of setting up a
// mirror, each over an emulator of its own that runs in this process, with the
// newest server here: from 16 on its administrator is no superuser. A script finds
// its environment in fabric.env.
func TestSetupScripts(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts servers")
	}
	bin := localpgtest.Servers(t)[0].Bin
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/setup",
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return startWorld(env, bin) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"dba":     dba,
			"psql":    psql,
			"faults":  setFaults,
			"fabric":  fabricAct,
			"azure":   azureAct,
			"plainpg": plainPostgres,
			"within":  within,
			"proxy":   proxy,
		},
	})
}

type (
	worldKey struct{}
	binKey   struct{} // directory of initdb and postgres
	proxyKey struct{} // hosts that a proxy was asked for
)

// startWorld starts the emulator of one script.
func startWorld(env *testscript.Env, bin string) error {
	dir, err := os.MkdirTemp("", "pgmirror-story-") // a server that root starts runs as another user, who must get to it
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(dir) })
	_, firewall := os.Stat(filepath.Join(env.WorkDir, "firewall")) // a story that has this file is told at the server's firewall, too
	e, err := emulator.Start(context.Background(), emulator.Options{
		Dir: dir, NoSync: true, PGBin: bin, ScanInterval: 50 * time.Millisecond, ProvisionDelay: 100 * time.Millisecond,
		Native: nativeMirror(slog.New(slog.DiscardHandler), 20*time.Millisecond), Server: emulator.ServerOptions{ClientFirewall: firewall == nil},
	})
	if err != nil {
		return err
	}
	env.Defer(func() { e.Close() })
	env.Values[worldKey{}], env.Values[binKey{}], env.Values[proxyKey{}] = e, bin, &sync.Map{}
	env.Setenv("PGMIRROR_STATE", filepath.Join(env.WorkDir, "state"))
	env.Setenv("GORACE", raceOptions)
	return os.WriteFile(filepath.Join(env.WorkDir, "fabric.env"), []byte(envText(e.Env())), 0o600)
}

func worldOf(ts *testscript.TestScript) *emulator.Emulator {
	return ts.Value(worldKey{}).(*emulator.Emulator)
}

// dba runs a file as the cluster's superuser: `dba SQL-FILE [DATABASE]`. What it
// reads is on stdout of no command: `dba -want TEXT SQL-FILE` compares it.
func dba(ts *testscript.TestScript, neg bool, args []string) {
	want, compare := "", false
	if len(args) > 2 && args[0] == "-want" {
		want, compare, args = args[1], true, args[2:]
	}
	database := "postgres"
	if len(args) == 2 {
		database = args[1]
	}
	ctx := context.Background()
	c := worldOf(ts).Cluster()
	conn, err := pgx.Connect(ctx, c.URL(c.Superuser, c.Password, database))
	ts.Check(err)
	defer conn.Close(ctx)
	sql := ts.ReadFile(args[0])
	if !compare {
		_, err = conn.Exec(ctx, sql)
		ts.Check(err)
		return
	}
	rows, err := conn.Query(ctx, sql)
	ts.Check(err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	ts.Check(err)
	if strings.Join(got, "\n") != want {
		ts.Fatalf("%s: got %q, want %q", args[0], got, want)
	}
}

// psql runs a script as a DBA does, as the superuser, with the password of the
// role in the environment: `psql SQL-FILE`; `psql -entra NAME SQL-FILE` runs what
// is left to an Entra administrator, as one.
func psql(ts *testscript.TestScript, neg bool, args []string) {
	c := worldOf(ts).Cluster()
	_, cfg := clientsOf(ts)
	if args[0] == "-entra" {
		cmd := osexec.Command("psql", "-X", "-q", "-v", "role=1", "-f", ts.MkAbs(args[2]), c.URL(args[1], cfg.Tokens.Postgres, "postgres"))
		if out, err := cmd.CombinedOutput(); err != nil {
			ts.Fatalf("psql: %v\n%s", err, out)
		}
		return
	}
	clients, err := setup.NewClients(context.Background(), cfg)
	ts.Check(err)
	password, _, err := clients.Vault.Secret(context.Background(), cfg.Role.Secret)
	ts.Check(err)
	cmd := osexec.Command("psql", "-X", "-q", "-f", ts.MkAbs(args[0]), c.URL(c.Superuser, "", "postgres"))
	cmd.Env = append(os.Environ(), "PGPASSWORD="+c.Password, "ROLE_PASSWORD="+password)
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("psql: %v\n%s", err, out)
	}
}

// setFaults makes the emulator's services misbehave: `faults FILE`, `faults none`.
func setFaults(ts *testscript.TestScript, neg bool, args []string) {
	body := "[]"
	if args[0] != "none" {
		body = ts.ReadFile(args[0])
	}
	ts.Check(putFaults(worldOf(ts), body))
}

// putFaults replaces the faults of an emulator.
func putFaults(e *emulator.Emulator, body string) error {
	env := map[string]string{}
	for _, kv := range e.Env() {
		env[kv.Key] = kv.Value
	}
	q, err := http.NewRequest(http.MethodPut, env["EMULATOR_ENDPOINT"]+"/faults", strings.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Authorization", "Bearer "+env["EMULATOR_TOKEN"])
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("faults: " + resp.Status)
	}
	return nil
}

func clientsOf(ts *testscript.TestScript) (*setup.Clients, *config.Config) {
	env, err := config.ReadEnv(ts.MkAbs("fabric.env"))
	ts.Check(err)
	cfg, err := config.Load(context.Background(), config.Options{Environ: env})
	ts.Check(err)
	c, err := setup.NewClients(context.Background(), cfg)
	ts.Check(err)
	return c, cfg
}

// fabricAct does what a person does in the portal: `fabric connect NAME` makes a
// connection and writes its id to connection.id, `fabric disconnect` deletes all,
// `fabric stop NAME` stops a mirror and waits until it is, `fabric mirror NAME` makes
// one as the old script did. `fabric gateway NAME` makes a virtual network data gateway, and
// `fabric vault NAME` a connection to the vault: GATEWAY and VAULT hold their ids.
// `fabric test NAME` signs in with a connection as Fabric does.
func fabricAct(ts *testscript.TestScript, neg bool, args []string) {
	ctx := context.Background()
	c, cfg := clientsOf(ts)
	connections, err := c.Fabric.Connections(ctx)
	ts.Check(err)
	switch args[0] {
	case "connect":
		password, _, err := c.Vault.Secret(ctx, cfg.Role.Secret)
		ts.Check(err)
		made, err := c.Fabric.CreateConnection(ctx, fabric.NewConnection{
			Name: args[1], Type: "AzurePostgreSQL", Method: "AzurePostgreSQL.Database", Username: cfg.Role.Name, Password: password, Privacy: "None", Encryption: "Encrypted",
			Parameters: []fabric.Value{{Name: "server", DataType: "Text", Value: cfg.ConnectionServer("localhost")}, {Name: "database", DataType: "Text", Value: cfg.Server.Database}},
		})
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("connection.id"), []byte(made.ID), 0o600))
		ts.Setenv("CONNECTION", made.ID)
	case "disconnect":
		for _, x := range connections {
			ts.Check(c.Fabric.DeleteConnection(ctx, x.ID))
		}
	case "stop":
		all, err := c.Fabric.MirroredDatabases(ctx, cfg.Workspace)
		ts.Check(err)
		for _, m := range all {
			if m.Name == args[1] {
				ts.Check(c.Fabric.StopMirroring(ctx, cfg.Workspace, m.ID))
				ts.Check(await(ctx, m.Name+" is stopped", 5*time.Minute, func(ctx context.Context) (bool, error) {
					now, err := c.Fabric.MirroringStatus(ctx, cfg.Workspace, m.ID)
					return now.Status == "Stopped", err
				}))
			}
		}
	case "mirror":
		_, err := c.Fabric.CreateMirroredDatabase(ctx, cfg.Workspace, args[1], "", fabric.Definition{
			Source: fabric.Source{Type: "AzurePostgreSql", Connection: connections[0].ID, Database: cfg.Server.Database},
			Target: fabric.Target{DefaultSchema: "public", Format: "Delta"},
		})
		ts.Check(err)
	case "gateway":
		w, err := c.Fabric.Workspace(ctx, cfg.Workspace)
		ts.Check(err)
		ts.Setenv("GATEWAY", post(ts, cfg.Endpoints.Fabric+"/v1/gateways", cfg.Tokens.Fabric, map[string]any{
			"type": "VirtualNetwork", "displayName": args[1], "capacityId": w.CapacityID, "inactivityMinutesBeforeSleep": 30, "numberOfMemberGateways": 1,
			"virtualNetworkAzureResource": map[string]any{"subscriptionId": "s", "resourceGroupName": "g", "virtualNetworkName": "n", "subnetName": "default"},
		}))
	case "vault":
		id, err := azure.FindVault(ctx, strings.Split(cfg.Server.ID, "/")[2], cfg.Vault, armOptions(ts, c, cfg))
		ts.Check(err)
		ts.Setenv("VAULT", post(ts, cfg.Endpoints.Fabric+"/v1/connections", cfg.Tokens.Fabric, map[string]any{
			"connectivityType": "ShareableCloud", "displayName": args[1], "privacyLevel": "None",
			"connectionDetails": map[string]any{"type": "AzureKeyVault", "creationMethod": "AzureKeyVault.Actions",
				"parameters": []any{map[string]any{"name": "accountName", "dataType": "Text", "value": path.Base(id)}}},
			"credentialDetails": map[string]any{"credentials": map[string]any{"credentialType": "ServicePrincipal",
				"tenantId": "t", "servicePrincipalClientId": "c", "servicePrincipalSecret": "s"}},
		}))
	case "test":
		for _, x := range connections {
			if x.Name == args[1] {
				ts.Check(c.Fabric.TestConnection(ctx, x.ID))
				return
			}
		}
		ts.Fatalf("fabric: no connection %q", args[1])
	default:
		ts.Fatalf("fabric: what is %q?", args[0])
	}
}

// azureAct changes the server as somebody else would: `azure set NAME VALUE`,
// `azure secret NAME VALUE`, `azure restart`, `azure identity`; `azure private`
// takes its public access away, `azure signin` puts a managed identity into the
// environment, `azure entra NAME` makes whoever it is an Entra administrator. `azure close` closes every door of the server and the vault, and
// `azure closed` wants them, and all around them, to be as they were then; `azure
// open` opens them for good. `azure lend` opens the vault as another machine does,
// and `azure leave` did so three hours ago, for one: $LEASE is the lease's id, or,
// after `azure left`, the first that leases list has just shown.
func azureAct(ts *testscript.TestScript, neg bool, args []string) {
	ctx := context.Background()
	c, cfg := clientsOf(ts)
	switch args[0] {
	case "set":
		ts.Check(c.Server.SetParameter(ctx, args[1], args[2]))
	case "secret":
		ts.Check(c.Vault.SetSecret(ctx, args[1], args[2]))
	case "restart":
		ts.Check(c.Server.Restart(ctx))
	case "identity":
		i, err := c.Server.Get(ctx)
		ts.Check(err)
		ts.Check(c.Server.EnableIdentity(ctx, i))
		i, err = c.Server.Get(ctx)
		ts.Check(err)
		ts.Check(c.Fabric.AddWorkspaceRole(ctx, cfg.Workspace, fabric.RoleAssignment{PrincipalID: i.PrincipalID, PrincipalType: "ServicePrincipal", Role: "Contributor"}))
	case "private":
		g, err := azure.NewGate(cfg.Server.ID, armOptions(ts, c, cfg))
		ts.Check(err)
		ts.Check(g.Patch(ctx, []byte(`{"properties":{"network":{"publicNetworkAccess":"Disabled"}}}`)))
	case "signin":
		for _, kv := range worldOf(ts).Env() {
			if strings.HasPrefix(kv.Key, "IDENTITY_") {
				ts.Setenv(kv.Key, kv.Value)
			}
		}
	case "entra":
		makeEntraAdministrator(ts, c, cfg, args[1])
	case "close":
		closeDoors(ts, c, cfg)
		ts.Check(os.WriteFile(ts.MkAbs("closed.json"), []byte(settings(ts, cfg)), 0o600))
	case "open":
		openDoors(ts, c, cfg)
	case "left":
		id, _, _ := strings.Cut(ts.ReadFile("stdout")[strings.Index(ts.ReadFile("stdout"), "\n")+1:], " ")
		ts.Setenv("LEASE", id)
	case "leave":
		ts.Setenv("LEASE", lend(ts, c, cfg, time.Now().Add(-3*time.Hour)))
	case "lend":
		ts.Setenv("LEASE", lend(ts, c, cfg, time.Now()))
	case "closed":
		if got, want := settings(ts, cfg), ts.ReadFile("closed.json"); got != want {
			ts.Fatalf("a door, a tag or a rule isn't as before:\n%s\nnow:\n%s", want, got)
		}
	default:
		ts.Fatalf("azure: what is %q?", args[0])
	}
}

func makeEntraAdministrator(ts *testscript.TestScript, c *setup.Clients, cfg *config.Config, name string) {
	var claims struct{ OID string }
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(cfg.Tokens.Postgres, ".")[1])
	ts.Check(err)
	ts.Check(json.Unmarshal(body, &claims))
	id, err := arm.ParseResourceID(cfg.Server.ID)
	ts.Check(err)
	cred, err := azure.Token(cfg.Tokens.ARM, cfg.Endpoints.ARM)
	ts.Check(err)
	o := policy.ClientOptions{Transport: c.HTTP, Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: cfg.Endpoints.ARM, Audience: "https://management.azure.com"},
	}}}
	admins, err := pg.NewAdministratorsMicrosoftEntraClient(id.SubscriptionID, cred, &arm.ClientOptions{ClientOptions: o})
	ts.Check(err)
	kind := pg.PrincipalTypeUser
	p, err := admins.BeginCreateOrUpdate(context.Background(), id.ResourceGroupName, id.Name, claims.OID,
		pg.AdministratorMicrosoftEntraAdd{Properties: &pg.AdministratorMicrosoftEntraPropertiesForAdd{PrincipalName: &name, PrincipalType: &kind}}, nil)
	ts.Check(err)
	_, err = p.PollUntilDone(context.Background(), &runtime.PollUntilDoneOptions{Frequency: 50 * time.Millisecond})
	ts.Check(err)
}

func armOptions(ts checker, c *setup.Clients, cfg *config.Config) azure.Options {
	cred, err := azure.Token(cfg.Tokens.ARM, cfg.Endpoints.ARM)
	ts.Check(err)
	return azure.Options{Endpoint: cfg.Endpoints.ARM, Credential: cred, HTTP: c.HTTP}
}

// post makes a thing and returns its id.
func post(ts *testscript.TestScript, url, token string, body any) string {
	text, err := json.Marshal(body)
	ts.Check(err)
	q, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(text))
	ts.Check(err)
	q.Header.Set("Authorization", "Bearer "+token)
	q.Header.Set("Content-Type", "application/json")
	c, _ := clientsOf(ts)
	resp, err := c.HTTP.Do(q)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var made struct{ ID string }
	if err := json.Unmarshal(answer, &made); err != nil || resp.StatusCode != http.StatusCreated || made.ID == "" {
		ts.Fatalf("POST %s: %s: %s", url, resp.Status, answer)
	}
	return made.ID
}

// proxy is an HTTP proxy that leads nowhere, in HTTPS_PROXY; `proxy HOST` wants to
// have been asked for that host.
func proxy(ts *testscript.TestScript, neg bool, args []string) {
	asked := ts.Value(proxyKey{}).(*sync.Map)
	if len(args) == 1 {
		if _, ok := asked.Load(args[0]); !ok {
			ts.Fatalf("the proxy wasn't asked for %s", args[0])
		}
		return
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Store(q.Host, true)
		http.Error(w, "no way", http.StatusBadGateway)
	}))
	ts.Defer(s.Close)
	ts.Setenv("HTTPS_PROXY", s.URL)
}

// plainPostgres starts a PostgreSQL that is nobody's service, and names it in
// POSTGRES_URL: `plainpg WAL-LEVEL`.
func plainPostgres(ts *testscript.TestScript, neg bool, args []string) {
	dir, err := os.MkdirTemp("", "pgmirror-plain-")
	ts.Check(err)
	c, err := localpg.Start(context.Background(), localpg.Options{Dir: dir, Bin: ts.Value(binKey{}).(string), Password: "plain", Settings: map[string]string{"wal_level": args[0], "fsync": "off"}})
	ts.Check(err)
	ts.Defer(func() {
		c.Stop(context.Background())
		os.RemoveAll(dir)
	})
	ts.Setenv("POSTGRES_URL", c.URL(c.Superuser, "plain", "postgres"))
	ts.Setenv("PLAIN", c.URL(c.Superuser, "plain", "postgres"))
}

// within runs a command and wants it done in time: `within 1s COMMAND [ARG...]`; or, on
// a machine that is slow or busy, in thrice the time that a plan takes just before. One
// run of five is enough.
func within(ts *testscript.TestScript, neg bool, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	if raceDetector {
		limit *= 10
	}
	var plan, took time.Duration
	for range 5 {
		begun := time.Now()
		ts.Check(ts.Exec("pgmirror", "plan", "--env-file", "fabric.env"))
		plan, begun = time.Since(begun), time.Now()
		ts.Check(ts.Exec(args[1], args[2:]...))
		if took = time.Since(begun); took <= max(limit, 3*plan) {
			return
		}
	}
	ts.Fatalf("%v took %v, want at most %v; a plan took %v", args[1:], took, limit, plan)
}
