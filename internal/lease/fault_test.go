package lease_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/lease"
)

// faulty is a resource whose writes go through on: it may do them or not, now or
// later, and say what it likes.
type faulty struct {
	lease.Resource
	on func(op string, do func(context.Context) error) error
}

func (f faulty) Patch(ctx context.Context, body []byte) error {
	op := "patch"
	if strings.HasPrefix(string(body), `{"tags"`) {
		op = "tags"
	}
	return f.on(op, func(ctx context.Context) error { return f.Resource.Patch(ctx, body) })
}

func (f faulty) PutRule(_ context.Context, name, first, last string) error {
	return f.on("put", func(ctx context.Context) error { return f.Resource.PutRule(ctx, name, first, last) })
}

func (f faulty) DeleteRule(_ context.Context, name string) error {
	return f.on("delete", func(ctx context.Context) error { return f.Resource.DeleteRule(ctx, name) })
}

func fault(on func(op string, do func(context.Context) error) error) func(*lease.Options) {
	return through(func(r lease.Resource) lease.Resource { return faulty{r, on} })
}

// answer is an error as a resource gives it.
type answer struct{ busy, refused, gone bool }

func (a answer) Error() string { return fmt.Sprintf("answer %t %t", a.busy, a.refused) }
func (a answer) Busy() bool    { return a.busy }
func (a answer) Gone() bool    { return a.gone }
func (a answer) Refused() bool { return a.refused }

var (
	noAnswer  = answer{}
	busy      = answer{busy: true, refused: true}
	gateway   = answer{busy: true} // busy, but it may have been done
	forbidden = answer{refused: true}
)

// TestEveryWriteFails: at each write in turn, the request is lost, its answer is
// lost, it arrives after a look at what it should have done (which is when the lease
// tells what it waits for), it is refused, or the server is busy. The door is closed afterwards, or the error says that it may
// not be and the next run closes it.
func TestEveryWriteFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var late func() // what is still under way
	arrived := 0
	arrive := func(string) {
		if do := late; do != nil {
			late = nil
			do()
			arrived++
		}
	}
	faults := map[string]func(do func(context.Context) error) error{
		"request lost": func(func(context.Context) error) error { return noAnswer },
		"answer lost":  func(do func(context.Context) error) error { return errors.Join(do(context.Background()), noAnswer) },
		"refused":      func(func(context.Context) error) error { return forbidden },
		"busy":         func(func(context.Context) error) error { return busy },
		"gateway":      func(do func(context.Context) error) error { return errors.Join(do(context.Background()), gateway) },
		"late": func(do func(context.Context) error) error {
			late = func() { _ = do(context.Background()) } // what it made may be gone before it is read back
			return noAnswer
		},
	}
	for _, kind := range kinds {
		for name, f := range faults {
			used, failed := 0, 0
			for at := 1; ; at++ {
				n := 0
				late = nil // it was lost: nobody waited for it
				l := w.leases(t.TempDir(), func(o *lease.Options) { o.Timing.InFlight, o.Tell = 150*time.Millisecond, arrive }, fault(func(op string, do func(context.Context) error) error {
					if n++; n == at {
						return f(do)
					}
					return do(context.Background())
				}))
				err := l.With(t.Context(), w.need(kind), func(context.Context) error { used++; return nil })
				if n < at {
					break
				}
				if err != nil {
					failed++
				}
				if errors.Is(err, lease.ErrUnproved) {
					t.Errorf("%s, write %d, %s: %v", kind, at, name, err)
				}
				w.same(t)
			}
			if name == "busy" && failed > 0 {
				t.Errorf("%s: a busy server isn't waited for", kind)
			}
			if used == 0 || name == "request lost" && failed == 0 {
				t.Errorf("%s, %s: used %d times, failed %d times: nothing is proved", kind, name, used, failed)
			}
		}
	}
	if arrived == 0 {
		t.Error("no request arrived late: nothing is proved")
	}
}

func isBusy(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Busy() bool
	}](err)
	return ok && e.Busy()
}

