package emulator_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// writes are all endpoints that read a body, apart from those that restart.
func (w *world) writes() []string {
	ws := "/v1/workspaces/" + w.env["FABRIC_WORKSPACE_ID"]
	const none = "/00000000-0000-0000-0000-000000000000"
	fabric, arm, vault := w.env["FABRIC_ENDPOINT"], w.env["ARM_ENDPOINT"]+w.env["POSTGRES_SERVER_ID"], w.env["KEYVAULT_URL"]
	return []string{
		"POST " + fabric + "/v1/connections", "PATCH " + fabric + "/v1/connections" + none,
		"POST " + fabric + ws + "/roleAssignments", "POST " + fabric + ws + "/items", "POST " + fabric + ws + "/mirroredDatabases",
		"PATCH " + fabric + ws + "/items" + none, "POST " + fabric + ws + "/items" + none + "/updateDefinition",
		"PATCH " + arm + "?api-version=1", "PUT " + arm + "/configurations/work_mem?api-version=1",
		"PUT " + arm + "/configurations/azure.mirror_databases?api-version=1", "PUT " + arm + "/firewallRules/fuzz?api-version=1",
		"PATCH " + strings.Replace(arm, "Microsoft.DBforPostgreSQL/flexibleServers/pgmirror-emulator", "Microsoft.KeyVault/vaults/kv-pgmirror", 1) + "?api-version=1",
		"PUT " + vault + "/secrets/fuzz?api-version=1", "PATCH " + vault + "/secrets/fuzz/none?api-version=1",
	}
}

func (w *world) token(target string) string {
	for endpoint, token := range map[string]string{"FABRIC_ENDPOINT": "FABRIC_TOKEN", "ARM_ENDPOINT": "ARM_TOKEN", "KEYVAULT_URL": "VAULT_TOKEN"} {
		if strings.HasPrefix(target, w.env[endpoint]) {
			return w.env[token]
		}
	}
	return ""
}

// badBodies get a 4xx everywhere.
var badBodies = []string{"", " ", "null x", "{", "[]", "1", `"x"`, `{"a":}`, "\xff\xfe", strings.Repeat("[", 20000), strings.Repeat("x", 9<<20),
	`{"displayName":1}`, `{"properties":[]}`, `{"definition":{"parts":[{"path":1}]}}`}

func TestBadBodies(t *testing.T) {
	w := common(t)
	for _, target := range w.writes() {
		method, at, _ := strings.Cut(target, " ")
		for _, body := range badBodies[:11] {
			if a := w.do(t, method, at, w.token(at), body); a.status < 400 || a.status >= 500 {
				t.Errorf("%s with %.20q: got %d %s, want 4xx", target, body, a.status, a.raw)
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	for i, body := range badBodies {
		f.Add(uint(i), []byte(body))
	}
	f.Add(uint(0), []byte(`{"connectivityType":"ShareableCloud","displayName":"f","privacyLevel":"None","connectionDetails":{"type":"PostgreSQL","creationMethod":"PostgreSql","parameters":[{"name":"server","dataType":"Text","value":"localhost:99999"}]},"credentialDetails":{"credentials":{"credentialType":"Basic"}}}`))
	f.Add(uint(4), []byte(mirroringSeed))
	f.Fuzz(func(t *testing.T, which uint, body []byte) {
		w := common(t)
		targets := w.writes()
		method, at, _ := strings.Cut(targets[which%uint(len(targets))], " ")
		if a := w.do(t, method, at, w.token(at), string(body)); a.status >= 500 {
			t.Errorf("%s %s: got %d %s, want less than 500", method, at, a.status, a.raw)
		}
	})
}

const mirroringSeed = `{"displayName":"f","definition":{"parts":[{"path":"mirroring.json","payload":"e30=","payloadType":"InlineBase64"}]}}`

var sendable = regexp.MustCompile("^[A-Za-z0-9-]+: [ -~]*$")

// FuzzPath asks for anything, with any header.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"", "/", "//", "/v1/%2e%2e/x", "/v1/workspaces/%00", "/secrets/%zz", "/subscriptions//resourceGroups", "/v1/operations/x/result"} {
		f.Add(p, "a=b", "Accept", "*/*")
	}
	f.Add("v1/workspaces", "continuationToken=MQ==", "Authorization", "Bearer ")
	f.Add("secrets", "api-version=1", "Authorization", "Basic x")
	f.Add("v1/connections", "", "Content-Type", "application/json; charset=\xff")
	f.Add("subscriptions", "api-version=", "X-Forwarded-For", "8.8.8.8")
	f.Fuzz(func(t *testing.T, path, query, header, value string) {
		w := common(t)
		u := url.URL{Path: "/" + path, RawQuery: url.QueryEscape(query)}
		if !sendable.MatchString(header+": "+value) || strings.EqualFold(header, "Host") {
			return // Go's client doesn't send those
		}
		for _, endpoint := range []string{"FABRIC_ENDPOINT", "ARM_ENDPOINT", "KEYVAULT_URL"} {
			at := w.env[endpoint] + u.String()
			if a := w.do(t, "GET", at, w.token(w.env[endpoint]), nil, header+": "+value); a.status >= 500 {
				t.Errorf("GET %s with %s %q: got %d %s, want less than 500", at, header, value, a.status, a.raw)
			}
		}
	})
}
