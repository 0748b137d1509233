package bench_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// size is a number from the environment, for longer runs.
func size(name string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return standard
}

// BenchmarkMirror measures the mirror against what PostgreSQL's own clients do
// with the same data in the same minute, turn by turn, and prints one table.
// BENCH_ROWS (of a snapshot), BENCH_CHANGES (of a stream), BENCH_TINY
// (transactions), BENCH_BIG (rows of one transaction) and BENCH_TURNS make it
// longer, BENCH_ONLY (fire, lineitem, pgbench or big) shorter; BENCH_BUDGET is the
// mirror's, in MiB; BENCH_PROFILE names a folder for CPU profiles of the mirror.
// BENCH_BASE names an older build of this test, whose mirror takes turns with ours:
// on a machine that others use, too, only what ran in the same minute compares.
func BenchmarkMirror(b *testing.B) {
	for range b.N {
		r := runner{s: startServer(b), b: b, turns: size("BENCH_TURNS", 3), table: &table{}, slots: map[string]string{}}
		for _, sh := range []shape{fire, lineitem} {
			if !chosen(sh) {
				continue
			}
			r.s.create(sh)
			sh.rows = size("BENCH_CHANGES", 200_000)
			r.stream(sh, "stream", 1000)
			r.stream(sh, "one transaction", sh.rows)
			r.s.exec(sh.name, "TRUNCATE "+sh.name)
			sh.rows = size("BENCH_ROWS", 2_000_000)
			r.snapshot(sh)
		}
		if sh := pgbench; chosen(sh) {
			r.s.create(sh)
			sh.rows = size("BENCH_TINY", 400_000)
			r.stream(sh, "tiny transactions", 1)
			r.latency(sh)
		}
		if sh := big; chosen(sh) {
			r.s.create(sh)
			sh.rows = size("BENCH_BIG", 2_000_000)
			r.large(sh)
		}
		r.table.print(b)
	}
}

func chosen(sh shape) bool {
	only := os.Getenv("BENCH_ONLY")
	return only == "" || only == sh.name
}

// runner runs the measurements.
type runner struct {
	s     *server
	b     *testing.B
	turns int
	table *table
	zones int
	slots map[string]string // the zone of each
}

func (r *runner) zone() string {
	r.zones++
	return fmt.Sprintf("%s/zone%d", r.b.TempDir(), r.zones)
}

func (r *runner) profile(name string) string {
	dir := os.Getenv("BENCH_PROFILE")
	if dir == "" {
		return ""
	}
	return fmt.Sprintf("%s/%s.pprof", dir, name)
}

// snapshot copies the table to nowhere and into a landing zone, in turns.
func (r *runner) snapshot(sh shape) {
	r.s.exec(sh.name, sh.insert(1, sh.rows), "VACUUM ANALYZE "+sh.name)
	var raw, ours, base [2][]usage
	for range r.turns {
		for i := range 2 {
			raw[i] = append(raw[i], r.s.copyOut(sh, i+1))
			if older != "" {
				base[i] = append(base[i], r.copyIn(sh, i+1, older))
			}
			ours[i] = append(ours[i], r.copyIn(sh, i+1, ""))
		}
	}
	for i := range 2 {
		name := fmt.Sprintf("snapshot %s, %d connections", sh.name, i+1)
		r.table.add(row{name: name, unit: "raw COPY binary", ours: ours[i], raw: raw[i], base: base[i],
			gateCPU: 2, goalCPU: 1.2, gateShare: []float64{0.7, 0.45}[i], goalShare: []float64{0.9, 0.6}[i]})
	}
}

// older is another build that takes turns with this one, or "".
var older = os.Getenv("BENCH_BASE")

// copyIn copies the table into a landing zone.
func (r *runner) copyIn(sh shape, connections int, binary string) usage {
	c := r.s.client("snapshot", sh.name, "snapshot")
	c.Dir, c.Workers, c.Binary = r.zone(), connections, binary
	if binary == "" {
		c.Profile = r.profile(fmt.Sprintf("snapshot-%s-%d", sh.name, connections))
	}
	u := c.run(r.b)
	if u.Rows != int64(sh.rows) {
		r.b.Fatalf("snapshot of %s: %d rows, want %d", sh.name, u.Rows, sh.rows)
	}
	r.s.dropSlots()
	return u
}

