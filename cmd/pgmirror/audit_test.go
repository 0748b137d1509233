package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/lease"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
)

// TestEveryChangeOfAnOpenMirrorIsNoted runs the commands that change something of
// an open mirror. Those of a native one are run by TestNoSecretIsSeen.
func TestEveryChangeOfAnOpenMirrorIsNoted(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts servers")
	}
	w := newAuditWorld(t)
	w.sql("CREATE TABLE orders (id bigint PRIMARY KEY, total int)", "INSERT INTO orders SELECT i, i FROM generate_series(1, 10) i", "CREATE TABLE later (id int PRIMARY KEY)",
		"ALTER TABLE orders OWNER TO pgadmin", "ALTER TABLE later OWNER TO pgadmin")
	w.noted("apply", "--yes")
	stop := w.follow()
	w.replicates("orders") // there is nothing to repair in a table that isn't there yet
	w.noted("tables", "add", "later")
	w.sql("ALTER PUBLICATION pgmirror_shop SET (publish = 'insert')", "UPDATE orders SET total = -1 WHERE id = 7",
		"ALTER PUBLICATION pgmirror_shop SET (publish = 'insert, update, delete, truncate')")
	w.noted("verify", "orders", "--repair")
	w.noted("tables", "resync", "orders")
	w.noted("tables", "remove", "later")
	stop()
	w.sql("SELECT pg_logical_emit_message(true, 'somebody', 'else')", // the run may have confirmed all that there was
		"SELECT pg_replication_slot_advance('pgmirror_shop', pg_current_wal_lsn())") // which only a new slot mends
	w.follow("--reseed")()
	w.noted("destroy", "--yes")
}

type auditWorld struct {
	*testimony
	emu  *emulator.Emulator
	env  []string
	file string // the configuration
}

func newAuditWorld(t *testing.T) *auditWorld {
	dir, err := os.MkdirTemp("", "pgmirror-audit-") // a server that root starts runs as another user, who must get to it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &auditWorld{testimony: &testimony{t: t, dir: dir}, file: filepath.Join(dir, "pgmirror.yaml")}
	w.emu, err = emulator.Start(t.Context(), emulator.Options{
		Dir: filepath.Join(dir, "emulator"), NoSync: true, PGBin: localpgtest.Servers(t)[0].Bin, ScanInterval: 50 * time.Millisecond, Log: slog.New(w),
	})
	w.Check(err)
	t.Cleanup(func() { w.emu.Close() })
	w.listen(w.emu.Cluster())
	w.env = []string{"PATH=/usr/bin:/bin", "PGMIRROR_STATE=" + filepath.Join(dir, "state")}
	for _, kv := range w.emu.Env() {
		w.env = append(w.env, kv.Key+"="+kv.Value)
	}
	w.Check(os.WriteFile(w.file, []byte("name: shop\nmode: open\nmirror: {tables: [public.orders]}\nallow: [restart, drop-mirror, drop-slot]\n"), 0o600))
	return w
}

// sql is somebody else at work in the database.
func (w *auditWorld) sql(statements ...string) {
	w.t.Helper()
	c := w.emu.Cluster()
	localpgtest.Exec(w.t, c.URL(c.Superuser, c.Password, "postgres"), statements...)
}

// noted runs a command that has to write something, all of which has to be noted.
func (w *auditWorld) noted(args ...string) {
	w.t.Helper()
	w.begin()
	var out bytes.Buffer
	if code := execute(w.t.Context(), append(args, "-c", w.file), streams{In: strings.NewReader(""), Out: &out, Err: &out, Environ: w.env}); code != 0 {
		w.t.Fatalf("%q: exit %d\n%s", args, code, out.String())
	}
	w.judgeSome(args)
}

func (w *auditWorld) judgeSome(args []string) {
	w.t.Helper()
	if w.judge(args) == 0 {
		w.t.Errorf("%q: nothing was written: nothing is proved", args)
	}
}

// follow has a mirror running, and waits until it streams. What it returns ends it.
func (w *auditWorld) follow(args ...string) (stop func()) {
	w.t.Helper()
	w.begin()
	ctx, cancel := context.WithCancel(w.t.Context())
	var out lockedBuffer
	ended := make(chan int, 1)
	args = append([]string{"run", "--json", "--freshness", "100ms", "-c", w.file}, args...)
	go func() {
		ended <- execute(ctx, args, streams{In: strings.NewReader(""), Out: &out, Err: &out, Environ: w.env})
	}()
	err := await(ctx, "run streams", 5*time.Minute, func(context.Context) (bool, error) {
		select {
		case code := <-ended:
			return false, fmt.Errorf("it ended with exit %d", code)
		default:
			return strings.Contains(out.String(), `"kind":"streaming"`), nil
		}
	})
	if err != nil {
		cancel()
		w.t.Fatalf("%v\n%s", err, out.String())
	}
	w.judgeSome(args)
	return func() {
		cancel()
		if code := <-ended; code != 0 {
			w.t.Errorf("run: exit %d\n%s", code, out.String())
		}
	}
}

// replicates waits until Fabric has merged what was copied of a table.
func (w *auditWorld) replicates(table string) {
	w.t.Helper()
	w.Check(await(w.t.Context(), table+" replicates", 5*time.Minute, func(ctx context.Context) (bool, error) {
		var out, errs bytes.Buffer
		if code := execute(ctx, []string{"status", "--json", "-c", w.file}, streams{In: strings.NewReader(""), Out: &out, Err: &errs, Environ: w.env}); code != 0 {
			return false, fmt.Errorf("status: exit %d\n%s", code, &errs)
		}
		return strings.Contains(out.String(), `"table":"`+table+`","state":"Replicating"`), nil
	}))
}

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// testimony is what an emulator in dir/emulator saw of writes, held against the
// audit log in dir/state: when a write was made, a change had begun there, and
// hadn't ended. Give it to the emulator as its log.
type testimony struct {
	t   *testing.T
	dir string

	mu     sync.Mutex
	writes []seenWrite
	read   int64 // of the server's log
}

