package setup_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pgmirror/pgmirror/internal/emulator"
	"github.com/pgmirror/pgmirror/internal/localpg/localpgtest"
	"github.com/pgmirror/pgmirror/internal/setup"
)

// TestWhileProvisioned: a plan that is made while Fabric provisions the mirrored
// database, as after a run that died there, tells and approves what follows: the start,
// and before it another list of tables. Apply waits for the moment. A saved plan holds
// beyond it.
func TestWhileProvisioned(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, emulator.Options{PGBin: localpgtest.Servers(t)[0].Bin, ProvisionDelay: time.Hour})
	cfg := w.config(t, nativeFile)
	waiting := func(step string, do func()) func(setup.Event) {
		return func(e setup.Event) {
			if e.Kind == setup.Waiting && e.Step == step && e.Finding.Action == setup.Wait {
				do()
			}
		}
	}

	died := &run{}
	died.tell = waiting("start", func() { died.cancel() })
	err := died.apply(t, cfg)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v before the mirrored database can be started", err)
	}

	fewer := w.config(t, `
mirror:
  tables: [public.customers, public.orders]
allow: [restart, change-owner]
`)
	found := plan(t, fewer)
	for step, want := range map[string]setup.Action{"mirrored-database": setup.Update, "start": setup.Create} {
		if f := find(t, found, step); f.Action != want {
			t.Errorf("%s: got %+v, want %s", step, f, want)
		}
	}

	var once sync.Once
	r := &run{tell: waiting("mirrored-database", func() {
		once.Do(func() {
			w.control(t, http.MethodPost, "/clock", map[string]string{"advance": "1h"})
			if err := (setup.Saved{Findings: found}).SameWorld(plan(t, fewer)); err != nil {
				t.Error(err)
			}
		})
	})}
	if err := r.apply(t, fewer); err != nil {
		t.Fatal(err)
	}
	if len(r.writes) != 2 {
		t.Errorf("got the writes %q, want the list of tables and the start", r.writes)
	}
	clean(t, plan(t, fewer))
}