// TestClosingFails: ARM refuses to take the door back, or the tag. The error is
// ErrUnproved and says what to type, the journal stays, and the next run closes.
func TestClosingFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		for _, from := range []int{1, 2} { // the first write of the closing, or the second: the tag
			state := t.TempDir()
			inUse, n := false, 0
			l := w.leases(state, fault(func(op string, do func(context.Context) error) error {
				if inUse {
					if n++; n >= from {
						return forbidden
					}
				}
				return do(context.Background())
			}))
			err := l.With(t.Context(), w.need(kind), func(context.Context) error { inUse = true; return nil })
			if n < from { // it has no tag
				continue
			}
			e, ok := errors.AsType[*lease.UnprovedError](err)
			if !ok || !errors.Is(err, lease.ErrUnproved) {
				t.Fatalf("%s: got %v, want unproved", kind, err)
			}
			if !strings.Contains(err.Error(), "az ") || !strings.Contains(e.Hint(), e.Lease.ID) {
				t.Errorf("%s: no way out is told in %q, %q", kind, err, e.Hint())
			}
			w.different(t)
			if err := l.Close(t.Context()); !errors.Is(err, lease.ErrUnproved) {
				t.Errorf("%s: the second try: got %v, want unproved", kind, err)
			}
			next := w.leases(state)
			if found, err := next.List(t.Context()); err != nil || len(found) != 1 || found[0].State != lease.Left {
				t.Errorf("%s: the next run lists %+v, %v", kind, found, err)
			}
			if err := next.Recover(t.Context()); err != nil {
				t.Error(err)
			}
			w.same(t)
		}
	}
}

// TestGone: with the resource, its doors are gone.
func TestGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		gone := false
		l := w.leases(t.TempDir(), through(func(r lease.Resource) lease.Resource { return deletable{r, &gone} }))
		if err := l.With(t.Context(), w.need(kind), func(context.Context) error { gone = true; return nil }); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		w.close(t)
	}
}

type deletable struct {
	lease.Resource
	gone *bool
}

func (d deletable) Get(ctx context.Context) ([]byte, error) {
	if *d.gone {
		return nil, answer{refused: true, gone: true}
	}
	return d.Resource.Get(ctx)
}

// TestPropagation: an opened door is felt late, or never.
func TestPropagation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.need(lease.VaultRule)
	tries := 0
	n.Through = func(context.Context) (bool, error) { tries++; return tries == 4, nil }
	if err := w.leases(t.TempDir()).With(t.Context(), n, func(context.Context) error { return nil }); err != nil || tries != 4 {
		t.Errorf("felt at the fourth try: got %d tries, %v", tries, err)
	}
	w.same(t)
	n.Through = func(context.Context) (bool, error) { return false, nil }
	l := w.leases(t.TempDir(), func(o *lease.Options) { o.Timing.Through = 30 * time.Millisecond })
	if _, _, err := l.Take(t.Context(), n); !errors.Is(err, lease.ErrNotThrough) || errors.Is(err, lease.ErrUnproved) {
		t.Errorf("never felt: got %v, want not through", err)
	}
	w.same(t)
	broken := errors.New("something else")
	n.Through = func(context.Context) (bool, error) { return false, broken }
	if _, _, err := l.Take(t.Context(), n); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	w.same(t)
}

