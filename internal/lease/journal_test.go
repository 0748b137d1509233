package lease_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pgmirror/pgmirror/internal/lease"
)

func equal(a, b any) bool { return cmp.Equal(a, b) }

// image is what the disk would hold if the machine stopped now.
func image(t *testing.T, state string) (dir, journal string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(state, "leases", "*.jsonl"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("journals: %v, %v", paths, err)
	}
	body, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "leases"), 0o700); err != nil {
		t.Fatal(err)
	}
	journal = filepath.Join(dir, "leases", filepath.Base(paths[0]))
	if err := os.WriteFile(journal, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, journal
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	state := t.TempDir()
	l := w.leases(state)
	if _, _, err := l.Take(t.Context(), w.need(lease.VaultAccess)); err != nil {
		t.Fatal(err)
	}
	dir, journal := image(t, state)
	if info, err := os.Stat(journal); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the journal's mode: %v, %v", info.Mode(), err)
	}

	t.Run("another cloud's is left alone", func(t *testing.T) {
		other := w.leases(dir, func(o *lease.Options) { o.Cloud = "https://elsewhere" })
		if err := other.Recover(t.Context()); err != nil {
			t.Error(err)
		}
		if found, err := other.List(t.Context()); err != nil || len(found) != 1 || found[0].State != lease.Elsewhere {
			t.Errorf("lists %+v, %v", found, err)
		}
		w.different(t)
	})
	t.Run("forget", func(t *testing.T) {
		dir, _ := image(t, state)
		l := w.leases(dir)
		found, err := l.List(t.Context())
		if err != nil || len(found) != 1 {
			t.Fatalf("lists %+v, %v", found, err)
		}
		if err := l.Forget(found[0].ID); err != nil || lease.OpenJournals(dir) != 0 {
			t.Errorf("forget: %v, %d journals left", err, lease.OpenJournals(dir))
		}
		if err := l.Forget(found[0].ID); !errors.Is(err, lease.ErrNoLease) {
			t.Errorf("forget twice: %v", err)
		}
		w.different(t)
	})
	t.Run("unknown version", func(t *testing.T) {
		dir, journal := image(t, state)
		appendTo(t, journal, `{"v":2,"event":"intent","id":"x"}`+"\n")
		if err := w.leases(dir).Recover(t.Context()); err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("got %v, want a refusal", err)
		}
		w.different(t)
	})
	t.Run("torn tail", func(t *testing.T) {
		appendTo(t, journal, `{"v":1,"event":"closed","id":`)
		if err := w.leases(dir).Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.same(t)
		if n := lease.OpenJournals(dir); n != 0 {
			t.Errorf("%d journals are left", n)
		}
	})
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.same(t)
}

// TestLongTags: what doesn't fit into one of ARM's values goes on in another.
func TestLongTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.leases(t.TempDir(), func(o *lease.Options) { o.Run, o.Who = strings.Repeat("r", 400), strings.Repeat("ä", 300) })
	_, h, err := l.Take(t.Context(), w.need(lease.VaultAccess))
	if err != nil {
		t.Fatal(err)
	}
	tags := w.settings(t)[w.vault].(map[string]any)["tags"].(map[string]any)
	if len(tags) < 4 {
		t.Errorf("got %d tags, want the value split", len(tags))
	}
	for key, value := range tags {
		if n := len([]rune(value.(string))); n > 256 {
			t.Errorf("tag %s has %d characters", key, n)
		}
	}
	other := w.leases(t.TempDir(), later(2*time.Hour))
	found, err := other.List(t.Context())
	if err != nil || len(found) != 1 || found[0].Run != l.Run() || found[0].Params["was"] != "disabled" {
		t.Fatalf("lists %+v, %v", found, err)
	}
	if err := other.CloseOne(t.Context(), h.ID, false); err != nil {
		t.Error(err)
	}
	w.same(t)
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestForgedTag: who may write tags must not make us open anything, or delete
// what no lease made.
func TestForgedTag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.patch(t, w.vault, `{"tags":{"pgmirror-lease-1":"{\"v\":1,\"kind\":\"vault-access\",\"until\":1,\"undo\":{\"was\":\"Enabled\"}}","pgmirror-lease-2":"nonsense"}}`)
	w.patch(t, w.server, `{"tags":{"pgmirror-lease-3":"{\"v\":1,\"kind\":\"server-rule\",\"until\":1,\"undo\":{\"rule\":\"office\"}}"}}`)
	before := w.settings(t)
	l := w.leases(t.TempDir())
	for _, id := range []string{"1", "2", "3"} {
		if err := l.CloseOne(t.Context(), id, true); !errors.Is(err, lease.ErrUnproved) {
			t.Errorf("lease %s: got %v, want unproved", id, err)
		}
	}
	if diff := cmp.Diff(before, w.settings(t)); diff != "" {
		t.Errorf("a forged tag changed something:\n%s", diff)
	}
}

