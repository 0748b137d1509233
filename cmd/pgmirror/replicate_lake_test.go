package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/emulator/onelake"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// TestReplicateIntoOneLake applies a landing zone to tables in OneLake, in two
// processes, the first of which doesn't hear that one of its commits was made.
func TestReplicateIntoOneLake(t *testing.T) {
	root, zone := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "ws", "shop.Lakehouse", "Tables"), 0o755); err != nil {
		t.Fatal(err)
	}
	service, err := onelake.New(onelake.Options{Root: root, Authorize: func(r *http.Request) error {
		if r.Header.Get("Authorization") != "Bearer a-token" {
			return errors.New("not signed in")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	var lost atomic.Bool
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-ms-rename-source") != "" && strings.HasSuffix(r.URL.Path, "00000000000000000001.json") && lost.CompareAndSwap(false, true) {
			service.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		service.ServeHTTP(w, r)
	}))
	defer srv.Close()
	authority := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := streams{In: strings.NewReader(""), Out: &out, Err: io.Discard, Environ: []string{"CA_FILE=" + authority, "STORAGE_TOKEN=a-token"}}
	files, err := store.OpenDir(zone)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, body []byte) {
		if _, err := files.Put(t.Context(), "public.schema/orders/"+name, body, store.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	put(landing.MetadataFile, []byte(`{"keyColumns":["id"]}`))
	keys := t.TempDir()
	replicate := func(number int64, rows ...[2]int64) {
		t.Helper()
		put(landing.FileName(number), changesFile(t, rows))
		o := replicateOptions{landing: zone, memory: 512, tables: srv.URL + "/ws/shop.Lakehouse/Tables", keys: keys, schema: "dbo", once: true, json: true, interval: 1, retention: 24 * 3600e9, share: 1}
		if err := runReplicate(t.Context(), o, s); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
	}
	replicate(1, [2]int64{4, 1}, [2]int64{4, 2}, [2]int64{4, 3})
	replicate(2, [2]int64{2, 2}, [2]int64{4, 4})
	if !lost.Load() {
		t.Error("no answer was lost")
	}
	lake, err := store.OpenDir(filepath.Join(root, "ws", "shop.Lakehouse", "Tables"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := delta.Open(t.Context(), store.Sub(lake, "public/orders"), -1)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	if err := table.Scan(t.Context(), []string{"id"}, func(_ delta.File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			got = append(got, b.Cols[0].I64[i])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]int64{1, 3, 4}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	commits := map[string]int{}
	for v := range table.Version + 1 {
		info, err := delta.Info(t.Context(), store.Sub(lake, "public/orders"), v)
		if err != nil {
			t.Fatal(err)
		}
		commits[info.Operation]++
	}
	if commits["WRITE"] != 1 || commits["MERGE"] != 1 {
		t.Errorf("got commits %v, want each file in one", commits)
	}
	top, err := lake.List(t.Context(), "")
	if err != nil || len(top) != 1 || top[0].Name != "public" {
		t.Errorf("beside the tables lies %v, %v", top, err)
	}
	for _, bad := range []string{"https://host", "https://host/ws", "ftp://host/a/b", "abfss://host/a", srv.URL + "/ws/a?x=y"} {
		o := replicateOptions{landing: zone, memory: 512, tables: bad, interval: 1, retention: 24 * 3600e9, share: 1}
		if f := new(failure); !errors.As(runReplicate(t.Context(), o, s), &f) || f.Code != "UsageInvalid" {
			t.Errorf("%s: got %+v, want that it isn't taken", bad, f)
		}
	}
}

func TestLakeAddresses(t *testing.T) {
	for _, a := range []string{"https://onelake.dfs.fabric.microsoft.com/ws/shop.Lakehouse/Tables/", "abfss://ws@onelake.dfs.fabric.microsoft.com/shop.Lakehouse/Tables"} {
		endpoint, container, folder, err := lakeAddress(a)
		if got, want := fmt.Sprint(endpoint, container, folder, err), "https://onelake.dfs.fabric.microsoft.comwsshop.Lakehouse/Tables<nil>"; got != want {
			t.Errorf("%s: got %s, want %s", a, got, want)
		}
	}
}

// changesFile is a landing-zone file of rows, each a marker and an id.
func changesFile(t *testing.T, rows [][2]int64) []byte {
	t.Helper()
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}}}, true)
	for _, r := range rows {
		b.Cols[0].AppendInt64(r[1])
		b.EndMarkedRow(int32(r[0]))
	}
	var w bytes.Buffer
	if err := parquet.Write(&w, b, nil); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}
