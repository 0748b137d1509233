package fabric_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/fabric"
)

const flatError = `{"requestId":"r-1","errorCode":"EntityNotFound","message":"It is not there.","moreDetails":[{"errorCode":"More","message":"Why."}],"isRetriable":true}`

// client gives a client whose service is h.
func client(t *testing.T, h http.HandlerFunc) *fabric.Client {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	c, err := fabric.New(fabric.Options{Endpoint: srv.URL, Credential: token{}, HTTP: srv.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(w http.ResponseWriter, status int, body string, header ...string) {
	for _, line := range header {
		k, v, _ := strings.Cut(line, ": ")
		w.Header().Set(k, v)
	}
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// Whatever the body of a refusal, its status and what can be read of it arrive,
// and nothing panics: in a plain call, a list, and both ends of an operation.
func TestErrorBodies(t *testing.T) {
	calls := map[string]func(context.Context, *fabric.Client) error{
		"get":    func(ctx context.Context, c *fabric.Client) error { _, err := c.Connection(ctx, "x"); return err },
		"list":   func(ctx context.Context, c *fabric.Client) error { _, err := c.Connections(ctx); return err },
		"delete": func(ctx context.Context, c *fabric.Client) error { return c.DeleteConnection(ctx, "x") },
		"start":  func(ctx context.Context, c *fabric.Client) error { return c.StartMirroring(ctx, "w", "x") },
		"tables": func(ctx context.Context, c *fabric.Client) error { _, err := c.TablesStatus(ctx, "w", "x"); return err },
		"create": func(ctx context.Context, c *fabric.Client) error {
			_, err := c.CreateMirroredDatabase(ctx, "w", "n", "", fabric.Definition{})
			return err
		},
		"begin": func(ctx context.Context, c *fabric.Client) error { _, err := c.Definition(ctx, "w", "x"); return err },
		"poll":  func(ctx context.Context, c *fabric.Client) error { return c.TestConnection(ctx, "poll") },
	}
	for kind, k := range map[string]struct {
		body, code, message string
		header              []string
	}{
		"flat":               {body: flatError, code: "EntityNotFound", message: "It is not there."},
		"nested":             {body: `{"error":{"code":"EntityNotFound","message":"Slow."}}`, code: "EntityNotFound", message: "Slow."},
		"nested and null":    {body: `{"error":null}`, message: "not found"},
		"html":               {body: "<html><body><h1>Bad\r\n Gateway</h1></body></html>", message: "Bad Gateway"},
		"plain":              {body: "no healthy upstream", message: "no healthy upstream"},
		"empty":              {message: "not found"},
		"empty, with header": {code: "EntityNotFound", message: "not found", header: []string{"x-ms-public-api-error-code: EntityNotFound"}},
		"null":               {body: "null", message: "not found"},
		"no code":            {body: `{"message":"Only words."}`, message: "Only words."},
		"code is null":       {body: `{"errorCode":null,"message":null}`, message: "not found"},
		"wrong types":        {body: `{"errorCode":7,"message":{"a":1},"isRetriable":"yes","moreDetails":{}}`, code: "7", message: `{"a":1}`},
		"an array":           {body: `[1,2]`, message: "[1,2]"},
		"cut off":            {body: `{"errorCode":"Entity`, message: `{"errorCode":"Entity`},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := client(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/poll/testConnection") {
					answer(w, http.StatusAccepted, "null", "Location: https://elsewhere.example.net/v1/operations/7")
					return
				}
				answer(w, http.StatusNotFound, k.body, k.header...)
			})
			for name, call := range calls {
				err := call(t.Context(), c)
				e, ok := errors.AsType[*fabric.Error](err)
				if !ok || e.Status != http.StatusNotFound || e.Code != k.code || e.Message != k.message || !fabric.IsNotFound(err) || fabric.Code(err) != k.code {
					t.Errorf("%s: got %v (%+v), want 404 %q %q", name, err, e, k.code, k.message)
				}
			}
		})
	}
}

// A gateway's page is still an answer after the last retry.
func TestErrorAfterRetries(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		tries.Add(1)
		answer(w, http.StatusBadGateway, "<h2>502</h2>")
	})
	_, err := c.Connection(t.Context(), "x")
	if e, ok := errors.AsType[*fabric.Error](err); !ok || e.Status != 502 || e.Message != "502" || tries.Load() != 4 {
		t.Fatalf("got %v after %d tries, want 502 after 4", err, tries.Load())
	}
}

