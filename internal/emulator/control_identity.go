package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// audiences are those of the environment's tokens and the managed identity's.
var audiences = []string{audienceFabric, audienceARM, audienceVault, audienceStorage, audiencePostgres}

// classicARM is ARM's older name, which Azure's SDKs still ask for.
const classicARM = "https://management.core.windows.net"

// identityLife is how long such a token is good.
const identityLife = 24 * time.Hour

// identityToken answers as App Service's managed identity endpoint does, which
// azidentity finds by IDENTITY_ENDPOINT and IDENTITY_HEADER
// (learn.microsoft.com/azure/app-service/overview-managed-identity).
func (k *control) identityToken(c *call) (reply, error) {
	if c.Header.Get("X-IDENTITY-HEADER") == "" {
		return reply{}, faultf(http.StatusUnauthorized, "Unauthorized", "The header X-IDENTITY-HEADER is missing.")
	}
	q := c.URL.Query()
	resource := strings.TrimSuffix(q.Get("resource"), "/")
	if resource == classicARM {
		resource = audienceARM
	}
	switch {
	case q.Get("api-version") == "":
		return reply{}, invalidControl("api-version is required; it is 2019-08-01")
	case !slices.Contains(audiences, resource):
		return reply{}, invalidControl(fmt.Sprintf("The resource %q is none of %s.", q.Get("resource"), strings.Join(audiences, ", ")))
	}
	t := mint(resource, k.now().Add(identityLife))
	var client string
	err := k.state.change(func(s *state) error {
		if resource == audiencePostgres { // a role of PostgreSQL has one password
			t, _ = s.Tokens.newest(resource)
		} else {
			s.Tokens = append(s.Tokens, t) // behind those of the environment
		}
		client = s.User
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, map[string]any{
		"access_token": t.Value, "expires_on": fmt.Sprint(t.Expires.Unix()), "resource": q.Get("resource"), "token_type": "Bearer", "client_id": client,
	}}, nil
}
