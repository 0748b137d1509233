package lease_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/azure"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/lease"
)

// TestEveryKind opens each door, sees that it is open, tagged and listed, and
// closes it to exactly what it was.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			state := t.TempDir()
			l := w.leases(state)
			err := l.With(t.Context(), w.need(kind), func(ctx context.Context) error {
				w.different(t)
				found, err := w.leases(t.TempDir()).List(ctx) // another machine's eyes
				if err != nil || len(found) != 1 || found[0].Kind != kind || found[0].State != lease.Away {
					t.Errorf("another machine lists %+v, %v", found, err)
				}
				if found, err := w.leases(state).List(ctx); err != nil || len(found) != 1 || found[0].State != lease.Live || found[0].Who != "tester@machine" {
					t.Errorf("this machine lists %+v, %v", found, err)
				}
				if err := w.leases(state).Recover(ctx); err != nil { // must not close what is in use
					t.Errorf("recover beside a live holder: %v", err)
				}
				w.different(t)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			w.same(t)
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := lease.OpenJournals(state); n != 0 {
				t.Errorf("%d journals are left", n)
			}
		})
	}
}

// TestBothVaultGates is a real refusal, and then the other one.
func TestBothVaultGates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.leases(t.TempDir())
	err := w.secret(t.Context())
	if azure.Forbidden(err) != azure.ByConnection {
		t.Fatalf("got %v, want a refusal by connection", err)
	}
	n := w.need(lease.VaultAccess)
	n.Refusal, n.Message = err, azure.Message(err)
	n.Through = func(ctx context.Context) (bool, error) {
		return azure.Forbidden(w.secret(ctx)) != azure.ByConnection, nil
	}
	ctx, first, err := l.Take(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	err = w.secret(ctx)
	if azure.Forbidden(err) != azure.ByFirewall {
		t.Fatalf("got %v, want a refusal by the firewall", err)
	}
	n = lease.Need{Kind: lease.VaultRule, Resource: w.vault, Refusal: err, Message: azure.Message(err)}
	ctx, second, err := l.Take(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	if second.Params["address"] != "127.0.0.1" {
		t.Errorf("let in %q", second.Params["address"])
	}
	if err := w.secret(ctx); err != nil {
		t.Errorf("through both gates: %v", err)
	}
	if err := first.Close(ctx); err != nil { // not in order: it must not matter
		t.Error(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.same(t)
	if got := azure.Forbidden(w.secret(t.Context())); got != azure.ByConnection {
		t.Errorf("afterwards: got %q, want a refusal", got)
	}
}

func TestNothingIsOpenedWithout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	state := t.TempDir()
	only := func(consent string) func(*lease.Options) {
		return func(o *lease.Options) { o.Allows = func(c string) bool { return c == consent } }
	}
	noRefusal, unnamed := w.need(lease.VaultAccess), w.need(lease.ServerRule)
	noRefusal.Refusal, unnamed.Message = nil, "timeout"
	for name, c := range map[string]struct {
		need   lease.Need
		change func(*lease.Options)
		want   func(error) bool
	}{
		"a refusal":      {noRefusal, only(config.OpenVault), func(err error) bool { return errors.Is(err, lease.ErrNotRefused) }},
		"an address":     {unnamed, only(config.OpenServer), func(err error) bool { return errors.Is(err, lease.ErrAddress) }},
		"vault consent":  {w.need(lease.VaultRule), only(config.OpenServer), isConsent(config.OpenVault)},
		"server consent": {w.need(lease.AzureRule), only(config.OpenVault), isConsent(config.OpenServer)},
	} {
		l := w.leases(state, c.change)
		if _, _, err := l.Take(t.Context(), c.need); !c.want(err) {
			t.Errorf("without %s: got %v", name, err)
		}
		l.Close(t.Context())
	}
	w.patch(t, w.vault, `{"properties":{"publicNetworkAccess":"Enabled","networkAcls":{"defaultAction":"Allow","ipRules":[]}}}`)
	for _, kind := range []lease.Kind{lease.VaultAccess, lease.VaultRule} {
		if _, _, err := w.leases(state).Take(t.Context(), w.need(kind)); !errors.Is(err, lease.ErrOpen) {
			t.Errorf("%s of an open vault: got %v, want ErrOpen", kind, err)
		}
	}
	w.patch(t, w.vault, closed)
	w.same(t)
	if entries, _ := os.ReadDir(filepath.Join(state, "leases")); len(entries) != 0 {
		t.Errorf("a journal was made for nothing: %v", entries)
	}
}

func isConsent(want string) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*lease.ConsentError](err)
		return ok && e.Consent == want && strings.Contains(e.Hint(), want)
	}
}

