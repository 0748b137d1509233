package fabric

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"

	"github.com/pgmirror/pgmirror/internal/store"
)

// OneLakeOptions say which folder of OneLake is opened, and who asks.
type OneLakeOptions struct {
	Endpoint   string                 // DFS; "" is https://onelake.dfs.fabric.microsoft.com; must be https
	Credential azcore.TokenCredential // asked for the scope https://storage.azure.com/.default
	HTTP       *http.Client           // carries the roots and the proxy; nil is the SDK's own
	Workspace  string                 // id, or name when Item is a name too
	Item       string                 // id, or name with its type: shop.MountedRelationalDatabase
	Path       string                 // within the item: Files/LandingZone
	Patience   time.Duration          // how long a try may go without an answer; 0: a minute
}

const publicOneLake = "https://onelake.dfs.fabric.microsoft.com"

// lake is a folder of OneLake as a store.Store.
//
// Nothing is ever written under its own name: DFS shows a file from its
// creation on, empty until the flush. A body is uploaded under a name that
// begins with tempPrefix, which Fabric ignores and List hides, and renamed under
// the conditions asked for, in one step of the service. A crash may leave such
// a file.
//
// Source: "Path - Create", Azure Data Lake Storage Gen2 REST API: a rename
// takes If-None-Match and If-Match for the destination.
type lake struct {
	fs     *filesystem.Client
	prefix string // <item>/<path>
}

// NewOneLake opens a folder of OneLake. It asks nothing yet.
//
// A Put is 3 requests and one for each 8 MiB; a Put or Rename whose answer got
// lost is resolved by looking whether the source is gone, else ErrUnknown.
func NewOneLake(o OneLakeOptions) (store.Store, error) {
	if o.Credential == nil {
		return nil, errors.New("onelake: no credential")
	}
	if o.Endpoint == "" {
		o.Endpoint = publicOneLake
	}
	if o.Patience == 0 {
		o.Patience = lakePatience
	}
	if _, err := endpoint(o.Endpoint); err != nil {
		return nil, err
	}
	prefix := path.Join(o.Item, o.Path)
	if o.Workspace == "" || o.Item == "" || checkName(prefix) != nil || strings.ContainsRune(o.Workspace, '/') {
		return nil, fmt.Errorf("onelake: workspace %q, item %q and path %q name no folder", o.Workspace, o.Item, o.Path)
	}
	base := strings.TrimRight(o.Endpoint, "/") + "/" + url.PathEscape(o.Workspace)
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("onelake: %w", err)
	}
	options := &filesystem.ClientOptions{ClientOptions: policy.ClientOptions{
		Retry:            policy.RetryOptions{MaxRetries: 4, RetryDelay: 300 * time.Millisecond, MaxRetryDelay: time.Minute},
		PerCallPolicies:  []policy.Policy{lakeAnswers{}, addressing{u.Path}},
		PerRetryPolicies: []policy.Policy{noChallenge{}, tryLimit{o.Patience}},
	}}
	if o.HTTP != nil {
		options.Transport = o.HTTP
	}
	c, err := filesystem.NewClient(base, signIn{o.Credential}, options)
	if err != nil {
		return nil, fmt.Errorf("open OneLake: %w", err)
	}
	return &lake{fs: c, prefix: prefix}, nil
}

// lakePatience is twice what the storage service gives itself for a request
// ("Setting timeouts for Blob service operations": 30 s). What is sent gets its own
// time on top, at slowLine: two minutes for the 8 MiB of an append, on a line that
// takes that long.
const (
	lakePatience = time.Minute
	slowLine     = 64 << 10 // bytes a second
)

// tryLimit ends a try that gets no answer, so that it is made again: a service that
// takes a connection and then says nothing would hold its caller for ever. An answer
// may take as long as it likes, as long as something of it comes.
type tryLimit struct{ patience time.Duration }

// Do sends the request once.
func (l tryLimit) Do(req *policy.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Raw().Context())
	limit := l.patience + time.Duration(max(req.Raw().ContentLength, 0))*time.Second/slowLine
	timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("onelake: no answer within %s", limit)) })
	resp, err := req.Clone(ctx).Next()
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && req.Raw().Context().Err() == nil {
			err = cause // not the context's words: the caller's has not ended
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &patientBody{resp.Body, l.patience, timer, cancel, func() error { return context.Cause(ctx) }}
	return resp, nil
}

