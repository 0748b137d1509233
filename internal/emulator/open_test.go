package emulator_test

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// ordersFile is a Parquet file of orders with n rows.
func ordersFile(t *testing.T, n int) []byte {
	t.Helper()
	b := batch.New(&batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "note", Type: batch.Type{Kind: batch.String}}}}, false)
	for i := range n {
		b.Cols[0].AppendInt64(int64(i))
		b.Cols[1].AppendBytes([]byte("open " + strconv.Itoa(i)))
		b.EndRow()
	}
	var out bytes.Buffer
	if err := parquet.Write(&out, b, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// dfs sends a request to OneLake.
func (w *world) dfs(t *testing.T, method, path string, body any) {
	t.Helper()
	a := w.do(t, method, w.env["ONELAKE_DFS_ENDPOINT"]+path, w.env["STORAGE_TOKEN"], body)
	if a.status >= 300 {
		t.Fatalf("%s %s: got %d %s", method, path, a.status, a.raw)
	}
}

// put uploads a file as a publisher does, by the item's name.
func (w *world) put(t *testing.T, path string, body []byte) {
	t.Helper()
	w.dfs(t, "PUT", path+"?resource=file", nil)
	if len(body) == 0 {
		return // the service refuses an append of nothing
	}
	w.dfs(t, "PATCH", path+"?action=append&position=0", string(body))
	w.dfs(t, "PATCH", path+"?action=flush&position="+strconv.Itoa(len(body)), nil)
}

// rename is OneLake's, with conditions in header lines.
func (w *world) rename(t *testing.T, from, to string, header ...string) answer {
	t.Helper()
	return w.do(t, "PUT", w.env["ONELAKE_DFS_ENDPOINT"]+to, w.env["STORAGE_TOKEN"], nil, append(header, "x-ms-rename-source: "+from)...)
}

func TestOpenMirror(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir})
	id := w.mirror(t, "shop", openDefinition("dbo"))
	table := "/pgmirror/shop.MountedRelationalDatabase/Files/LandingZone/" + landing.TableDir("public", "orders")
	w.put(t, table+"/_metadata.json", []byte(`{"keyColumns":["id"]}`))
	w.put(t, table+"/"+landing.FileName(1), ordersFile(t, 10))
	w.start(t, id)
	eventually(t, "the table is there", func() bool { return len(w.delta(t, dir, id)) == 10 })
	eventually(t, "its state tells", func() bool { return w.tableState(t, id, "orders") == "Replicating" })
	s, _ := w.table(t, id, "orders")
	if m := s["metrics"].(map[string]any); s["status"] != "Replicating" || m["processedRows"] != 10.0 {
		t.Errorf("status: got %v, want Replicating with 10 rows", s)
	}
	monitoring := func(name string) string {
		a := w.do(t, "GET", w.env["ONELAKE_DFS_ENDPOINT"]+"/pgmirror/shop.MountedRelationalDatabase/Files/Monitoring/"+name, w.env["STORAGE_TOKEN"], nil)
		return string(a.raw)
	}
	eventually(t, "OneLake tells its state as well", func() bool {
		return strings.Contains(monitoring("replicator.json"), `"Running"`) && strings.Contains(monitoring("tables.json"), `"sourceTableName":"orders","status":"Replicating"`)
	})
	w.halt(t, id)
	if got := monitoring("replicator.json") + monitoring("tables.json"); strings.Count(got, `"Stopped"`) != 2 {
		t.Errorf("what a stopped mirror tells in OneLake: got %s, want it and its table Stopped", got)
	}
	book.Proved("mirroring.monitoring")
	// A file that comes meanwhile is not taken.
	w.put(t, table+"/"+landing.FileName(2), ordersFile(t, 1))
	if got := w.tableState(t, id, "orders"); got != "Stopped" {
		t.Errorf("table of a stopped mirror: got %s, want Stopped", got)
	}
	log, err := store.OpenDir(filepath.Join(dir, "onelake", w.env["FABRIC_WORKSPACE_ID"], id, "Tables", "public", "orders", "_delta_log"))
	if err != nil {
		t.Fatal(err)
	}
	first, before, err := log.Read(t.Context(), "00000000000000000000.json", 0, -1)
	if err != nil || !bytes.Contains(first, []byte(`"deletionVectors"`)) {
		t.Fatalf("got %s, %v, want a table with deletion vectors, as Fabric's are", first, err)
	}
	w.start(t, id)
	eventually(t, "the table is made anew", func() bool {
		after, err := log.Stat(t.Context(), "00000000000000000000.json")
		return err == nil && after.ETag != before.ETag
	})
	w.fabric(t, "DELETE", w.mirrors()+"/"+id, nil).want(t, 200, "")
	if a := w.do(t, "HEAD", w.env["ONELAKE_DFS_ENDPOINT"]+table, w.env["STORAGE_TOKEN"], nil); a.status != 404 {
		t.Errorf("files of a deleted item: got %d, want 404", a.status)
	}
}
