package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is one value: its path in the file, and its names elsewhere, the first
// one that is set winning.
type field struct {
	path   string
	env    []string
	azd    []string
	secret bool                         // never shown
	from   func(string) (string, error) // makes the value of what azd holds, when they differ
}

// fields are all values that can come from outside the file, with the names
// that users of the scripts already have.
var fields = []field{
	{path: "name", env: []string{"AZURE_ENV_NAME"}, azd: []string{"AZURE_ENV_NAME"}},
	{path: "mode", env: []string{"PGMIRROR_MODE"}},
	{path: "server.id", env: []string{"POSTGRES_SERVER_ID"}, azd: []string{"postgreSqlServerResourceId"}},
	{path: "server.host", env: []string{"POSTGRES_HOST"}, azd: []string{"postgreSqlServerFqdn"}},
	{path: "server.port", env: []string{"POSTGRES_PORT"}},
	{path: "server.database", env: []string{"POSTGRES_DATABASE_NAME"}, azd: []string{"POSTGRES_DATABASE_NAME"}},
	{path: "server.sslMode", env: []string{"POSTGRES_SSLMODE"}},
	{path: "admin.user", env: []string{"POSTGRES_ADMIN_USER"}, azd: []string{"postgreSqlAdminLoginOut"}},
	{path: "admin.secret", env: []string{"POSTGRES_ADMIN_SECRET_NAME"}, azd: []string{"postgreSqlAdminSecretName"}},
	{path: "admin.password", env: []string{"POSTGRES_ADMIN_PASSWORD"}, azd: []string{"POSTGRES_ADMIN_PASSWORD"}, secret: true},
	{path: "role.name", env: []string{"POSTGRES_MIRROR_CONNECTION_USER_NAME", "POSTGRES_FABRIC_USER_NAME"}, azd: []string{"postgreSqlFabricUserNameOut"}},
	{path: "role.signIn", env: []string{"PGMIRROR_ROLE_SIGN_IN"}},
	{path: "role.secret", env: []string{"POSTGRES_MIRROR_CONNECTION_SECRET_NAME"}, azd: []string{"postgreSqlFabricUserSecretNameOut"}},
	{path: "role.password", env: []string{"POSTGRES_MIRROR_CONNECTION_PASSWORD"}, azd: []string{"POSTGRES_MIRROR_CONNECTION_PASSWORD"}, secret: true},
	{path: "role.entra.objectId", env: []string{"POSTGRES_FABRIC_ENTRA_OBJECT_ID"}, azd: []string{"POSTGRES_FABRIC_ENTRA_OBJECT_ID"}},
	{path: "role.entra.type", env: []string{"POSTGRES_FABRIC_ENTRA_OBJECT_TYPE"}, azd: []string{"POSTGRES_FABRIC_ENTRA_OBJECT_TYPE"}},
	{path: "role.entra.mfa", env: []string{"POSTGRES_FABRIC_ENTRA_REQUIRE_MFA"}, azd: []string{"POSTGRES_FABRIC_ENTRA_REQUIRE_MFA"}},
	{path: "vault", env: []string{"KEYVAULT_URL"}, azd: []string{"keyVaultResourceId"}, from: vaultURL},
	{path: "vaultId", env: []string{"KEYVAULT_ID"}, azd: []string{"keyVaultResourceId"}, from: vaultID},
	{path: "address", env: []string{"PGMIRROR_ADDRESS"}},
	{path: "workspace", env: []string{"FABRIC_WORKSPACE_ID"}, azd: []string{"fabricWorkspaceIdOut", "fabricWorkspaceId"}},
	{path: "mirror.name", env: []string{"FABRIC_POSTGRES_MIRROR_NAME"}, azd: []string{"FABRIC_POSTGRES_MIRROR_NAME"}},
	{path: "mirror.tables", env: []string{"PGMIRROR_TABLES"}},
	{path: "run.types", env: []string{"PGMIRROR_TYPES"}},
	{path: "connection.id", env: []string{"FABRIC_POSTGRES_CONNECTION_ID"}, azd: []string{"fabricPostgresConnectionId"}},
	{path: "connection.name", env: []string{"FABRIC_POSTGRES_CONNECTION_NAME"}, azd: []string{"FABRIC_POSTGRES_CONNECTION_NAME"}},
	{path: "connection.gateway", env: []string{"FABRIC_POSTGRES_GATEWAY_ID"}, azd: []string{"fabricPostgresGatewayId"}},
	{path: "seed.create", env: []string{"POSTGRES_CREATE_MIRRORING_SEED_TABLE"}},
	{path: "seed.table", env: []string{"POSTGRES_MIRRORING_SEED_TABLE_NAME"}},
	{path: "cloud", env: []string{"PGMIRROR_CLOUD"}},
	{path: "allow", env: []string{"PGMIRROR_ALLOW"}},
	{path: "endpoints.fabric", env: []string{"FABRIC_ENDPOINT"}},
	{path: "endpoints.arm", env: []string{"ARM_ENDPOINT"}},
	{path: "endpoints.onelakeDfs", env: []string{"ONELAKE_DFS_ENDPOINT"}},
	{path: "endpoints.onelakeBlob", env: []string{"ONELAKE_BLOB_ENDPOINT"}},
	{path: "endpoints.caFile", env: []string{"CA_FILE"}},
	{path: "tokens.fabric", env: []string{"FABRIC_TOKEN"}, secret: true},
	{path: "tokens.arm", env: []string{"ARM_TOKEN"}, secret: true},
	{path: "tokens.vault", env: []string{"VAULT_TOKEN"}, secret: true},
	{path: "tokens.storage", env: []string{"STORAGE_TOKEN"}, secret: true},
	{path: "tokens.postgres", env: []string{"POSTGRES_TOKEN"}, secret: true},
}

