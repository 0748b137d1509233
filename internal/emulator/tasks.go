package emulator

import (
	"context"
	"sync"
	"time"
)

// tasks are the goroutines that requests leave behind. close ends them and
// waits; none starts afterwards.
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newTasks() *tasks {
	ctx, cancel := context.WithCancel(context.Background())
	return &tasks{ctx: ctx, cancel: cancel}
}

// run starts fn, or returns false when the tasks are closed.
func (t *tasks) run(fn func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(func() { fn(t.ctx) })
	return true
}

// close may be called twice.
func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
}

// await waits until the emulated clock, which can jump, shows a time.
func await(ctx context.Context, now func() time.Time, at time.Time) error {
	const look = 20 * time.Millisecond
	for now().Before(at) {
		if err := wait(ctx, min(at.Sub(now()), look)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// wait lasts d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