// seenWrite is a write as the one saw it to whom it was made.
type seenWrite struct {
	at   time.Time
	what string
}

// Check ends the test.
func (w *testimony) Check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// listen has the server log every statement, and whose it is.
func (w *testimony) listen(c *localpg.Cluster) {
	for _, s := range [][2]string{{"log_line_prefix", "%m [%a] "}, {"log_replication_commands", "on"}, {"log_statement", "all"}} {
		w.Check(c.Set(w.t.Context(), s[0], s[1]))
	}
}

func (w *testimony) Enabled(context.Context, slog.Level) bool { return true }
func (w *testimony) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *testimony) WithGroup(string) slog.Handler            { return w }

func (w *testimony) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "answered" && r.Message != "asked" {
		return nil
	}
	a := map[string]string{}
	r.Attrs(func(x slog.Attr) bool { a[x.Key] = x.Value.String(); return true })
	if !changes(a["service"], a["method"], a["path"]) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, seenWrite{r.Time, a["service"] + ": " + a["method"] + " " + a["path"]})
	return nil
}

// changes says that a request changes something. What run publishes all the time,
// and its taking of requests and removing them when they are answered, are data.
func changes(service, method, path string) bool {
	switch service {
	case "control":
		return false
	case "dfs", "blob":
		return (method == "PUT" || method == "PATCH") && strings.Contains(path, "/_pgmirror/requests/") && !strings.HasSuffix(path, ".taken")
	}
	asks := slices.ContainsFunc([]string{"/getDefinition", "/getMirroringStatus", "/getTablesMirroringStatus", "/testConnection"},
		func(end string) bool { return strings.HasSuffix(path, end) })
	return method != "GET" && method != "HEAD" && !asks
}

var (
	logged = regexp.MustCompile(`^(\S+ \S+) UTC \[([^\]]*)\] LOG:  (?:statement: |execute [^:]+: |received replication command: )(.*)`)
	looks  = regexp.MustCompile(`^(?i)\s*(SELECT|WITH|VALUES|SHOW|BEGIN|COMMIT|ROLLBACK|SET|RESET|DEALLOCATE|LOCK TABLE ONLY .* IN ACCESS SHARE MODE|COPY .* TO STDOUT|IDENTIFY_SYSTEM|TIMELINE_HISTORY|START_REPLICATION|--|$)`)
	calls  = regexp.MustCompile(`pg_(drop|create|copy)_\w*slot|slot_advance|pgaadauth_create|set_config`)
)

// statements are the writes that the server has logged of pgmirror's sessions
// since the last time.
func (w *testimony) statements() []seenWrite {
	f, err := os.Open(filepath.Join(w.dir, "emulator", "pg", "postgres.log"))
	w.Check(err)
	defer f.Close()
	_, err = f.Seek(w.read, 0)
	w.Check(err)
	var out []seenWrite
	text, err := io.ReadAll(f)
	w.Check(err)
	text = text[:bytes.LastIndexByte(text, '\n')+1] // a line that is just written is for the next time
	w.read += int64(len(text))
	for line := range strings.Lines(string(text)) {
		m := logged.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || !strings.HasPrefix(m[2], "pgmirror") || m[2] == "pgmirror emulator" || looks.MatchString(m[3]) && !calls.MatchString(m[3]) {
			continue
		}
		at, err := time.Parse("2006-01-02 15:04:05.000", m[1])
		w.Check(err)
		out = append(out, seenWrite{at, m[2] + ": " + m[3]})
	}
	return out
}

// begin forgets what was seen until now.
func (w *testimony) begin() {
	w.statements()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = nil
}

// judge wants all to be noted that was written since begin, and counts it.
func (w *testimony) judge(args []string) int {
	w.t.Helper()
	writes := w.statements()
	w.mu.Lock()
	writes = append(writes, w.writes...)
	w.mu.Unlock()
	if len(writes) == 0 {
		return 0
	}
	spans := w.spans()
	for _, x := range writes {
		if !slices.ContainsFunc(spans, func(s [2]time.Time) bool { return !x.at.Before(s[0]) && !x.at.After(s[1]) }) {
			w.t.Errorf("%q: not noted: %s", args, x.what)
		}
	}
	return len(writes)
}

// spans are from when to when changes were made, by the audit log; one that a run
// is just making has no end yet, and a line that is just written no newline. The
// server's log knows no less than milliseconds.
func (w *testimony) spans() (out [][2]time.Time) {
	text, err := os.ReadFile(filepath.Join(w.dir, "state", "audit.jsonl"))
	w.Check(err)
	begun := map[lease.Change]time.Time{}
	for line := range bytes.Lines(text[:bytes.LastIndexByte(text, '\n')+1]) {
		var c lease.Change
		w.Check(json.Unmarshal(line, &c))
		at, o := c.Time, c.Outcome
		c.Time, c.Outcome = time.Time{}, ""
		if o == lease.Begun {
			begun[c] = at.Truncate(time.Millisecond)
		} else if from, ok := begun[c]; ok {
			out = append(out, [2]time.Time{from, at})
			delete(begun, c)
		} else {
			w.t.Errorf("a change has an end and no beginning: %s", line)
		}
	}
	for _, from := range begun {
		out = append(out, [2]time.Time{from, time.Now()})
	}
	return out
}
