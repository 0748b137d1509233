// Package storetest is the conformance suite of store.Store: every
// implementation runs it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgmirror/pgmirror/internal/store"
)

// Run checks an implementation; open gives a new empty store.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"put, read, stat", testPutRead},
		{"put conditions", testPutConditions},
		{"ranges", testRanges},
		{"list", testList},
		{"rename", testRename},
		{"remove", testRemove},
		{"folder etag", testFolderETag},
		{"names", testNames},
		{"sub", testSub},
		{"one winner of a put", testPutRace},
		{"one winner of a rename", testRenameRace},
		{"one winner of a replace", testReplaceRace},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func put(t *testing.T, s store.Store, name, body string) store.Info {
	t.Helper()
	i, err := s.Put(t.Context(), name, []byte(body), store.Cond{})
	if err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
	return i
}

func wantBody(t *testing.T, s store.Store, name, want string) store.Info {
	t.Helper()
	b, i, err := s.Read(t.Context(), name, 0, -1)
	if err != nil || string(b) != want {
		t.Fatalf("read %s: got %q, %v, want %q", name, b, err, want)
	}
	return i
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

func testPutRead(t *testing.T, s store.Store) {
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16)) // 1 MiB
	for _, body := range []string{"hello", "", big} {
		i := put(t, s, "a/b/c.txt", body)
		if i.Name != "a/b/c.txt" || i.Size != int64(len(body)) || i.Dir || i.ETag == "" {
			t.Fatalf("info: %+v", i)
		}
		if got := wantBody(t, s, "a/b/c.txt", body); got.ETag != i.ETag || got.Size != i.Size {
			t.Fatalf("read info: got %+v, want %+v", got, i)
		}
		st, err := s.Stat(t.Context(), "a/b/c.txt")
		if err != nil || st.ETag != i.ETag || st.Size != i.Size || st.Modified.IsZero() {
			t.Fatalf("stat: got %+v, %v, want %+v", st, err, i)
		}
	}
	st, err := s.Stat(t.Context(), "a/b")
	if err != nil || !st.Dir {
		t.Fatalf("stat of a folder: %+v, %v", st, err)
	}
	_, err = s.Stat(t.Context(), "a/none")
	wantErr(t, "stat", err, store.ErrNotExist)
	_, _, err = s.Read(t.Context(), "a/none", 0, -1)
	wantErr(t, "read", err, store.ErrNotExist)
}

