package emulator

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// arm is Azure Resource Manager as far as a mirror needs it: one flexible
// server and one Key Vault in one resource group.
type arm struct {
	state *stateFile
	db    *cluster
	delay time.Duration // how long a write takes at least
	base  string        // https://127.0.0.1:port
	vault string        // the vault's own address
	tasks *tasks
	log   *slog.Logger
	now   func() time.Time
	edge  func() // called when the server's mirroring parameters or identity changed

	firewall bool // clients are judged by public access and the rules, too

	writing sync.Mutex // held while a write to the server is under way
	service *service
}

const (
	serverType = "Microsoft.DBforPostgreSQL/flexibleServers"
	vaultType  = "Microsoft.KeyVault/vaults"

	groupPath  = "/subscriptions/{sub}/resourceGroups/{group}"
	serverPath = groupPath + "/providers/" + serverType + "/{server}"
	vaultPath  = groupPath + "/providers/" + vaultType + "/{vault}"
	locations  = "/subscriptions/{sub}/providers/Microsoft.DBforPostgreSQL/locations/{location}"
)

func newARM(a *arm, auth func(*call) *fault) *arm {
	a.service = &service{
		name:      "arm",
		authorize: auth,
		render:    renderARM,
		manners:   armManners,
		unknown:   armUnknown,
		notThis:   armNotThis,
		log:       a.log,
	}
	a.routes()
	return a
}

// routes is the table of contents of the emulated Resource Manager.
func (a *arm) routes() {
	on := func(method, pattern string, h handler) { a.service.router.on(method, pattern, a.guarded(h)) }
	on("GET", "/subscriptions/{sub}", a.getSubscription)
	on("GET", groupPath, a.getGroup)
	on("GET", "/subscriptions/{sub}/providers/"+serverType, a.listServers)
	on("GET", groupPath+"/providers/"+serverType, a.listServers)
	on("GET", serverPath, a.getServer)
	on("PATCH", serverPath, a.patchServer)
	on("POST", serverPath+"/restart", a.restartServer)
	on("GET", serverPath+"/configurations", a.listParameters)
	on("GET", serverPath+"/configurations/{name}", a.getParameter)
	on("PUT", serverPath+"/configurations/{name}", a.setParameter)
	on("PATCH", serverPath+"/configurations/{name}", a.setParameter)
	on("GET", serverPath+"/databases", a.listDatabases)
	on("GET", serverPath+"/databases/{name}", a.getDatabase)
	on("GET", serverPath+"/firewallRules", a.listRules)
	on("GET", serverPath+"/firewallRules/{name}", a.getRule)
	on("PUT", serverPath+"/firewallRules/{name}", a.putRule)
	on("DELETE", serverPath+"/firewallRules/{name}", a.deleteRule)
	on("GET", serverPath+"/administrators", a.listAdministrators)
	on("GET", serverPath+"/administrators/{id}", a.getAdministrator)
	on("PUT", serverPath+"/administrators/{id}", a.putAdministrator)
	on("DELETE", serverPath+"/administrators/{id}", a.deleteAdministrator)
	on("GET", locations+"/azureAsyncOperation/{op}", a.getOperation)
	on("GET", locations+"/operationResults/{op}", a.getOperationResult)
	on("GET", "/subscriptions/{sub}/providers/"+vaultType, a.listVaults)
	on("GET", groupPath+"/providers/"+vaultType, a.listVaults)
	on("GET", vaultPath, a.getVault)
	on("PATCH", vaultPath, a.patchVault)
}

// guarded refuses what is wrong with a request before its endpoint looks at it:
// no api-version, another subscription, another group, another server or vault.
func (a *arm) guarded(h handler) handler {
	return func(c *call) (reply, error) {
		if c.URL.Query().Get("api-version") == "" {
			return reply{}, faultf(http.StatusBadRequest, "MissingApiVersionParameter",
				"The api-version query parameter (?api-version=) is required for all requests.")
		}
		if f := a.located(c); f != nil {
			return reply{}, f
		}
		return h(c)
	}
}

