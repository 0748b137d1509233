package mirror

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	const second, gib = time.Second, int64(1) << 30
	free := Slot{SafeWALSize: -1}
	for _, c := range []struct {
		freshness, lag time.Duration
		slot           Slot
		want           time.Duration
	}{
		{5 * second, 0, free, 5 * second},
		{5 * second, 100 * second, free, 5 * second},
		{5 * second, 200 * second, free, 10 * second},
		{5 * second, 10 * time.Hour, free, time.Minute},
		{5 * time.Minute, 10 * time.Hour, free, 5 * time.Minute}, // what was asked for is more
		{5 * second, 200 * second, Slot{SafeWALSize: -1, RetainedBytes: gib + 1}, 5 * second},
		{5 * second, 200 * second, Slot{SafeWALSize: 100, RetainedBytes: 101}, 5 * second},
		{5 * second, 200 * second, Slot{SafeWALSize: 100, RetainedBytes: 100}, 10 * second},
	} {
		if got := pace(c.freshness, c.lag, c.slot); got != c.want {
			t.Errorf("freshness %v, lag %v, slot %+v: got %v, want %v", c.freshness, c.lag, c.slot, got, c.want)
		}
	}
}

// Only tables that Fabric is at work on tell of its lag; without any it fades.
func TestNoteLag(t *testing.T) {
	var w watched
	for i, look := range []struct {
		busy, idle FabricTable
		want       time.Duration
	}{
		{FabricTable{Rows: 10, Lag: time.Hour}, FabricTable{Rows: 7, Lag: 9 * time.Hour}, 0},
		{FabricTable{Rows: 11, Lag: time.Hour}, FabricTable{Rows: 7, Lag: 9 * time.Hour}, time.Hour},
		{FabricTable{Rows: 12, Lag: time.Minute}, FabricTable{Rows: 7, Lag: 9 * time.Hour}, time.Minute},
		{FabricTable{Rows: 12, Lag: time.Minute}, FabricTable{Rows: 7, Lag: 9 * time.Hour}, time.Minute / 2},
	} {
		w.noteLag(map[string]FabricTable{"public/busy": look.busy, "public/idle": look.idle})
		if w.lag != look.want {
			t.Errorf("look %d: got %v, want %v", i, w.lag, look.want)
		}
	}
}

// While Fabric lags, changes wait for others, and no longer when it doesn't.
func TestFabricLag(t *testing.T) {
	b := newBench(t, tables...)
	var h heard
	var mu sync.Mutex
	rows, lag := int64(0), 10*time.Second*lagShare
	cfg := b.config(b.landing)
	cfg.Events, cfg.Watch = h.hear, time.Second/2
	cfg.Fabric = func(context.Context) ([]FabricTable, error) {
		mu.Lock()
		defer mu.Unlock()
		rows++
		return []FabricTable{{Schema: "public", Table: "plain", Rows: rows, Lag: lag}}, nil
	}
	stop := b.start(cfg)
	b.caughtUp()
	paced := func(want time.Duration) {
		t.Helper()
		eventually(t, "the pace is "+want.String(), func() bool { e, _ := h.last(Paced); return e.Wait == want })
	}
	paced(10 * time.Second)
	_, files := h.last(Published)
	began := time.Now()
	b.exec("UPDATE plain SET n = 77 WHERE id = 1")
	h.looked(t)
	b.exec("UPDATE plain SET n = 77 WHERE id = 3") // which doesn't have the first one wait anew, or go
	if e := h.await(t, Published, files+1); e.Time.Sub(began) < 10*time.Second {
		t.Errorf("the changes waited for %v: %+v", e.Time.Sub(began), e)
	}
	mu.Lock()
	lag = 0
	mu.Unlock()
	paced(cfg.Freshness)
	b.exec("UPDATE plain SET n = 78 WHERE id = 2")
	b.caughtUp()
	stop()
	b.same()
}

// The alarm that comes before its time, as the pace has changed, comes again.
func TestAlarmComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mirror{watched: &watched{}}
		m.watched.pace.Store(int64(50 * time.Millisecond))
		r := &reader{m: m, waiting: &pending{since: time.Now(), tables: []*table{{}}}, alarm: newAlarm(t.Context())}
		defer r.alarm.stop()
		ctx := r.alarm.ctx
		if err := r.handOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			if waited := time.Since(r.waiting.since); waited != 50*time.Millisecond {
				t.Errorf("it came after %v", waited)
			}
		case <-time.After(time.Minute):
			t.Error("waited in vain for the alarm")
		}
	})
}

// What is due while a transaction is open goes with its commit: the alarm doesn't
// come again.
func TestDueWhileOpen(t *testing.T) {
	m := &mirror{watched: &watched{}}
	due := &pending{since: time.Now().Add(-time.Hour), tables: []*table{{}}}
	r := &reader{m: m, limit: 1, waiting: due, work: make(chan *pending, 1), alarm: newAlarm(t.Context())}
	defer r.alarm.stop()
	r.tx.open = true
	if err := r.handOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.work) > 0 {
		t.Fatal("a part of an open transaction was given")
	}
	if err := r.commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-r.work:
		if p != due || p.end != 1 {
			t.Errorf("given up to %s: %+v", p.end, p)
		}
	default:
		t.Error("the commit gave nothing")
	}
}
