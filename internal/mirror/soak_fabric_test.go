package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// taker does with a landing zone what Fabric does: it takes the files of each
// folder in the order of their numbers, once, while they are written; moves them
// away and deletes them; and drops a table whose folder is gone. It fails the
// test for an insert of a key that is there and for positions that go back.
type taker struct {
	t    testing.TB
	zone *store.Dir

	mu     sync.Mutex // held while a request changes the zone, and while a folder is taken
	tables map[string]*taken
	rand   *rand.Rand
}

// taken is what came of a folder.
type taken struct {
	files    int64
	rows     int64
	position landing.Position
	key      []string
	byKey    map[string]row
	bag      map[string]int // of a table without a key: its rows, counted
	trail    map[string][]string
}

// row is a row's values by column; NULLs are left out.
type row map[string]string

func newTaker(t testing.TB, zone *store.Dir, seed uint64) *taker {
	return &taker{t: t, zone: zone, tables: map[string]*taken{}, rand: rand.New(rand.NewPCG(seed, 77))}
}

// takeAll goes through all folders once, and reports whether there was any file.
func (k *taker) takeAll() (any bool) {
	for _, dir := range k.folders() {
		for k.take(dir) {
			any = true
		}
	}
	return any
}

// folders drops the tables whose folder is gone.
func (k *taker) folders() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	schemas, err := k.zone.List(context.Background(), "")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, s := range schemas {
		if !s.Dir || !strings.HasSuffix(s.Name, ".schema") {
			continue
		}
		tables, err := k.zone.List(context.Background(), s.Name)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, t := range tables {
			out = append(out, t.Name)
		}
	}
	for dir := range k.tables {
		if !slices.Contains(out, dir) {
			delete(k.tables, dir)
		}
	}
	return out
}

// take takes the folder's next file, if it is there.
func (k *taker) take(dir string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx := context.Background()
	meta, err := landing.ReadMetadata(ctx, k.zone, dir)
	if errors.Is(err, store.ErrNotExist) {
		return false
	} else if err != nil {
		k.t.Fatal(err)
	}
	t := k.tables[dir]
	if t == nil {
		t = &taken{byKey: map[string]row{}, bag: map[string]int{}, trail: map[string][]string{}, key: meta.KeyColumns}
		k.tables[dir] = t
	}
	if !slices.Equal(t.key, meta.KeyColumns) {
		k.t.Errorf("%s: the key columns went from %v to %v", dir, t.key, meta.KeyColumns)
	}
	name := path.Join(dir, landing.FileName(t.files+1))
	data, _, err := k.zone.Read(ctx, name, 0, -1)
	if errors.Is(err, store.ErrNotExist) {
		return false
	} else if err != nil {
		k.t.Fatal(err)
	}
	if err := t.apply(name, data); err != nil {
		k.t.Errorf("%s: %v", name, err)
	}
	t.files++
	switch k.rand.IntN(3) {
	case 0:
		err = k.zone.Rename(ctx, name, path.Join(dir, landing.ProcessedDir, path.Base(name)))
	case 1:
		err = k.zone.Remove(ctx, name)
	}
	if err != nil {
		k.t.Errorf("move %s away: %v", name, err)
	}
	return true
}

func (t *taken) apply(name string, data []byte) error {
	p, err := parquet.Open(data)
	if err != nil {
		return err
	}
	m, ok, err := landing.ParseMeta(p.Metadata)
	if err != nil || !ok {
		return fmt.Errorf("meta: %t, %w", ok, err)
	}
	if q, last := m.Position, t.position; q.CommitLSN < last.CommitLSN || q.CommitLSN == last.CommitLSN && q.N < last.N {
		return fmt.Errorf("position %+v after %+v", q, last)
	}
	t.position = m.Position
	b, err := p.Read(nil, true)
	if err != nil {
		return err
	}
	t.rows += int64(b.Rows())
	for i := range b.Rows() {
		r := rowOf(b, i)
		if len(t.key) == 0 {
			if b.Marker != nil {
				return errors.New("a table without a key has markers")
			}
			t.bag[fmt.Sprint(r)]++
			continue
		}
		key := r.pick(t.key)
		marker := int32(-1)
		if b.Marker != nil {
			marker = b.Marker[i]
		}
		t.trail[key] = append(t.trail[key], fmt.Sprintf("generation %d, file %s, at %v/%d: marker %d", m.Generation, path.Base(name), m.Position.CommitLSN, m.Position.N, marker))
		switch marker {
		case -1:
			if _, there := t.byKey[key]; there {
				return fmt.Errorf("row %q was inserted twice: %q", key, t.trail[key])
			}
			t.byKey[key] = r
		case batch.Upsert:
			t.byKey[key] = r
		case batch.Delete:
			delete(t.byKey, key)
		default:
			return fmt.Errorf("marker %d", marker)
		}
	}
	return nil
}

