package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// fakeTable is a table of a mirror that tests write as they like.
type fakeTable struct {
	v        int64
	batch    *batch.Batch
	position position
}

func (f fakeTable) version() int64        { return f.v }
func (f fakeTable) fields() []batch.Field { return f.batch.Schema.Fields }
func (f fakeTable) rows() int64           { return int64(f.batch.Rows()) }

func (f fakeTable) files() []string { return []string{fmt.Sprint(f.v)} }
func (f fakeTable) told() position  { return f.position }

func (f fakeTable) read(_ context.Context, _ int, columns []string, fn func(*batch.Batch, []int32) error) error {
	at := map[string]int{}
	for i, fd := range f.batch.Schema.Fields {
		at[fd.Name] = i
	}
	b := &batch.Batch{Schema: &batch.Schema{}}
	for _, name := range columns {
		b.Schema.Fields = append(b.Schema.Fields, f.batch.Schema.Fields[at[name]])
		b.Cols = append(b.Cols, f.batch.Cols[at[name]])
	}
	var live []int32
	for i := range f.batch.Rows() {
		live = append(live, int32(i))
	}
	return fn(b, live)
}

// fakeMirror is the newest version of one table.
type fakeMirror struct {
	mu       sync.Mutex
	now      fakeTable
	position position // of the next version
}

func (m *fakeMirror) publish(b *batch.Batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = fakeTable{m.now.v + 1, b, m.position}
}

func (m *fakeMirror) open(context.Context, store.Store) (mirrorTable, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now, nil
}

// atLooks is open that calls do before every look but the first, with the time since
// that one: what a timer would do before it, or after the last one, on a slow machine.
func (m *fakeMirror) atLooks(do func(after time.Duration)) func(context.Context, store.Store) (mirrorTable, error) {
	var first time.Time
	return func(ctx context.Context, s store.Store) (mirrorTable, error) {
		if first.IsZero() {
			first = time.Now()
		} else {
			do(time.Since(first))
		}
		return m.open(ctx, s)
	}
}

func start(t *testing.T) *localpg.Cluster { return localpgtest.Start(t, localpg.Options{}) }

func endpoint(c *localpg.Cluster) postgres.Endpoint {
	return postgres.Endpoint{Host: c.Host, Port: c.Port, Database: "postgres", User: c.Superuser, Password: c.Password, SSLMode: "disable"}
}

