package emulator_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	arrowparquet "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// zone is a table's folder in a landing zone, reached through OneLake.
type zone struct {
	w    *world
	path string
}

func (w *world) zone(mirror, table string) zone {
	return zone{w, "/" + w.env["FABRIC_WORKSPACE_ID"] + "/" + mirror + "/Files/LandingZone/" + landing.TableDir("public", table)}
}

func (z zone) metadata(t *testing.T, text string) {
	t.Helper()
	z.w.put(t, z.path+"/_metadata.json", []byte(text))
}

// file publishes by a rename, so that nobody sees a part.
func (z zone) file(t *testing.T, n int64, body []byte) {
	t.Helper()
	z.publish(t, landing.FileName(n), body)
}

// publish gives a file its name when it is whole: one that is seen while it is still
// empty fails its table.
func (z zone) publish(t *testing.T, name string, body []byte) {
	t.Helper()
	z.w.put(t, z.path+"/_draft", body)
	if a := z.w.rename(t, z.path+"/_draft", z.path+"/"+name); a.status != 201 {
		t.Fatalf("publish %s: got %d %s", name, a.status, a.raw)
	}
}

// names lists the folder.
func (z zone) names(t *testing.T, below string) (names []string) {
	t.Helper()
	_, dir, _ := strings.Cut(strings.TrimPrefix(z.path, "/"), "/")
	at := z.w.env["ONELAKE_DFS_ENDPOINT"] + "/" + z.w.env["FABRIC_WORKSPACE_ID"] + "?resource=filesystem&recursive=false&directory=" + dir + below
	paths, _ := z.w.do(t, "GET", at, z.w.env["STORAGE_TOKEN"], nil).body["paths"].([]any)
	for _, p := range paths {
		names = append(names, filepath.Base(p.(map[string]any)["name"].(string)))
	}
	return names
}

func (z zone) remove(t *testing.T) {
	t.Helper()
	z.w.dfs(t, "DELETE", z.path+"?recursive=true", nil)
}

// rows makes a Parquet file of "marker id name"; without marker when that is "-".
func rows(t *testing.T, lines ...string) []byte {
	t.Helper()
	return rowsOf(t, []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "name", Type: batch.Type{Kind: batch.String}}}, lines...)
}