// patientBody is an answer's body that breaks when nothing more of it comes.
type patientBody struct {
	io.ReadCloser
	patience time.Duration
	timer    *time.Timer // ends the try
	cancel   context.CancelCauseFunc
	ended    func() error // why the try was ended; nil while it goes on
}

// Read reads, and waits at most as long as the patience.
func (b *patientBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.patience)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if why := b.ended(); why != nil && err != nil && err != io.EOF {
		err = why
	}
	return n, err
}

// Close ends the try.
func (b *patientBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// Stat describes a file or a folder.
func (l *lake) Stat(ctx context.Context, name string) (store.Info, error) {
	if err := checkName(name); err != nil {
		return store.Info{}, err
	}
	r, err := l.fs.NewFileClient(placeholder).GetProperties(l.at(ctx, name), nil)
	if err != nil {
		return store.Info{}, fmt.Errorf("stat %s: %w", name, stored(err))
	}
	i := store.Info{Name: name, Size: val(r.ContentLength), ETag: tag(r.ETag), Modified: val(r.LastModified).UTC()}
	if val(r.ResourceType) == "directory" || isFolder(r.Metadata) {
		i.Dir, i.Size = true, 0
	}
	return i, nil
}

// List lists a folder.
func (l *lake) List(ctx context.Context, dir string) ([]store.Info, error) {
	if dir != "" {
		if err := checkName(dir); err != nil {
			return nil, err
		}
	}
	folder := path.Join(l.prefix, dir)
	pager := l.fs.NewListPathsPager(false, &filesystem.ListPathsOptions{Prefix: &folder})
	var out []store.Info
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err = stored(err); errors.Is(err, store.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("list %q: %w", dir, err)
		}
		for _, p := range page.Paths {
			if i, ok := listed(dir, p); ok {
				out = append(out, i)
			}
		}
	}
	slices.SortFunc(out, func(a, b store.Info) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// listed takes only the last part of a name: whether the service gives the item
// by name or by id is its own choice.
func listed(dir string, p *filesystem.Path) (store.Info, bool) {
	if p == nil {
		return store.Info{}, false
	}
	base := path.Base(val(p.Name))
	if base == "." || base == "/" || strings.HasPrefix(base, tempPrefix) {
		return store.Info{}, false
	}
	i := store.Info{Name: path.Join(dir, base), Dir: val(p.IsDirectory), Size: val(p.ContentLength), ETag: strings.Trim(val(p.ETag), `"`)}
	if t, err := http.ParseTime(val(p.LastModified)); err == nil {
		i.Modified = t.UTC()
	}
	if i.Dir {
		i.Size = 0
	}
	return i, true
}

// Remove deletes a file or a folder.
func (l *lake) Remove(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	_, err := l.fs.NewFileClient(placeholder).Delete(l.at(ctx, name), nil)
	if Code(err) == "DirectoryNotEmpty" || Code(err) == "DirectoryIsNotEmpty" {
		_, err = l.fs.NewDirectoryClient(placeholder).Delete(l.at(ctx, name), nil)
	}
	unsure := ambiguous(err)
	err = stored(err)
	switch {
	case err == nil, errors.Is(err, store.ErrNotExist):
		return nil
	case unsure:
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	return fmt.Errorf("remove %s: %w", name, err)
}

// checkName takes what both a store and OneLake take for one file.
func checkName(name string) error {
	bad := func(r rune) bool { return r == '\\' || unicode.IsControl(r) }
	if name == "" || name == "." || !fs.ValidPath(name) || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("file name %q: %w", name, fs.ErrInvalid)
	}
	return nil
}

// tag is an ETag without its quotes: lists give it so.
func tag(e *azcore.ETag) string { return strings.Trim(string(val(e)), `"`) }

func isFolder(metadata map[string]*string) bool {
	for k, v := range metadata {
		if strings.EqualFold(k, "hdi_isfolder") && val(v) == "true" {
			return true
		}
	}
	return false
}