// folder is a Tables folder with the named tables, whose logs nobody reads.
func folder(t *testing.T, tables ...string) store.Store {
	t.Helper()
	s, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		if _, err := s.Put(t.Context(), name+"/_delta_log/00000000000000000000.json", []byte("{}"), store.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// items is the mirror of CREATE TABLE items (id bigint PRIMARY KEY, name text,
// price numeric(12,2)).
var items = &batch.Schema{Fields: []batch.Field{{Name: "id", Type: batch.Type{Kind: batch.Int64}}, {Name: "name", Type: batch.Type{Kind: batch.String}},
	{Name: "price", Type: batch.Type{Kind: batch.Decimal, Precision: 12, Scale: 2}}}}

const createItems = "CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric(12,2))"

// item is one row; a nil name is NULL.
type item struct {
	id    int64
	name  *string
	price int64 // cents
}

func itemBatch(rows []item) *batch.Batch {
	b := batch.New(items, false)
	for _, r := range rows {
		b.Cols[0].AppendInt64(r.id)
		if r.name == nil {
			b.Cols[1].AppendNull()
		} else {
			b.Cols[1].AppendBytes([]byte(*r.name))
		}
		b.Cols[2].AppendInt64(r.price)
		b.EndRow()
	}
	return b
}

// readItems reads the source as a mirror would.
func readItems(ctx context.Context, conn *pgx.Conn) ([]item, error) {
	rows, err := conn.Query(ctx, "SELECT id, name, (price * 100)::bigint FROM items")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (item, error) {
		var i item
		err := r.Scan(&i.id, &i.name, &i.price)
		return i, err
	})
}

func connect(t *testing.T, c *localpg.Cluster) *pgx.Conn {
	t.Helper()
	return connectTo(t, c.URL("", "", "postgres"))
}

func connectTo(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func mustRun(t *testing.T, cfg Config) *Receipt {
	t.Helper()
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tamper changes rows as a faulty mirror would: one each of a changed value, a
// missing row, an extra row, a NULL for an empty string, a doubled row.
func tamper(rows []item) []item {
	var out []item
	for _, r := range rows {
		switch r.id {
		case 1:
			r.price++
		case 2:
			continue
		case 3:
			r.name = nil
		case 4:
			out = append(out, r)
		}
		out = append(out, r)
	}
	return append(out, item{id: -7, price: 1})
}

var tampered = []RowDifference{
	{Key: "id=-7", Kind: Extra, Values: []string{"-7"}},
	{Key: "id=1", Kind: Changed, Columns: []string{"price"}, Values: []string{"1"}},
	{Key: "id=2", Kind: Missing, Values: []string{"2"}},
	{Key: "id=3", Kind: Changed, Columns: []string{"name"}, Values: []string{"3"}},
	{Key: "id=4", Kind: Extra, Values: []string{"4"}},
}

func TestStill(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems,
		`INSERT INTO items SELECT i, CASE i % 5 WHEN 0 THEN NULL WHEN 3 THEN '' ELSE E'na\\me\t\n' || i END, i * 1.5 FROM generate_series(1, 3000) i`)
	rows, err := readItems(t.Context(), connect(t, c))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		rows []item
		want []RowDifference
	}{{"equal", rows, nil}, {"tampered", tamper(rows), tampered}} {
		t.Run(tt.name, func(t *testing.T) {
			var m fakeMirror
			m.publish(itemBatch(tt.rows))
			r := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: 300 * time.Millisecond, open: m.open})
			got := r.Tables[0]
			if diff := cmp.Diff(tt.want, got.Differences); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			if want := map[bool]State{true: Equal, false: Differs}[tt.want == nil]; got.State != want {
				t.Errorf("got state %s, want %s (%s)", got.State, want, got.Reason)
			}
			if got.Rows != 3000 || got.MirrorRows != int64(len(tt.rows)) || (got.Checksum == got.MirrorChecksum) != (tt.want == nil) {
				t.Errorf("got %d rows %s, in the mirror %d rows %s", got.Rows, got.Checksum, got.MirrorRows, got.MirrorChecksum)
			}
		})
	}
}