func fieldOf(path string) field {
	for _, f := range fields {
		if f.path == path {
			return f
		}
	}
	return field{path: path}
}

// vaultURL makes a vault's address of its ARM id, as the azd outputs hold it.
func vaultURL(id string) (string, error) {
	if strings.HasPrefix(id, "https://") {
		return id, nil
	}
	i := strings.LastIndex(strings.ToLower(id), "/vaults/")
	if i < 0 {
		return "", fmt.Errorf("vault %q: want a resource id or an https address", id)
	}
	return VaultURL(strings.Trim(id[i+len("/vaults/"):], "/"), ""), nil
}

// vaultID passes an address over: it has no id.
func vaultID(id string) (string, error) {
	if strings.HasPrefix(id, "https://") {
		return "", nil
	}
	return id, nil
}

// VaultURL is the address of a vault of the given name in a cloud.
func VaultURL(name, cloud string) string { return "https://" + name + "." + vaultSuffix[cloud] }

var vaultSuffix = map[string]string{"": "vault.azure.net", Public: "vault.azure.net", USGov: "vault.usgovcloudapi.net", China: "vault.azure.cn"}

// Clouds that are known by name.
const (
	Public = "public"
	USGov  = "usgov"
	China  = "china"
)

// at finds the value at a path, such as "server.host".
func at(c *Config, path string) (reflect.Value, bool) {
	v := reflect.ValueOf(c).Elem()
	for name := range strings.SplitSeq(path, ".") {
		if v.Kind() != reflect.Struct {
			return reflect.Value{}, false
		}
		found := false
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && keyOf(f) == name {
				v, found = v.Field(i), true
				break
			}
		}
		if !found {
			return reflect.Value{}, false
		}
	}
	return v, true
}

// keyOf is a struct field's name in a path; what the file may not hold has its
// own name in lower case.
func keyOf(f reflect.StructField) string {
	if tag := f.Tag.Get("yaml"); tag != "" && tag != "-" {
		return tag
	}
	return strings.ToLower(f.Name)
}

// setText sets a value from a flag's or a variable's text.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch x := v.Addr().Interface().(type) {
	case *time.Duration:
		d, err := readDuration(text)
		*x = d
		return err
	case *[]string:
		*x = splitList(text)
		return nil
	case *bool:
		b, err := truth(text)
		*x = b
		return err
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*x = n
		return nil
	}
	v.SetString(text)
	return nil
}

func readDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q: %s", text, wantDuration)
	}
	return d, nil
}

const wantDuration = "want a time with its unit, like 5s, 10m or 24h"

// splitList splits at commas, but for the one in "=decimal(20,4)".
func splitList(text string) []string {
	var out []string
	open := false
	for s := range strings.SplitSeq(text, ",") {
		if open {
			out[len(out)-1] += "," + s
			open = false
			continue
		}
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		out = append(out, s)
		_, digits, decimal := strings.Cut(s, "=decimal(")
		open = decimal && !strings.Contains(digits, ")")
	}
	return out
}

// truth reads the truth values that the scripts accept.
func truth(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "1", "true", "yes":
		return true, nil
	case "0", "false", "no", "":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", text)
}