// TestAudit: every opening and closing has its lines, whole ones, from several
// processes at once and after a torn one, and no secret is in them.
func TestAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	state := t.TempDir()
	open := func(run string) *lease.Audit { return lease.NewAudit(state, run, func() string { return "alice" }) }
	a := open("run1")
	l := w.leases(state, func(o *lease.Options) { o.Audit, o.Run = a, "run1" })
	n := w.need(lease.ServerRule)
	n.Refusal = errors.New("canary-secret")
	if err := errors.Join(l.With(t.Context(), n, func(context.Context) error { return nil }), a.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(state, "audit.jsonl")
	appendTo(t, path, `{"v":1,"time":"20`) // a process that died
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			a := open("run2")
			defer a.Close()
			for range 25 {
				if err := a.Write(lease.Change{What: "step role", Resource: w.server, Outcome: lease.Done}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(body, []byte("canary")) {
		t.Error("the audit log holds a secret")
	}
	whole, torn, outcomes := 0, 0, []string{}
	for s := bufio.NewScanner(bytes.NewReader(body)); s.Scan(); {
		var c lease.Change
		if json.Unmarshal(s.Bytes(), &c) != nil {
			torn++
			continue
		}
		whole++
		if c.Who != "alice" || c.Run == "" || c.Resource != w.server || c.Time.IsZero() {
			t.Errorf("a line lacks something: %s", s.Bytes())
		}
		if c.Run == "run1" {
			outcomes = append(outcomes, c.What+" "+string(c.Outcome))
		}
	}
	if diff := cmp.Diff([]string{"open server-rule begun", "open server-rule done", "close server-rule begun", "close server-rule done"}, outcomes); diff != "" {
		t.Errorf("of the lease (-want +got):\n%s", diff)
	}
	if whole != 104 || torn != 1 {
		t.Errorf("got %d whole and %d torn lines, want 104 and 1", whole, torn)
	}
}

func TestStateDir(t *testing.T) {
	dir := t.TempDir()
	if got, err := lease.StateDir([]string{"PGMIRROR_STATE=" + dir}); err != nil || got != dir {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := lease.StateDir(nil); err == nil {
		t.Errorf("without a home: got %s, want an error", got)
	}
}

func TestAddressIn(t *testing.T) {
	for message, want := range map[string]string{
		"Client address is not authorized and caller is not a trusted service.\r\nClient address: 203.0.113.7\r\nCaller: appid=x": "203.0.113.7",
		`no pg_hba.conf entry for host "203.0.113.8", user "a", database "b", SSL encryption`:                                     "203.0.113.8",
		`no pg_hba.conf entry for host "::ffff:203.0.113.8", user "a"`:                                                            "203.0.113.8",
		"Client address: 2001:db8::1": "",
		"Client address: 999.1.1.1":   "",
		"timeout":                     "",
	} {
		addr, ok := lease.AddressIn(message)
		if ok != (want != "") || ok && addr.String() != want {
			t.Errorf("%q: got %s, %t", message, addr, ok)
		}
	}
}