// load writes to items until ctx ends, sparing the ids that tamper changes; the
// server paces it.
func load(ctx context.Context, conn *pgx.Conn, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		id := 10 + rnd.IntN(500)
		var sql string
		switch rnd.IntN(4) {
		case 0:
			sql = fmt.Sprintf("INSERT INTO items VALUES (%d, 'new', %d) ON CONFLICT DO NOTHING", id, rnd.IntN(3))
		case 1:
			sql = fmt.Sprintf("DELETE FROM items WHERE id = %d", id)
		default:
			sql = fmt.Sprintf("UPDATE items SET name = '%d', price = price + 1 WHERE id BETWEEN %d AND %d", rnd.IntN(3), id, id+3)
		}
		if _, err := conn.Exec(ctx, sql+"; SELECT pg_sleep(0.005)", pgx.QueryExecModeSimpleProtocol); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// follower is a mirror that follows the source, late by less than most whenever one
// looks, on any machine.
type follower struct {
	fakeMirror
	most time.Duration
	read time.Time     // under mu: when what is newest was about to be read
	came chan struct{} // under mu: closed when something newer has come
}

func (f *follower) open(ctx context.Context, s store.Store) (mirrorTable, error) {
	for {
		f.mu.Lock()
		late, came := time.Since(f.read) >= f.most, f.came
		f.mu.Unlock()
		if !late {
			return f.fakeMirror.open(ctx, s)
		}
		select {
		case <-came:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// show publishes what was read from some time on.
func (f *follower) show(rows []item, read time.Time) {
	f.publish(itemBatch(rows))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read = read; f.came != nil {
		close(f.came)
	}
	f.came = make(chan struct{})
}

// follow publishes the source's rows again and again, each time late by lag.
func (f *follower) follow(ctx context.Context, conn *pgx.Conn, lag time.Duration, change func([]item) []item) error {
	for {
		began := time.Now()
		rows, err := readItems(ctx, conn)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lag): // the lag that is simulated
			f.show(change(rows), began)
		}
	}
}

// underLoad runs f while items is written to and m follows.
func underLoad(t *testing.T, c *localpg.Cluster, m *follower, change func([]item) []item, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	began := time.Now()
	first, err := readItems(ctx, connect(t, c))
	if err != nil {
		t.Fatal(err)
	}
	m.show(change(first), began)
	reader := connect(t, c)
	wg.Go(func() {
		if err := m.follow(ctx, reader, 100*time.Millisecond, change); err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	for i := range 3 {
		conn := connect(t, c)
		wg.Go(func() {
			if err := load(ctx, conn, uint64(i)); err != nil {
				t.Errorf("load: %v", err)
			}
		})
	}
	f()
}

func TestUnderLoad(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, "INSERT INTO items SELECT i, '', i FROM generate_series(1, 2000) i")
	const settle = 3 * time.Second
	runs := 20
	if testing.Short() {
		runs = 2
	}
	t.Run("no false alarm", func(t *testing.T) {
		m := follower{most: settle * 2 / 3}
		inFlight, moving := 0, 0
		underLoad(t, c, &m, func(r []item) []item { return r }, func() {
			began := time.Now()
			for i := range runs {
				if i > 0 && time.Since(began) > time.Minute {
					break // where rows are in flight for long, few runs see many
				}
				got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: settle, open: m.open}).Tables[0]
				if got.State != Equal && got.State != Moving || len(got.Differences) > 0 {
					t.Fatalf("run %d: got %s %s %v", i, got.State, got.Reason, got.Differences)
				}
				inFlight, moving = inFlight+got.InFlight, moving+got.Moving
			}
		})
		if inFlight == 0 {
			t.Error("no row was in flight: the load proved nothing")
		}
		t.Logf("%d rows in flight, %d moving", inFlight, moving)
	})
	t.Run("planted", func(t *testing.T) {
		m := follower{most: settle * 2 / 3}
		underLoad(t, c, &m, tamper, func() {
			got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: settle, open: m.open}).Tables[0]
			if diff := cmp.Diff(tampered, got.Differences); diff != "" || got.State != Differs {
				t.Errorf("got state %s %s, differences (-want +got):\n%s", got.State, got.Reason, diff)
			}
		})
	})
}

// A row that never rests is counted, and neither equal nor different.
func TestMoving(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, "INSERT INTO items SELECT i, '', i FROM generate_series(1, 100) i")
	conn := connect(t, c)
	rows, err := readItems(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	var m fakeMirror
	m.publish(itemBatch(rows))
	update := func(time.Duration) {
		if _, err := conn.Exec(t.Context(), "UPDATE items SET price = price + 1 WHERE id = 50"); err != nil {
			t.Error(err)
		}
	}
	update(0)
	got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), Settle: 100 * time.Millisecond, open: m.atLooks(update)}).Tables[0]
	if got.State != Moving || got.Moving != 1 || len(got.Differences) != 0 {
		t.Errorf("got %s, %d moving, %v, want 1 moving", got.State, got.Moving, got.Differences)
	}
}