// TestConfiguredAddress: a firewall that drops packets names nobody.
func TestConfiguredAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.leases(t.TempDir(), func(o *lease.Options) { o.Address = "203.0.113.9" })
	n := w.need(lease.ServerRule)
	n.Message = "dial tcp: i/o timeout"
	_, h, err := l.Take(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	name := h.Params["rule"]
	if got := w.rules(t)[name]; got != [2]string{"203.0.113.9", "203.0.113.9"} || !strings.Contains(name, h.ID) {
		t.Errorf("rule %s: got %v", name, got)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.same(t)
}

// TestCtrlC: a context that ends while the door is open, or while it is being
// opened, changes nothing about its being closed.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		for _, at := range []string{"tag: before", "grant: before", "grant: after", "journal granted: after", ""} {
			ctx, cancel := context.WithCancel(t.Context())
			l := w.leases(t.TempDir())
			l.Hook(func(step string) {
				if step == at {
					cancel()
				}
			})
			err := l.With(ctx, w.need(kind), func(held context.Context) error {
				cancel()
				<-held.Done()
				return context.Cause(held)
			})
			if !errors.Is(err, context.Canceled) || errors.Is(err, lease.ErrUnproved) {
				t.Errorf("%s at %q: got %v, want canceled", kind, at, err)
			}
			cancel()
			w.same(t)
		}
	}
}

// TestExpiry: the holder's context ends with the lease, and others see it as
// expired; both may close it.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	short := func(o *lease.Options) { o.Timing.Skew = time.Nanosecond }
	l := w.leases(t.TempDir(), short)
	n := w.need(lease.VaultAccess)
	n.Life = 1200 * time.Millisecond
	err := l.With(t.Context(), n, func(held context.Context) error {
		<-held.Done()
		if !errors.Is(context.Cause(held), lease.ErrExpired) {
			t.Errorf("the context ended with %v", context.Cause(held))
		}
		w.different(t) // still in use: its holder is slow to notice
		other := w.leases(t.TempDir(), short, later(time.Hour))
		found, err := other.List(t.Context())
		if err != nil || len(found) != 1 || found[0].State != lease.Expired {
			t.Errorf("another machine lists %+v, %v", found, err)
		}
		if err := other.CloseOne(t.Context(), found[0].ID, false); err != nil {
			t.Errorf("another machine closes it: %v", err)
		}
		w.same(t)
		return held.Err()
	})
	if !errors.Is(err, lease.ErrExpired) || errors.Is(err, lease.ErrUnproved) {
		t.Errorf("got %v, want expired", err)
	}
	w.same(t)
}

func later(d time.Duration) func(*lease.Options) {
	return func(o *lease.Options) { o.Now = func() time.Time { return time.Now().Add(d) } }
}

// TestWallClock: a machine that slept finds its lease expired, though hardly any
// monotonic time has passed.
func TestWallClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slept := make(chan struct{})
	l := w.leases(t.TempDir(), func(o *lease.Options) {
		o.Now = func() time.Time {
			select {
			case <-slept:
				return time.Now().Add(2 * time.Hour)
			default:
				return time.Now()
			}
		}
	})
	err := l.With(t.Context(), w.need(lease.VaultRule), func(held context.Context) error {
		close(slept)
		<-held.Done()
		return held.Err()
	})
	if !errors.Is(err, lease.ErrExpired) {
		t.Errorf("got %v, want expired", err)
	}
	w.same(t)
}

// TestSkew: a stranger whose clock is ahead by less than the allowance doesn't
// take a lease for expired, and doesn't close it unless told to.
func TestSkew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.leases(t.TempDir())
	_, h, err := l.Take(t.Context(), w.need(lease.ServerRule))
	if err != nil {
		t.Fatal(err)
	}
	ahead := w.leases(t.TempDir(), later(time.Hour+30*time.Minute), func(o *lease.Options) { o.Timing.Skew = time.Hour })
	if err := ahead.CloseOne(t.Context(), h.ID, false); !isHeld(err) {
		t.Errorf("got %v, want held", err)
	}
	behind := w.leases(t.TempDir(), later(-24*time.Hour))
	if err := behind.CloseOne(t.Context(), h.ID, false); !isHeld(err) {
		t.Errorf("got %v, want held", err)
	}
	if err := behind.CloseOne(t.Context(), h.ID, true); err != nil {
		t.Errorf("by force: %v", err)
	}
	w.same(t)
	if err := l.Close(t.Context()); err != nil { // it is closed already: that is fine
		t.Error(err)
	}
	w.same(t)
	if err := behind.CloseOne(t.Context(), h.ID, true); !errors.Is(err, lease.ErrNoLease) {
		t.Errorf("once more: got %v, want no lease", err)
	}
}

func isHeld(err error) bool {
	_, ok := errors.AsType[*lease.HeldError](err)
	return ok
}