func testPutConditions(t *testing.T, s store.Store) {
	ctx := t.Context()
	first, err := s.Put(ctx, "d/f", []byte("1"), store.Cond{Absent: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(ctx, "d/f", []byte("2"), store.Cond{Absent: true})
	wantErr(t, "second put", err, store.ErrExist)
	wantBody(t, s, "d/f", "1")
	second, err := s.Put(ctx, "d/f", []byte("3"), store.Cond{Match: first.ETag})
	if err != nil || second.ETag == first.ETag {
		t.Fatalf("replace: %+v, %v", second, err)
	}
	_, err = s.Put(ctx, "d/f", []byte("4"), store.Cond{Match: first.ETag})
	wantErr(t, "stale replace", err, store.ErrChanged)
	wantBody(t, s, "d/f", "3")
	_, err = s.Put(ctx, "d/none", []byte("5"), store.Cond{Match: first.ETag})
	wantErr(t, "replace of nothing", err, store.ErrChanged)
	_, err = s.Stat(ctx, "d/none")
	wantErr(t, "stat", err, store.ErrNotExist)
}

func testRanges(t *testing.T, s store.Store) {
	put(t, s, "r", "0123456789")
	for _, c := range []struct {
		off, n int64
		want   string
	}{{0, -1, "0123456789"}, {3, 4, "3456"}, {8, 10, "89"}, {4, -1, "456789"}, {10, 5, ""}, {0, 0, ""}} {
		b, i, err := s.Read(t.Context(), "r", c.off, c.n)
		if err != nil || string(b) != c.want || i.Size != 10 {
			t.Errorf("read %d+%d: got %q (size %d), %v, want %q", c.off, c.n, b, i.Size, err, c.want)
		}
	}
}

func names(t *testing.T, s store.Store, dir string) []string {
	t.Helper()
	l, err := s.List(t.Context(), dir)
	if err != nil {
		t.Fatalf("list %q: %v", dir, err)
	}
	var out []string
	for _, i := range l {
		n := i.Name
		if i.Dir {
			n += "/"
		}
		out = append(out, n)
	}
	return out
}

func testList(t *testing.T, s store.Store) {
	for _, n := range []string{"x/2", "x/10", "x/_a b#%.txt", "x/sub/deep/3", "y"} {
		put(t, s, n, n)
	}
	for _, c := range []struct {
		dir  string
		want []string
	}{{"", []string{"x/", "y"}}, {"x", []string{"x/10", "x/2", "x/_a b#%.txt", "x/sub/"}}, {"x/sub", []string{"x/sub/deep/"}}, {"none", nil}} {
		if got := names(t, s, c.dir); !slices.Equal(got, c.want) {
			t.Errorf("list %q: got %q, want %q", c.dir, got, c.want)
		}
	}
	wantBody(t, s, "x/_a b#%.txt", "x/_a b#%.txt")
	l, err := s.List(t.Context(), "x")
	if err != nil || l[0].Size != 4 || l[0].ETag == "" {
		t.Fatalf("info in a list: %+v, %v", l[0], err)
	}
	st, err := s.Stat(t.Context(), "x/10")
	if err != nil || st.ETag != l[0].ETag {
		t.Fatalf("etag: stat %q, list %q, %v", st.ETag, l[0].ETag, err)
	}
}

func testRename(t *testing.T, s store.Store) {
	ctx := t.Context()
	put(t, s, "t/_1", "one")
	if err := s.Rename(ctx, "t/_1", "t/1"); err != nil {
		t.Fatal(err)
	}
	wantBody(t, s, "t/1", "one")
	_, err := s.Stat(ctx, "t/_1")
	wantErr(t, "the old name", err, store.ErrNotExist)
	put(t, s, "t/_2", "two")
	wantErr(t, "rename onto a file", s.Rename(ctx, "t/_2", "t/1"), store.ErrExist)
	wantBody(t, s, "t/1", "one")
	wantBody(t, s, "t/_2", "two")
	wantErr(t, "rename of nothing", s.Rename(ctx, "t/none", "t/3"), store.ErrNotExist)
	if err := s.Rename(ctx, "t/_2", "t/new/2"); err != nil {
		t.Fatalf("rename into a new folder: %v", err)
	}
	wantBody(t, s, "t/new/2", "two")
}

func testRemove(t *testing.T, s store.Store) {
	ctx := t.Context()
	for i := range 3 {
		put(t, s, fmt.Sprintf("d/e/%d", i), "x")
	}
	put(t, s, "d/f", "x")
	if err := s.Remove(ctx, "d/f"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "d/e"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s, "d"); len(got) != 0 {
		t.Fatalf("left: %q", got)
	}
	for _, n := range []string{"d/f", "d/e", "none/at/all"} {
		if err := s.Remove(ctx, n); err != nil {
			t.Fatalf("remove of nothing: %v", err)
		}
	}
}

func testFolderETag(t *testing.T, s store.Store) {
	ctx := t.Context()
	put(t, s, "f/1", "x")
	a, err := s.Stat(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "f"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "f/1", "x")
	b, err := s.Stat(ctx, "f")
	if err != nil || a.ETag == b.ETag {
		t.Fatalf("a folder that was made again has the same etag %q (%v)", b.ETag, err)
	}
}

func testNames(t *testing.T, s store.Store) {
	for _, n := range []string{"", "/a", "a/", "../a", "a/../../b", "a//b", "."} {
		if _, err := s.Put(t.Context(), n, []byte("x"), store.Cond{}); err == nil {
			t.Errorf("put %q: no error", n)
		}
	}
}

func testSub(t *testing.T, s store.Store) {
	u := store.Sub(store.Sub(s, "a"), "b")
	if i := put(t, u, "c/d", "x"); i.Name != "c/d" {
		t.Fatalf("name: got %q, want c/d", i.Name)
	}
	wantBody(t, s, "a/b/c/d", "x")
	if got := names(t, u, ""); !slices.Equal(got, []string{"c/"}) {
		t.Fatalf("list: %q", got)
	}
	if err := u.Rename(t.Context(), "c/d", "e"); err != nil {
		t.Fatal(err)
	}
	if err := u.Remove(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s, "a/b"); !slices.Equal(got, []string{"a/b/c/"}) {
		t.Fatalf("left: %q", got)
	}
}

// race runs try in n goroutines at once and wants exactly one of them to win,
// the others to fail with lost.
func race(t *testing.T, n int, lost error, try func(i int) error) {
	t.Helper()
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			switch err := try(i); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, lost):
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d writers won, want 1", won.Load())
	}
}

func testPutRace(t *testing.T, s store.Store) {
	for round := range 5 {
		name := fmt.Sprintf("race/%d", round)
		race(t, 8, store.ErrExist, func(i int) error {
			_, err := s.Put(context.Background(), name, fmt.Append(nil, i), store.Cond{Absent: true})
			return err
		})
	}
}

func testRenameRace(t *testing.T, s store.Store) {
	for round := range 5 {
		for i := range 8 {
			put(t, s, fmt.Sprintf("race/_%d-%d", round, i), "x")
		}
		race(t, 8, store.ErrExist, func(i int) error {
			return s.Rename(context.Background(), fmt.Sprintf("race/_%d-%d", round, i), fmt.Sprintf("race/%d", round))
		})
	}
}

func testReplaceRace(t *testing.T, s store.Store) {
	i := put(t, s, "state", "0")
	race(t, 8, store.ErrChanged, func(k int) error {
		_, err := s.Put(context.Background(), "state", fmt.Appendf(nil, "winner %d", k), store.Cond{Match: i.ETag})
		return err
	})
}
