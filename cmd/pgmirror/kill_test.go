package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/localpg"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// mortal makes this process tell every side effect in the file KILL_STEPS, before
// and after it, and die by SIGKILL at the one with the number KILL_AT. At the one
// that KILL_STOP names it stands still instead. Its leases last as long as
// KILL_LIFE says.
func mortal() {
	path := os.Getenv("KILL_STEPS")
	if path == "" {
		return
	}
	at, _ := strconv.Atoi(os.Getenv("KILL_AT"))
	leaseLife, _ = time.ParseDuration(os.Getenv("KILL_LIFE")) // none: setup's own
	told, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	n := 0
	step := func(what string) {
		n++
		fmt.Fprintln(told, what)
		if what == os.Getenv("KILL_STOP") {
			standStill()
		}
		if n == at {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			panic(err)
		}
	}
	around := func(what string, do func() error) error {
		step("before " + what)
		err := do()
		step("after " + what)
		return err
	}
	transport = func(next http.RoundTripper) http.RoundTripper { return tolled{next, around} }
	clientOptions = []setup.Option{setup.WithTransport(transport), setup.WithCut(around)}
}

// standStill stops this process until it is killed. It is of no use where
// processes can't be stopped.
var standStill = func() {}

// tolled tells of the requests that change something.
type tolled struct {
	next   http.RoundTripper
	around func(what string, do func() error) error
}

func (x tolled) RoundTrip(q *http.Request) (resp *http.Response, err error) {
	if q.Method == http.MethodGet || q.Method == http.MethodHead || strings.HasSuffix(q.URL.Path, "Status") || strings.HasSuffix(q.URL.Path, "/getDefinition") {
		return x.next.RoundTrip(q)
	}
	var body []byte
	if q.Body != nil {
		if body, err = io.ReadAll(q.Body); err != nil {
			return nil, err
		}
		q = q.Clone(q.Context())
		q.Body = io.NopCloser(bytes.NewReader(body))
	}
	tellErr := x.around(effect(q, body), func() error {
		resp, err = x.next.RoundTrip(q)
		return nil
	})
	return resp, errors.Join(err, tellErr)
}

// effect names a request without what is random in it.
func effect(q *http.Request, body []byte) string {
	parts := strings.Split(strings.Trim(q.URL.Path, "/"), "/")
	what := parts[len(parts)-1]
	if len(parts) > 1 {
		switch before := parts[len(parts)-2]; before {
		case "firewallRules", "connections":
			what = before
		case "vaults", "flexibleServers":
			what = before + " " + strings.Trim(strings.SplitN(string(body), ":", 2)[0], `{"`)
			if field := strings.SplitN(string(body), ":", 3); strings.HasPrefix(field[0], `{"properties`) {
				what = before + " " + strings.Trim(field[1], `{"`)
			}
		default:
			if strings.HasPrefix(before, "postgres-") {
				what = "secret's tags"
			}
		}
	}
	return q.Method + " " + what
}

// killing is a series of deaths of one command in one world, whose doors are all
// closed.
type killing struct {
	t       *testing.T
	emu     *emulator.Emulator
	cfg     *config.Config
	dir     string
	state   string // directory of this machine
	command []string
	before  string // every setting

	kills, hurt, lost, unknown int
	steps                      map[string]int // the last side effect told before a death
}

// Check ends the test: so a killing can be told of what goes wrong.
func (k *killing) Check(err error) {
	if err != nil {
		k.t.Helper()
		k.t.Fatal(err)
	}
}

func newKilling(t *testing.T, command ...string) *killing {
	dir, err := os.MkdirTemp("", "pgmirror-kill-") // a server that root starts runs as another user, who must get to it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	k := &killing{t: t, dir: dir, state: filepath.Join(dir, "state"), command: command, steps: map[string]int{}}
	k.emu, err = emulator.Start(t.Context(), emulator.Options{
		Dir: filepath.Join(dir, "emulator"), NoSync: true, PGBin: os.Getenv("PGMIRROR_TEST_PGBIN"), ScanInterval: 100 * time.Millisecond,
		Native: nativeMirror(slog.New(slog.DiscardHandler), 50*time.Millisecond), Server: emulator.ServerOptions{ClientFirewall: true},
	})
	if errors.Is(err, localpg.ErrNotFound) {
		t.Skip("no PostgreSQL binaries: ", err)
	}
	k.Check(err)
	t.Cleanup(func() { k.emu.Close() })
	k.Check(os.WriteFile(filepath.Join(dir, "fabric.env"), []byte(envText(k.emu.Env())), 0o600))
	k.Check(os.WriteFile(filepath.Join(dir, "pgmirror.yaml"), []byte("name: shop\nallow: [restart, open-vault, open-server, reset-password]\n"), 0o600))
	env, err := config.ReadEnv(filepath.Join(dir, "fabric.env"))
	k.Check(err)
	k.cfg, err = config.Load(t.Context(), config.Options{File: filepath.Join(dir, "pgmirror.yaml"), Environ: env})
	k.Check(err)
	k.must(k.state, "apply", "--yes")
	c, err := setup.NewClients(t.Context(), k.cfg)
	k.Check(err)
	closeDoors(k, c, k.cfg)
	c.Close(context.Background())
	k.before = settings(k, k.cfg)
	return k
}

