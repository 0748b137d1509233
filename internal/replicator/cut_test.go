package replicator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"testing"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/store"
)

var errCut = errors.New("the process was killed")

// How a write is cut.
const (
	before = iota // it has no effect
	after         // it has its effect, and nobody hears of it
	half          // of what a folder holds, one thing is removed
	cuts
)

// power is what two stores of one process share: it goes off at a write.
type power struct {
	mu     sync.Mutex
	left   int // writes until the cut
	how    int
	writes int
}

func (p *power) off() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left < 0
}

// write does a write unless the power is off; half, if not nil, does half of it.
func (p *power) write(do, part func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left < 0 {
		return errCut
	}
	p.writes++
	if p.left--; p.left >= 0 {
		return do()
	}
	var err error
	switch {
	case p.how == after:
		err = do()
	case p.how == half && part != nil:
		err = part()
	}
	return errors.Join(errCut, err)
}

// cutStore is a store of a process that is killed at a write.
type cutStore struct {
	store.Store
	p *power
}

func (c cutStore) Put(ctx context.Context, name string, body []byte, cond store.Cond) (i store.Info, err error) {
	err = c.p.write(func() error { i, err = c.Store.Put(ctx, name, body, cond); return err }, nil)
	return i, err
}

func (c cutStore) Rename(ctx context.Context, from, to string) error {
	return c.p.write(func() error { return c.Store.Rename(ctx, from, to) }, nil)
}

func (c cutStore) Remove(ctx context.Context, name string) error {
	return c.p.write(func() error { return c.Store.Remove(ctx, name) }, func() error {
		list, err := c.Store.List(ctx, name)
		if err != nil || len(list) == 0 {
			return err
		}
		return c.Store.Remove(ctx, list[0].Name)
	})
}

func (c cutStore) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	if c.p.off() {
		return nil, store.Info{}, errCut
	}
	return c.Store.Read(ctx, name, off, n)
}

// TestCutAtEveryWrite kills the process at every write, before and after its
// effect, and expects the same end, no version with a wrong row, and then no
// more writes.
func TestCutAtEveryWrite(t *testing.T) {
	phases := []func(z *zone){
		func(z *zone) {
			z.metadata("id")
			z.publish(false, nil, row{id: 1, values: []any{"a"}}, row{id: 2, values: []any{"b"}}, row{id: 3, values: []any{"c"}}, row{id: 4, values: []any{"d"}})
			z.publish(false, nil, row{id: 5, values: []any{"e"}})
		},
		func(z *zone) {
			z.publish(true, nil, row{4, 1, []any{"A"}}, row{2, 5, nil})
			z.publish(true, part(3, 1, false), row{0, 6, []any{"f"}}) // a second one would double
		},
		func(z *zone) {
			z.fields = append(z.fields, batch.Field{Name: "n", Type: batch.Type{Kind: batch.Int64}})
			z.publish(true, part(3, 2, true), row{0, 7, []any{"g", int64(1)}})
		},
		func(z *zone) { z.publish(true, nil, row{0, 8, []any{"h", int64(1)}}) },
		func(z *zone) {
			if err := z.landing.Remove(context.Background(), shop); err != nil {
				z.Fatal(err)
			}
			z.n = 0
			z.publish(false, nil, row{id: 9, values: []any{"i", int64(1)}})
			z.publish(true, nil, row{0, 10, []any{"j", int64(1)}})
			z.metadata("id")
		},
		func(z *zone) {
			if err := z.landing.Remove(context.Background(), shop); err != nil {
				z.Fatal(err)
			}
		},
	}
	// What the table holds after each phase.
	want := [][]string{{"1 a", "2 b", "3 c", "4 d", "5 e"}, {"1 A", "2 b", "3 c", "4 d"}, {"1 A", "2 b", "3 c", "4 d", "6 f", "7 g 1"},
		{"1 A", "2 b", "3 c", "4 d", "6 f", "7 g 1", "8 h 1"}, {"10 j 1", "9 i 1"}}
	run := func(t *testing.T, cow bool, cut, how int) (writes int) {
		dir, err := os.MkdirTemp(fast(), "cut")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		z := newZone(t, dir, cow)
		plain := z.config
		p := &power{left: cut, how: how} // the whole life of the first process
		z.config.Landing, z.config.Tables = cutStore{z.landing, p}, cutStore{z.lake, p}
		r := New(z.config)
		for i, phase := range phases {
			phase(z)
			err := r.Once(t.Context())
			if p.off() {
				p = &power{left: math.MaxInt}
				z.config.Landing, z.config.Tables = cutStore{z.landing, p}, cutStore{z.lake, p}
				r = New(z.config)
				err = r.Once(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if i < len(want) {
				z.want(want[i]...)
			}
		}
		if s := r.Status(); len(s) != 0 {
			t.Errorf("got %+v, want no table", s)
		}
		p2 := &power{left: math.MaxInt}
		plain.Landing, plain.Tables = cutStore{z.landing, p2}, cutStore{z.lake, p2}
		if err := New(plain).Once(t.Context()); err != nil || p2.writes != 0 {
			t.Errorf("one more round: %v, %d writes, want none", err, p2.writes)
		}
		return p.writes
	}
	for name, cow := range map[string]bool{"copy on write": true, "deletion vectors": false} {
		total := run(t, cow, math.MaxInt, before)
		if total < 20 {
			t.Fatalf("%d writes: too few to be the scenario", total)
		}
		for how := range cuts {
			for n := range total {
				t.Run(fmt.Sprintf("%s/%d/%d", name, how, n), func(t *testing.T) { t.Parallel(); run(t, cow, n, how) })
			}
		}
	}
}