func rowOf(b *batch.Batch, i int) row {
	r := row{}
	for c := range b.Cols {
		if b.Cols[c].Def[i] != batch.Null {
			r[b.Schema.Fields[c].Name] = string(b.Cols[c].AppendValue(nil, i))
		}
	}
	return r
}

func (r row) pick(columns []string) string {
	var b strings.Builder
	for _, c := range columns {
		fmt.Fprintf(&b, "%q,", r[c])
	}
	return b.String()
}

// said is what Fabric's table status would say.
func (k *taker) said() []FabricTable {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := []FabricTable{}
	for dir, t := range k.tables {
		schema, table := landing.TableName(dir)
		out = append(out, FabricTable{Schema: schema, Table: table, Rows: t.rows})
	}
	return out
}

func (k *taker) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if err := json.NewEncoder(w).Encode(k.said()); err != nil {
		k.t.Logf("answer as Fabric: %v", err) // the one who asked was killed
	}
}

// differs holds a table's rows against the source's, and counts these. Columns
// that were dropped stay in the mirror.
func (k *taker) differs(source postgres.Endpoint, src postgres.Table) (wrong []string, rows int) {
	want, bag := sourceRows(k.t, source, src)
	k.mu.Lock()
	defer k.mu.Unlock()
	have := k.tables[landing.TableDir(src.Schema, src.Name)]
	if have == nil {
		return []string{src.String() + " is not in the mirror"}, 0
	}
	say := func(key, what string) {
		wrong = append(wrong, fmt.Sprintf("%s, key %s: %s; %s", &src, key, what, strings.Join(have.trail[key], "\n\t")))
	}
	for key, r := range want {
		if got, there := have.byKey[key]; !there {
			say(key, "lost")
		} else if d := difference(got, r, src.MirrorSchema()); d != "" {
			say(key, d)
		}
	}
	for key := range have.byKey {
		if _, there := want[key]; !there {
			say(key, "is in the mirror only")
		}
	}
	if len(src.Key) == 0 && !maps.Equal(bag, have.bag) {
		wrong = append(wrong, fmt.Sprintf("%s: got %v, want %v", &src, have.bag, bag))
	}
	return wrong, len(want) + len(bag)
}

func difference(got, want row, columns *batch.Schema) string {
	var out []string
	for _, f := range columns.Fields {
		if got[f.Name] != want[f.Name] {
			out = append(out, fmt.Sprintf("%s is %.40q, want %.40q", f.Name, got[f.Name], want[f.Name]))
		}
	}
	return strings.Join(out, ", ")
}

// sourceRows reads a table as a snapshot does; one without a key is counted.
func sourceRows(t testing.TB, source postgres.Endpoint, src postgres.Table) (byKey map[string]row, bag map[string]int) {
	ctx := context.Background()
	r, err := postgres.OpenSnapshot(ctx, source, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	byKey, bag = map[string]row{}, map[string]int{}
	for _, part := range partsOf(&src) {
		dec, err := src.LeafDecoder(part)
		if err != nil {
			t.Fatal(err)
		}
		b := batch.New(src.MirrorSchema(), false)
		if err := r.CopyChunk(ctx, part, dec, 0, math.MaxUint32, b, nil); err != nil {
			t.Fatal(err)
		}
		for i := range b.Rows() {
			one := rowOf(b, i)
			if len(src.Key) == 0 {
				bag[fmt.Sprint(one)]++
			} else {
				byKey[one.pick(keyOf(src))] = one
			}
		}
	}
	return byKey, bag
}
