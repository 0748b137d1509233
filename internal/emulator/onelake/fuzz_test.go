package onelake_test

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
)

// FuzzRequest sends any request: no panic, no 500, and nothing outside the
// root is read or changed.
func FuzzRequest(f *testing.F) {
	add := func(method, path, query, header, value, body string) { f.Add(method, path, query, header, value, body) }
	add("PUT", files+"/f", "resource=file", "If-None-Match", "*", "")
	add("PATCH", files+"/f", "action=append&position=0", "", "", "x")
	add("PATCH", files+"/f", "action=flush&position=1", "If-Match", `"0x1"`, "")
	add("PATCH", files+"/f", "action=append&position=9223372036854775807", "", "", "x")
	add("PUT", files+"/g", "", "x-ms-rename-source", files+"/f", "")
	add("PUT", files+"/g", "", "x-ms-rename-source", "https://x"+files+"/..%2f..%2f..%2fsecret", "")
	add("PUT", files+"/g", "", "x-ms-copy-source", "https://x"+files+"/../../../secret", "")
	add("PUT", files+"/g", "", "x-ms-blob-type", "BlockBlob", "body")
	add("PUT", files+"/g", "comp=block&blockid=AAAA", "", "", "body")
	add("PUT", files+"/g", "comp=blocklist", "", "", "<BlockList><Latest>AAAA</Latest></BlockList>")
	add("GET", files+"/f", "", "Range", "bytes=0-9223372036854775807", "")
	add("GET", "/"+workspace, "resource=filesystem&recursive=true&directory="+item+"/Files", "", "", "")
	add("GET", "/"+workspace, "restype=container&comp=list&prefix="+item+"/Files/&marker=!", "", "", "")
	add("DELETE", files+"/f", "recursive=true", "", "", "")
	add("HEAD", "/", "", "", "", "")
	add("GET", files+"/../../../../secret", "", "", "", "")
	add("GET", "/"+workspace+"/"+item+"/Files\x00/%2e%2e", "", "", "", "")
	outer := f.TempDir()
	if err := os.WriteFile(filepath.Join(outer, "secret"), []byte("the secret"), 0o600); err != nil {
		f.Fatal(err)
	}
	root := filepath.Join(outer, "root")
	s, _ := open(f, onelake.Options{Root: root})
	write(f, s, files+"/f", "content")
	f.Fuzz(func(t *testing.T, method, path, query, header, value, body string) {
		u, err := url.Parse("https://onelake.dfs.example.com/" + strings.TrimPrefix(path, "/"))
		if err != nil {
			u = &url.URL{Scheme: "https", Host: "onelake.dfs.example.com", Path: path}
		}
		u.RawQuery = query
		r := &http.Request{Method: method, URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
		if header != "" {
			r.Header.Set(header, value)
		}
		for _, h := range []http.Handler{s, s.Blob()} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(t.Context()))
			if w.Code == http.StatusInternalServerError {
				t.Errorf("%s %s: %s", method, u, w.Body)
			}
			if strings.Contains(w.Body.String(), "the secret") {
				t.Errorf("%s %s reads outside the root", method, u)
			}
		}
		wantOnly(t, outer)
	})
}

// wantOnly checks that the folder around the root holds what it held, and that
// the root holds only what it is made of.
func wantOnly(t *testing.T, outer string) {
	t.Helper()
	for dir, want := range map[string]string{outer: "root secret", filepath.Join(outer, "root"): ".onelake " + workspace} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Fatalf("%s holds %q, want %q", dir, got, want)
		}
	}
	err := filepath.WalkDir(filepath.Join(outer, "root", workspace), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			t.Errorf("a symbolic link: %s", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(outer, "secret")); err != nil || string(b) != "the secret" {
		t.Fatalf("the secret: %q, %v", b, err)
	}
}
