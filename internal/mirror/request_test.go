package mirror

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// askAgain leaves another request as soon as one was read.
type askAgain struct {
	store.Store
	again *Request
}

func (a *askAgain) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	body, info, err := a.Store.Read(ctx, name, off, n)
	if r := a.again; r != nil && err == nil && strings.HasPrefix(name, requestsDir) {
		a.again = nil
		err = Ask(ctx, a.Store, *r)
	}
	return body, info, err
}

// A request that is left while an earlier one about the same table is being
// answered is answered as well, and one that a dead run had taken too.
func TestRequestWhileAnswering(t *testing.T) {
	ctx := t.Context()
	dir, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Put(ctx, tableFile("public", "t"), []byte("{}"), store.Cond{}); err != nil {
		t.Fatal(err)
	}
	r := Request{Kind: Resync, Schema: "public", Table: "t"}
	if err := Ask(ctx, dir, r); err != nil {
		t.Fatal(err)
	}
	m := &mirror{cfg: Config{Landing: &askAgain{dir, &r}}}
	for i, left := range []bool{true, false} {
		if answered, err := m.answer(ctx); err != nil || !answered {
			t.Fatalf("look %d: answered: %t, %v", i, answered, err)
		}
		if waits, err := Asked(ctx, dir, "public", "t"); err != nil || waits != left {
			t.Errorf("after look %d: a request waits: %t, %v; want %t", i, waits, err, left)
		}
	}
	if err := errors.Join(Ask(ctx, dir, r), dir.Rename(ctx, requestFile("public", "t")+waiting, requestFile("public", "t")+answering)); err != nil {
		t.Fatal(err)
	}
	if waits, err := Asked(ctx, dir, "public", "t"); err != nil || !waits {
		t.Errorf("a request that was taken waits: %t, %v", waits, err)
	}
	if answered, err := m.answer(ctx); err != nil || !answered {
		t.Errorf("a request that was taken is answered: %t, %v", answered, err)
	}
}

// What Fabric still has, under whatever case, has not been dropped; not being able
// to look is an error.
func TestAwaitDropped(t *testing.T) {
	looks := 0
	m := &mirror{watched: &watched{}, cfg: Config{dropPatience: time.Minute, Fabric: func(context.Context) ([]FabricTable, error) {
		if looks++; looks < 3 {
			return []FabricTable{{Schema: "Public", Table: "orders"}}, nil
		}
		return []FabricTable{{Schema: "public", Table: "order"}}, nil
	}}}
	one := []*table{{m: m, w: landing.Writer{Dir: landing.TableDir("public", "Orders")}}}
	if kept, err := m.awaitDropped(t.Context(), one); err != nil || looks != 3 || kept != nil {
		t.Errorf("it counts as dropped at look %d, %v, %v; want 3", looks, kept, err)
	}
	m.cfg.Fabric = func(context.Context) ([]FabricTable, error) { return nil, errors.New("no answer") }
	m.cfg.dropPatience = 50 * time.Millisecond
	if _, err := m.awaitDropped(t.Context(), one); err == nil {
		t.Error("it counts as dropped when Fabric doesn't answer")
	}
	m.cfg.dropPatience = time.Minute
	looks = 0
	m.cfg.Fabric = func(context.Context) ([]FabricTable, error) {
		if looks++; looks < 3 {
			return nil, errors.New("no answer")
		}
		return nil, nil
	}
	if kept, err := m.awaitDropped(t.Context(), one); err != nil || looks != 3 || kept != nil {
		t.Errorf("once Fabric answers: %d looks, %v, %v", looks, kept, err)
	}
}

// A question that is interrupted leaves the next one a connection.
func TestAskAfterInterruption(t *testing.T) {
	b := newBench(t, tables...)
	m := &mirror{cfg: b.config(b.landing)}
	m.with.Store(&reading{"p": 0})
	defer m.closeSQL(context.Background())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := m.ask(ctx, func(conn *pgx.Conn) error { _, err := conn.Exec(ctx, "SELECT pg_sleep(600)"); return err }); err == nil {
		t.Fatal("it was not interrupted")
	}
	if _, _, err := m.describe(t.Context(), 0); err != nil {
		t.Errorf("the next question: %v", err)
	}
}
