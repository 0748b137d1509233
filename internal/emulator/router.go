package emulator

import (
	"net/http"
	"net/url"
	"strings"
)

// call is one request on its way through a service: the request and what its
// path says.
type call struct {
	*http.Request
	header http.Header // of the answer; a handler may set what it needs
	vars   map[string]string
}

// reply is the answer to a call. A nil body sends no body; []byte is sent as it
// is; anything else as JSON.
type reply struct {
	status int
	body   any
}

// handler answers one endpoint. An error that is a *fault is told in the
// service's own shape, any other one is an internal error.
type handler func(c *call) (reply, error)

// router finds the handler of a path. Fixed segments are compared without
// regard to case, as ARM and Fabric do; {x} takes one segment. A known path with
// another method is 405, strictly: a GET on a POST-only page is a client's bug
// that the emulator is there to show.
type router struct {
	routes []route
}

type route struct {
	method  string
	pattern []string
	handle  handler
}

func (rt *router) on(method, pattern string, h handler) {
	rt.routes = append(rt.routes, route{method, segments(pattern), h})
}

// find returns the handler for a request and its path variables; known says
// that the path exists, though perhaps for other methods, which allow lists.
func (rt *router) find(r *http.Request) (h handler, vars map[string]string, allow []string) {
	path, ok := decoded(segments(r.URL.EscapedPath()))
	if !ok {
		return nil, nil, nil
	}
	for _, ro := range rt.routes {
		vars, ok := match(ro.pattern, path)
		if !ok {
			continue
		}
		if ro.method == r.Method {
			return ro.handle, vars, nil
		}
		allow = append(allow, ro.method)
	}
	return nil, nil, allow
}

// segments splits before unescaping, so that an escaped slash stays inside its
// segment. A trailing slash means nothing: Microsoft's Key Vault client asks for
// the newest version of a secret with one.
func segments(path string) []string {
	return strings.Split(strings.Trim(path, "/"), "/")
}

func decoded(segs []string) ([]string, bool) {
	out := make([]string, len(segs))
	for i, s := range segs {
		d, err := url.PathUnescape(s)
		if err != nil {
			return nil, false
		}
		out[i] = d
	}
	return out, true
}

func match(pattern, path []string) (map[string]string, bool) {
	if len(pattern) != len(path) {
		return nil, false
	}
	vars := map[string]string{}
	for i, p := range pattern {
		if name, isVar := strings.CutPrefix(p, "{"); isVar {
			if path[i] == "" {
				return nil, false
			}
			vars[strings.TrimSuffix(name, "}")] = path[i]
		} else if !strings.EqualFold(p, path[i]) {
			return nil, false
		}
	}
	return vars, true
}
