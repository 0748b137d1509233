package lease_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pgmirror/pgmirror/internal/lease"
)

// child is this test's own binary as the process that dies. It opens the doors
// that LEASE_CHILD names one within the other, and closes them. It tells each
// side effect on stdout, and kills itself at that of the number LEASE_AT.
func child() {
	env := map[string]string{}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	w := worldOf(nil, env)
	l := w.leases(env["LEASE_STATE"])
	at, _ := strconv.Atoi(env["LEASE_AT"])
	n := 0
	var kind lease.Kind
	tell := func(step string) {
		n++
		os.Stdout.WriteString(string(kind) + " " + step + "\n")
		if n == at {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			panic(err)
		}
	}
	l.Hook(tell)
	var open func(ctx context.Context, kinds []string) error
	open = func(ctx context.Context, kinds []string) error {
		if len(kinds) == 0 {
			tell("use")
			return nil
		}
		mine := lease.Kind(kinds[0])
		kind = mine
		return l.With(ctx, w.need(mine), func(ctx context.Context) error {
			err := open(ctx, kinds[1:])
			kind = mine
			return err
		})
	}
	tell("start")
	err := open(context.Background(), strings.Split(env["LEASE_CHILD"], ","))
	if err == nil {
		err = l.Close(context.Background())
	}
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// killing is a series of deaths in one world.
type killing struct {
	*world
	kinds string
	kills int
	hurt  int            // kills that left something behind
	steps map[string]int // the last side effect told before a death
}

// run starts a child and returns what it told, when nothing that it sent is under way
// any more. at 0: it isn't to kill itself; it
// is killed after a time, unless that is 0.
func (k *killing) run(t *testing.T, state string, at int, after time.Duration) (steps []string, killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), environ(k.env)...), "LEASE_CHILD="+k.kinds, "LEASE_STATE="+state, "LEASE_AT="+strconv.Itoa(at))
	line := newRelay(t, k.env["ARM_ENDPOINT"])
	cmd.Env = append(cmd.Env, relayEnv+"="+line.Addr().String())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		line.end()
		t.Fatal(err)
	}
	if after > 0 {
		timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	line.end()
	k.rests(t)
	killed = err != nil && cmd.ProcessState.ExitCode() == -1
	if err != nil && !killed {
		t.Fatalf("the child ended by itself: %v: %s", err, errs.String())
	}
	steps = strings.Split(strings.TrimSpace(out.String()), "\n")
	if steps[0] == "" {
		steps[0] = "(not started)"
	}
	return steps, killed
}

// die kills one child and closes what it left: by its journal, or, when that is
// lost, by what another machine finds on the resources.
func (k *killing) die(t *testing.T, at int, after time.Duration, lost bool) {
	t.Helper()
	state := t.TempDir()
	steps, killed := k.run(t, state, at, after)
	if !killed {
		k.same(t)
		return
	}
	k.kills++
	k.steps[steps[len(steps)-1]]++
	if !cmp.Equal(k.before, k.settings(t)) {
		k.hurt++
	}
	if lost {
		k.closeExpired(t)
	} else {
		l := k.leases(state)
		if err := l.Recover(t.Context()); err != nil {
			t.Fatalf("recover after a death at %q: %v", steps[len(steps)-1], err)
		}
		if found, err := l.List(t.Context()); err != nil || len(found) > 0 {
			t.Fatalf("after a death at %q there are still %+v, %v", steps[len(steps)-1], found, err)
		}
	}
	k.same(t)
}

// closeExpired is `leases close` on another machine, an hour later.
func (k *killing) closeExpired(t *testing.T) {
	t.Helper()
	l := k.leases(t.TempDir(), later(2*time.Hour))
	found, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.State != lease.Expired {
			t.Fatalf("another machine finds %+v", f)
		}
		if err := l.CloseOne(t.Context(), f.ID, false); err != nil {
			t.Fatal(err)
		}
	}
}

// rests waits until the server is at rest.
func (k *killing) rests(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		body, err := k.gate(t, k.server).Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var d struct{ Properties struct{ State string } }
		if err := json.Unmarshal(body, &d); err != nil {
			t.Fatal(err)
		}
		if d.Properties.State == "Ready" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is %s and stays so", d.Properties.State)
		}
	}
}

// relayEnv is the address through which a child reaches ARM.
const relayEnv = "LEASE_RELAY"

