package fabric_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/store"
	"github.com/pgmirror/pgmirror/internal/store/storetest"
)

const (
	workspace = "5c1893a3-a288-46a5-8cc2-a55c4c89b4b7"
	item      = "b1b1b1b1-cccc-4ddd-8eee-f2f2f2f2f2f2"
)

type token struct{}

func (token) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token for " + strings.Join(o.Scopes, " "), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// fault may answer instead of the service, before or after it did its work.
type fault func(w http.ResponseWriter, r *http.Request, service http.Handler) (answered bool)

// openLake serves a new OneLake over TLS and opens its landing zone.
func openLake(t *testing.T, f fault) (s store.Store, dir string) { return openPatient(t, f, 0) }

// openPatient is openLake with a client that waits so long for an answer.
func openPatient(t *testing.T, f fault, patience time.Duration) (s store.Store, dir string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, workspace, item, "Files", "LandingZone")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	service, err := onelake.New(onelake.Options{Root: root, PageSize: 7, Authorize: func(r *http.Request) error {
		if r.Header.Get("Authorization") != "Bearer token for https://storage.azure.com/.default" {
			return errors.New("wrong audience")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f == nil || !f(w, r, service) {
			service.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { srv.Close(); service.Close() })
	return newLake(t, srv, patience), dir
}

func newLake(t *testing.T, srv *httptest.Server, patience time.Duration) store.Store {
	t.Helper()
	s, err := fabric.NewOneLake(fabric.OneLakeOptions{
		Endpoint: srv.URL, Credential: token{}, HTTP: srv.Client(), Workspace: workspace, Item: item, Path: "Files/LandingZone", Patience: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOneLake(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _ := openLake(t, nil)
		return s
	})
}

func TestOneLakePages(t *testing.T) {
	s, dir := openLake(t, nil)
	local, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for i := range 40 { // pages of 7
		name := fmt.Sprintf("t/%03d.parquet", i)
		if _, err := local.Put(t.Context(), name, []byte("x"), store.Cond{}); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	list, err := s.List(t.Context(), "t")
	if err != nil || len(list) != len(want) {
		t.Fatalf("got %d names, %v, want %d", len(list), err, len(want))
	}
	for i, e := range list {
		if e.Name != want[i] || e.Size != 1 || e.Dir || e.Modified.IsZero() {
			t.Errorf("got %+v, want %s", e, want[i])
		}
	}
	if err := s.Remove(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if list, err = local.List(t.Context(), ""); err != nil || len(list) != 0 {
		t.Fatalf("left: %v, %v", list, err)
	}
}

// What a publisher does through OneLake and what a replicator does in the
// directory is one tree.
func TestOneLakeIsTheDirectory(t *testing.T) {
	ctx := t.Context()
	s, dir := openLake(t, nil)
	local, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := "public.schema/Größe .blob. 50%/00000000000000000001.parquet"
	body := bytes.Repeat([]byte("0123456789"), 1<<20) // several appends
	if _, err := s.Put(ctx, name, body, store.Cond{Absent: true}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := local.Read(ctx, name, 0, -1); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("in the directory: %d bytes, %v, want %d", len(got), err, len(body))
	}
	if err := local.Rename(ctx, name, "public.schema/done"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(ctx, name); !errors.Is(err, store.ErrNotExist) {
		t.Fatalf("the old name: %v", err)
	}
	if err := s.Rename(ctx, "public.schema/done", name); err != nil {
		t.Fatal(err)
	}
	if got, i, err := s.Read(ctx, name, 5<<20, 10); err != nil || string(got) != "0123456789" || i.Size != int64(len(body)) {
		t.Fatalf("a part: %q of %d, %v", got, i.Size, err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "public.schema", "Größe .blob. 50%"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("left in the folder: %v, %v", entries, err)
	}
}

// An answer that gets lost must not make our own success another's, nor
// another's success ours.
func TestOneLakeLostAnswers(t *testing.T) {
	lose := func(w http.ResponseWriter, r *http.Request, service http.Handler) bool {
		service.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	break500 := func(w http.ResponseWriter, r *http.Request, service http.Handler) bool {
		service.ServeHTTP(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	early := func(w http.ResponseWriter, r *http.Request, service http.Handler) bool { panic(http.ErrAbortHandler) }
	for name, f := range map[string]fault{"done, connection broken": lose, "done, status 500": break500, "not done, connection broken": early} {
		for method, matches := range map[string]func(*http.Request) bool{
			"rename": func(r *http.Request) bool { return r.Header.Get("x-ms-rename-source") != "" },
			"create": func(r *http.Request) bool { return r.URL.Query().Get("resource") == "file" },
			"append": func(r *http.Request) bool { return r.URL.Query().Get("action") == "append" },
			"flush":  func(r *http.Request) bool { return r.URL.Query().Get("action") == "flush" },
			"delete": func(r *http.Request) bool { return r.Method == http.MethodDelete },
		} {
			t.Run(method+" "+name, func(t *testing.T) {
				t.Parallel()
				var broken atomic.Bool
				s, _ := openLake(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) bool {
					return matches(r) && broken.CompareAndSwap(false, true) && f(w, r, service)
				})
				walk(t, s)
			})
		}
	}
}

// A service that takes a request and doesn't answer, or breaks off in the middle of
// an answer, holds nobody: the try ends and is made again. One that is slow in
// taking much is given the time.
func TestOneLakeSilence(t *testing.T) {
	const patience = 5 * time.Second // which no other answer needs, on any machine
	silent := func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		<-r.Context().Done()
		return true
	}
	half := func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("Content-Length", "3")
		w.Write([]byte("t"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	for name, c := range map[string]struct {
		of func(*http.Request) bool
		do fault
	}{
		"create": {func(r *http.Request) bool { return r.URL.Query().Get("resource") == "file" }, silent},
		"rename": {func(r *http.Request) bool { return r.Header.Get("x-ms-rename-source") != "" }, silent},
		"list":   {func(r *http.Request) bool { return r.URL.Query().Get("resource") == "filesystem" }, silent},
		"read":   {func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.Query().Get("resource") == "" }, half},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var met atomic.Bool
			s, _ := openPatient(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) bool {
				return c.of(r) && met.CompareAndSwap(false, true) && c.do(w, r, service)
			}, patience)
			if walk(t, s); !met.Load() {
				t.Error("no request was met with silence")
			}
		})
	}
	t.Run("slow line", func(t *testing.T) {
		t.Parallel()
		var appends atomic.Int32
		s, _ := openPatient(t, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.URL.Query().Get("action") == "append" {
				appends.Add(1)
				<-time.After(patience * 5 / 4)
			}
			return false
		}, patience)
		if _, err := s.Put(t.Context(), "f", make([]byte, 4<<20), store.Cond{}); err != nil || appends.Load() != 1 { // a minute more
			t.Errorf("got %v, %d appends, want one", err, appends.Load())
		}
	})
}

// walk puts, replaces, renames and removes, and each must succeed.
func walk(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	a, err := s.Put(ctx, "d/_a", []byte("one"), store.Cond{Absent: true})
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	b, err := s.Put(ctx, "d/_a", []byte("two"), store.Cond{Match: a.ETag})
	if err != nil || b.ETag == a.ETag {
		t.Fatalf("replace: %v, etag %q after %q", err, b.ETag, a.ETag)
	}
	if err := s.Rename(ctx, "d/_a", "d/a"); err != nil {
		t.Fatalf("rename: %v", err)
	}
	if got, _, err := s.Read(ctx, "d/a", 0, -1); err != nil || string(got) != "two" {
		t.Fatalf("read: %q, %v", got, err)
	}
	if err := s.Remove(ctx, "d"); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if list, err := s.List(ctx, ""); err != nil || len(list) != 0 {
		t.Fatalf("left: %v, %v", list, err)
	}
}

// The answer to our rename gets lost, and another has taken the name before it
// came: the source is still there, so it was the other.
func TestOneLakeLostToAnother(t *testing.T) {
	var once atomic.Bool
	var other store.Store
	s, dir := openLake(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) bool {
		if r.Header.Get("x-ms-rename-source") == "" || !once.CompareAndSwap(false, true) {
			return false
		}
		if _, err := other.Put(r.Context(), "d/f", []byte("theirs"), store.Cond{}); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	var err error
	if other, err = store.OpenDir(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "d/f", []byte("ours"), store.Cond{Absent: true}); !errors.Is(err, store.ErrExist) || errors.Is(err, store.ErrUnknown) {
		t.Fatalf("got %v, want %v", err, store.ErrExist)
	}
	if got, _, err := s.Read(t.Context(), "d/f", 0, -1); err != nil || string(got) != "theirs" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// With no way to look, the outcome is unknown, and said so.
func TestOneLakeUnknown(t *testing.T) {
	var down atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	s, _ := openLake(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) bool {
		if r.Header.Get("x-ms-rename-source") != "" {
			down.Store(true)
			cancel() // of what must not be waited for: the looks that follow run without it
		}
		if !down.Load() {
			return false
		}
		w.Header().Set("x-ms-error-code", "AuthorizationFailure")
		w.WriteHeader(map[bool]int{true: 500, false: 403}[r.Header.Get("x-ms-rename-source") != ""])
		return true
	})
	if _, err := s.Put(ctx, "f", []byte("x"), store.Cond{Absent: true}); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("got %v, want %v", err, store.ErrUnknown)
	}
}

func TestOneLakeRefusals(t *testing.T) {
	s, _ := openLake(t, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://x resource_id=y") // the SDK panics over it
		status := map[string]int{"401": 401, "403": 403, "404": 404}[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
		w.Header().Set("x-ms-error-code", map[int]string{401: "NoAuthenticationInformation", 403: "AuthorizationFailure", 404: "ArtifactNotFound"}[status])
		w.WriteHeader(status)
		return true
	})
	for name, is := range map[string]func(error) bool{"401": fabric.IsSignInNeeded, "403": fabric.IsForbidden, "404": fabric.IsNotFound} {
		_, err := s.Stat(t.Context(), name)
		if !is(err) || errors.Is(err, store.ErrNotExist) {
			t.Errorf("stat %s: %v", name, err)
		}
		if _, _, err := s.Read(t.Context(), name, 0, -1); !is(err) {
			t.Errorf("read %s: %v", name, err)
		}
	}
}

// TestOneLakeRace: writers of one number. The conditional rename has one
// winner; an unconditional one, as the SDKs do by default, loses what others
// have published.
func TestOneLakeRace(t *testing.T) {
	for _, writers := range []int{1, 2, 4, 8, 16} {
		s, _ := openLake(t, nil)
		var won atomic.Int32
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				temp := fmt.Sprintf("t/_%d", w)
				if _, err := s.Put(context.Background(), temp, fmt.Append(nil, w), store.Cond{}); err != nil {
					t.Error(err)
				}
				switch err := s.Rename(context.Background(), temp, "t/00000000000000000001.parquet"); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, store.ErrExist):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := s.List(t.Context(), "t")
		if err != nil || won.Load() != 1 || len(list) != writers {
			t.Errorf("%d writers: %d won, %d files, %v; want 1 and %d: nothing lost", writers, won.Load(), len(list), err, writers)
		}
		for w := range writers { // the unconditional way: a Put replaces
			if _, err := s.Put(t.Context(), "t/00000000000000000002.parquet", fmt.Append(nil, w), store.Cond{}); err != nil {
				t.Error(err)
			}
		}
		if list, err = s.List(t.Context(), "t"); err != nil || len(list) != writers+1 {
			t.Errorf("%d writers, unconditional: %d files, %v; want %d: all but the last are lost", writers, len(list), err, writers+1)
		}
	}
}