// TestTwoAtOnce: of two runs on different machines, never both have the server
// or the vault; the one that has to go is told who holds it.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range []lease.Kind{lease.VaultAccess, lease.Hold} {
		var holders, won, told atomic.Int32
		for range 10 {
			var both sync.WaitGroup
			between := newBetween()
			for _, who := range []string{"alice", "bob"} {
				both.Go(func() {
					l := w.leases(t.TempDir(), func(o *lease.Options) { o.Who, o.Run = who, "run-of-"+who },
						through(func(r lease.Resource) lease.Resource { return &racer{Resource: r, between: between, who: who} }))
					_, h, err := l.Take(t.Context(), w.need(kind))
					between.leave(who)
					if held, ok := errors.AsType[*lease.HeldError](err); ok {
						told.Add(1)
						if held.By.Who == who || !strings.Contains(err.Error(), held.By.Run) {
							t.Errorf("%s is told %q", who, err)
						}
						return
					}
					if err != nil {
						return // its tag was replaced: the other one has it, or nobody
					}
					won.Add(1)
					if holders.Add(1) > 1 {
						t.Errorf("%s: both have it", kind)
					}
					w.different(t) // takes a while
					holders.Add(-1)
					if err := h.Close(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
			w.same(t)
		}
		if won.Load() == 0 {
			t.Errorf("%s: nobody ever got it", kind)
		}
		t.Logf("%s: of 20 tries %d got it, %d were told who holds it", kind, won.Load(), told.Load())
	}
}

// between is who has looked at a resource and not yet written its tag.
type between struct {
	mu    sync.Mutex
	moved *sync.Cond
	who   map[string]bool
}

func newBetween() *between {
	b := &between{who: map[string]bool{}}
	b.moved = sync.NewCond(&b.mu)
	return b
}

func (b *between) enter(who string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.who[who] = true
}

func (b *between) leave(who string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.who, who)
	b.moved.Broadcast()
}

func (b *between) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.who) > 0 {
		b.moved.Wait()
	}
}

// racer is a resource whose look at a tag that was written comes after every write
// that was under way then: what Timing.Settle is long enough for, on any machine.
type racer struct {
	lease.Resource
	*between
	who   string
	wrote atomic.Bool
}

func (r *racer) Get(ctx context.Context) ([]byte, error) {
	if r.wrote.Load() {
		r.wait()
	} else {
		r.enter(r.who)
	}
	return r.Resource.Get(ctx)
}

func (r *racer) Patch(ctx context.Context, body []byte) error {
	err := r.Resource.Patch(ctx, body)
	if err == nil {
		r.wrote.Store(true)
		r.leave(r.who)
	}
	return err
}

// TestHeld is the plain case: somebody has it, expired or not.
func TestHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.leases(t.TempDir(), func(o *lease.Options) { o.Who = "alice@laptop" })
	_, h, err := first.Take(t.Context(), w.need(lease.Hold))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.leases(t.TempDir()).Take(t.Context(), w.need(lease.Hold))
	e, ok := errors.AsType[*lease.HeldError](err)
	if !ok || e.Expired || !strings.Contains(err.Error(), "alice@laptop") {
		t.Errorf("got %v", err)
	}
	_, _, err = w.leases(t.TempDir(), later(2*time.Hour)).Take(t.Context(), w.need(lease.ServerAccess))
	if e, ok = errors.AsType[*lease.HeldError](err); !ok || !e.Expired || e.Hint() != "pgmirror leases close "+h.ID {
		t.Errorf("got %v", err)
	}
	// Firewall rules don't get in each other's way, also for one address.
	second := w.leases(t.TempDir())
	for _, l := range []*lease.Leases{first, second} {
		if _, _, err := l.Take(t.Context(), w.need(lease.ServerRule)); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(first.Close(t.Context()), second.Close(t.Context())); err != nil {
		t.Error(err)
	}
	w.same(t)
}

// TestHandedOn: A died, B closed for it and opened the same door. A's next run
// leaves B's door alone.
func TestHandedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := &killing{world: w, kinds: "vault-access", steps: map[string]int{}}
	state := t.TempDir()
	steps, _ := k.run(t, t.TempDir(), 0, 0)
	if _, killed := k.run(t, state, slices.Index(steps, "vault-access use")+1, 0); !killed {
		t.Fatal("the child lived")
	}
	k.closeExpired(t)
	w.same(t)
	b := w.leases(t.TempDir())
	if _, _, err := b.Take(t.Context(), w.need(lease.VaultAccess)); err != nil {
		t.Fatal(err)
	}
	open := w.settings(t)
	if err := w.leases(state).Recover(t.Context()); err != nil {
		t.Error(err)
	}
	if got := w.settings(t); !equal(got, open) {
		t.Error("A's next run closed B's door")
	}
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.same(t)
}
