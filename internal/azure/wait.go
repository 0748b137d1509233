package azure

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/pgmirror/pgmirror/internal/config"
)

// operationLimit is how long one operation may take before we stop waiting.
const operationLimit = 20 * time.Minute

// waiter sees long-running operations through to their end.
type waiter struct {
	poll     time.Duration // between looks, when the service names no time
	busy     Busy
	progress func(what string, elapsed, limit time.Duration)
}

func newWaiter(o Options) waiter {
	local := config.Loopback(o.Endpoint)
	w := waiter{poll: 5 * time.Second, busy: o.Busy.orDefault(local), progress: o.Progress}
	if local {
		w.poll = 50 * time.Millisecond
	}
	if w.progress == nil {
		w.progress = func(string, time.Duration, time.Duration) {}
	}
	return w
}

// poller is what an SDK's poller of any result can do.
type poller interface {
	Poll(context.Context) (*http.Response, error)
	Done() bool
	finish(context.Context) error
}

type of[T any] struct{ *runtime.Poller[T] }

func (p of[T]) finish(ctx context.Context) error {
	_, err := p.Result(ctx)
	return err
}

func begun[T any](p *runtime.Poller[T], err error) (poller, error) { return of[T]{p}, err }

// done begins an operation and waits for its end. A busy server is tried again,
// whether it refused at once or the accepted operation failed: azcore repeats
// neither.
func (w waiter) done(ctx context.Context, what string, begin func() (poller, error)) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, operationLimit)
	defer cancel()
	var err error
	for range w.busy.Tries {
		if err = w.once(ctx, what, start, begin); !IsBusy(err) {
			break
		}
		w.progress(what+": the server is busy", time.Since(start), operationLimit)
		if waitErr := pause(ctx, w.busy.Wait); waitErr != nil {
			err = waitErr
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (w waiter) once(ctx context.Context, what string, start time.Time, begin func() (poller, error)) error {
	p, err := begin()
	if err != nil {
		return err
	}
	for !p.Done() {
		resp, err := p.Poll(ctx)
		if err != nil {
			return err
		}
		if p.Done() {
			break
		}
		w.progress(what, time.Since(start), operationLimit)
		if err := pause(ctx, w.after(resp)); err != nil {
			return err
		}
	}
	return p.finish(ctx)
}

// after is the time that the service asks for, else ours.
func (w waiter) after(resp *http.Response) time.Duration {
	if resp != nil {
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			return time.Duration(s) * time.Second
		}
	}
	return w.poll
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
