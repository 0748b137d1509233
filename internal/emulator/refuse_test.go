package emulator_test

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestFabricRefuses is what other tests don't come across.
func TestFabricRefuses(t *testing.T) {
	w := common(t)
	items := "/workspaces/" + w.env["FABRIC_WORKSPACE_ID"] + "/items"
	one := w.mirrors() + "/" + w.mirror(t, "refuses otherwise", openDefinition(""))
	for _, kind := range []string{"", "Lakehouse"} {
		w.fabric(t, "POST", items, map[string]any{"displayName": "x", "type": kind}).want(t, 400, "InvalidItemType")
	}
	update := one + "/updateDefinition"
	w.fabric(t, "POST", update, "{}").want(t, 400, "MissingDefinition")
	w.fabric(t, "POST", update, `{"definition":{"parts":[]}}`).want(t, 400, "MissingDefinitionParts")
	w.fabric(t, "POST", update, `{"definition":{"parts":[{"path":"other.json","payload":"e30=","payloadType":"InlineBase64"}]}}`).want(t, 400, "InvalidDefinitionParts")
	platform := base64.StdEncoding.EncodeToString([]byte(`{"metadata":{"type":"Lakehouse","displayName":"x"}}`))
	parts := append(definitionBody(openDefinition(""))["parts"].([]any), map[string]any{"path": ".platform", "payload": platform, "payloadType": "InlineBase64"})
	w.fabric(t, "POST", update+"?updateMetadata=true", map[string]any{"definition": map[string]any{"parts": parts}}).want(t, 400, "InvalidPlatformFile")
	w.fabric(t, "GET", "/operations/00000000-0000-0000-0000-000000000000", nil).want(t, 404, "OperationNotFound")
	endpoint := w.fabric(t, "GET", one, nil).body["properties"].(map[string]any)["sqlEndpointProperties"].(map[string]any)["id"].(string)
	w.fabric(t, "DELETE", items+"/"+endpoint, nil).want(t, 400, "OperationNotSupportedForItem")
	w.fabric(t, "POST", items+"/"+endpoint+"/getDefinition", nil).want(t, 400, "OperationNotSupportedForItem")
}

func TestOtherServicesRefuse(t *testing.T) {
	w := common(t)
	arm := w.endpoints()["ARM_TOKEN"]
	w.do(t, "GET", arm, "emu_none", nil).want(t, 401, "InvalidAuthenticationToken")
	w.do(t, "GET", strings.Replace(arm, "/pgmirror/", "/other/", 1), w.env["ARM_TOKEN"], nil).want(t, 404, "ResourceGroupNotFound")
	w.arm(t, "PATCH", "", `{"identity":{"type":"UserAssigned"}}`).want(t, 400, "FeatureNotSupported")
	w.do(t, "GET", w.endpoints()["VAULT_TOKEN"], "emu_none", nil).want(t, 401, "Unauthorized")
	w.vault(t, "POST", "/secrets/x", "{}").want(t, 405, "BadParameter")
}