func TestThrottled(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			answer(w, http.StatusTooManyRequests, `{"errorCode":"RequestBlocked","message":"Later."}`, "Retry-After: 1")
			return
		}
		answer(w, 200, `{"value":[],"continuationToken":null,"continuationUri":null}`)
	})
	start := time.Now()
	if _, err := c.Connections(t.Context()); err != nil || time.Since(start) < time.Second {
		t.Fatalf("after %v: %v, want a success after the second that was asked for", time.Since(start), err)
	}
	long := client(t, func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusTooManyRequests, `{"errorCode":"RequestBlocked","message":"Later."}`, "Retry-After: 3600")
	})
	_, err := long.Connections(t.Context())
	if e, ok := errors.AsType[*fabric.Error](err); !ok || !fabric.IsThrottled(err) || e.RetryAfter != time.Hour {
		t.Fatalf("got %v, want throttled for an hour", err)
	}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	for _, q := range []struct {
		status int
		code   string
		is     func(error) bool
	}{
		{400, "MirroredDatabaseNotReady", fabric.IsNotReady}, {400, "DuplicateConnectionName", fabric.IsConflict}, {409, "ItemDisplayNameAlreadyInUse", fabric.IsConflict},
		{401, "TokenExpired", fabric.IsSignInNeeded}, {403, "InsufficientPrivileges", fabric.IsForbidden}, {400, "IncorrectCredentials", fabric.IsCredentialRefused},
	} {
		c := client(t, func(w http.ResponseWriter, r *http.Request) {
			answer(w, q.status, fmt.Sprintf(`{"errorCode":%q,"message":"m"}`, q.code), `WWW-Authenticate: Bearer authorization_uri="x"`)
		})
		if err := c.StartMirroring(t.Context(), "w", "x"); !q.is(err) || fabric.IsNotFound(err) {
			t.Errorf("%d %s: %v", q.status, q.code, err)
		}
	}
}

type noToken struct{}

func (noToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errors.New("please run az login")
}

