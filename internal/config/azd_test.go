package config_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pgmirror/pgmirror/internal/config"
)

// stubAzd puts an azd on PATH that answers with values, and logs how it is
// called.
func stubAzd(t *testing.T, values string) (environ []string, log string) {
	t.Helper()
	bin := t.TempDir()
	log = filepath.Join(bin, "calls")
	script := "#!/bin/sh\necho \"$@\" >>" + log + "\ncase \"$2\" in get-values) cat <<'EOF'\n" + values + "\nEOF\n;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "azd"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + bin + ":/usr/bin:/bin"}, log
}

func project(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".azure"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "azure.yaml"), []byte("name: shop\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAzdRoundTrip(t *testing.T) {
	environ, log := stubAzd(t, `{"AZURE_ENV_NAME": "dev", "postgreSqlServerFqdn": "pg.example.com", "fabricPostgresConnectionId": ""}`)
	sub := filepath.Join(project(t), "infra")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	azd := config.FindAzd(sub, environ)
	if azd == nil {
		t.Fatal("azd isn't found from below the project")
	}
	c, err := config.Load(t.Context(), config.Options{File: write(t, "{}"), Environ: environ, Azd: azd.Values})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Host != "pg.example.com" || c.MirrorName() != "pg-mirror-dev" {
		t.Errorf("got %s, %s", c.Server.Host, c.MirrorName())
	}
	back := c.WriteBack(map[string]string{"fabricPostgresConnectionId": "c1", "postgreSqlServerFqdn": "pg.example.com", "other": ""})
	if diff := cmp.Diff(map[string]string{"fabricPostgresConnectionId": "c1"}, back); diff != "" {
		t.Fatal(diff)
	}
	if err := azd.Set(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(log)
	want := "env get-values --output json --no-prompt\nenv set fabricPostgresConnectionId=c1 --no-prompt\n"
	if string(calls) != want || err != nil {
		t.Errorf("got %q, %v, want %q", calls, err, want)
	}
}

func TestAzdIsOnlyReadInItsProject(t *testing.T) {
	environ, _ := stubAzd(t, "{}")
	if config.FindAzd(t.TempDir(), environ) != nil {
		t.Error("found outside of a project")
	}
	if config.FindAzd(project(t), []string{"PATH=/nowhere"}) != nil {
		t.Error("found without azd")
	}
}

func TestAzdAnswerIsNeverInAnError(t *testing.T) {
	environ, _ := stubAzd(t, "POSTGRES_ADMIN_PASSWORD=hunter2")
	azd := config.FindAzd(project(t), environ)
	if _, err := azd.Values(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the answer", err)
	}
}

// A hook has azd's names in its environment: they count as azd's, so that the
// file wins over them.
func TestAzdNamesInTheEnvironment(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{
		File:    write(t, "server: {host: file.example.com}\n"),
		Environ: []string{"postgreSqlServerFqdn=hook.example.com", "keyVaultResourceId=/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1", "AZURE_ENV_NAME=dev"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Host != "file.example.com" || c.Vault != "https://kv1.vault.azure.net" {
		t.Errorf("got %s, %s", c.Server.Host, c.Vault)
	}
	if back := c.WriteBack(map[string]string{"a": "b"}); len(back) > 0 {
		t.Errorf("there is no azd to write %v to", back)
	}
}

func TestReferences(t *testing.T) {
	for text, want := range map[string]config.Reference{
		"akvs://sub/kv1/admin": {Vault: "https://kv1.vault.azure.net", Name: "admin"},
		"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/admin/v7)": {Vault: "https://kv1.vault.azure.net", Name: "admin", Version: "v7"},
		"@Microsoft.KeyVault(VaultName=kv1;SecretName=admin)":                         {Vault: "https://kv1.vault.azure.net", Name: "admin"},
		"akvs://sub/kv1": {},
		"@Microsoft.KeyVault(SecretUri=http://kv1/secrets/a)": {},
		"@Microsoft.KeyVault(SecretUri=https://kv1/keys/a)":   {},
		"a password": {},
	} {
		got, ok := config.ParseReference(text, "")
		if got != want && ok || ok != (want != config.Reference{}) {
			t.Errorf("%s: got %+v, %t, want %+v", text, got, ok, want)
		}
	}
	c, err := config.Load(t.Context(), config.Options{File: write(t, "name: x\nserver: {host: 'akvs://s/v/n'}\nmode: open\n")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "passwords only") {
		t.Errorf("a reference as a host: got %v", err)
	}
}

func TestSeveralDatabases(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{File: write(t, "name: dev\nmode: open\ndatabases: [shop, crm]\nconnection: manual\nrun: {slot: one, types: [a.b.c=text], timestampNtz: true}\n")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range c.Each() {
		got = append(got, one.Server.Database+" "+one.MirrorName()+" "+one.Slot())
		if len(one.Run.Types) != 1 || !one.Run.TimestampNTZ || one.Run.Freshness != 5*time.Second {
			t.Errorf("%s: run is %+v", one.Server.Database, one.Run)
		}
	}
	if want := []string{"shop pg-mirror-dev one", "crm pg-mirror-dev-crm pgmirror_dev_crm"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !c.Connection.Manual {
		t.Error("connection: manual isn't read")
	}
	if _, ok := c.Pick("nowhere"); ok {
		t.Error("picked a database that isn't listed")
	}
}

// A URL says where the server is; which database is mirrored, the file says.
func TestFileNamesTheDatabase(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{File: write(t, "server: {database: shop}\n"), Environ: []string{"POSTGRES_URL=postgres://u@localhost:1/postgres"}})
	if err != nil || c.Server.Database != "shop" {
		t.Errorf("got %v, %v, want shop", c.Server.Database, err)
	}
}

func TestClouds(t *testing.T) {
	c, err := config.Load(t.Context(), config.Options{
		File:    write(t, "name: x\ncloud: china\nmode: open\nserver: {host: a}\n"),
		Environ: []string{"keyVaultResourceId=/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1"},
	})
	if err != nil || c.Vault != "https://kv1.vault.azure.cn" {
		t.Errorf("got %v, %v", c.Vault, err)
	}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "endpoints.fabric") {
		t.Errorf("Fabric's address there isn't known: got %v", err)
	}
}

func TestConnectionErrorsNameTheLine(t *testing.T) {
	for _, text := range []string{"name: a\nconnection:\n  idd: x\n", "name: a\nconnection: automatic\n"} {
		if _, err := config.Load(t.Context(), config.Options{File: write(t, text)}); err == nil {
			t.Errorf("%q: no error", text)
		} else if !strings.Contains(err.Error(), "3:3") && !strings.Contains(err.Error(), "automatic") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// What the scripts read, wherever a project keeps it.
func TestScriptsWords(t *testing.T) {
	load := func(values map[string]string, environ ...string) (*config.Config, error) {
		return config.Load(t.Context(), config.Options{File: write(t, "name: dev\n"), Environ: environ,
			Azd: func(context.Context) (map[string]string, error) { return values, nil }})
	}
	c, err := load(map[string]string{
		"postgreSqlServerNameOut": "pg1", "AZURE_RESOURCE_GROUP": "rg", "AZURE_SUBSCRIPTION_ID": "sub", "postgreSqlMirrorConnectionModeOut": "fabricUser",
		"POSTGRES_CREATE_MIRRORING_SEED_TABLE": "false", "POSTGRES_TEMP_ENABLE_KV_PUBLIC_ACCESS": "yes", "POSTGRES_FABRIC_ENTRA_ROLE_NAME": "sp",
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg1"; c.Server.ID != want {
		t.Errorf("server: got %s, want %s", c.Server.ID, want)
	}
	if c.Seed.Create || !c.Allows(config.OpenVault) || c.Role.Name != "sp" || c.Role.SignIn != "entra" {
		t.Errorf("got %+v, %v, %+v", c.Seed, c.Allow, c.Role)
	}
	if _, err := load(nil, "POSTGRES_MIRROR_CONNECTION_MODE=admin"); err == nil {
		t.Error("mode admin is taken over")
	}
	c, err = load(map[string]string{"POSTGRES_ENABLE_FABRIC_MIRRORING": "false", "postgreSqlServerResourceId": c.Server.ID})
	if err != nil {
		t.Fatal(err)
	}
	var problems config.Problems
	if err := c.Validate(); !errors.As(err, &problems) || !problems.OnlyMissing() {
		t.Errorf("mirroring switched off: got %v, want a hook that waits", err)
	}
}

// A password in a wrong place is refused, and not repeated.
func TestPasswordsInWrongPlaces(t *testing.T) {
	for name, o := range map[string]config.Options{
		"file":         {File: write(t, "name: a\nadmin:\n  password: hunter2\n")},
		"file, nested": {File: write(t, "name: a\nadmin: {user: {password: hunter2}}\n")},
		"flag":         {File: write(t, "name: a\n"), Flags: map[string]string{"admin.password": "hunter2"}},
		"URL":          {File: write(t, "name: a\n"), Environ: []string{"POSTGRES_URL=postgres://a:hunter2@b:c/d"}},
	} {
		if _, err := config.Load(t.Context(), o); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want an error without the password", name, err)
		}
	}
}
