package azure_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pgmirror/pgmirror/internal/azure"
)

// asked is a network and an identity that only note whom they were asked for.
type asked struct{ host, scope string }

func (a *asked) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	a.scope = strings.Join(o.Scopes, " ")
	return azcore.AccessToken{Token: "t"}, nil
}

func (a *asked) RoundTrip(q *http.Request) (*http.Response, error) {
	a.host = q.URL.Host
	return nil, notSent{errors.New("not sent")}
}

type notSent struct{ error }

func (notSent) NonRetriable() {}

// TestClouds: in each cloud its own ARM is asked, with a token for that one.
func TestClouds(t *testing.T) {
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg"
	for name, want := range map[string]struct{ arm, login, domain string }{
		"public": {"management.azure.com", "https://login.microsoftonline.com/", ".windows.net"},
		"usgov":  {"management.usgovcloudapi.net", "https://login.microsoftonline.us/", ".usgovcloudapi.net"},
		"china":  {"management.chinacloudapi.cn", "https://login.chinacloudapi.cn/", ".chinacloudapi.cn"},
	} {
		a := &asked{}
		s, err := azure.NewServer(id, azure.Options{Cloud: name, Credential: a, HTTP: &http.Client{Transport: a}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context()); err == nil {
			t.Errorf("%s: an answer without a network", name)
		}
		if a.host != want.arm {
			t.Errorf("%s: asked %s, want %s", name, a.host, want.arm)
		}
		if got := azure.Cloud(name).ActiveDirectoryAuthorityHost; got != want.login {
			t.Errorf("%s: signs in at %s, want %s", name, got, want.login)
		}
		for _, scope := range []string{a.scope, azure.PostgresScope(name)} {
			if !strings.Contains(scope, want.domain) && !strings.Contains(scope, want.arm) {
				t.Errorf("%s: asked for a token for %s", name, scope)
			}
		}
	}
}
