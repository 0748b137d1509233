package onelake

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

// Refusal is an answer that is no success.
type Refusal struct {
	Status  int
	Code    string // x-ms-error-code
	Message string
}

func (e *Refusal) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, message string) *Refusal { return &Refusal{status, code, message} }

var (
	errNotFound     = refuse(http.StatusNotFound, "PathNotFound", "The specified path does not exist.")
	errExists       = refuse(http.StatusConflict, "PathAlreadyExists", "The specified path already exists.")
	errCondition    = refuse(http.StatusPreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
	errNotModified  = refuse(http.StatusNotModified, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
	errManaged      = refuse(http.StatusBadRequest, "OperationNotAllowedOnThePath", "Operation is not allowed on the path: workspaces, items and their managed folders are not changed here.")
	errBadPath      = refuse(http.StatusBadRequest, "InvalidUri", "The request URI is invalid.")
	errWrongType    = refuse(http.StatusConflict, "ResourceTypeMismatch", "The resource type specified does not match the type of the existing resource.")
	errNotEmpty     = refuse(http.StatusConflict, "DirectoryNotEmpty", "The recursive query parameter value must be true to delete a non-empty directory.")
	errNoItem       = refuse(http.StatusNotFound, "ArtifactNotFound", "The item does not exist in the workspace.")
	errInvalidQuery = refuse(http.StatusBadRequest, "InvalidQueryParameterValue", "Value for one of the query parameters specified in the request URI is invalid.")
	errInvalidValue = refuse(http.StatusBadRequest, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
)

// notEmulated is said of what the service has and this one hasn't.
func notEmulated(what string) *Refusal {
	return refuse(http.StatusNotImplemented, "NotImplemented", what+" is not emulated.")
}

// refusalOf finds the answer to an error of the file system.
func refusalOf(err error) *Refusal {
	if e, ok := errors.AsType[*Refusal](err); ok {
		return e
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errNotFound
	case errors.Is(err, fs.ErrExist):
		return errExists
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return errWrongType
	case errors.Is(err, syscall.ENOTEMPTY):
		return errNotEmpty
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL), errors.Is(err, fs.ErrInvalid):
		return refuse(http.StatusBadRequest, "InvalidResourceName", "The specified resource name contains invalid characters or is too long.")
	}
	return refuse(http.StatusInternalServerError, "InternalError", "The server encountered an internal error: "+err.Error())
}

// writeError answers in the form of the dialect: JSON for DFS, XML for Blob.
func writeError(w http.ResponseWriter, r *http.Request, d dialect, err error) {
	e := *refusalOf(err)
	if d == blob || r.Method == http.MethodHead {
		e.Code = blobCode(e.Code)
	}
	w.Header().Set("x-ms-error-code", e.Code)
	if r.Method == http.MethodHead || e.Status == http.StatusNotModified {
		w.WriteHeader(e.Status)
		return
	}
	var body []byte
	if d == blob {
		w.Header().Set("Content-Type", "application/xml")
		body, _ = xml.Marshal(struct { // cannot fail: two strings
			XMLName       xml.Name `xml:"Error"`
			Code, Message string
		}{Code: e.Code, Message: e.Message})
		body = append([]byte(xml.Header), body...)
	} else {
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		body, _ = json.Marshal(map[string]any{"error": map[string]string{"code": e.Code, "message": e.Message}}) // cannot fail: two strings
	}
	w.WriteHeader(e.Status)
	w.Write(body) // a client that has gone needs no answer
}

// Refuse writes an error as the DFS or the Blob endpoint does.
func (s *Service) Refuse(w http.ResponseWriter, r *http.Request, blobEndpoint bool, e *Refusal) {
	endpoint := dfs
	if blobEndpoint {
		endpoint = blob
	}
	w.Header().Set("x-ms-request-id", uuid.NewString())
	w.Header().Set("x-ms-version", apiVersion)
	writeError(w, r, dialectOf(r, endpoint), e)
}

// blobCode is the Blob API's name for a DFS code. A HEAD is answered with it on
// both endpoints (recorded).
func blobCode(code string) string {
	switch code {
	case "PathNotFound":
		return "BlobNotFound"
	case "PathAlreadyExists":
		return "BlobAlreadyExists"
	case "DirectoryNotEmpty":
		return "DirectoryIsNotEmpty"
	}
	return code
}

// rejectHeaders tells, as OneLake does, which headers had no effect.
func rejectHeaders(w http.ResponseWriter, r *http.Request) {
	var list []string
	for name := range r.Header {
		n := strings.ToLower(name)
		switch n {
		case "x-ms-owner", "x-ms-group", "x-ms-permissions", "x-ms-acl", "x-ms-umask", "x-ms-access-tier", "x-ms-properties":
			list = append(list, n)
		default:
			if strings.HasPrefix(n, "x-ms-encryption-") || strings.HasPrefix(n, "x-ms-meta-") {
				list = append(list, n)
			}
		}
	}
	if len(list) > 0 {
		slices.Sort(list)
		w.Header().Set("x-ms-rejected-headers", strings.Join(list, ","))
	}
}

// params are the query's parameters.
type params map[string][]string

func (p params) get(name string) string {
	if v := p[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func query(r *http.Request) (params, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errInvalidQuery
	}
	return params(v), nil
}
