package onelake_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
	"github.com/pgmirror/pgmirror/internal/emulator/rulestest"
)

const (
	workspace = "5c1893a3-a288-46a5-8cc2-a55c4c89b4b7"
	item      = "b1b1b1b1-cccc-4ddd-8eee-f2f2f2f2f2f2"
	files     = "/" + workspace + "/" + item + "/Files"
)

// open serves a new directory with one item, that has a name as well.
func open(t testing.TB, o onelake.Options) (*onelake.Service, string) {
	t.Helper()
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	for _, folder := range []string{"Files", "Tables"} {
		if err := os.MkdirAll(filepath.Join(o.Root, workspace, item, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if o.Items == nil {
		o.Items = func(ws, it string) (string, bool) {
			ok := (ws == workspace || ws == "Sales") && (it == item || it == "shop.MountedRelationalDatabase")
			return workspace + "/" + item, ok
		}
	}
	s, err := onelake.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, o.Root
}

// book is the rules, and what the tests saw of them.
var book = rulestest.Open("../rules.json", "onelake")

func TestMain(m *testing.M) { os.Exit(book.Finish(m.Run())) }

// call is one request; header is "Name: value" pairs.
type call struct {
	method, path, body string
	header             []string
}

func (c call) do(t testing.TB, h http.Handler) *http.Response {
	t.Helper()
	r := httptest.NewRequest(c.method, "https://onelake.dfs.example.com"+c.path, strings.NewReader(c.body))
	for _, line := range c.header {
		k, v, _ := strings.Cut(line, ": ")
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code >= 300 {
		book.Answer("onelake", w.Result(), w.Body.Bytes())
	}
	return w.Result()
}

// must makes a request that has to succeed.
func must(t testing.TB, h http.Handler, c call) *http.Response {
	t.Helper()
	resp := c.do(t, h)
	if resp.StatusCode > 299 {
		t.Fatalf("%s %s: %d %s", c.method, c.path, resp.StatusCode, resp.Header.Get("x-ms-error-code"))
	}
	return resp
}

func write(t testing.TB, h http.Handler, path, body string) *http.Response {
	t.Helper()
	return must(t, h, call{"PUT", path, body, []string{"x-ms-blob-type: BlockBlob"}})
}

func read(t testing.TB, h http.Handler, path string) string {
	t.Helper()
	b, err := io.ReadAll(must(t, h, call{method: "GET", path: path}).Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantFile(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Fatalf("%s: got %q, %v, want %q", name, got, err, want)
	}
}

// What the disk shows is what the service shows, at every step of an upload.
func TestUploadIsVisibleLikeTheService(t *testing.T) {
	s, root := open(t, onelake.Options{})
	name, disk := files+"/t/_1", filepath.Join(root, workspace, item, "Files", "t", "_1")
	must(t, s, call{method: "PUT", path: name + "?resource=file"})
	wantFile(t, disk, "") // others see it with 0 bytes
	must(t, s, call{"PATCH", name + "?action=append&position=5", "world", nil})
	if resp := (call{method: "PATCH", path: name + "?action=flush&position=10"}).do(t, s); resp.StatusCode != 400 || resp.Header.Get("x-ms-error-code") != "InvalidFlushPosition" {
		t.Fatalf("flush over a gap: %d %s", resp.StatusCode, resp.Header.Get("x-ms-error-code"))
	}
	must(t, s, call{"PATCH", name + "?action=append&position=0", "hello", nil})
	wantFile(t, disk, "")
	if got := must(t, s, call{method: "HEAD", path: name}).Header.Get("Content-Length"); got != "0" {
		t.Fatalf("length before the flush: %s", got)
	}
	flush := call{method: "PATCH", path: name + "?action=flush&position=10"}
	first := must(t, s, flush)
	wantFile(t, disk, "helloworld")
	if again := must(t, s, flush); again.Header.Get("ETag") != first.Header.Get("ETag") {
		t.Error("the second flush of the same position changed the file")
	}
	must(t, s, call{"PATCH", name + "?action=append&position=10", "!", nil})
	must(t, s, call{method: "PATCH", path: name + "?action=flush&position=11"})
	wantFile(t, disk, "helloworld!")
	must(t, s, call{method: "PUT", path: name + "?resource=file"}) // over a file: emptied
	wantFile(t, disk, "")
	must(t, s, call{"PATCH", name + "?action=append&position=0&flush=true", "new", nil})
	wantFile(t, disk, "new")
	book.Proved("onelake.visible")
}

func TestRename(t *testing.T) {
	s, root := open(t, onelake.Options{})
	folder := filepath.Join(root, workspace, item, "Files", "t")
	write(t, s, files+"/t/_1", "one")
	write(t, s, files+"/t/_2", "two")
	before := must(t, s, call{method: "HEAD", path: files + "/t/_1"}).Header.Get("ETag")
	must(t, s, call{"PUT", files + "/t/1", "", []string{"x-ms-rename-source: " + files + "/t/_1", "If-None-Match: *"}})
	if after := must(t, s, call{method: "HEAD", path: files + "/t/1"}).Header.Get("ETag"); after != before {
		t.Errorf("etag after the rename: got %s, want %s", after, before)
	}
	wantRefusal(t, s, call{"PUT", files + "/t/1", "", []string{"x-ms-rename-source: " + files + "/t/_2", "If-None-Match: *"}}, 409, "PathAlreadyExists")
	wantFile(t, filepath.Join(folder, "1"), "one")
	// A source as a URL, and no condition: what was there is lost.
	must(t, s, call{"PUT", files + "/t/1", "", []string{"x-ms-rename-source: https://onelake.dfs.fabric.microsoft.com" + files + "/t/%5F2"}})
	wantFile(t, filepath.Join(folder, "1"), "two")
	must(t, s, call{"PUT", files + "/u", "", []string{"x-ms-rename-source: " + files + "/t"}})
	wantFile(t, filepath.Join(root, workspace, item, "Files", "u", "1"), "two")
}

func wantRefusal(t *testing.T, h http.Handler, c call, status int, code string) {
	t.Helper()
	resp := c.do(t, h)
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || resp.Header.Get("x-ms-error-code") != code {
		t.Errorf("%s %s %v: got %d %s, want %d %s", c.method, c.path, c.header, resp.StatusCode, resp.Header.Get("x-ms-error-code"), status, code)
	}
	if c.method != "HEAD" && status != 304 && !strings.Contains(string(body), code) {
		t.Errorf("%s %s: the body %q does not name %s", c.method, c.path, body, code)
	}
	if resp.Header.Get("x-ms-request-id") == "" || resp.Header.Get("x-ms-version") == "" {
		t.Errorf("%s %s: no x-ms-request-id or x-ms-version", c.method, c.path)
	}
}

func TestRefusals(t *testing.T) {
	s, _ := open(t, onelake.Options{})
	write(t, s, files+"/d/f", "0123456789")
	etag := must(t, s, call{method: "HEAD", path: files + "/d/f"}).Header.Get("ETag")
	base := "/" + workspace + "/" + item
	from := func(p string) string { return "x-ms-rename-source: " + p }
	for _, c := range []struct {
		call
		status int
		code   string
	}{
		// Managed folders are neither made nor removed.
		{call{method: "PUT", path: "/" + workspace + "?resource=filesystem"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "DELETE", path: "/" + workspace}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "PUT", path: base + "?resource=directory"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "PUT", path: base + "/Files?resource=directory"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "PUT", path: base + "/Mine?resource=directory"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "PUT", path: base + "/Mine/f?resource=file"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "DELETE", path: base + "/Tables?recursive=true"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "PUT", path: base + "/Files/x", header: []string{from(base + "/Tables")}}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "GET", path: "/" + workspace + "?resource=filesystem&recursive=false"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "GET", path: "/?resource=account"}, 400, "OperationNotAllowedOnThePath"},
		{call{method: "PATCH", path: files + "/d/f?action=setAccessControl"}, 400, "OperationNotAllowedOnThePath"},
		// What is not there.
		{call{method: "HEAD", path: "/" + workspace + "/none/Files/f"}, 404, "ArtifactNotFound"},
		{call{method: "HEAD", path: files + "/none"}, 404, "BlobNotFound"},
		{call{method: "GET", path: files + "/none"}, 404, "PathNotFound"},
		{call{method: "GET", path: files + "/d/f/g"}, 404, "PathNotFound"},
		{call{method: "GET", path: "/" + workspace + "?resource=filesystem&recursive=false&directory=" + item + "/Files/none"}, 404, "PathNotFound"},
		{call{method: "DELETE", path: files + "/none?recursive=true"}, 404, "PathNotFound"},
		{call{"PATCH", files + "/none?action=append&position=0", "x", nil}, 404, "PathNotFound"},
		{call{method: "PUT", path: files + "/d/g", header: []string{from(files + "/none")}}, 404, "SourcePathNotFound"},
		{call{method: "PUT", path: files + "/none/g", header: []string{from(files + "/d/f")}}, 404, "RenameDestinationParentPathNotFound"},
		// Conditions.
		{call{method: "PUT", path: files + "/d/f?resource=file", header: []string{"If-None-Match: *"}}, 409, "PathAlreadyExists"},
		{call{method: "PUT", path: files + "/d?resource=directory", header: []string{"If-None-Match: *"}}, 409, "PathAlreadyExists"},
		{call{"PUT", files + "/d/f", "x", []string{"x-ms-blob-type: BlockBlob", "If-None-Match: *"}}, 409, "BlobAlreadyExists"},
		{call{"PUT", files + "/d/f", "x", []string{"x-ms-blob-type: BlockBlob", `If-Match: "0x1"`}}, 412, "ConditionNotMet"},
		{call{method: "PUT", path: files + "/d/none?resource=file", header: []string{"If-Match: *"}}, 412, "ConditionNotMet"},
		{call{method: "PUT", path: files + "/d/f?resource=file", header: []string{"If-None-Match: " + etag}}, 412, "ConditionNotMet"},
		{call{method: "PUT", path: files + "/d/f?resource=file", header: []string{"If-Match: " + strings.Trim(etag, `"`)}}, 400, "InvalidHeaderValue"},
		{call{method: "PUT", path: files + "/d/g", header: []string{from(files + "/d/f"), `x-ms-source-if-match: "0x1"`}}, 412, "SourceConditionNotMet"},
		{call{method: "PUT", path: files + "/d/g", header: []string{from(files + "/d/f"), `If-Match: "0x1"`}}, 412, "ConditionNotMet"},
		{call{method: "GET", path: files + "/d/f", header: []string{"If-None-Match: " + etag}}, 304, "ConditionNotMet"},
		{call{method: "GET", path: files + "/d/f", header: []string{`If-Match: "0x1"`}}, 412, "ConditionNotMet"},
		{call{method: "DELETE", path: files + "/d/f", header: []string{`If-Match: "0x1"`}}, 412, "ConditionNotMet"},
		// Kinds.
		{call{method: "DELETE", path: files + "/d"}, 409, "DirectoryNotEmpty"},
		{call{method: "PUT", path: files + "/d?resource=file"}, 409, "ResourceTypeMismatch"},
		{call{method: "PUT", path: files + "/d/f?resource=directory"}, 409, "ResourceTypeMismatch"},
		{call{method: "PUT", path: files + "/d/f/g?resource=file"}, 409, "ResourceTypeMismatch"},
		{call{"PATCH", files + "/d?action=append&position=0", "x", nil}, 409, "ResourceTypeMismatch"},
		{call{method: "PUT", path: files + "/d/e", header: []string{from(files + "/d")}}, 409, "InvalidRenameSourcePath"},
		{call{method: "PUT", path: files + "/d", header: []string{from(files + "/d/f")}}, 409, "InvalidSourceOrDestinationResourceType"},
		// Positions, ranges, parameters.
		{call{"PATCH", files + "/d/f?action=append&position=3", "x", nil}, 400, "InvalidFlushPosition"},
		{call{method: "PATCH", path: files + "/d/f?action=flush&position=3"}, 400, "InvalidFlushPosition"},
		{call{"PATCH", files + "/d/f?action=flush&position=10", "x", nil}, 400, "ContentLengthMustBeZero"},
		{call{method: "GET", path: files + "/d/f", header: []string{"Range: bytes=10-"}}, 416, "InvalidRange"},
		{call{method: "GET", path: files + "/d/f", header: []string{"Range: bytes=-5"}}, 400, "InvalidHeaderValue"},
		{call{method: "GET", path: "/" + workspace + "?resource=filesystem&directory=" + item + "/Files"}, 400, "MissingRequiredQueryParameter"},
		{call{method: "PUT", path: files + "/d/g"}, 400, "MissingRequiredQueryParameter"},
		{call{method: "PATCH", path: files + "/d/f?action=other"}, 400, "InvalidQueryParameterValue"},
		{call{"PUT", files + "/d/f?comp=blocklist", "<BlockList><Latest>bm8=</Latest></BlockList>", nil}, 400, "InvalidBlockList"},
		{call{"PUT", files + "/d/f?comp=blocklist", "no xml", nil}, 400, "InvalidXmlDocument"},
		{call{method: "PUT", path: files + "/d/g", header: []string{from("/x")}}, 400, "InvalidSourceUri"},
		{call{method: "PUT", path: files + "/d/g", header: []string{from(files + "/%zz")}}, 400, "InvalidSourceUri"},
		{call{method: "PUT", path: files + "/d/f?comp=lease"}, 501, "NotImplemented"},
		{call{method: "POST", path: files + "/d/f"}, 405, "UnsupportedHttpVerb"},
		// Paths that could mean something else than themselves.
		{call{method: "GET", path: files + "/../../../secret"}, 400, "InvalidUri"},
		{call{method: "GET", path: files + "/d/%2e%2e/%2e%2e/x"}, 400, "InvalidUri"},
		{call{method: "GET", path: files + "/d%2f..%2f..%2f..%2fx"}, 400, "InvalidUri"},
		{call{method: "GET", path: files + "/d/%00"}, 400, "InvalidUri"},
		{call{method: "GET", path: files + "/d//f"}, 400, "InvalidUri"},
		{call{method: "GET", path: files + "/d%5c..%5cf"}, 400, "InvalidUri"},
		{call{method: "GET", path: "/.onelake/x"}, 400, "InvalidUri"},
		{call{method: "PUT", path: files + "/d/" + strings.Repeat("x", 300) + "?resource=file"}, 400, "InvalidUri"},
		{call{method: "PUT", path: files + "/d/g", header: []string{from("/" + workspace + "/" + item + "/Files/../../x")}}, 400, "InvalidSourceUri"},
		{call{method: "GET", path: "/" + workspace + "?resource=filesystem&recursive=true&directory=../.."}, 400, "InvalidUri"},
		{call{method: "GET", path: "/" + workspace + "?restype=container&comp=list&prefix=" + item + "/../../"}, 400, "InvalidUri"},
	} {
		wantRefusal(t, s, c.call, c.status, c.code)
	}
	if got := read(t, s, files+"/d/f"); got != "0123456789" {
		t.Errorf("a refused call changed the file: %q", got)
	}
}

func TestNamesAndIDs(t *testing.T) {
	s, root := open(t, onelake.Options{})
	write(t, s, "/Sales/shop.MountedRelationalDatabase/Files/a%20b", "x")
	if got := read(t, s, files+"/a%20b"); got != "x" {
		t.Fatalf("by id: %q", got)
	}
	wantFile(t, filepath.Join(root, workspace, item, "Files", "a b"), "x")
	wantRefusal(t, s, call{method: "GET", path: "/Sales/other/Files/f"}, 404, "ArtifactNotFound")
	// The resolver is checked too.
	bad, _ := open(t, onelake.Options{Items: func(_, _ string) (string, bool) { return "../..", true }})
	wantRefusal(t, bad, call{method: "GET", path: files + "/f"}, 404, "ArtifactNotFound")
	book.Proved("onelake.names")
}

func TestSymlinks(t *testing.T) {
	s, root := open(t, onelake.Options{})
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(root, workspace, item, "Files")
	for link, to := range map[string]string{"out": outside, "in": filepath.Join(root, workspace)} {
		if err := os.Symlink(to, filepath.Join(in, link)); err != nil {
			t.Skip("no symbolic links here")
		}
	}
	for _, c := range []call{
		{method: "GET", path: files + "/out/secret"}, {method: "GET", path: files + "/out"}, {method: "GET", path: files + "/in/" + item + "/Files"},
		{"PUT", files + "/out/f", "x", []string{"x-ms-blob-type: BlockBlob"}}, {method: "DELETE", path: files + "/out/secret"},
		{method: "PUT", path: files + "/g", header: []string{"x-ms-rename-source: " + files + "/out/secret"}},
	} {
		if resp := c.do(t, s); resp.StatusCode != 400 {
			t.Errorf("%s %s: got %d, want 400", c.method, c.path, resp.StatusCode)
		}
	}
	list := must(t, s, call{method: "GET", path: "/" + workspace + "?resource=filesystem&recursive=true&directory=" + item + "/Files"})
	if b, err := io.ReadAll(list.Body); err != nil || strings.Contains(string(b), "secret") || strings.Contains(string(b), "out") {
		t.Errorf("links are listed: %s, %v", b, err)
	}
	wantFile(t, filepath.Join(outside, "secret"), "s")
}

func TestAuthorize(t *testing.T) {
	var answer error
	s, _ := open(t, onelake.Options{Authorize: func(*http.Request) error { return answer }})
	answer = errors.New("the token is for another audience")
	wantRefusal(t, s, call{method: "GET", path: files + "/f"}, 401, "NoAuthenticationInformation")
	wantRefusal(t, s, call{method: "GET", path: files + "/f", header: []string{"Authorization: Bearer x"}}, 401, "InvalidAuthenticationInfo")
	if got := (call{method: "GET", path: files + "/f"}).do(t, s).Header.Get("WWW-Authenticate"); !strings.Contains(got, "resource_id=https://storage.azure.com") {
		t.Errorf("challenge: %q", got)
	}
	answer = &onelake.Refusal{Status: 403, Code: "AuthorizationPermissionMismatch", Message: "no"}
	wantRefusal(t, s, call{method: "GET", path: files + "/f"}, 403, "AuthorizationPermissionMismatch")
}

// An ETag changes with every write, even within one tick of the clock, and a
// folder's when it is made again.
func TestETags(t *testing.T) {
	s, _ := open(t, onelake.Options{})
	seen := map[string]bool{}
	for range 200 {
		tag := write(t, s, files+"/f", "same").Header.Get("ETag")
		if seen[tag] {
			t.Fatalf("the etag %s comes twice", tag)
		}
		seen[tag] = true
	}
	folder := call{method: "HEAD", path: files + "/d"}
	write(t, s, files+"/d/1", "x")
	first := must(t, s, folder).Header.Get("ETag")
	write(t, s, files+"/d/2", "x")
	if got := must(t, s, folder).Header.Get("ETag"); got != first {
		t.Errorf("the folder's etag changed with a file in it: %s, %s", first, got)
	}
	for range 5 {
		must(t, s, call{method: "DELETE", path: files + "/d?recursive=true"})
		write(t, s, files+"/d/1", "x")
		next := must(t, s, folder).Header.Get("ETag")
		if next == first {
			t.Fatal("a folder that was made again has the same etag")
		}
		first = next
	}
	book.Proved("onelake.etag")
}

func TestDeleteInPages(t *testing.T) {
	s, root := open(t, onelake.Options{PageSize: 5})
	for _, n := range strings.Fields("a b c/1 c/2 c/3 d/e/f/1 d/e/f/2 z") {
		write(t, s, files+"/t/"+n, "x")
	}
	calls := 0
	for next := "start"; next != ""; calls++ {
		next = must(t, s, call{method: "DELETE", path: files + "/t?recursive=true"}).Header.Get("x-ms-continuation")
	}
	if _, err := os.Stat(filepath.Join(root, workspace, item, "Files", "t")); !errors.Is(err, os.ErrNotExist) || calls < 3 {
		t.Fatalf("after %d calls: %v", calls, err)
	}
	book.Proved("onelake.delete")
}

func TestHeaders(t *testing.T) {
	s, _ := open(t, onelake.Options{})
	resp := must(t, s, call{"PUT", files + "/f", "x", []string{"x-ms-blob-type: BlockBlob", "x-ms-owner: me", "x-ms-meta-a: b", "x-ms-client-request-id: 7"}})
	got := map[string]string{}
	for _, n := range []string{"x-ms-rejected-headers", "x-ms-client-request-id"} {
		got[n] = resp.Header.Get(n)
	}
	want := map[string]string{"x-ms-rejected-headers": "x-ms-meta-a,x-ms-owner", "x-ms-client-request-id": "7"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	dir := must(t, s, call{method: "HEAD", path: files})
	if dir.Header.Get("x-ms-resource-type") != "directory" || dir.Header.Get("x-ms-owner") != "$superuser" || dir.Header.Get("ETag") == "" {
		t.Errorf("a folder's headers: %v", dir.Header)
	}
	part := must(t, s, call{method: "GET", path: files + "/f", header: []string{"x-ms-range: bytes=0-9"}})
	if part.StatusCode != 206 || part.Header.Get("Content-Range") != "bytes 0-0/1" {
		t.Errorf("a range: %d %s", part.StatusCode, part.Header.Get("Content-Range"))
	}
	book.Proved("onelake.headers")
}
