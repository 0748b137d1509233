package fabric_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

const (
	password = "s3cret<&>pässword"
	username = "fabric_user"
	made     = `{"id":"eeec9a3a-6ef5-4e2b-bb6a-0060bd2f0172","displayName":"shop","connectivityType":"ShareableCloud","gatewayId":null,
		"connectionDetails":{"type":"PostgreSQL","path":"localhost:5432;shop"},"privacyLevel":"Organizational",
		"credentialDetails":{"credentialType":"Basic","singleSignOnType":"None","connectionEncryption":"Encrypted","skipTestConnection":false}}`
)

func newConnection() fabric.NewConnection {
	return fabric.NewConnection{
		Name: "shop", Type: "PostgreSQL", Method: "PostgreSql", Encryption: "Encrypted", Privacy: "Organizational", Username: username, Password: password,
		Parameters: []fabric.Value{{Name: "server", Value: "localhost:5432"}, {Name: "CommandTimeout", DataType: "Duration", Value: "PT1M"}},
	}
}

func TestCreateConnection(t *testing.T) {
	t.Parallel()
	var got map[string]any
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != "POST" || r.URL.Path != "/v1/connections" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		answer(w, 201, made, "Location: https://api.fabric.microsoft.com/v1/connections/x")
	})
	conn, err := c.CreateConnection(t.Context(), newConnection())
	if err != nil {
		t.Fatal(err)
	}
	wantConn := fabric.Connection{
		ID: "eeec9a3a-6ef5-4e2b-bb6a-0060bd2f0172", Name: "shop", Type: "PostgreSQL", Path: "localhost:5432;shop", Connectivity: "ShareableCloud",
		CredentialType: "Basic", Encryption: "Encrypted", Privacy: "Organizational",
	}
	if d := cmp.Diff(wantConn, conn); d != "" {
		t.Error(d)
	}
	want := map[string]any{
		"connectivityType": "ShareableCloud", "displayName": "shop", "privacyLevel": "Organizational",
		"connectionDetails": map[string]any{"type": "PostgreSQL", "creationMethod": "PostgreSql", "parameters": []any{
			map[string]any{"dataType": "Text", "name": "server", "value": "localhost:5432"},
			map[string]any{"dataType": "Duration", "name": "CommandTimeout", "value": "PT1M"},
		}},
		"credentialDetails": map[string]any{
			"singleSignOnType": "None", "connectionEncryption": "Encrypted", "skipTestConnection": false,
			"credentials": map[string]any{"credentialType": "Basic", "username": username, "password": password},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestUpdateCredentials(t *testing.T) {
	t.Parallel()
	var got map[string]any
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Error(err)
			}
		}
		answer(w, 200, made)
	})
	vault := &fabric.SecretReference{ConnectionID: "4399ab2c-7551-4c0e-8aa7-18fc2f217626", Secret: "pw"}
	if err := c.UpdateCredentials(t.Context(), "x", fabric.Credentials{Username: username, KeyVault: vault}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"connectivityType": "ShareableCloud", "credentialDetails": map[string]any{
		"singleSignOnType": "None", "connectionEncryption": "Encrypted", "skipTestConnection": false,
		"credentials": map[string]any{"credentialType": "Basic", "username": username, "passwordReference": map[string]any{
			"connectionId": vault.ConnectionID, "secretName": vault.Secret,
		}},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Neither the service's echo of a request nor a print shows a secret.
func TestNoSecrets(t *testing.T) {
	t.Parallel()
	for kind, echo := range map[string]func(w http.ResponseWriter, body string){
		"message": func(w http.ResponseWriter, body string) {
			b, _ := json.Marshal(map[string]any{"errorCode": "IncorrectCredentials", "message": body, "moreDetails": []any{map[string]string{"errorCode": "x", "message": password}}})
			answer(w, 400, string(b))
		},
		"page": func(w http.ResponseWriter, body string) {
			answer(w, 400, "could not use "+username+" with "+password+" in "+body)
		},
		"cut off": func(w http.ResponseWriter, body string) { panic(http.ErrAbortHandler) },
	} {
		c := client(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				answer(w, 200, made)
				return
			}
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			echo(w, string(b))
		})
		_, created := c.CreateConnection(t.Context(), newConnection())
		updated := c.UpdateCredentials(t.Context(), "x", fabric.Credentials{Username: username, Password: password})
		for what, err := range map[string]error{"create": created, "update": updated} {
			if err == nil {
				t.Errorf("%s, %s: no error", what, kind)
			}
			wantNoSecret(t, what+", "+kind, fmt.Sprintf("%v %+v %#v", err, err, err))
			if e, ok := errors.AsType[*fabric.Error](err); ok {
				wantNoSecret(t, what+", "+kind, fmt.Sprintf("%+v", *e))
			}
		}
	}
	n, k := newConnection(), fabric.Credentials{Username: username, Password: password}
	asJSON, err := json.Marshal([]any{n, k})
	if err != nil || strings.Contains(string(asJSON), "s3cret") {
		t.Errorf("as JSON: %s, %v", asJSON, err)
	}
	wantNoSecret(t, "print", fmt.Sprintf("%v %+v %#v %s %q %v %v", n, n, n, n, n, k, &k))
}