// process is pgmirror as a process of its own: this test's binary under its name.
func (k *killing) process(state string, at int, args ...string) (cmd *osexec.Cmd, steps string) {
	steps = filepath.Join(k.dir, "steps")
	k.Check(os.WriteFile(steps, nil, 0o600))
	self, err := os.Executable()
	k.Check(err)
	cmd = &osexec.Cmd{Path: self, Args: append([]string{"pgmirror"}, args...), Dir: k.dir}
	cmd.Args = append(cmd.Args, "--env-file", "fabric.env")
	cmd.Env = []string{"PGMIRROR_STATE=" + state, "KILL_STEPS=" + steps, "KILL_AT=" + strconv.Itoa(at), "PATH=/usr/bin:/bin", "TMPDIR=" + os.TempDir(), "GORACE=" + raceOptions}
	return cmd, steps
}

// must runs a command to its end, and returns what it wrote for programs.
func (k *killing) must(state string, args ...string) string {
	k.t.Helper()
	cmd, _ := k.process(state, 0, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		k.t.Fatalf("%q: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

// whole runs the command to its end: its side effects, and how long it takes.
func (k *killing) whole() (steps int, took time.Duration) {
	k.t.Helper()
	k.unsettle()
	cmd, told := k.process(k.state, 0, k.command...)
	begun := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("%q: %v\n%s", k.command, err, out)
	}
	k.same("a run without a death")
	return len(k.told(told)), time.Since(begun)
}

func (k *killing) told(path string) []string {
	text, err := os.ReadFile(path)
	k.Check(err)
	return strings.Fields(strings.ReplaceAll(strings.ReplaceAll(string(text), " ", "\x00"), "\n", " "))
}

// unsettle gives apply something to do.
func (k *killing) unsettle() { k.sql("REVOKE CREATE ON SCHEMA public FROM fabric_user") }

func (k *killing) sql(statement string) {
	ctx := context.Background()
	c := k.emu.Cluster()
	conn, err := pgx.Connect(ctx, c.URL(c.Superuser, c.Password, "postgres"))
	k.Check(err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	k.Check(err)
}

// die starts the command, which kills itself at the side effect with a number, or
// is killed after a time; then the next command closes what it left open: by its
// journal, or, when that is lost, as another machine does, by tags and names.
func (k *killing) die(at int, after time.Duration, lost bool) {
	k.t.Helper()
	k.unsettle()
	cmd, told := k.process(k.state, at, k.command...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	k.Check(cmd.Start())
	if after > 0 {
		timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	if err == nil { // it was done before its time
		k.same("a run that was done before its time")
		return
	}
	if cmd.ProcessState.ExitCode() != -1 {
		k.t.Fatalf("%q ended by itself: %v\n%s", k.command, err, out.String())
	}
	k.gone()
	k.kills++
	last := "(before the first)"
	if steps := k.told(told); len(steps) > 0 {
		last = strings.ReplaceAll(steps[len(steps)-1], "\x00", " ")
	}
	k.steps[last]++
	k.passwordKnown(last)
	if settings(k, k.cfg) != k.before {
		k.hurt++
	}
	if lost {
		k.lost++
		k.closeElsewhere()
	} else if out := k.must(k.state, "leases", "list"); !strings.Contains(out, "Nothing is open") {
		k.t.Fatalf("after a death at %q this is open:\n%s", last, out)
	}
	k.same("a death at " + last)
}

// gone waits until the server has noticed a death: until then the dead one's session
// is in the middle of a statement, or holds the database's lock.
func (k *killing) gone() {
	k.t.Helper()
	ctx := k.t.Context()
	c := k.emu.Cluster()
	conn, err := pgx.Connect(ctx, c.URL(c.Superuser, c.Password, "postgres"))
	k.Check(err)
	defer conn.Close(context.WithoutCancel(ctx))
	k.Check(await(ctx, "the server notices a death", 5*time.Minute, func(ctx context.Context) (gone bool, err error) {
		err = conn.QueryRow(ctx, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'pgmirror %' AND application_name <> 'pgmirror emulator'").Scan(&gone)
		return gone, err
	}))
}

// closeElsewhere is another machine, and the one that died is gone for good.
func (k *killing) closeElsewhere() {
	k.Check(os.RemoveAll(k.state))
	for line := range strings.Lines(k.must(k.state, "leases", "list", "--json")) {
		var l leaseLine
		k.Check(json.Unmarshal([]byte(line), &l))
		if l.Type == "lease" {
			k.must(k.state, "leases", "close", "--force", l.ID)
		}
	}
}

// same fails when a door is open or a setting differs from before.
func (k *killing) same(after string) {
	k.t.Helper()
	if now := settings(k, k.cfg); now != k.before {
		k.t.Fatalf("after %s a setting isn't what it was before:\n%s\nbefore:\n%s", after, now, k.before)
	}
}

// passwordKnown counts the moments in which the vault has no version with the
// password that the server takes.
func (k *killing) passwordKnown(last string) {
	k.t.Helper()
	text, err := os.ReadFile(filepath.Join(k.dir, "emulator", "state.json"))
	k.Check(err)
	var state struct {
		Vault struct {
			Secrets map[string]struct {
				Versions []struct {
					Value string `json:"value"`
				} `json:"versions"`
			} `json:"secrets"`
		} `json:"vault"`
	}
	k.Check(json.Unmarshal(text, &state))
	versions := state.Vault.Secrets["postgres-fabric-user-password"].Versions
	if len(versions) == 0 {
		k.t.Fatal("the emulator's state has no version of the secret: nothing is proved")
	}
	for _, v := range slices.Backward(versions) {
		conn, err := pgx.Connect(context.Background(), k.emu.Cluster().URL("fabric_user", v.Value, "postgres"))
		if err == nil {
			conn.Close(context.Background())
			return
		}
	}
	k.unknown++
	k.t.Errorf("after a death at %q no store knows the valid password", last)
}

// TestKilledProcesses kills real processes of apply and rotate that open every
// door there is: at their side effects, before and after each, and at random
// instants. SOAK_KILLS is how many there have to be in all, within SOAK_TIME (12h);
// without it there are a few at places that chance picks.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts servers")
	}
	want, _ := strconv.Atoi(os.Getenv("SOAK_KILLS"))
	worlds := 1
	if want > 0 {
		worlds = 3 // they wait more than they work
	}
	for _, command := range []string{"apply", "rotate"} {
		for n := range worlds {
			t.Run(fmt.Sprintf("%s/%d", command, n+1), func(t *testing.T) {
				t.Parallel()
				newKilling(t, command, "--yes").many((want+2*worlds-1)/(2*worlds), n, worlds)
			})
		}
	}
}

// many makes at least want deaths, of all side effects those whose turn it is
// among several worlds. Without a want it makes a few.
func (k *killing) many(want, turn, worlds int) {
	begun := time.Now()
	limit, err := time.ParseDuration(os.Getenv("SOAK_TIME"))
	if err != nil {
		limit = 12 * time.Hour
	}
	over := func() bool { return time.Since(begun) > limit }
	steps, took := k.whole()
	places := rand.Perm(steps)
	if want == 0 {
		places = []int{steps / 2, rand.IntN(steps)} // the doors are open in the middle
	}
	for _, lost := range []bool{false, true} {
		for _, at := range places {
			if (at%worlds == turn || want == 0) && !over() {
				k.die(at+1, 0, lost)
			}
		}
	}
	each := k.kills
	for tries := 0; k.kills < max(want, each+2) && tries < 4*max(want, 5) && !over(); tries++ {
		k.die(0, time.Duration(rand.Int64N(int64(took))), tries%2 == 1)
	}
	k.must(k.state, "rotate", "--yes") // what died is gone on with
	k.must(k.state, "apply", "--yes")
	k.same("the end")
	k.report(each, steps, time.Since(begun))
	if k.hurt == 0 {
		k.t.Errorf("%d kills, and none of them left something behind: nothing is proved", k.kills)
	}
	if k.kills < want {
		k.t.Errorf("%d kills until the time was over, want %d", k.kills, want)
	}
}

func (k *killing) report(each, steps int, took time.Duration) {
	k.t.Logf("%d kills of %q in %v, %d of them at random instants; %d side effects a run; %d left a door, a tag or a rule behind, %d of %d journals were lost; "+
		"after the next command: 0 doors open, 0 settings different; moments in which no store knew the valid password: %d",
		k.kills, k.command[0], took.Round(time.Second), k.kills-each, steps, k.hurt, k.lost, k.kills, k.unknown)
	var lines []string
	for _, step := range slices.Sorted(maps.Keys(k.steps)) {
		lines = append(lines, fmt.Sprintf("%5d  %s", k.steps[step], step))
	}
	k.t.Logf("last side effect before the kill:\n%s", strings.Join(lines, "\n"))
}
