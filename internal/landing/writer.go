package landing

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// ErrTaken means that a file of this number is there and not ours: another
// publisher writes this table. Possibly wrapped.
var ErrTaken = errors.New("another publisher has written this file number")

// ErrFolderGone means that somebody removed the table's folder, which resets the
// table in Fabric. Possibly wrapped.
var ErrFolderGone = errors.New("the table's folder was removed from the landing zone")

// stagedPrefix begins the names of files that have no number yet.
const stagedPrefix = "_pgmirror-"

// Writer publishes the files of one table. The order is Upload, then the caller
// records durably which number the staged file will get, then Publish. Whoever
// finds such a record after a crash calls Publish again.
type Writer struct {
	Store store.Store
	Dir   string              // the table's folder
	Wait  func(try int) error // between tries after an unclear answer; nil: waits up to 2 s
}

// Staged is a file that is uploaded and checked but has no number yet.
type Staged struct {
	Name string `json:"name"` // in the table's folder
	Size int64  `json:"size"` // bytes
	Rows int64  `json:"rows"`
}

// Upload encodes b and uploads it under a name that Fabric ignores, and checks
// that all of it arrived. It blocks until the file is durable.
func (w *Writer) Upload(ctx context.Context, b *batch.Batch, m Meta) (Staged, error) {
	buf := uploads.take()
	buf.Grow(b.Bytes() / 2)
	if err := parquet.Write(buf, b, m.Footer()); err != nil {
		return Staged{}, fmt.Errorf("encode: %w", err)
	}
	s := Staged{Name: stagedName(), Size: int64(buf.Len()), Rows: int64(b.Rows())}
	name := path.Join(w.Dir, s.Name)
	if _, err := w.Store.Put(ctx, name, buf.Bytes(), store.Cond{}); err != nil {
		return Staged{}, fmt.Errorf("upload %s: %w", name, err)
	}
	got, err := w.Store.Stat(ctx, name)
	if err != nil {
		return Staged{}, fmt.Errorf("check %s: %w", name, err)
	}
	if got.Size != s.Size {
		return Staged{}, fmt.Errorf("check %s: %d bytes arrived of %d", name, got.Size, s.Size)
	}
	uploads.give(buf) // not after a fault: a client may still be sending from it
	return s, nil
}

// uploads keeps the buffers of files that have arrived: a new one for each file
// would be most of what a mirror allocates.
var uploads = buffers{most: 4, large: 64 << 20}

// buffers is a list of free buffers. Unlike a sync.Pool it is not emptied while
// files are far between.
type buffers struct {
	most  int // that are kept
	large int // bytes; one with more isn't kept

	mu   sync.Mutex
	free []*bytes.Buffer
}

// take gives the buffer that came back last, or a new one.
func (l *buffers) take() *bytes.Buffer {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free) - 1
	if n < 0 {
		return new(bytes.Buffer)
	}
	b := l.free[n]
	l.free = l.free[:n]
	b.Reset()
	return b
}

func (l *buffers) give(b *bytes.Buffer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < l.most && b.Cap() <= l.large {
		l.free = append(l.free, b)
	}
}

func stagedName() string {
	var id [12]byte
	rand.Read(id[:]) // never fails
	return stagedPrefix + hex.EncodeToString(id[:]) + ".parquet"
}

// Publish gives a staged file its number. It may be called again, also by
// another process: a staged file that is gone has been published, for nobody
// else removes it once the number is recorded. It fails with ErrTaken when the
// number is somebody else's; the staged file is then still there.
func (w *Writer) Publish(ctx context.Context, s Staged, n int64) error {
	from, to := path.Join(w.Dir, s.Name), path.Join(w.Dir, FileName(n))
	for try := 1; ; try++ {
		err := w.Store.Rename(ctx, from, to)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, store.ErrNotExist):
			return w.published(ctx)
		case errors.Is(err, store.ErrExist):
			return fmt.Errorf("publish %s: %w", to, ErrTaken)
		case !errors.Is(err, store.ErrUnknown) || try == 8:
			return fmt.Errorf("publish %s: %w", to, err)
		}
		if err := w.wait(ctx, try); err != nil {
			return fmt.Errorf("publish %s: %w", to, err)
		}
	}
}

// published is asked when the staged file is gone. A file that is not there says
// nothing, but without the folder the table has been reset behind our back.
func (w *Writer) published(ctx context.Context) error {
	_, err := w.Store.Stat(ctx, w.Dir)
	if errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("publish into %s: %w", w.Dir, ErrFolderGone)
	}
	return err
}

func (w *Writer) wait(ctx context.Context, try int) error {
	if w.Wait != nil {
		return w.Wait(try)
	}
	select {
	case <-time.After(min(2*time.Second, 20*time.Millisecond<<try)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Staged lists the files that have no number.
func (w *Writer) Staged(ctx context.Context) (names []string, err error) {
	list, err := w.Store.List(ctx, w.Dir)
	for _, i := range list {
		if strings.HasPrefix(path.Base(i.Name), stagedPrefix) {
			names = append(names, i.Name)
		}
	}
	return names, err
}

// Discard removes staged files for which no number was recorded. The caller must have
// listed them before the table became its own, or they may be a later process's.
func (w *Writer) Discard(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := w.Store.Remove(ctx, name); err != nil {
			return fmt.Errorf("discard %s: %w", name, err)
		}
	}
	return nil
}

// Prove makes sure that the store refuses to rename onto a file that is there:
// the numbering stands on it. It leaves nothing behind but the probe's folder.
func Prove(ctx context.Context, s store.Store) error {
	dir := path.Join(StateDir, "probe")
	id := strings.TrimSuffix(strings.TrimPrefix(stagedName(), stagedPrefix), ".parquet")
	a, b, c := path.Join(dir, id+"-a"), path.Join(dir, id+"-b"), path.Join(dir, id+"-c")
	defer func() {
		for _, n := range []string{a, b, c} {
			_ = s.Remove(context.WithoutCancel(ctx), n) // a probe that stays is ignored by everyone
		}
	}()
	for _, n := range []string{a, b} {
		if _, err := s.Put(ctx, n, []byte(n), store.Cond{}); err != nil {
			return fmt.Errorf("prove the landing zone: %w", err)
		}
	}
	if err := s.Rename(ctx, a, c); err != nil {
		return fmt.Errorf("prove the landing zone: %w", err)
	}
	err := s.Rename(ctx, b, c)
	switch {
	case err == nil:
		return ErrOverwrites
	case !errors.Is(err, store.ErrExist):
		return fmt.Errorf("prove the landing zone: %w", err)
	}
	return nil
}

// ErrOverwrites means that the store let a file be renamed onto another. Possibly
// wrapped.
var ErrOverwrites = errors.New("the landing zone lets a file be renamed onto another: its files could overwrite one another, so nothing is written")
