package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// smallest is the least memory that a server decodes with, so that transactions
// of a few hundred rows are streamed.
const smallest = 64 << 10

// told is what a stream tells of a transaction, Relation and Type messages taken
// into the changes that they are for.
type told struct {
	Begin, Commit string
	Changes       []string
}

// tell reads a slot up to the message "end". busiest is the most that the stream
// held at once.
func tell(t testing.TB, e postgres.Endpoint, o postgres.StreamOptions) (out []told, busiest postgres.Held) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	o.Publications = []string{"p"}
	s := startStream(t, e, o)
	relations := map[uint32]*pgoutput.Relation{}
	var tx *told
	for {
		ev, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		h := s.Held()
		busiest = postgres.Held{Transactions: max(busiest.Transactions, h.Transactions), Memory: max(busiest.Memory, h.Memory), Disk: max(busiest.Disk, h.Disk)}
		if ev.Kind != postgres.EventMessage {
			continue
		}
		m := ev.Msg
		switch {
		case m.Kind == pgoutput.Begin && tx == nil:
			tx = &told{Begin: fmt.Sprint(m.XID, m.FinalLSN, m.CommitTime)}
		case m.Kind == pgoutput.Commit:
			if tx.Commit = fmt.Sprint(m.CommitLSN, m.EndLSN, m.CommitTime); len(tx.Changes) > 0 {
				out = append(out, *tx)
			}
			tx = nil
		case m.Kind == pgoutput.Logical && string(m.Prefix) == "end":
			if h := s.Held(); h != (postgres.Held{}) {
				t.Errorf("in the end the stream holds %+v", h)
			}
			if err := s.Close(ctx); err != nil {
				t.Error(err)
			}
			return out, busiest
		case m.Kind == pgoutput.RelationKind:
			relations[m.RelationID] = m.Relation
		case m.Kind == pgoutput.TypeKind:
		case m.XID != 0 || tx == nil:
			t.Fatalf("message %q with xid %d, in a transaction: %t", m.Kind, m.XID, tx != nil)
		default:
			tx.Changes = append(tx.Changes, tellChange(m, relations))
		}
	}
}

// tellChange is a change with the definition under which it was sent.
func tellChange(m *pgoutput.Message, relations map[uint32]*pgoutput.Relation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c %d %v %s %s ", m.Kind, m.RelationID, m.Truncated, m.Prefix, m.Content)
	for _, tuple := range []pgoutput.Tuple{m.Old, m.New} {
		for tuple.Len() > 0 {
			kind, v := tuple.Next()
			if len(v) > 20 {
				sum := fnv.New64()
				sum.Write(v)
				v = fmt.Appendf(nil, "%d bytes %x", len(v), sum.Sum64())
			}
			fmt.Fprintf(&b, "%c%s,", kind, v)
		}
		b.WriteByte(' ')
	}
	if m.RelationID != 0 {
		fmt.Fprintf(&b, "%+v", *relations[m.RelationID])
	}
	return b.String()
}

// session is a connection that does things at random inside its transactions.
type session struct {
	t    *testing.T
	r    *rand.Rand
	conn *pgx.Conn
	id   int // its own table and its own keys in the table of all
	key  int
	open bool
	save []string
}

