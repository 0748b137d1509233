package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
	"github.com/pgmirror/pgmirror/internal/store"
)

// roleVariable tells this binary, run again, to be one client and nothing else:
// so a client's CPU time and memory are its own.
const roleVariable = "PGMIRROR_BENCH_ROLE"

func TestMain(m *testing.M) {
	if s := os.Getenv(roleVariable); s != "" {
		os.Exit(play(s))
	}
	os.Exit(m.Run())
}

// role is what a client does, until its work is done.
type role struct {
	Do        string // prepare, snapshot, follow, read or frames
	Host      string
	Port      int
	Database  string
	Slot      string
	Dir       string // the landing zone
	Workers   int
	Freshness time.Duration
	Rows      int64        // follow: until so many are durable
	End       postgres.LSN // read, frames: until here
	Profile   string       // a file for the CPU profile, or ""
	Binary    string       // plays it; "": this one
	Spill     string       // a directory for large transactions, or ""
}

func (r role) source() postgres.Endpoint {
	return postgres.Endpoint{Host: r.Host, Port: r.Port, Database: r.Database, User: "postgres", Password: password, SSLMode: "disable"}
}

// usage is what a client used between its first and its last byte of data.
type usage struct {
	Rows    int64
	Wall    time.Duration
	CPU     time.Duration
	Mallocs uint64
	Peak    int64       // bytes of resident memory since the process began
	Files   []published // follow: in their order
}

type published struct{ Commit, At time.Time } // the file's last commit, and when it was there

func (u usage) perRow() float64    { return u.CPU.Seconds() * 1e6 / float64(u.Rows) }
func (u usage) perSecond() float64 { return float64(u.Rows) / u.Wall.Seconds() }

