// Package onelake answers as OneLake's DFS and Blob endpoints over a directory.
//
// Sources: "Azure Data Lake Storage Gen2 REST API" and "Blob service REST API"
// (learn.microsoft.com/rest/api/storageservices), "OneLake access and API
// parity" (learn.microsoft.com/fabric/onelake/onelake-api-parity), and recorded
// traffic of the fabric-cli project. Where they are silent it refuses.
package onelake

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Options say what is served.
type Options struct {
	// Root is the directory that holds <workspace>/<item>/Files and /Tables,
	// exactly as they are served: others may read and write there as well.
	// Uncommitted data lies in Root/.onelake, which New empties; one Service a
	// Root.
	Root string
	// Authorize judges a request before anything else; nil lets everything in.
	// A *Refusal is answered as it is, any other error as 401.
	Authorize func(*http.Request) error
	// Items gives the directory of an item, relative to Root with slashes, for
	// the names or ids that a request uses (Sales, shop.MirroredDatabase). Nil
	// takes <workspace>/<item> as it is written, if there is such a directory.
	Items func(workspace, item string) (dir string, ok bool)
	// PageSize bounds the entries of a page of a list, and how many a call of a
	// recursive delete removes; 0 is 5000, the service's own.
	PageSize int
}

// Service is a running OneLake. It answers DFS, and Blob requests that can be
// told from DFS ones, as the SDKs send both to one host when it isn't Azure's.
type Service struct {
	o     Options
	root  *os.Root
	mu    sync.Mutex // held while conditions are judged and what they allow is done
	clock atomic.Int64

	uploads map[string]*upload   // appended and not flushed, by path
	blocks  map[string]*blockSet // staged and not committed, by path
	removed time.Time            // when a folder was last removed
}

const (
	private     = ".onelake" // below Root, never served
	defaultPage = 5000
	apiVersion  = "2025-07-05"
)

// New opens a directory as OneLake. Close ends it.
func New(o Options) (*Service, error) {
	root, err := os.OpenRoot(o.Root)
	if err != nil {
		return nil, fmt.Errorf("open OneLake: %w", err)
	}
	if err := errors.Join(root.RemoveAll(private), root.MkdirAll(private, 0o700)); err != nil {
		root.Close()
		return nil, fmt.Errorf("open OneLake: %w", err)
	}
	if o.PageSize <= 0 {
		o.PageSize = defaultPage
	}
	return &Service{o: o, root: root, uploads: map[string]*upload{}, blocks: map[string]*blockSet{}}, nil
}

// Close forgets what is not committed. It may be called twice.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.uploads {
		s.dropUpload(p)
	}
	return s.root.Close()
}

// ServeHTTP answers as the DFS endpoint.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r, dfs) }

// Blob answers as the Blob endpoint.
func (s *Service) Blob() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, blob) })
}

// dialect is the API in which a request is made.
type dialect int

const (
	dfs dialect = iota
	blob
)

// dialectOf finds requests that only the Blob API knows.
func dialectOf(r *http.Request, endpoint dialect) dialect {
	q := r.URL.Query()
	if endpoint == blob || q.Has("comp") || q.Has("restype") || r.Header.Get("x-ms-blob-type") != "" || r.Header.Get("x-ms-copy-source") != "" {
		return blob
	}
	return dfs
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, endpoint dialect) {
	h := w.Header()
	h.Set("x-ms-request-id", uuid.NewString())
	h.Set("x-ms-version", apiVersion)
	if v := r.Header.Get("x-ms-version"); v != "" {
		h.Set("x-ms-version", v)
	}
	if v := r.Header.Get("x-ms-client-request-id"); v != "" {
		h.Set("x-ms-client-request-id", v)
	}
	d := dialectOf(r, endpoint)
	if err := s.answer(w, r, d); err != nil {
		writeError(w, r, d, err)
	}
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request, d dialect) error {
	if err := s.authorize(w, r); err != nil {
		return err
	}
	q, err := query(r)
	if err != nil {
		return err
	}
	t, err := s.target(r.URL.Path)
	if err != nil {
		return err
	}
	rejectHeaders(w, r)
	if t.depth < itemDepth {
		return s.container(w, r, d, t, q)
	}
	switch r.Method {
	case http.MethodHead, http.MethodGet:
		return s.read(w, r, d, t, q)
	case http.MethodPut:
		if d == blob {
			return s.putBlob(w, r, t, q)
		}
		return s.create(w, r, t, q)
	case http.MethodPatch:
		return s.update(w, r, t, q)
	case http.MethodDelete:
		return s.delete(w, r, d, t, q)
	}
	return refuse(http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.")
}

// container answers above the items: only HEAD, and lists of what is in an item.
func (s *Service) container(w http.ResponseWriter, r *http.Request, d dialect, t target, q params) error {
	switch {
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusOK)
		return nil
	case r.Method == http.MethodGet && t.depth == workspaceDepth && d == blob && q.get("comp") == "list":
		return s.listBlobs(w, t, q)
	case r.Method == http.MethodGet && t.depth == workspaceDepth && q.get("resource") == "filesystem":
		return s.listPaths(w, t, q)
	}
	return errManaged
}

func (s *Service) authorize(w http.ResponseWriter, r *http.Request) error {
	if s.o.Authorize == nil {
		return nil
	}
	err := s.o.Authorize(r)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Refusal](err); ok && e.Status != http.StatusUnauthorized {
		return e
	}
	w.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize resource_id=https://storage.azure.com")
	if r.Header.Get("Authorization") == "" {
		return refuse(http.StatusUnauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	}
	return refuse(http.StatusUnauthorized, "InvalidAuthenticationInfo", err.Error())
}