func (s *session) exec(sql string) {
	s.t.Helper()
	if _, err := s.conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func (s *session) step() {
	own := fmt.Sprintf("own%d", s.id)
	name := []string{own, "shared"}[s.r.IntN(2)]
	mine := fmt.Sprintf("id %% 10 = %d", s.id)
	switch n := s.r.IntN(20); {
	case !s.open:
		s.exec("BEGIN")
		s.open = true
	case n < 8:
		rows := []int{1, 20, 700}[s.r.IntN(3)]
		s.exec(fmt.Sprintf("INSERT INTO %s (id, v) SELECT i * 10 + %d, repeat(md5(i::text), 1 + i %% 4) FROM generate_series(%d, %d) i", name, s.id, s.key+1, s.key+rows))
		s.key += rows
	case n == 8:
		s.exec(fmt.Sprintf("INSERT INTO %s (id, v) VALUES (%d, repeat('long', %d))", name, (s.key+1)*10+s.id, s.r.IntN(200_000)))
		s.key++
	case n == 9:
		s.exec(fmt.Sprintf("UPDATE %s SET v = v || 'x' WHERE %s AND id %% 7 = %d", name, mine, s.r.IntN(7)))
	case n == 10:
		s.exec(fmt.Sprintf("DELETE FROM %s WHERE %s AND id %% 5 = %d", name, mine, s.r.IntN(5)))
	case n == 11 && len(s.save) == 0: // else see Spill
		s.exec(fmt.Sprintf("SELECT pg_logical_emit_message(true, 'note', 'from %d')", s.id))
	case n == 12:
		s.exec(fmt.Sprintf("ALTER TABLE %s ADD c%d int DEFAULT %d", own, s.r.IntN(1_000_000), s.id))
	case n == 13:
		s.exec("TRUNCATE " + own)
	case n < 16:
		s.save = append(s.save, fmt.Sprintf("s%d", len(s.save)))
		s.exec("SAVEPOINT " + s.save[len(s.save)-1])
	case n < 18 && len(s.save) > 0:
		at := s.r.IntN(len(s.save))
		if s.exec([]string{"ROLLBACK TO ", "RELEASE "}[n-16] + s.save[at]); n == 17 {
			s.save = s.save[:at]
		} else {
			s.save = s.save[:at+1]
		}
	case n >= 18:
		s.end([]string{"COMMIT", "COMMIT", "ROLLBACK"}[s.r.IntN(3)])
	}
}

func (s *session) end(how string) {
	s.exec(how)
	s.open, s.save = false, nil
}

// Streamed transactions come as if they had not been streamed, whatever the
// sessions do and wherever the transactions are kept.
func TestSpillIsInvisible(t *testing.T) {
	for round, memory := range []int{1, 300 << 10, 64 << 20} {
		t.Run(fmt.Sprint(memory), func(t *testing.T) {
			e := database(t, "")
			r := rand.New(rand.NewPCG(uint64(round), 6))
			run(t, e, "CREATE TABLE shared (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR ALL TABLES")
			var sessions []*session
			for i := range 4 {
				run(t, e, fmt.Sprintf("CREATE TABLE own%d (id int PRIMARY KEY, v text); ALTER TABLE own%[1]d ALTER v SET STORAGE EXTERNAL", i))
				sessions = append(sessions, &session{t: t, r: r, conn: connect(t, e), id: i})
			}
			slots := [2]string{fmt.Sprintf("plain%d", round), fmt.Sprintf("spill%d", round)}
			newSlot(t, e, slots[0])
			newSlot(t, e, slots[1])
			for range 600 {
				sessions[r.IntN(len(sessions))].step()
			}
			for _, s := range sessions {
				s.end("COMMIT")
			}
			run(t, e, "SELECT pg_logical_emit_message(false, 'end', '')")
			want, none := tell(t, e, postgres.StreamOptions{Slot: slots[0], DecodingMemory: smallest, Binary: round > 0})
			dir := filepath.Join(t.TempDir(), "spill")
			got, busiest := tell(t, e, postgres.StreamOptions{Slot: slots[1], DecodingMemory: smallest, Binary: round > 0, Spill: &postgres.Spill{Dir: dir, MemoryBytes: memory}})
			if none != (postgres.Held{}) || busiest.Transactions < 2 || (memory < 1<<20) != (busiest.Disk > 0) || busiest.Memory > int64(memory)+1<<20 {
				t.Errorf("without spill %+v, with it %+v was held: the test shows nothing", none, busiest)
			}
			t.Logf("%d transactions, %+v", len(want), busiest)
			compareTold(t, got, want)
			if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
				t.Errorf("left in the directory: %v, %v", files, err)
			}
		})
	}
}

func compareTold(t *testing.T, got, want []told) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if diff := cmp.Diff(want[i], got[i]); diff != "" {
			t.Fatalf("transaction %d of %d: %.3000s", i, len(want), diff)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d transactions, want %d", len(got), len(want))
	}
}

// bigInsert is a statement that makes a transaction of some megabytes.
func bigInsert(from int) string {
	return fmt.Sprintf("INSERT INTO a SELECT i, repeat('x', 1000) FROM generate_series(%d, %d) i", from, from+1999)
}