func rowsOf(t *testing.T, fields []batch.Field, lines ...string) []byte {
	t.Helper()
	b := batch.New(&batch.Schema{Fields: fields}, len(lines) > 0 && lines[0][0] != '-')
	for _, line := range lines {
		words := strings.Fields(line)
		for i := range fields {
			var n int64
			c := &b.Cols[i]
			switch {
			case i+1 >= len(words):
				c.AppendNull()
			case fields[i].Type.Kind == batch.Int64:
				fmt.Sscan(words[i+1], &n)
				c.AppendInt64(n)
			default:
				c.AppendBytes([]byte(words[i+1]))
			}
		}
		if words[0] == "-" {
			b.EndRow()
			continue
		}
		b.EndMarkedRow(int32(words[0][0] - '0'))
	}
	var out bytes.Buffer
	if err := parquet.Write(&out, b, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// lake reads a Delta table as "id name" lines, in order; nil when there is none.
func lake(t *testing.T, w *world, dir, mirror, table string) (out []string) {
	t.Helper()
	s, err := store.OpenDir(filepath.Join(dir, "onelake", w.env["FABRIC_WORKSPACE_ID"], mirror, "Tables"))
	if err != nil {
		t.Fatal(err)
	}
	snap, err := delta.Open(t.Context(), store.Sub(s, table), -1)
	if err != nil {
		return nil
	}
	err = snap.Scan(t.Context(), nil, func(_ delta.File, b *batch.Batch, live []int32) error {
		for _, i := range live {
			var words []string
			for c := range b.Cols {
				switch col := &b.Cols[c]; {
				case col.Def[i] != batch.Present:
					words = append(words, "null")
				case col.Type.Kind == batch.Int64:
					words = append(words, fmt.Sprint(col.I64[i]))
				default:
					words = append(words, string(col.Value(int(i))))
				}
			}
			out = append(out, strings.Join(words, " "))
		}
		return nil
	})
	if err != nil {
		return nil // it was replaced meanwhile
	}
	slices.Sort(out)
	return out
}

// become waits until a table holds lines.
func become(t *testing.T, w *world, dir, mirror, table string, lines ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %v", table, lines), func() bool { return cmp.Equal(lines, lake(t, w, dir, mirror, table)) })
}

// TestLandingZone plays a publisher who keeps to the format, through OneLake.
func TestLandingZone(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir})
	id := w.mirror(t, "landing", openDefinition("dbo"))
	w.start(t, id)
	root := "/" + w.env["FABRIC_WORKSPACE_ID"] + "/" + id + "/Files/LandingZone"
	w.put(t, root+"/_partnerEvents.json", []byte(`{"partnerName":"test","sourceInfo":{"sourceType":"SQL"}}`))

	// Files that are numbered arm nothing before the metadata is there.
	z := w.zone(id, "orders")
	z.file(t, 1, rows(t, "- 1 a", "- 2 b"))
	eventually(t, "the folder was seen", func() bool { return w.tableState(t, id, "orders") == "Initialized" })
	z.metadata(t, `{"keyColumns":["id"]}`)
	become(t, w, dir, id, "public/orders", "1 a", "2 b")
	book.Proved("landing.metadata-arms", "landing.partner-events")

	// 3 waits for 2; a name with an underscore is nothing.
	z.file(t, 3, rows(t, "0 9 nine"))
	z.w.put(t, z.path+"/_"+landing.FileName(2), rows(t, "4 100 draft"))
	other := w.zone(id, "other")
	other.metadata(t, `{}`)
	other.file(t, 1, rows(t, "- 1 x"))
	become(t, w, dir, id, "public/other", "1 x") // so that several scans have passed
	if got := lake(t, w, dir, id, "public/orders"); len(got) != 2 {
		t.Errorf("over a gap: got %v, want 2 rows", got)
	}
	z.file(t, 2, rows(t, "1 1 A", "1 5 five", "2 2", "2 7", "4 3 c", "0 3 twice"))
	become(t, w, dir, id, "public/orders", "1 A", "3 c", "3 twice", "5 five", "9 nine")
	book.Proved("landing.contiguous", "landing.underscore", "landing.markers")
	eventually(t, "processed files are moved, but the last", func() bool {
		left := z.names(t, "")
		return slices.Contains(left, landing.FileName(3)) && !slices.Contains(left, landing.FileName(2)) && slices.Contains(z.names(t, "/_ProcessedFiles"), landing.FileName(1))
	})
	book.Proved("landing.processed")

	// A column more is NULL in old rows; one less in new ones.
	z.file(t, 4, rowsOf(t, []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "size", Type: batch.Type{Kind: batch.String}}}, "4 9 big"))
	become(t, w, dir, id, "public/orders", "1 A null", "3 c null", "3 twice null", "5 five null", "9 null big")
	book.Proved("landing.union")

	// A folder made anew is a new table, one that is gone is none. A file that is being
	// moved away as its folder goes would bring the folder back.
	eventually(t, "only the last file is left to move", func() bool { return !slices.Contains(z.names(t, ""), landing.FileName(3)) })
	z.remove(t)
	eventually(t, "the table went with its folder", func() bool { return lake(t, w, dir, id, "public/orders") == nil && w.tableState(t, id, "orders") == "" })
	z.file(t, 1, rows(t, "- 8 h"))
	z.metadata(t, `{"keyColumns":["id"]}`)
	become(t, w, dir, id, "public/orders", "8 h")
	z.remove(t)
	z.file(t, 1, rows(t, "- 7 g"))
	z.metadata(t, `{"keyColumns":["id"]}`)
	become(t, w, dir, id, "public/orders", "7 g")
	book.Proved("landing.folder-gone", "landing.folder-anew")

	// Without marker, but upserts by default; and a folder outside a schema.
	u := zone{w, root + "/plain"}
	u.metadata(t, `{"keyColumns":["id"],"isUpsertDefaultRowMarker":true}`)
	u.file(t, 1, rows(t, "- 1 a"))
	u.file(t, 2, rows(t, "- 1 b", "- 2 c"))
	become(t, w, dir, id, "dbo/plain", "1 b", "2 c")
	book.Proved("landing.upsert-default", "landing.default-schema")

	// Stop and start drops what was made; what was processed doesn't come again.
	w.halt(t, id)
	w.start(t, id)
	eventually(t, "the tables were dropped", func() bool {
		return lake(t, w, dir, id, "dbo/plain") == nil || w.tableState(t, id, "plain") == "Initialized"
	})
	book.Proved("landing.stop-start")
}

