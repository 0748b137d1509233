package azure_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/azure"
)

const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg1"

// script answers requests in order, and fails the test when more come.
type script struct {
	t       *testing.T
	answers []answer
	asked   []string
	server  *httptest.Server
}

type answer struct {
	status int
	header map[string]string
	body   string
}

func serve(t *testing.T, answers ...answer) *script {
	s := &script{t: t, answers: answers}
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *script) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.asked = append(s.asked, q.Method+" "+q.URL.Path)
	if len(s.asked) > len(s.answers) {
		s.t.Errorf("unexpected %s", s.asked[len(s.asked)-1])
		w.WriteHeader(http.StatusTeapot)
		return
	}
	a := s.answers[len(s.asked)-1]
	for k, v := range a.header {
		w.Header().Set(k, strings.ReplaceAll(v, "HOST", s.server.URL))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
}

func (s *script) options(t *testing.T) azure.Options {
	t.Helper()
	token, err := azure.Token("canary-token", s.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return azure.Options{Endpoint: s.server.URL, Credential: token, HTTP: s.server.Client(), Busy: azure.Busy{Tries: 3, Wait: 1}}
}

func failure(status int, code string) answer {
	return answer{status: status, body: fmt.Sprintf(`{"error":{"code":%q,"message":"busy"}}`, code)}
}

// TestBusyOnBothPaths: a server that is busy refuses at once, or accepts and
// fails later; either way the same write is made again.
func TestBusyOnBothPaths(t *testing.T) {
	accepted := answer{status: 202, header: map[string]string{"Azure-AsyncOperation": "HOST/op"}}
	failed := answer{status: 200, body: `{"status":"Failed","error":{"code":"ServerBusy","message":"busy"}}`}
	done := answer{status: 200, body: `{"status":"Succeeded"}`}
	s := serve(t, failure(409, "ServerIsBusy"), accepted, failed, accepted, done, answer{status: 200, body: `{"name":"wal_level"}`})
	server, err := azure.NewServer(id, s.options(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.SetParameter(t.Context(), "wal_level", "logical"); err != nil {
		t.Fatal(err)
	}
	patches := 0
	for _, a := range s.asked {
		if strings.HasPrefix(a, "PATCH ") {
			patches++
		}
	}
	if patches != 3 || len(s.asked) != 6 {
		t.Errorf("got %q", s.asked)
	}
}

func TestBusyEnds(t *testing.T) {
	s := serve(t, failure(409, "ServerIsBusy"), failure(409, "ServerIsBusy"), failure(409, "ServerIsBusy"))
	server, err := azure.NewServer(id, s.options(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); !azure.IsBusy(err) || azure.Code(err) != "ServerIsBusy" {
		t.Errorf("got %v, want ServerIsBusy", err)
	}
}

func TestForbiddenKinds(t *testing.T) {
	for _, kind := range []azure.Kind{azure.ByConnection, azure.ByFirewall, azure.ByRbac, azure.ByAccess} {
		s := serve(t, answer{status: 403, body: fmt.Sprintf(`{"error":{"code":"Forbidden","message":"no","innererror":{"code":%q}}}`, kind)})
		vault, err := azure.NewVault(s.options(t))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = vault.Secret(t.Context(), "a")
		if got := azure.Forbidden(err); got != kind {
			t.Errorf("got %q of %v, want %q", got, err, kind)
		}
		if strings.Contains(fmt.Sprintf("%+v", err), "canary-token") {
			t.Error("the token is in the error")
		}
	}
}

// TestSetSecretWaitsForRecovery: a name that is being recovered refuses new
// versions for a while.
func TestSetSecretWaitsForRecovery(t *testing.T) {
	recovering := answer{status: 409, body: `{"error":{"code":"Conflict","innererror":{"code":"ObjectIsBeingRecovered"}}}`}
	s := serve(t, recovering, recovering, answer{status: 200, body: `{"id":"https://v/secrets/a/1","value":"x"}`})
	vault, err := azure.NewVault(s.options(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := vault.SetSecret(t.Context(), "a", "x"); err != nil || len(s.asked) != 3 {
		t.Errorf("got %v after %q", err, s.asked)
	}
}

// TestInfo reads what ARM really sends: high availability as a word that the SDK
// has no constant for, and a server that says nothing of its sign-in modes.
func TestInfo(t *testing.T) {
	body, err := json.Marshal(map[string]any{
		"name": "pg1", "location": "westeurope", "sku": map[string]any{"tier": "GeneralPurpose"},
		"identity":   map[string]any{"type": "SystemAssigned,UserAssigned", "principalId": "p1"},
		"properties": map[string]any{"version": "16", "state": "Ready", "administratorLogin": "pgadmin", "highAvailability": map[string]any{"mode": "Disabled"}, "fullyQualifiedDomainName": "pg1.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, answer{status: 200, body: string(body)})
	server, err := azure.NewServer(id, s.options(t))
	if err != nil {
		t.Fatal(err)
	}
	i, err := server.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := []any{i.Version, i.HA, i.PrincipalID, i.PasswordSignIn, i.EntraSignIn, i.ReplicationRole, i.Elastic}
	if want := []any{16, "Disabled", "p1", true, false, "None", false}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTokenIsForThisMachineOnly(t *testing.T) {
	for _, e := range []string{"", "https://management.azure.com", "https://localhost.example.com"} {
		if _, err := azure.Token("t", e); err == nil {
			t.Errorf("a token was accepted for %q", e)
		}
	}
}