// A transaction that there is no room for is in nobody's way until it commits;
// then the stream ends and says which it was, and a stream without spill gets it.
func TestSpillFull(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "full")
	first, second := connect(t, e), connect(t, e)
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	exec(first, "BEGIN;"+bigInsert(0))
	exec(second, "BEGIN; INSERT INTO a SELECT i, repeat('x', 100) FROM generate_series(10000, 11999) i")
	exec(first, "ROLLBACK; BEGIN;"+bigInsert(0))
	exec(second, "COMMIT")
	exec(first, "COMMIT")

	dir := t.TempDir()
	o := postgres.StreamOptions{Slot: "full", Publications: []string{"p"}, DecodingMemory: smallest, Spill: &postgres.Spill{Dir: dir, MemoryBytes: 1, MaxBytes: 1 << 20}}
	s := startStream(t, e, o)
	rows := 0
	var err error
	for err == nil {
		var ev *postgres.Event
		if ev, err = s.Next(t.Context()); err == nil && ev.Kind == postgres.EventMessage {
			switch ev.Msg.Kind {
			case pgoutput.Insert:
				rows++
			case pgoutput.Commit:
				if err := s.Confirm(t.Context(), postgres.LSN(ev.Msg.EndLSN)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if !errors.Is(err, postgres.ErrSpillFull) || !strings.Contains(err.Error(), "transaction ") || rows != 2000 {
		t.Fatalf("after %d rows: %v; want 2000 and ErrSpillFull", rows, err)
	}
	t.Log(err)
	if _, again := s.Next(t.Context()); !errors.Is(again, postgres.ErrSpillFull) {
		t.Errorf("the stream goes on after its end: %v", again)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left in the directory: %v, %v", files, err)
	}
	o.Spill = nil
	s = startStream(t, e, o)
	m := nextMessage(t, s, "I")
	if _, v := m.New.Next(); string(v) != "0" {
		t.Errorf("the first row without spill is %s, want 0", v)
	}
}

// A directory that can't be written to is like one that is full; a file that an
// earlier stream left is removed, others stay.
func TestSpillDirectory(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "dir")
	run(t, e, bigInsert(0))
	dir := t.TempDir()
	for _, name := range []string{"stream-1.spill", "stream-77.spill", "mine.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := postgres.StreamOptions{Slot: "dir", Publications: []string{"p"}, DecodingMemory: smallest, Spill: &postgres.Spill{Dir: dir, MemoryBytes: 1}}
	s := startStream(t, e, o)
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 || filepath.Base(names[0]) != "mine.txt" {
		t.Errorf("in the directory: %v, %v; want mine.txt", names, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = s.Next(t.Context())
	}
	if !errors.Is(err, postgres.ErrSpillFull) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want ErrSpillFull and what the system said", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := postgres.StartStream(t.Context(), e, o); err == nil {
		s.Close(t.Context())
		t.Error("a file is taken for the directory")
	}
}

// A stream closed while it holds blocks, or in the middle of giving a
// transaction, leaves nothing; the next one gets all of it.
func TestSpillStartsOver(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "over")
	dir := t.TempDir()
	o := postgres.StreamOptions{Slot: "over", Publications: []string{"p"}, DecodingMemory: smallest, Spill: &postgres.Spill{Dir: dir, MemoryBytes: 300 << 10}}
	empty := func() {
		t.Helper()
		if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
			t.Errorf("left in the directory: %v, %v", files, err)
		}
	}
	conn := connect(t, e)
	if _, err := conn.PgConn().Exec(t.Context(), "BEGIN;"+bigInsert(0)).ReadAll(); err != nil {
		t.Fatal(err)
	}
	s := startStream(t, e, o)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Next(ctx); err != nil {
				waiting <- err
				return
			}
		}
	}()
	until(t, "the stream holds a part on disk", func() bool { return s.Held().Disk > 0 })
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	empty()
	if _, err := conn.PgConn().Exec(t.Context(), "COMMIT").ReadAll(); err != nil {
		t.Fatal(err)
	}
	run(t, e, "SELECT pg_logical_emit_message(false, 'end', '')")
	s = startStream(t, e, o)
	for range 3 {
		nextMessage(t, s, "I")
	}
	done, cancelDone := context.WithCancel(t.Context())
	cancelDone()
	if _, err := s.Next(done); !errors.Is(err, context.Canceled) {
		t.Errorf("in the middle of a kept transaction: got %v", err)
	}
	nextMessage(t, s, "I") // it goes on after that
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	empty()
	if all, _ := tell(t, e, o); len(all) != 1 || len(all[0].Changes) != 2000 {
		t.Errorf("got %d transactions, want one of 2000 changes", len(all))
	}
}

