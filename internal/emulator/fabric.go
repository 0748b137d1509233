package emulator

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// fabric is Fabric's REST API as far as mirroring needs it.
type fabric struct {
	state   *stateFile
	db      *cluster
	mirrors *mirrors
	base    string // https://127.0.0.1:port/v1
	dfs     string // OneLake's addresses
	blob    string
	o       Options
	now     func() time.Time
	service *service
}

const (
	workspacePath  = "/v1/workspaces/{workspace}"
	itemPath       = workspacePath + "/items/{item}"
	mirrorPath     = workspacePath + "/mirroredDatabases/{mirror}"
	connectionPath = "/v1/connections/{connection}"
	gatewayPath    = "/v1/gateways/{gateway}"
)

func newFabric(f *fabric, auth func(*call) *fault, log *slog.Logger) *fabric {
	f.service = &service{
		name:      "fabric",
		authorize: auth,
		render:    renderFabric,
		manners:   fabricManners,
		unknown: func(c *call) *fault {
			return faultf(http.StatusNotFound, "EndpointNotFound", "The requested endpoint was not found.")
		},
		notThis: func(c *call, allow string) *fault {
			return faultf(http.StatusMethodNotAllowed, "UnsupportedMethod", "The method %s is not allowed here; allowed are: %s.", c.Method, allow)
		},
		log:         log,
		errorHeader: "x-ms-public-api-error-code",
	}
	f.routes()
	return f
}

// routes is the table of contents of the emulated Fabric.
func (f *fabric) routes() {
	on := func(method, pattern string, h handler) { f.service.router.on(method, pattern, f.guarded(h)) }
	on("GET", "/v1/workspaces", f.listWorkspaces)
	on("POST", "/v1/workspaces", f.createWorkspace)
	on("GET", workspacePath, f.getWorkspace)
	on("PATCH", workspacePath, f.patchWorkspace)
	on("DELETE", workspacePath, f.deleteWorkspace)
	on("POST", workspacePath+"/assignToCapacity", f.assignToCapacity)
	on("POST", workspacePath+"/unassignFromCapacity", f.unassignFromCapacity)
	on("POST", workspacePath+"/provisionIdentity", f.provisionIdentity)
	on("POST", workspacePath+"/deprovisionIdentity", f.deprovisionIdentity)
	f.roleRoutes(on, workspacePath, f.workspaceRoles())
	on("GET", "/v1/capacities", f.listCapacities)

	on("GET", "/v1/connections/supportedConnectionTypes", f.listConnectionTypes)
	on("GET", "/v1/connections", f.listConnections)
	on("POST", "/v1/connections", f.createConnection)
	on("GET", connectionPath, f.getConnection)
	on("PATCH", connectionPath, f.patchConnection)
	on("DELETE", connectionPath, f.deleteConnection)
	on("POST", connectionPath+"/testConnection", f.testConnection)
	f.roleRoutes(on, connectionPath, f.connectionRoles())

	on("GET", "/v1/gateways", f.listGateways)
	on("POST", "/v1/gateways", f.createGateway)
	on("GET", gatewayPath, f.getGateway)
	on("PATCH", gatewayPath, f.patchGateway)
	on("DELETE", gatewayPath, f.deleteGateway)
	on("POST", gatewayPath+"/checkStatus", f.gatewayStatus)
	f.roleRoutes(on, gatewayPath, f.gatewayRoles())

	on("GET", workspacePath+"/items", f.listItems)
	on("POST", workspacePath+"/items", f.createItem)
	on("GET", itemPath, f.getItem)
	on("PATCH", itemPath, f.patchItem)
	on("DELETE", itemPath, f.deleteItem)
	on("GET", itemPath+"/connections", f.itemConnections)
	on("POST", itemPath+"/getDefinition", f.getDefinition)
	on("POST", itemPath+"/updateDefinition", f.updateDefinition)

	on("GET", workspacePath+"/mirroredDatabases", f.listMirrors)
	on("POST", workspacePath+"/mirroredDatabases", f.createMirror)
	on("GET", mirrorPath, f.getMirror)
	on("PATCH", mirrorPath, f.patchItem)
	on("DELETE", mirrorPath, f.deleteItem)
	on("POST", mirrorPath+"/getDefinition", f.getDefinition)
	on("POST", mirrorPath+"/updateDefinition", f.updateDefinition)
	on("POST", mirrorPath+"/startMirroring", f.startMirroring)
	on("POST", mirrorPath+"/stopMirroring", f.stopMirroring)
	on("POST", mirrorPath+"/getMirroringStatus", f.getMirroringStatus)
	on("POST", mirrorPath+"/getTablesMirroringStatus", f.getTablesMirroringStatus)

	on("GET", workspacePath+"/sqlEndpoints", f.listEndpoints)
	on("POST", workspacePath+"/sqlEndpoints/{item}/refreshMetadata", f.refreshMetadata)

	on("GET", "/v1/operations/{operation}", f.getOperation)
	on("GET", "/v1/operations/{operation}/result", f.getOperationResult)
}

