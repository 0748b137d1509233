package config_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pgmirror/pgmirror/internal/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pgmirror.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const file = `
name: shop
workspace: 11111111-2222-3333-4444-555555555555
server:
  host: db.example.com
  database: shop
admin:
  user: boss
mirror:
  tables:
    - public.orders
    - sales.*
run:
  freshness: 2s
  budget: 64MiB
seed: {create: false}
`

func TestPrecedence(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{
		File: write(t, file),
		Azd: func(context.Context) (map[string]string, error) {
			return map[string]string{
				"postgreSqlServerFqdn":              "azd.example.com",
				"postgreSqlFabricUserNameOut":       "mirror_user",
				"postgreSqlFabricUserSecretNameOut": "role-secret",
				"keyVaultResourceId":                "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1",
				"AZURE_ENV_NAME":                    "dev",
			}, nil
		},
		Environ: []string{"POSTGRES_ADMIN_USER=chief", "POSTGRES_TEMP_ENABLE_KV_PUBLIC_ACCESS=yes", "POSTGRES_URL=postgres://u:pw@127.0.0.1:6543/"},
		Flags:   map[string]string{"server.port": "7000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range c.Explain() {
		got[v.Path] = v.Value + " < " + v.Source[strings.LastIndex(v.Source, "/")+1:]
	}
	want := map[string]string{
		"name":            "shop < pgmirror.yaml:2",
		"role.name":       "mirror_user < azd postgreSqlFabricUserNameOut",
		"role.secret":     "role-secret < azd postgreSqlFabricUserSecretNameOut",
		"vault":           "https://kv1.vault.azure.net < azd keyVaultResourceId",
		"server.host":     "127.0.0.1 < POSTGRES_URL",
		"server.port":     "7000 < flag",
		"server.database": "shop < pgmirror.yaml:6",
		"admin.user":      "chief < POSTGRES_ADMIN_USER",
		"admin.secret":    "postgres-admin-password < default",
		"run.freshness":   "2s < pgmirror.yaml:14",
		"run.budget":      "64MiB < pgmirror.yaml:15",
		"seed.create":     "false < pgmirror.yaml:16",
		"allow":           "open-vault < POSTGRES_TEMP_ENABLE_KV_PUBLIC_ACCESS",
		"mirror.tables":   "public.orders,sales.* < pgmirror.yaml:10",
		"admin.password":  "",
	}
	for path, w := range want {
		if got[path] != w {
			t.Errorf("%s: got %q, want %q", path, got[path], w)
		}
	}
	if c.Run.Freshness != 2*time.Second || c.Run.Budget != 64<<20 || c.Seed.Create {
		t.Errorf("values: got %v, %v, %v", c.Run.Freshness, c.Run.Budget, c.Seed.Create)
	}
}

func TestFileErrorsNameLineAndColumn(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"unknown key":  {"name: a\nserver:\n  hots: x\n", "[3:3]"},
		"repeated key": {"name: a\nname: b\n", "[2:1]"},
		"wrong type":   {"name: a\nserver:\n  port: many\n", "[3:9]"},
		"size":         {"name: a\nrun:\n  budget: 3 apples\n", "run.budget: want a number with KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(t.Context(), config.Options{File: write(t, tt.text)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestFileSaysWhatIsWanted: a value of another kind is told with its key and an example.
func TestFileSaysWhatIsWanted(t *testing.T) {
	for text, want := range map[string]string{
		"run: {freshness: 5}":           `[1:18] run.freshness: want a time with its unit, like 5s, 10m or 24h`,
		"run:\n  heal: 1d":              `[2:9] run.heal: want a time with its unit, like 5s, 10m or 24h`,
		"run:\n  budget: 256 MB":        `[2:11] run.budget: want a number with KiB, MiB or GiB, like 256MiB`,
		"run:\n  timestampNtz: yes":     `[2:17] run.timestampNtz: want true or false`,
		"run:\n  types: x":              `[2:10] run.types: want a list, like [one, two], or one a line with - before it`,
		"run:\n  workers: many":         `[2:12] run.workers: want a number`,
		"server: db.example.com":        `[1:9] server: want its own settings under it`,
		"name: [a, b]":                  `[1:7] name: want one value, and no list`,
		"connection: automatic":         `want manual, or id, gateway, name and vault`,
		"run:\n  freshnes: 5s":          `unknown field "freshnes"`,
		"run:\n  freshness: 5s\n  x: 1": `unknown field "x"`,
	} {
		_, err := config.Load(t.Context(), config.Options{File: write(t, text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	_, err := config.Load(t.Context(), config.Options{Flags: map[string]string{"run.freshness": "5"}})
	if err == nil || !strings.Contains(err.Error(), "run.freshness: \"5\": want a time with its unit") {
		t.Errorf("a flag: got %v", err)
	}
}

func TestRunIsBounded(t *testing.T) {
	for text, want := range map[string]string{"freshness: 5h": "run.freshness: 5h0m0s: want", "workers: 100000": "run.workers: 100000 is not in 1..64", "heal: -1h": "run.heal: -1h0m0s: want",
		"freshness: 1h": "", "workers: 64": ""} {
		c, err := config.Load(t.Context(), config.Options{File: write(t, "name: shop\nmode: open\nserver: {host: db.example.com}\nrun: {"+text+"}")})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestValidateCollectsEveryProblem(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{
		File:    write(t, "mode: sideways\nserver: {port: 0, sslMode: prefer}\nallow: [everything]\nmirror: {tables: [orders], retentionDays: 99}\n"),
		Environ: []string{"FABRIC_TOKEN=abc", "FABRIC_ENDPOINT=https://api.fabric.microsoft.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var p config.Problems
	if !errors.As(c.Validate(), &p) {
		t.Fatalf("got %v, want Problems", c.Validate())
	}
	var got []string
	for _, x := range p {
		got = append(got, x.Field)
	}
	want := []string{"mode", "name", "mirror.retentionDays", "mirror.tables", "allow", "server.host", "server.port", "server.sslMode", "tokens.fabric"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(p.Error(), "abc") {
		t.Error("the token is in the error")
	}
}

// A type's own comma doesn't end it, in a file or in the environment; what can't be one
// is refused.
func TestColumnTypes(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{File: write(t, "mode: open\n"), Environ: []string{
		"PGMIRROR_TYPES=public.a.v=decimal(20,4), public.a.*= text ,s.t.with.points.c=decimal( 38 , 38 )", "PGMIRROR_TABLES=a.b(,c.d),e.f"}})
	if err != nil {
		t.Fatal(err)
	}
	got := c.Run.ColumnTypes()
	want := []config.ColumnType{{"public", "a", "v", 20, 4}, {"public", "a", "*", 0, 0}, {"s", "t.with.points", "c", 38, 38}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(c.Mirror.Tables) != 3 {
		t.Errorf("tables: got %q, want three", c.Mirror.Tables)
	}
	native, err := config.Load(t.Context(), config.Options{File: write(t, "run: {types: [a.b.c=text], timestampNtz: true}\n")})
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"run.types", "run.timestampNtz"} {
		if err := native.Validate(); err == nil || !strings.Contains(err.Error(), field+": in native mode") {
			t.Errorf("%s in native mode: got %v", field, err)
		}
	}
	if s := got[0].String() + " " + got[1].String(); s != "public.a.v=decimal(20,4) public.a.*=text" {
		t.Errorf("shown as %s", s)
	}
	for name, fits := range map[[3]string]bool{{"public", "a", "w"}: true, {"public", "b", "w"}: false, {"private", "a", "w"}: false} {
		if got[1].Fits(name[0], name[1], name[2]) != fits {
			t.Errorf("%v: want %t", name, fits)
		}
	}
	for _, text := range []string{"public.a.v", "a.v=text", "public.a.=text", "public.a.v=float", "public.a.v=decimal(39,2)", "public.a.v=decimal(5,6)", "public.a.v=decimal(0,0)", "public.a.v=decimal(5)", "public.a.v=decimal(5,2"} {
		c, err := config.Load(t.Context(), config.Options{File: write(t, "mode: open\nname: a\nserver: {host: db.example.com}\nrun: {types: ['"+text+"']}\n")})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "run.types: \""+text+"\": ") || len(c.Run.ColumnTypes()) != 0 {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// TestEntraIsNative: what an Entra role isn't for is said before anything is
// asked, and its administrator's token goes to this machine only.
func TestEntraIsNative(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{
		File:    write(t, "name: a\nmode: open\nserver: {host: db.example.com}\nrole: {signIn: entra}\n"),
		Environ: []string{"POSTGRES_TOKEN=abc"},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Validate()
	for _, want := range []string{"role.signIn: entra is for native mirroring", "tokens.postgres: tokens are accepted for services on this machine only"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "abc") {
			t.Errorf("got %v, want %q in it, and no token", err, want)
		}
	}
}

// The names that today's users have: facts of the guide.
func TestGuideNames(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{
		File: write(t, "{}"),
		Azd: func(context.Context) (map[string]string, error) {
			return map[string]string{"postgreSqlServerFqdn": "pg-dev.postgres.database.azure.com", "fabricPostgresConnectionId": "c1", "POSTGRES_DATABASE_NAME": "orders", "AZURE_ENV_NAME": "dev"}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Server.Host, c.Connection.ID, c.Server.Database, c.Admin.User, c.Role.Name, c.Role.Secret, c.Admin.Secret, c.MirrorName(), c.Mirror.DefaultSchema + "." + c.Seed.Table, c.ConnectionName(c.Server.Host)}
	want := []string{"pg-dev.postgres.database.azure.com", "c1", "orders", "pgadmin", "fabric_user", "postgres-fabric-user-password", "postgres-admin-password", "pg-mirror-dev", "public.fabric_mirror_seed", "pg-dev.postgres.database.azure.com;orders fabric_user"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVaultOutranksURLPassword(t *testing.T) {
	for _, tt := range []struct{ vault, want string }{{"", "pw"}, {"KEYVAULT_URL=https://localhost:1", ""}} {
		c, err := config.Load(t.Context(), config.Options{File: write(t, "{}"), Environ: []string{"POSTGRES_URL=postgres://u:pw@localhost/x", tt.vault}})
		if err != nil {
			t.Fatal(err)
		}
		if c.Admin.Password != tt.want {
			t.Errorf("vault %q: got password %q, want %q", tt.vault, c.Admin.Password, tt.want)
		}
	}
}

func TestReadEnv(t *testing.T) {
	got, err := config.ReadEnv(write(t, "# made by the emulator\nA=1\n\nexport B=\"x y\"\nC=a=b\n"))
	if diff := cmp.Diff([]string{"A=1", "B=x y", "C=a=b"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := config.ReadEnv(write(t, "A=1\nsecret-token\n")); err == nil || strings.Contains(err.Error(), "secret-token") {
		t.Errorf("got %v, want an error without the line", err)
	}
}

func TestWants(t *testing.T) {
	m := config.Mirror{Tables: []string{"public.*", "sales.order?", "odd.[a]*b*c", `odd.back\sl?sh`}}
	for name, want := range map[string]bool{"public.a": true, "public.a/b": true, "public.": true, "sales.orders": true, "sales.order/": true, "sales.orderé": true, "sales.order": false, "sales.orderss": false, "x.a": false,
		"odd.[a]bc": true, "odd.[a]bxbxc": true, "odd.abc": false, "odd.[a]bcd": false, "odd.[a]cb": false, `odd.back\slash`: true, "odd.backslash": false} {
		s, tab, _ := strings.Cut(name, ".")
		if got, _ := m.Wants(s, tab); got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{"localhost:1": true, "https://v.vault.localhost:2/x": true, "127.3.0.1": true, "[::1]:5": true, "localhost.example.com": false, "https://10.0.0.1": false, "": false} {
		if got := config.Loopback(host); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}