func play(s string) int {
	var r role
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	do := r.mirror
	switch r.Do {
	case "read":
		do = r.read
	case "frames":
		do = r.frames
	}
	u, err := do(context.Background())
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(u)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// run plays the role in a process of its own, start as well.
func (r role) run(b *testing.B) usage {
	b.Helper()
	u, err := r.start(b)
	if err != nil {
		b.Fatal(err)
	}
	return u
}

func (r role) start(b *testing.B) (u usage, err error) {
	self := r.Binary
	if self == "" {
		if self, err = os.Executable(); err != nil {
			return u, err
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return u, err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(b.Context(), self)
	cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return u, fmt.Errorf("%s: %w\n%s", r.Do, err, &errs)
	}
	if err := json.Unmarshal(out.Bytes(), &u); err != nil {
		return u, fmt.Errorf("%s: %w\n%s", r.Do, err, &out)
	}
	return u, nil
}

// meter measures from start to stop.
type meter struct {
	wall    time.Time
	cpu     time.Duration
	mallocs uint64
	profile string
}

func (m *meter) start() {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.mallocs = s.Mallocs
	if m.profile != "" {
		if f, err := os.Create(m.profile); err == nil {
			_ = pprof.StartCPUProfile(f) // no profile, no harm
		}
	}
	m.cpu, _ = used()
	m.wall = time.Now()
}

func (m *meter) stop(u *usage) {
	u.Wall = time.Since(m.wall)
	cpu, peak := used()
	u.CPU, u.Peak = cpu-m.cpu, peak
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	u.Mallocs = s.Mallocs - m.mallocs
	pprof.StopCPUProfile()
}

// used is this process's CPU time and the peak of its memory, in bytes.
func used() (time.Duration, int64) {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // can't fail with these arguments
	peak := int64(r.Maxrss)
	if runtime.GOOS != "darwin" {
		peak <<= 10
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), peak
}

// budget is the mirror's, in bytes.
var budget = int64(size("BENCH_BUDGET", 256)) << 20

// mirror runs a mirror until it has done what the role is for.
func (r role) mirror(ctx context.Context) (u usage, err error) {
	zone, err := store.OpenDir(r.Dir)
	if err != nil {
		return u, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := mirror.Config{Source: r.source(), Slot: r.Slot, Publications: []string{"p"}, Landing: zone, Workers: r.Workers, Freshness: r.Freshness, Budget: budget}
	if r.Spill != "" {
		cfg.Spill = &postgres.Spill{Dir: r.Spill}
	}
	debug.SetMemoryLimit(budget + mirror.Beside) // as the command does
	m := meter{profile: r.Profile}
	ended := false
	end := func() {
		if !ended {
			m.stop(&u)
			ended = true
			cancel()
		}
	}
	cfg.Events = func(e mirror.Event) {
		switch {
		case e.Kind == mirror.Parked || e.Kind == mirror.Retrying:
			fmt.Fprintln(os.Stderr, e.Kind, e.Table, e.Reason)
		case r.Do == "prepare" && e.Kind == mirror.Streaming:
			end()
		case r.Do == "snapshot" && e.Kind == mirror.SnapshotStarted, r.Do == "follow" && e.Kind == mirror.Streaming:
			m.start()
		case r.Do == "snapshot" && e.Kind == mirror.SnapshotDone:
			u.Rows = e.Rows
			end()
		case r.Do == "follow" && e.Kind == mirror.Published && !ended:
			u.Rows += e.Rows
			u.Files = append(u.Files, published{e.CommitTime, e.Time})
		case r.Do == "follow" && e.Kind == mirror.Confirmed && u.Rows >= r.Rows:
			end()
		}
	}
	err = mirror.Run(ctx, cfg)
	if err == nil && !ended {
		err = io.ErrUnexpectedEOF
	}
	return u, err
}

// read reads the stream as the mirror does and throws it away.
func (r role) read(ctx context.Context) (u usage, err error) {
	s, err := postgres.StartStream(ctx, r.source(), postgres.StreamOptions{Slot: r.Slot, Publications: []string{"p"}, Binary: true})
	if err != nil {
		return u, err
	}
	m := meter{profile: r.Profile}
	m.start()
	for {
		e, err := s.Next(ctx)
		if err != nil {
			return u, err
		}
		switch {
		case e.Kind == postgres.EventMessage && e.Msg.Kind == pgoutput.Commit && postgres.LSN(e.Msg.EndLSN) > r.End:
		case e.Kind == postgres.EventMessage && (e.Msg.Kind == pgoutput.Insert || e.Msg.Kind == pgoutput.Update || e.Msg.Kind == pgoutput.Delete):
			u.Rows++
			continue
		default:
			continue
		}
		m.stop(&u)
		return u, s.Close(ctx)
	}
}

// frames reads the stream as one does who thinks of nothing: messages from a
// buffer of 1 MiB, of which it looks at no more than it has to. This is the raw
// reader of the gates.
func (r role) frames(ctx context.Context) (u usage, err error) {
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("postgres://postgres:%s@%s:%d/%s?sslmode=disable&replication=database", password, r.Host, r.Port, r.Database))
	if err != nil {
		return u, err
	}
	defer conn.Close(ctx)
	conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names 'p', binary 'true')", r.Slot)})
	if err := conn.Frontend().Flush(); err != nil {
		return u, err
	}
	m := meter{profile: r.Profile}
	m.start()
	in := bufio.NewReaderSize(conn.Conn(), 1<<20)
	for {
		head, err := in.Peek(5)
		if err != nil {
			return u, err
		}
		kind, size := head[0], int(binary.BigEndian.Uint32(head[1:]))+1
		if kind == 'E' {
			return u, fmt.Errorf("the server says %q", head)
		}
		if kind == 'd' && size > 5+25 {
			msg, err := in.Peek(min(size, 5+25+18))
			if err != nil {
				return u, err
			}
			switch msg = msg[5+25:]; {
			case msg[0] == 'I' || msg[0] == 'U' || msg[0] == 'D':
				u.Rows++
			case msg[0] == 'C' && postgres.LSN(binary.BigEndian.Uint64(msg[10:])) > r.End:
				m.stop(&u)
				return u, nil
			}
		}
		if _, err := in.Discard(size); err != nil {
			return u, err
		}
	}
}