func wantNoSecret(t *testing.T, what, s string) {
	t.Helper()
	for _, secret := range []string{"s3cret", username} {
		if strings.Contains(s, secret) {
			t.Errorf("%s: %q is in %s", what, secret, s)
		}
	}
}

func TestConnectionTypes(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("showAllCreationMethods") != "true" || q.Get("gatewayId") != "g" {
			t.Errorf("asked for %s", r.URL)
		}
		answer(w, 200, `{"value":[{"type":"PostgreSQL","creationMethods":[{"name":"PostgreSql","parameters":[
			{"name":"server","dataType":"Text","required":true,"allowedValues":null}]}],"supportedCredentialTypes":["Basic","OAuth2"],
			"supportedConnectionEncryptionTypes":["NotEncrypted","Encrypted"],"supportsSkipTestConnection":false,"supportedCredentialTypesForUsageInUserControlledCode":null},
			{"type":"Other","creationMethods":null}]}`)
	})
	got, err := c.ConnectionTypes(t.Context(), "g")
	want := []fabric.ConnectionType{
		{Type: "PostgreSQL", Methods: []fabric.CreationMethod{{Name: "PostgreSql", Parameters: []fabric.Parameter{{Name: "server", DataType: "Text", Required: true}}}},
			Credentials: []string{"Basic", "OAuth2"}, Encryptions: []string{"NotEncrypted", "Encrypted"}},
		{Type: "Other", Credentials: []string{}, Encryptions: []string{}},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}

func TestTestConnection(t *testing.T) {
	t.Parallel()
	body := `{"status":"Online","errors":null}`
	c := client(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 200, body) })
	if err := c.TestConnection(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	body = `{"status":"Offline","errors":[{"errorCode":"DM_GWPipeline_UnknownError","message":"refused"},{"errorCode":"b","message":"c"}]}`
	if err := c.TestConnection(t.Context(), "x"); fabric.Code(err) != "DM_GWPipeline_UnknownError" || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("got %v, want the first reason", err)
	}
}

func TestDefinition(t *testing.T) {
	t.Parallel()
	days := 3
	read := "\ufeff{\r\n  \"properties\": {\r\n \"source\":{\"type\":\"AzurePostgreSql\",\"typeProperties\":{\"connection\":\"c\",\"database\":\"d\",\"subType\":\"s\"}}," +
		`"target":{"type":"MountedRelationalDatabase","typeProperties":{"format":"Delta","defaultSchema":"public","retentionInDays":3,"enableDeltaChangeDataFeed":false}},
		"mountedTables":[{"source":{"typeProperties":{"schemaName":"b","tableName":"t"}},"extra":1},{"source":{"typeProperties":{"schemaName":"a","tableName":"t"}}}]}}`
	d, err := fabric.ParseDefinition([]byte(read))
	if err != nil {
		t.Fatal(err)
	}
	want := fabric.Definition{
		Source: fabric.Source{Type: "AzurePostgreSql", Connection: "c", Database: "d"}, Target: fabric.Target{DefaultSchema: "public", Format: "Delta", RetentionInDays: &days},
		MountedTables: []fabric.TableName{{Schema: "b", Table: "t"}, {Schema: "a", Table: "t"}},
	}
	if d.Source != want.Source || *d.Target.RetentionInDays != days || !cmp.Equal(d.MountedTables, want.MountedTables) {
		t.Errorf("got %+v, want %+v", d, want)
	}
	if d.Equal(want) {
		t.Error("what only one of them holds (subType, extra) doesn't count")
	}
	d.MountedTables = append(d.MountedTables, fabric.TableName{Schema: "n", Table: "n"})
	out, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(out), `"subType":"s"`) || !strings.Contains(string(out), `"extra":1`) || !strings.Contains(string(out), `"tableName":"n"`) {
		t.Errorf("written: %s, %v", out, err)
	}
	plain := fabric.Definition{Source: fabric.Source{Type: "GenericMirror"}, MountedTables: []fabric.TableName{{Schema: "a", Table: "1"}, {Schema: "b", Table: "2"}}}
	other := plain
	other.MountedTables = []fabric.TableName{{Schema: "b", Table: "2"}, {Schema: "a", Table: "1"}}
	if !plain.Equal(other) {
		t.Error("the order of tables counts")
	}
	other.MountedTables = nil
	if plain.Equal(other) {
		t.Error("all tables is the same as two")
	}
}