// guarded refuses ids that are no GUIDs and workspaces that are not there.
func (f *fabric) guarded(h handler) handler {
	return func(c *call) (reply, error) {
		for name, v := range c.vars {
			if _, err := uuid.Parse(v); err != nil || len(v) != 36 {
				return reply{}, faultf(http.StatusBadRequest, "InvalidParameter", "The value of the parameter %s is not a GUID.", name)
			}
			c.vars[name] = strings.ToLower(v)
		}
		if id, named := c.vars["workspace"]; named {
			if err := f.state.read(func(s *state) error { _, err := s.workspace(id); return err }); err != nil {
				return reply{}, err
			}
		}
		if c.vars["mirror"] != "" {
			c.vars["item"] = c.vars["mirror"]
		}
		if e := operationFault(c.Context()); e != nil {
			return f.later(c, &fabricOperation{Created: f.now(), Ready: f.now().Add(f.o.OperationDelay), Code: e.code, Message: e.message})
		}
		return h(c)
	}
}

func (s *state) workspace(id string) (*workspaceState, error) {
	for _, w := range s.Workspaces {
		if w.ID == id {
			return w, nil
		}
	}
	return nil, faultf(http.StatusNotFound, "WorkspaceNotFound", "The requested workspace '%s' was not found.", id)
}

func invalidInput(why string) *fault {
	return faultf(http.StatusBadRequest, "InvalidInput", "The request has an invalid input: %s", why)
}

// renderFabric is the flat body that the live service sends; the nested one of
// the throttling article was never recorded.
func renderFabric(f *fault, id string) any {
	body := map[string]any{"requestId": id, "errorCode": f.code, "message": f.message, "isRetriable": f.status == http.StatusTooManyRequests}
	if len(f.details) > 0 {
		body["moreDetails"] = f.details
	}
	return body
}

func fabricManners(h http.Header, id string) {
	h.Set("RequestId", id)
	h.Set("Cache-Control", "no-store, must-revalidate, no-cache")
	h.Set("Access-Control-Expose-Headers", "RequestId")
}

// authorizeFabric tells the refusals in Fabric's shape.
func authorizeFabric(why refusal, t token) *fault {
	switch why {
	case refusedNone:
		return nil
	case refusedExpired:
		return faultf(http.StatusUnauthorized, "TokenExpired", "Access token has expired, resubmit with a new access token")
	case refusedAudience:
		return faultf(http.StatusUnauthorized, "Unauthorized", "The caller is not authenticated to access this resource: the token is for %s.", t.Audience)
	}
	return faultf(http.StatusUnauthorized, "Unauthorized", "The caller is not authenticated to access this resource")
}

// page cuts a list for one answer. Fabric's page size can't be set by a client;
// here it is an option, so that paging can be tried.
func page[T any](f *fabric, c *call, list []T) (part []T, token, uri *string, err error) {
	from := 0
	if t := c.URL.Query().Get("continuationToken"); t != "" {
		raw, e := base64.StdEncoding.DecodeString(t)
		if from, err = strconv.Atoi(string(raw)); e != nil || err != nil || from < 0 || from > len(list) {
			return nil, nil, nil, faultf(http.StatusBadRequest, "InvalidContinuationToken", "The continuation token is not valid.")
		}
	}
	to := min(from+f.o.PageSize, len(list))
	if to < len(list) {
		next := base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(to)))
		q := c.URL.Query()
		q.Set("continuationToken", next)
		u := f.address(c) + "?" + q.Encode()
		token, uri = &next, &u
	}
	return append([]T{}, list[from:to]...), token, uri, nil
}

// list answers a paged list whose entries are under key.
func list[T any](f *fabric, c *call, key string, all []T) (reply, error) {
	part, token, uri, err := page(f, c, all)
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, map[string]any{key: part, "continuationToken": token, "continuationUri": uri}}, nil
}

// address is where a call came to.
func (f *fabric) address(c *call) string { return strings.TrimSuffix(f.base, "/v1") + c.URL.Path }

// location tells where a thing that was just made can be read.
func (f *fabric) location(c *call, format string, args ...any) {
	c.header.Set("Location", f.base+fmt.Sprintf(format, args...))
}

func queryTrue(q url.Values, name string) bool {
	v, err := strconv.ParseBool(q.Get(name))
	return err == nil && v
}

// stamp is a time as Fabric writes it: seven digits of a fraction.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }
