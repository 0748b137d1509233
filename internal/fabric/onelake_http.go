package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pgmirror/pgmirror/internal/store"
)

// placeholder is the path that the SDK's clients are made with; addressing puts
// the real one in its place.
const placeholder = "_"

// address is the file that a request is about, and where it comes from when it
// is renamed; both within the workspace.
type address struct{ path, from string }

type addressKey struct{}

// at makes the requests under ctx be about a file.
func (l *lake) at(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, addressKey{}, address{path: path.Join(l.prefix, name)})
}

// fromTo makes a Create under ctx be a rename.
func (l *lake) fromTo(ctx context.Context, from, to string) context.Context {
	return context.WithValue(ctx, addressKey{}, address{path: path.Join(l.prefix, to), from: path.Join(l.prefix, from)})
}

// addressing writes a request's path itself. The SDK replaces ".blob." anywhere
// in a URL, encodes slashes, sends the source of a rename unencoded, and takes
// the workspace for an account when the host is an IP address.
type addressing struct{ workspace string }

// Do sends the request to its address.
func (a addressing) Do(req *policy.Request) (*http.Response, error) {
	to, ok := req.Raw().Context().Value(addressKey{}).(address)
	if !ok {
		return req.Next() // a list: its path is the workspace
	}
	u := req.Raw().URL
	u.Path = a.workspace + "/" + to.path
	u.RawPath = escape(u.Path)
	if to.from != "" {
		q := u.Query()
		q.Del("resource")
		q.Set("mode", "legacy")
		u.RawQuery = q.Encode()
		workspace := a.workspace[strings.LastIndexByte(a.workspace, '/'):]
		req.Raw().Header["x-ms-rename-source"] = []string{escape(workspace + "/" + to.from)}
	}
	return req.Next()
}

func escape(p string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// lakeAnswers makes an *Error of every refusal, after the SDK's retries.
type lakeAnswers struct{}

// Do returns an *Error for every answer above 399.
func (lakeAnswers) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err == nil && resp.StatusCode >= 400 {
		return nil, refusal(resp, secretsOf(req.Raw().Context()))
	}
	return resp, err
}

// noChallenge hides a 401's challenge, which the SDK would answer with the same
// token again, and over a short one panics. Only one that asks for claims, after
// a token was revoked, is worth an answer.
type noChallenge struct{}

// Do removes the challenge.
func (noChallenge) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err == nil && resp.StatusCode == http.StatusUnauthorized && !strings.Contains(resp.Header.Get("WWW-Authenticate"), "claims=") {
		resp.Header.Del("WWW-Authenticate")
	}
	return resp, err
}

// stored says an error in the store's words, and keeps the service's.
func stored(err error) error {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return err
	case e.Status == http.StatusNotFound && slices.Contains([]string{"", "PathNotFound", "BlobNotFound", "SourcePathNotFound", "ResourceNotFound"}, e.Code):
		return fmt.Errorf("%w: %w", store.ErrNotExist, err)
	case e.Status == http.StatusConflict && (e.Code == "PathAlreadyExists" || e.Code == "BlobAlreadyExists"):
		return fmt.Errorf("%w: %w", store.ErrExist, err)
	}
	return err
}

// ambiguous says that a request may have been done although it failed: its
// answer got lost, or the service broke off.
func ambiguous(err error) bool {
	if err == nil {
		return false
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status >= 500 || e.Status == http.StatusRequestTimeout
	}
	_, unsigned := errors.AsType[*signInError](err)
	return !unsigned
}