// stream has the changes read by pg_recvlogical, by our reader alone and by the
// mirror, in turns; tiny transactions by a raw reader instead of pg_recvlogical.
// Every one of them has a slot of its own from before them.
func (r *runner) stream(sh shape, name string, perTransaction int) {
	r.s.exec(sh.name, "TRUNCATE "+sh.name)
	for i := range r.turns {
		r.prepare(sh, fmt.Sprintf("mirror%d", i))
		if older != "" {
			r.prepare(sh, fmt.Sprintf("base%d", i))
		}
		for _, kind := range []string{"raw", "read"} {
			r.s.ask(sh.name, fmt.Sprintf("SELECT slot_name FROM pg_create_logical_replication_slot('%s%d', 'pgoutput')", kind, i))
		}
	}
	r.s.exec(sh.name, fmt.Sprintf("DO $$ BEGIN FOR k IN 0..%d LOOP INSERT INTO %s SELECT %s FROM generate_series(k * %d + 1, (k + 1) * %d) i; COMMIT; END LOOP; END $$",
		sh.rows/perTransaction-1, sh.name, sh.row, perTransaction, perTransaction))
	end := r.s.end()
	sh.rows++
	r.s.exec(sh.name, sh.insert(sh.rows, sh.rows)) // what lies beyond the end ends it
	line := row{name: name + " " + sh.name, unit: "pg_recvlogical", gateCPU: 5, goalCPU: 3, gateShare: 0.6, goalShare: 0.85}
	if perTransaction == 1 {
		line.unit, line.gateShare, line.goalShare = "raw reader", 1.0/2, 1/1.3
	}
	var raw, read, ours, base []usage
	for i := range r.turns {
		c := r.s.client("frames", sh.name, fmt.Sprintf("raw%d", i))
		if c.End = end; perTransaction == 1 {
			raw = append(raw, c.run(r.b))
		} else {
			raw = append(raw, r.s.receive(sh.name, c.Slot, end, sh.rows))
		}
		c.Do, c.Slot = "read", fmt.Sprintf("read%d", i)
		read = append(read, c.run(r.b))
		if older != "" {
			base = append(base, r.follow(sh, fmt.Sprintf("base%d", i), name, older))
		}
		ours = append(ours, r.follow(sh, fmt.Sprintf("mirror%d", i), name, ""))
	}
	r.s.dropSlots()
	line.ours, line.raw, line.read, line.base = ours, raw, read, base
	r.table.add(line)
}

// prepare makes a slot and the zone that it feeds.
func (r *runner) prepare(sh shape, slot string) {
	r.slots[slot] = r.zone()
	c := r.s.client("prepare", sh.name, slot)
	c.Dir = r.slots[slot]
	c.run(r.b)
}

func (r *runner) follow(sh shape, slot, name, binary string) usage {
	c := r.s.client("follow", sh.name, slot)
	c.Dir, c.Freshness, c.Rows, c.Binary = r.slots[slot], 250*time.Millisecond, int64(sh.rows), binary
	if binary == "" {
		c.Profile = r.profile(name + "-" + sh.name)
	}
	u := c.run(r.b)
	if u.Rows != int64(sh.rows) {
		r.b.Fatalf("%s of %s: %d rows were published, want %d", name, sh.name, u.Rows, sh.rows)
	}
	return u
}

// large has one transaction mirrored that fits no memory. It is measured once,
// without PostgreSQL's own client: what counts is that it comes through, in how
// much memory.
func (r *runner) large(sh shape) {
	r.prepare(sh, "large")
	r.s.exec(sh.name, sh.insert(1, sh.rows), "INSERT INTO "+sh.name+" VALUES (0, 0)")
	sh.rows++
	c := r.s.client("follow", sh.name, "large")
	c.Dir, c.Freshness, c.Rows, c.Spill = r.slots["large"], time.Second, int64(sh.rows), r.zone()
	c.Profile = r.profile("large")
	u := c.run(r.b)
	if u.Rows != int64(sh.rows) {
		r.b.Fatalf("%d rows of one transaction were published, want %d", u.Rows, sh.rows)
	}
	r.s.dropSlots()
	r.table.add(row{name: fmt.Sprintf("one transaction of %d million rows", sh.rows/1e6), unit: "-", ours: []usage{u}, gateCPU: 5, goalCPU: 3})
}

// latency has 500 transactions a second mirrored with a freshness of a second,
// and measures each one's way from its beginning to the file that holds it.
func (r *runner) latency(sh shape) {
	const rate, seconds = 500, 8
	r.s.exec(sh.name, "TRUNCATE "+sh.name)
	live := r.s.client("prepare", sh.name, "live")
	live.Dir, live.Freshness, live.Rows = r.zone(), time.Second, rate*seconds
	live.run(r.b)
	live.Do = "follow"
	done := make(chan usage, 1)
	go func() {
		u, err := live.start(r.b)
		if err != nil {
			r.b.Error(err)
		}
		done <- u
	}()
	r.s.await("SELECT active::text FROM pg_replication_slots", "true")
	began := r.write(sh, rate, seconds)
	u := <-done
	r.s.dropSlots()
	var waits []time.Duration
	for _, at := range began {
		if i := slices.IndexFunc(u.Files, func(f published) bool { return !f.Commit.Before(at) }); i >= 0 {
			waits = append(waits, u.Files[i].At.Sub(at))
		}
	}
	slices.Sort(waits)
	if len(waits) < rate*seconds*9/10 {
		r.b.Fatalf("%d of %d transactions are in a file", len(waits), rate*seconds)
	}
	r.table.latency = fmt.Sprintf("commit to file, freshness 1 s, %d transactions/s: p50 %.2f s, p99 %.2f s (gate 1.5, goal 1.1)",
		rate, waits[len(waits)/2].Seconds(), waits[len(waits)*99/100].Seconds())
}

// write inserts a row a transaction, so many a second, and says when each began.
func (r *runner) write(sh shape, rate, seconds int) []time.Time {
	conn, err := pgx.Connect(r.b.Context(), r.s.URL("postgres", password, sh.name))
	if err != nil {
		r.b.Fatal(err)
	}
	defer conn.Close(r.b.Context())
	var began []time.Time
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range rate * seconds {
		<-tick.C
		began = append(began, time.Now())
		if _, err := conn.Exec(r.b.Context(), sh.insert(i, i)); err != nil {
			r.b.Fatal(err)
		}
	}
	return began
}