// relay is the line between a child and ARM, which knows when ARM is done with what
// a child sent that is no more.
type relay struct {
	net.Listener
	lines sync.WaitGroup
}

func newRelay(t *testing.T, endpoint string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l}
	r.lines.Go(func() {
		for {
			child, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			r.lines.Go(func() { relayOne(child, strings.TrimPrefix(endpoint, "https://")) })
		}
	})
	return r
}

// relayOne ends when ARM has hung up, which it does when it has answered what it took.
func relayOne(child net.Conn, to string) {
	defer child.Close()
	arm, err := net.Dial("tcp", to)
	if err != nil {
		return // the child says so
	}
	defer arm.Close()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(arm, child) // how a child ends is no matter
		_ = arm.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(child, arm)
	_, _ = io.Copy(io.Discard, arm) // what nobody is there to read
	child.Close()
	up.Wait()
}

// end waits until ARM is done. The child is over.
func (r *relay) end() {
	r.Close()
	r.lines.Wait()
}

// TestKilled kills processes that open doors: at each side effect there is,
// before and after it, and at random instants. LEASE_KILLS is how many there
// have to be at least.
func TestKilled(t *testing.T) {
	want, _ := strconv.Atoi(os.Getenv("LEASE_KILLS"))
	for _, kinds := range []string{"vault-access,vault-rule", "hold,server-rule", "server-access,azure-rule"} {
		t.Run(kinds, func(t *testing.T) {
			t.Parallel()
			k := &killing{world: newWorld(t), kinds: kinds, steps: map[string]int{}}
			start := time.Now()
			steps, killed := k.run(t, t.TempDir(), 0, 0)
			if killed {
				t.Fatal("the first child was killed by somebody else")
			}
			whole := time.Since(start)
			for _, lost := range []bool{false, true} {
				for at := range len(steps) {
					k.die(t, at+1, 0, lost)
				}
			}
			each := k.kills
			for tries := 0; k.kills < max((want+2)/3, each+10) && tries < 4*max(want, 20); tries++ {
				k.die(t, 0, time.Duration(rand.Int64N(int64(whole))), tries%2 == 1)
			}
			t.Logf("%d kills, %d of them at random instants; %d left a door, a tag or a rule behind; after the next command: 0 doors open, 0 settings different", k.kills, k.kills-each, k.hurt)
			var lines []string
			for _, step := range slices.Sorted(maps.Keys(k.steps)) {
				lines = append(lines, fmt.Sprintf("%5d  %s", k.steps[step], step))
			}
			t.Logf("last side effect before the kill:\n%s", strings.Join(lines, "\n"))
			if k.hurt == 0 || k.kills < want/3 {
				t.Errorf("%d kills, %d of them left something behind: nothing is proved", k.kills, k.hurt)
			}
		})
	}
}

// TestArrivesAfterDeath: what a process sent before it was killed arrives when the next
// run has looked, and found the door closed.
func TestArrivesAfterDeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range []lease.Kind{lease.VaultAccess, lease.ServerRule} {
		k := &killing{world: w, kinds: string(kind), steps: map[string]int{}}
		steps, _ := k.run(t, t.TempDir(), 0, 0)
		state, born := t.TempDir(), time.Now()
		if _, killed := k.run(t, state, slices.Index(steps, string(kind)+" grant: before")+1, 0); !killed {
			t.Fatal("the child lived")
		}
		found, err := w.leases(state).List(t.Context())
		if err != nil || len(found) != 1 {
			t.Fatalf("lists %+v, %v", found, err)
		}
		arrived := false
		l := w.leases(state, func(o *lease.Options) {
			o.Now = func() time.Time { return born } // as after no time at all
			o.Timing.InFlight = 500 * time.Millisecond
			o.Tell = func(what string) {
				if arrived || !strings.Contains(what, "may still arrive") {
					return
				}
				arrived = true
				if kind == lease.VaultAccess {
					w.patch(t, w.vault, `{"properties":{"publicNetworkAccess":"Enabled"}}`)
					return
				}
				p := found[0].Params
				taken(t, func() error { return w.gate(t, w.server).PutRule(t.Context(), p["rule"], p["address"], p["address"]) })
			}
		})
		if err := l.Recover(t.Context()); err != nil || !arrived {
			t.Errorf("%s: recover: %v, arrived %t", kind, err, arrived)
		}
		w.same(t)
	}
}