// Without a settling time given, a mirror that shows no sign of life is given
// longer, and a lag of more than the minimum is no false alarm.
func TestSettlesByTheLag(t *testing.T) {
	c := start(t)
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems, "INSERT INTO items SELECT i, '', i FROM generate_series(1, 100) i")
	conn := connect(t, c)
	before, err := readItems(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	var m fakeMirror
	m.publish(itemBatch(before))
	localpgtest.Exec(t, c.URL("", "", "postgres"), "UPDATE items SET name = 'late' WHERE id < 10")
	after, err := readItems(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	open := m.atLooks(func(late time.Duration) {
		if late > minSettle+time.Second {
			m.publish(itemBatch(after))
		}
	})
	got := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), open: open}).Tables[0]
	if got.State != Equal || got.InFlight != 9 {
		t.Errorf("got %s, %d in flight, %v, want equal and 9", got.State, got.InFlight, got.Differences)
	}
}

func TestTables(t *testing.T) {
	c := start(t)
	url := c.URL("", "", "postgres")
	localpgtest.Exec(t, url, createItems, "CREATE TABLE absent (i int PRIMARY KEY)", "CREATE UNLOGGED TABLE volatile (i int)",
		"CREATE TABLE broken (i int PRIMARY KEY)", `CREATE TABLE "it;ems" (LIKE items INCLUDING ALL)`, `CREATE TABLE "it~3Bems" (LIKE items INCLUDING ALL)`, "CREATE SCHEMA other", "CREATE TABLE other.items (i int)", "CREATE ROLE reader LOGIN PASSWORD 'x'",
		`GRANT SELECT ON items, "it;ems", "it~3Bems" TO reader`)
	e := endpoint(c)
	e.User, e.Password = "reader", "x"
	var m fakeMirror
	m.publish(itemBatch(nil))
	var events []string
	cfg := Config{Source: e, Settle: time.Millisecond, open: m.open,
		Tables: folder(t, "public/items", "public/broken", "public/dropped", "public/it~3Bems", "public/it~7E3Bems"),
		Called: func(schema, table string) (string, string) {
			return schema, strings.NewReplacer("~", "~7E", ";", "~3B").Replace(table)
		},
		Events: func(e Event) { events = append(events, e.Type+" "+e.Table) }}
	for _, stray := range []string{".DS_Store", "public/.DS_Store"} {
		if _, err := cfg.Tables.Put(t.Context(), stray, nil, store.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	r := mustRun(t, cfg)
	type line struct {
		Table string
		State State
	}
	var got []line
	for _, tr := range r.Tables {
		got = append(got, line{tr.Schema + "." + tr.Name, tr.State})
		if tr.State != Equal && tr.Reason == "" {
			t.Errorf("%s.%s is %s without a reason", tr.Schema, tr.Name, tr.State)
		}
	}
	want := []line{{"other.items", NotMirrored}, {"public.absent", NotMirrored}, {"public.broken", Unreadable}, {"public.dropped", Differs},
		{"public.it;ems", Equal}, {"public.items", Equal}, {"public.it~3Bems", Equal}, {"public.volatile", NotMirrored}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if want := 2 * len(got); len(events) != want { // also when several tables are compared at once
		t.Errorf("got events %v, want %d", events, want)
	}

	cfg.Only = []string{"items"}
	if r := mustRun(t, cfg); len(r.Tables) != 2 {
		t.Errorf("asked for items, got %d tables, want 2", len(r.Tables))
	}
	cfg.Only = []string{"public.nothing"}
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "public.nothing") {
		t.Errorf("asked for a table that is nowhere, got %v", err)
	}
}

func TestReceiptHasNoPassword(t *testing.T) {
	c := localpgtest.Start(t, localpg.Options{Password: "hush-hush-7"})
	localpgtest.Exec(t, c.URL("", "", "postgres"), createItems)
	var m fakeMirror
	m.publish(itemBatch(nil))
	r := mustRun(t, Config{Source: endpoint(c), Tables: folder(t, "public/items"), open: m.open})
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "hush-hush") {
		t.Errorf("the receipt has the password: %s", b)
	}
	var back Receipt
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, &back, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("receipt through JSON (-before +after):\n%s", diff)
	}
	bad := endpoint(c)
	bad.Password = "hush-hush-8"
	if _, err := Run(t.Context(), Config{Source: bad, Tables: folder(t), open: m.open}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("with a wrong password got error %v, want one without it", err)
	}
}