// TestLandingZoneFaults is each of a publisher's mistakes, in a table of its own.
func TestLandingZoneFaults(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir, TableLimit: 9})
	id := w.mirror(t, "faults", openDefinition("dbo"))
	text, number := batch.Type{Kind: batch.String}, batch.Type{Kind: batch.Int64}
	for name, c := range map[string]struct {
		metadata string
		file     []byte
		want     string
	}{
		"a_type":     {`{"keyColumns":["id"]}`, rowsOf(t, []batch.Field{{Name: "id", Type: number}, {Name: "name", Type: number}}, "4 1 2"), "SchemaMergeFailure: Type mismatch for column 'name'. Incoming type: 'long', existing type: 'string'"},
		"b_zero":     {`{"keyColumns":["id"]}`, nil, "Parquet file size is 0 bytes"},
		"c_torn":     {`{"keyColumns":["id"]}`, rows(t, "4 1 x")[:40], landing.FileName(2)},
		"d_marker":   {`{"keyColumns":["id"]}`, rows(t, "3 1 x"), "row marker 3 is none of 0, 1, 2, 4"},
		"e_no_key":   {`{}`, rows(t, "4 1 x"), "needs keyColumns"},
		"f_key":      {`{"keyColumns":["none"]}`, rows(t, "4 1 x"), `key column "none"`},
		"g_last":     {`{"keyColumns":["id"]}`, rowsOf(t, []batch.Field{{Name: "id", Type: number}, {Name: parquet.MarkerColumn, Type: batch.Type{Kind: batch.Int64}}, {Name: "name", Type: text}}, "- 1 4 x"), "is not the last column"},
		"h_case":     {`{"keyColumns":["id"]}`, rowsOf(t, []batch.Field{{Name: "id", Type: number}, {Name: "NAME", Type: text}}, "4 1 x"), "only in case"},
		"i_metadata": {`{`, nil, "_metadata.json"},
		"j_too_many": {`{}`, nil, "The tables count might exceed the limit"},
	} {
		z := w.zone(id, name)
		z.file(t, 1, rows(t, "- 1 a"))
		z.file(t, 2, c.file)
		z.metadata(t, c.metadata)
		defer func() {
			eventually(t, name+" has failed", func() bool { return w.tableState(t, id, name) == "Failed" })
			s, _ := w.table(t, id, name)
			if got := fmt.Sprint(s["error"].(map[string]any)["message"]); !strings.Contains(got, c.want) {
				t.Errorf("%s: got %q, want %q in it", name, got, c.want)
			}
		}()
	}
	w.start(t, id)
}