// A connection that breaks while blocks are held leaves nothing either.
func TestSpillConnectionBreaks(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "breaks")
	conn := connect(t, e)
	if _, err := conn.PgConn().Exec(t.Context(), "BEGIN;"+bigInsert(0)).ReadAll(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := startStream(t, e, postgres.StreamOptions{Slot: "breaks", Publications: []string{"p"}, DecodingMemory: smallest, Spill: &postgres.Spill{Dir: dir, MemoryBytes: 1}})
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Next(context.Background()); err != nil {
				ended <- err
				return
			}
		}
	}()
	until(t, "the stream holds a part on disk", func() bool { return s.Held().Disk > 0 })
	run(t, e, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'breaks'")
	if err := <-ended; errors.Is(err, postgres.ErrSpillFull) {
		t.Error(err)
	}
	s.Close(t.Context()) // of a connection that is gone
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 || s.Held() != (postgres.Held{}) {
		t.Errorf("left: %v, %v, %+v", files, err, s.Held())
	}
}

// While a kept transaction is given slowly the server hears of us and doesn't
// lose its patience, and what is confirmed reaches it.
func TestSpillConfirmsMeanwhile(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE a", fmt.Sprintf("ALTER DATABASE %q SET wal_sender_timeout = '4s'", e.Database))
	newSlot(t, e, "slow")
	run(t, e, "INSERT INTO a VALUES (-1, '')", bigInsert(0), "INSERT INTO a VALUES (-2, '')")
	s := startStream(t, e, postgres.StreamOptions{Slot: "slow", Publications: []string{"p"}, DecodingMemory: smallest, Spill: &postgres.Spill{Dir: t.TempDir(), MemoryBytes: 1}})
	end := postgres.LSN(nextMessage(t, s, "C").EndLSN)
	nextMessage(t, s, "I")
	if err := s.Confirm(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, e)
	if _, err := conn.Exec(t.Context(), "SELECT pg_sleep(6)"); err != nil { // longer than its patience, by its own clock
		t.Fatal(err)
	}
	until(t, "the first commit is confirmed", func() bool {
		info, ok, err := postgres.Slot(t.Context(), conn, "slow")
		if !ok || !info.Active || err != nil {
			t.Fatalf("got %+v, %t, %v; want an active slot", info, ok, err)
		}
		return info.ConfirmedFlush == end
	})
	for range 1999 {
		nextMessage(t, s, "I")
	}
	nextMessage(t, s, "C")
	m := nextMessage(t, s, "I")
	if _, v := m.New.Next(); string(v) != "-2" {
		t.Errorf("after it comes row %s, want -2", v)
	}
}

// Neither keeping nor giving allocates anything a change.
func TestSpillAllocatesNothing(t *testing.T) {
	e := database(t, "")
	run(t, e, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE PUBLICATION p FOR TABLE a")
	newSlot(t, e, "allocs")
	run(t, e, "INSERT INTO a SELECT i, 'x' FROM generate_series(1, 20000) i")
	s := startStream(t, e, postgres.StreamOptions{Slot: "allocs", Publications: []string{"p"}, DecodingMemory: smallest, Spill: &postgres.Spill{Dir: t.TempDir(), MemoryBytes: 512 << 10}})
	nextMessage(t, s, "I")
	ctx := context.Background()
	got := testing.AllocsPerRun(19_000, func() {
		if ev, err := s.Next(ctx); err != nil || ev.Msg.Kind != pgoutput.Insert {
			t.Fatal(ev, err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations a change, want none", got)
	}
}
