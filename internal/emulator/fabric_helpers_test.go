package emulator_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

func asResponseError(err error) (*azcore.ResponseError, bool) {
	var e *azcore.ResponseError
	return e, errors.As(err, &e)
}

// encode is mirroring.json as a payload.
func encode(source, target map[string]any, mounted any) string {
	properties := map[string]any{"source": source, "target": map[string]any{"type": "MountedRelationalDatabase", "typeProperties": target}}
	if mounted != nil {
		properties["mountedTables"] = mounted
	}
	raw, err := json.Marshal(map[string]any{"properties": properties})
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func openDefinition(schema string) string {
	target := map[string]any{"format": "Delta"}
	if schema != "" {
		target["defaultSchema"] = schema
	}
	return encode(map[string]any{"type": "GenericMirror", "typeProperties": map[string]any{}}, target, nil)
}

func nativeDefinition(connection, database string, mounted any) string {
	return encode(map[string]any{"type": "AzurePostgreSql", "typeProperties": map[string]any{"connection": connection, "database": database}},
		map[string]any{"format": "Delta", "defaultSchema": "public"}, mounted)
}

func mirrorBody(name, definition string) map[string]any {
	return map[string]any{"displayName": name, "definition": definitionBody(definition)}
}

func definitionBody(definition string) map[string]any {
	return map[string]any{"parts": []any{map[string]any{"path": "mirroring.json", "payload": definition, "payloadType": "InlineBase64"}}}
}

func (w *world) mirrors() string {
	return "/workspaces/" + w.env["FABRIC_WORKSPACE_ID"] + "/mirroredDatabases"
}

// mirror makes a mirrored database that lasts as long as the test.
func (w *world) mirror(t *testing.T, name, definition string) (id string) {
	t.Helper()
	id = w.fabric(t, "POST", w.mirrors(), mirrorBody(name, definition)).want(t, 201, "").body["id"].(string)
	t.Cleanup(func() { w.fabricCleanup(w.mirrors() + "/" + id) })
	return id
}

// fabricCleanup deletes; it runs after the test's context ended.
func (w *world) fabricCleanup(path string) {
	req, err := http.NewRequest("DELETE", w.env["FABRIC_ENDPOINT"]+"/v1"+path, nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.env["FABRIC_TOKEN"])
	if resp, err := w.http.Do(req); err == nil { // the emulator may be closed
		resp.Body.Close()
	}
}
