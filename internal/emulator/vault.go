package emulator

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// vault is the Key Vault's data plane: secrets, with soft delete.
type vault struct {
	state   *stateFile
	tokens  func() tokens
	base    string
	now     func() time.Time
	service *service
}

var secretName = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)

// maxSecret is the longest value, in bytes.
const maxSecret = 25 << 10

func newVault(v *vault, log *slog.Logger) *vault {
	v.service = &service{
		name:      "vault",
		authorize: v.authorize,
		render:    renderVault,
		manners:   vaultManners,
		unknown: func(c *call) *fault {
			return faultf(http.StatusNotFound, "NotFound", "The URI '%s' is not known.", c.URL.Path)
		},
		notThis: func(c *call, allow string) *fault {
			return faultf(http.StatusMethodNotAllowed, "BadParameter", "Method %s does not allow this operation.", c.Method)
		},
		log: log,
	}
	v.routes()
	return v
}

// routes is the table of contents of the emulated Key Vault.
func (v *vault) routes() {
	on := func(method, pattern string, h handler) { v.service.router.on(method, pattern, v.versioned(h)) }
	on("GET", "/secrets", v.listSecrets)
	on("PUT", "/secrets/{name}", v.setSecret)
	on("GET", "/secrets/{name}", v.getSecret)
	on("DELETE", "/secrets/{name}", v.deleteSecret)
	on("GET", "/secrets/{name}/versions", v.listVersions)
	on("GET", "/secrets/{name}/{version}", v.getSecret)
	on("PATCH", "/secrets/{name}/{version}", v.patchSecret)
	on("GET", "/deletedsecrets", v.listDeleted)
	on("GET", "/deletedsecrets/{name}", v.getDeleted)
	on("DELETE", "/deletedsecrets/{name}", v.purgeSecret)
	on("POST", "/deletedsecrets/{name}/recover", v.recoverSecret)
}

// versioned wants an api-version, any one.
func (v *vault) versioned(h handler) handler {
	return func(c *call) (reply, error) {
		if c.URL.Query().Get("api-version") == "" {
			return reply{}, faultf(http.StatusBadRequest, "BadParameter", "The request URI contains no api-version.")
		}
		if name, named := c.vars["name"]; named && !secretName.MatchString(name) {
			return reply{}, faultf(http.StatusBadRequest, "BadParameter", "The request URI contains an invalid name: %s", name)
		}
		return h(c)
	}
}

// authorize is the challenge, then the two network gates.
func (v *vault) authorize(c *call) *fault {
	t, why := v.tokens().check(c.Request, audienceVault, v.now())
	if why != refusedNone {
		return v.challenge(why, t)
	}
	var f *fault
	v.state.look(func(s *state) {
		if f = s.Vault.refuses(caller(c.Request), v.now()); f == nil {
			f = s.World.forbids(c.Request, s)
		}
	})
	return f
}

// forbids judges the caller's rights, which come after the network.
func (w *worldState) forbids(r *http.Request, s *state) *fault {
	verb := map[string]string{"GET": "get", "DELETE": "delete"}[r.Method]
	if verb == "" {
		verb = "set"
	}
	if w.VaultAccess == "" || w.VaultAccess == "all" || w.VaultAccess == "get" && verb == "get" {
		return nil
	}
	f := &fault{status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByRbac",
		message: "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\nCaller: oid=" + s.User +
			"\r\nAction: 'Microsoft.KeyVault/vaults/secrets/" + verb + "Secret/action'\r\nResource: '" + vaultID(s) + "'\r\nAssignment: (not found)\r\nDecisionReason: 'DeniedWithNoValidRBAC'"}
	if w.VaultPolicies {
		f.inner = "AccessDenied"
		f.message = "The user, group or application 'oid=" + s.User + "' does not have secrets " + verb + " permission on key vault '" + s.Vault.Name + "'."
	}
	return f
}

// challenge tells a client where to sign in. Microsoft's clients take the tenant
// from the address's first segment and panic when there is none.
func (v *vault) challenge(why refusal, t token) *fault {
	var tenant string
	v.state.look(func(s *state) { tenant = s.Tenant })
	message := map[refusal]string{
		refusedMissing:  "AKV10000: Request is missing a Bearer or PoP token.",
		refusedUnknown:  "AKV10032: Invalid issuer.",
		refusedAudience: "AKV10022: Invalid audience. Expected " + audienceVault + ", found: " + t.Audience + ".",
		refusedExpired:  "AKV10001: The token has expired.",
	}[why]
	return faultf(http.StatusUnauthorized, "Unauthorized", "%s", message).
		with("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/`+tenant+`", resource="`+audienceVault+`"`)
}

func caller(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// lists says whether an IP rule lets address in.
func (n *networkACLs) lists(address string) bool {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	for _, raw := range n.IPRules {
		var rule struct {
			Value string `json:"value"`
		}
		if json.Unmarshal(raw, &rule) == nil && covers(rule.Value, addr) {
			return true
		}
	}
	return false
}

func covers(rule string, addr netip.Addr) bool {
	if !strings.Contains(rule, "/") {
		rule += "/32"
	}
	p, err := netip.ParsePrefix(rule)
	return err == nil && p.Contains(addr.Unmap())
}

func renderVault(f *fault, _ string) any {
	body := map[string]any{"code": f.code, "message": f.message}
	if f.inner != "" {
		body["innererror"] = map[string]any{"code": f.inner}
	}
	return map[string]any{"error": body}
}

func vaultManners(h http.Header, id string) {
	h.Set("x-ms-request-id", id)
	h.Set("x-ms-keyvault-service-version", "1.9.0.0")
	h.Set("Cache-Control", "no-cache")
}