func TestSignInNeeded(t *testing.T) {
	t.Parallel()
	c, err := fabric.New(fabric.Options{Endpoint: "https://127.0.0.1:1", Credential: noToken{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Workspaces(t.Context()); !fabric.IsSignInNeeded(err) || !strings.Contains(err.Error(), "az login") {
		t.Fatalf("got %v, want that a sign-in is needed", err)
	}
	if _, err := fabric.New(fabric.Options{Endpoint: "http://127.0.0.1:1", Credential: noToken{}}); err == nil {
		t.Error("an endpoint without TLS was taken")
	}
}

// The table status is asked for with POST only, page by page; lists may be
// null, times lack their Z and have seven digits.
func TestTablesStatus(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"": `{"data":[{"sourceObjectType":"Table","sourceSchemaName":"public","sourceTableName":"a","status":"Replicating",
			"metrics":{"processedBytes":1247,"processedRows":6,"lastSyncDateTime":"2024-10-08T05:07:11.0663362Z","lastSyncLatencyInSeconds":15}}],
			"continuationToken":"p2","continuationUri":"https://api.fabric.microsoft.com/elsewhere"}`,
		"p2": `{"data":null,"continuationUri":"https://api.fabric.microsoft.com/v1/x?continuationToken=p%203"}`,
		"p 3": `{"data":[{"sourceSchemaName":"public","sourceTableName":"b","status":"Failed","metrics":{"lastSyncDateTime":"2024-10-08T05:07:11.0663362"},
			"error":{"errorCode":"SchemaMergeFailure","message":"Type mismatch"}},{"sourceTableName":"c","metrics":null,"error":null}],"continuationToken":null,"continuationUri":null}`,
	}
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/workspaces/w/mirroredDatabases/m/getTablesMirroringStatus") {
			answer(w, http.StatusMethodNotAllowed, "")
			return
		}
		answer(w, 200, pages[r.URL.Query().Get("continuationToken")])
	})
	got, err := c.TablesStatus(t.Context(), "w", "m")
	if err != nil {
		t.Fatal(err)
	}
	at, latency := time.Date(2024, 10, 8, 5, 7, 11, 66336200, time.UTC), 15
	want := []fabric.TableStatus{
		{Schema: "public", Table: "a", Status: "Replicating", ProcessedRows: 6, ProcessedBytes: 1247, LastSync: at, LatencySeconds: &latency},
		{Schema: "public", Table: "b", Status: "Failed", LastSync: at, ErrorCode: "SchemaMergeFailure", ErrorMessage: "Type mismatch"},
		{Table: "c"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	pages["p 3"] = `{"data":[],"continuationToken":"p2"}`
	if _, err := c.TablesStatus(t.Context(), "w", "m"); err == nil {
		t.Error("pages in a circle were read without end, or taken")
	}
}

// An operation may be answered at once or later, with or without a result, and
// fail with or without a reason.
func TestOperations(t *testing.T) {
	definition := fabric.Definition{Source: fabric.Source{Type: "GenericMirror"}, Target: fabric.Target{DefaultSchema: "public"}}
	raw, err := json.Marshal(definition)
	if err != nil {
		t.Fatal(err)
	}
	result := fmt.Sprintf(`{"definition":{"parts":[{"path":".platform","payload":"e30="},{"path":"mirroring.json","payload":%q,"payloadType":"InlineBase64"}]}}`, base64.StdEncoding.EncodeToString(raw))
	const state = `{"status":%q,"createdTimeUtc":"2026-07-20T10:22:18.851239","lastUpdatedTimeUtc":"2026-07-20T10:22:18.8512391","percentComplete":null,"error":%s}`
	type step struct {
		status int
		body   string
		header []string
	}
	later := step{202, "null", []string{"Location: https://wabi.analysis.windows.net/v1/operations/7", "x-ms-operation-id: 7", "Retry-After: 1"}}
	running := step{200, fmt.Sprintf(state, "Running", "null"), []string{"Retry-After: 1"}}
	done := step{200, fmt.Sprintf(state, "Succeeded", "null"), []string{"Location: https://wabi.analysis.windows.net/v1/operations/7/result"}}
	noResult := step{400, `{"errorCode":"OperationHasNoResult","message":"none"}`, nil}
	failed := func(reason string) step { return step{200, fmt.Sprintf(state, "Failed", reason), nil} }
	for name, c := range map[string]struct {
		update bool
		steps  []step
		code   string // of the failure; "-" is one without a code
	}{
		"get at once":            {steps: []step{{200, result, nil}}},
		"get later":              {steps: []step{later, running, done, {200, result, nil}}},
		"update at once":         {update: true, steps: []step{{200, "", nil}}},
		"update later":           {update: true, steps: []step{later, done, noResult}},
		"update, no location":    {update: true, steps: []step{later, {200, fmt.Sprintf(state, "Succeeded", "null"), nil}}},
		"failed":                 {update: true, steps: []step{later, failed(`{"errorCode":"CorruptedPayload","message":"bad"}`)}, code: "CorruptedPayload"},
		"failed, reason null":    {steps: []step{later, failed("null")}, code: "-"},
		"failed, reason no code": {steps: []step{later, failed(`{}`)}, code: "-"},
		"gone":                   {steps: []step{later, {404, `{"errorCode":"OperationNotFound","message":"?"}`, nil}}, code: "OperationNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			f := client(t, func(w http.ResponseWriter, r *http.Request) {
				s := c.steps[min(int(n.Add(1)), len(c.steps))-1]
				answer(w, s.status, s.body, s.header...)
			})
			var err error
			if c.update {
				err = f.UpdateDefinition(t.Context(), "w", "m", definition)
			} else {
				var got fabric.Definition
				if got, err = f.Definition(t.Context(), "w", "m"); err == nil && !got.Equal(definition) {
					t.Errorf("got %+v, want %+v", got, definition)
				}
			}
			e, isError := errors.AsType[*fabric.Error](err)
			if (c.code == "") != (err == nil) || c.code != "" && (!isError || e.Code != strings.Trim(c.code, "-") || e.Message == "") {
				t.Errorf("got %v, want code %q", err, c.code)
			}
			if int(n.Load()) != len(c.steps) {
				t.Errorf("%d requests, want %d", n.Load(), len(c.steps))
			}
		})
	}
}

// Statuses that were seen where others are documented.
func TestOtherSuccesses(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusAccepted
		if r.Method == http.MethodDelete {
			status = http.StatusNoContent
		}
		answer(w, status, "")
	})
	for name, err := range map[string]error{
		"start": c.StartMirroring(t.Context(), "w", "m"), "stop": c.StopMirroring(t.Context(), "w", "m"), "delete": c.DeleteMirroredDatabase(t.Context(), "w", "m"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An empty success names nothing, and is no success.
	empty := client(t, func(w http.ResponseWriter, r *http.Request) { answer(w, 200, "") })
	_, w := empty.Workspace(t.Context(), "w")
	_, k := empty.Connection(t.Context(), "c")
	_, m := empty.MirroredDatabase(t.Context(), "w", "m")
	_, s := empty.MirroringStatus(t.Context(), "w", "m")
	if w == nil || k == nil || m == nil || s == nil {
		t.Errorf("empty answers were taken: %v, %v, %v, %v", w, k, m, s)
	}
}