// compressed is a Parquet file of one int64 column, as another writer makes it.
func compressed(t *testing.T, codec compress.Compression, ids ...int64) []byte {
	t.Helper()
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(ids, nil)
	column := b.NewArray()
	rec := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil), []arrow.Array{column}, int64(len(ids)))
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(rec.Schema(), &out, arrowparquet.NewWriterProperties(arrowparquet.WithCompression(codec)), pqarrow.DefaultWriterProps())
	if err == nil {
		err = w.WriteBuffered(rec)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestDelimitedText publishes what a person can type.
func TestDelimitedText(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir})
	id := w.mirror(t, "text", openDefinition("dbo"))
	z := w.zone(id, "t")
	z.w.put(t, z.path+"/00000000000000000001.csv", []byte("id,name\r\n1,a\r\n2,\"b,c\"\r\n"))
	z.w.put(t, z.path+"/00000000000000000002.csv", []byte("id,name,__rowMarker__\r\n2,,2\r\n3,three,4\r\n"))
	z.metadata(t, `{"keyColumns":["id"],"FileFormat":"DelimitedText","FileExtension":"csv","SchemaDefinition":{"Columns":[{"Name":"id","DataType":"Int64"},{"Name":"name","DataType":"String"}]}}`)
	w.start(t, id)
	become(t, w, dir, id, "public/t", "1 a", "3 three")
	book.Proved("landing.delimited")
}

// TestFilesByTime: files of any name, in the order of their times.
func TestFilesByTime(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir})
	id := w.mirror(t, "by time", openDefinition("dbo"))
	z := w.zone(id, "t")
	z.w.put(t, z.path+"/b.parquet", rows(t, "4 1 first"))
	z.w.put(t, z.path+"/a.parquet", rows(t, "4 1 second", "4 2 x"))
	_, in, _ := strings.Cut(strings.TrimPrefix(z.path, "/"), "/")
	earlier := time.Now().Add(-time.Minute) // by itself it may be of the same tick of the clock
	if err := os.Chtimes(filepath.Join(dir, "onelake", w.env["FABRIC_WORKSPACE_ID"], in, "b.parquet"), earlier, earlier); err != nil {
		t.Fatal(err)
	}
	z.metadata(t, `{"keyColumns":["id"],"fileDetectionStrategy":"LastUpdateTimeFileDetection"}`)
	w.start(t, id)
	become(t, w, dir, id, "public/t", "1 second", "2 x")
	eventually(t, "the files are moved", func() bool { return len(z.names(t, "/_ProcessedFiles")) == 2 })
	z.publish(t, "a.parquet", rows(t, "2 2"))
	become(t, w, dir, id, "public/t", "1 second")
	book.Proved("landing.by-time")
}

// TestLandingFiles: what files may be, what becomes of a broken one and of those
// that were processed long ago.
func TestLandingFiles(t *testing.T) {
	dir := clusterDir(t)
	w := own(t, emulator.Options{Dir: dir})
	id := w.mirror(t, "files", openDefinition("dbo"))
	w.start(t, id)
	z := w.zone(id, "t")
	z.metadata(t, `{}`)
	for i, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Zstd} {
		z.file(t, int64(i+1), compressed(t, codec, int64(i+1)))
	}
	become(t, w, dir, id, "public/t", "1", "2", "3", "4")
	book.Proved("landing.compression")

	z.file(t, 5, compressed(t, compress.Codecs.Snappy))
	z.file(t, 6, []byte("PAR1 is all that is right here"))
	eventually(t, "the broken file is told", func() bool { return w.tableState(t, id, "t") == "Failed" })
	z.w.dfs(t, "DELETE", z.path+"/"+landing.FileName(6), nil)
	z.file(t, 6, compressed(t, compress.Codecs.Zstd, 6))
	become(t, w, dir, id, "public/t", "1", "2", "3", "4", "6")
	eventually(t, "the table goes on", func() bool { return w.tableState(t, id, "t") == "Replicating" })
	book.Proved("landing.no-rows", "landing.mended")

	processed := func() int { return len(z.names(t, "/_ProcessedFiles")) }
	eventually(t, "five files are processed", func() bool { return processed() == 5 })
	w.advance(t, 6*24*time.Hour)
	z.file(t, 7, compressed(t, compress.Codecs.Zstd, 7))
	eventually(t, "the sixth is", func() bool { return processed() == 6 })
	w.advance(t, 30*time.Hour)
	eventually(t, "they are deleted", func() bool { return processed() == 0 })
	if !slices.Contains(z.names(t, ""), landing.FileName(7)) {
		t.Error("the last file is gone")
	}
	book.Proved("landing.expired")
}