func (a *arm) located(c *call) (f *fault) {
	is := func(name, want string) bool {
		got, named := c.vars[name]
		return !named || strings.EqualFold(got, want)
	}
	a.state.look(func(s *state) {
		switch {
		case !is("sub", s.Subscription):
			f = faultf(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", c.vars["sub"])
		case !is("group", s.Group):
			f = faultf(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", c.vars["group"])
		case !is("server", s.Server.Name):
			f = resourceNotFound(serverType, c.vars["server"], s.Group)
		case !is("vault", s.Vault.Name):
			f = resourceNotFound(vaultType, c.vars["vault"], s.Group)
		}
	})
	return f
}

func resourceNotFound(kind, name, group string) *fault {
	return faultf(http.StatusNotFound, "ResourceNotFound",
		"The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", kind, name, group)
}

func badRequest(why string) *fault {
	return faultf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%s'.", why)
}

func renderARM(f *fault, _ string) any {
	return map[string]any{"error": map[string]any{"code": f.code, "message": f.message}}
}

func armManners(h http.Header, id string) {
	h.Set("x-ms-request-id", id)
	h.Set("x-ms-correlation-request-id", id)
	h.Set("Cache-Control", "no-cache")
}

func armUnknown(c *call) *fault {
	return faultf(http.StatusNotFound, "InvalidResourceType", "The resource type of '%s' could not be found.", c.URL.Path)
}

func armNotThis(c *call, allow string) *fault {
	return faultf(http.StatusMethodNotAllowed, "HttpMethodNotSupported", "The http method '%s' is not supported here; supported are: %s.", c.Method, allow)
}

// authorizeARM tells the refusals as Resource Manager words them.
func authorizeARM(why refusal, t token) *fault {
	switch why {
	case refusedNone:
		return nil
	case refusedMissing:
		return unauthorized("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	case refusedAudience:
		return unauthorized("InvalidAuthenticationTokenAudience",
			"The access token has been obtained for wrong audience or resource '"+t.Audience+"'. It should exactly match with one of the allowed audiences '"+audienceARM+"/'.")
	case refusedExpired:
		return unauthorized("ExpiredAuthenticationToken", "The access token expiry UTC time '"+t.Expires.UTC().Format("1/2/2006 3:04:05 PM")+"' is earlier than current UTC time.")
	}
	return unauthorized("InvalidAuthenticationToken", "The access token is invalid.")
}

func unauthorized(code, message string) *fault {
	return faultf(http.StatusUnauthorized, code, "%s", message).
		with("WWW-Authenticate", `Bearer error="invalid_token"`)
}

func (a *arm) getSubscription(c *call) (reply, error) {
	var s state
	a.state.look(func(st *state) { s = *st })
	return reply{http.StatusOK, map[string]any{
		"id": "/subscriptions/" + s.Subscription, "subscriptionId": s.Subscription, "tenantId": s.Tenant,
		"displayName": "pgmirror emulator", "state": "Enabled",
	}}, nil
}

func (a *arm) getGroup(c *call) (reply, error) {
	var s state
	a.state.look(func(st *state) { s = *st })
	return reply{http.StatusOK, map[string]any{
		"id": groupID(&s), "name": s.Group, "type": "Microsoft.Resources/resourceGroups", "location": s.Location,
		"properties": map[string]any{"provisioningState": "Succeeded"},
	}}, nil
}

func groupID(s *state) string {
	return "/subscriptions/" + s.Subscription + "/resourceGroups/" + s.Group
}

func serverID(s *state) string { return groupID(s) + "/providers/" + serverType + "/" + s.Server.Name }

func vaultID(s *state) string { return groupID(s) + "/providers/" + vaultType + "/" + s.Vault.Name }

func newID() string { return uuid.NewString() }
