package fabric

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/directory"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/google/uuid"

	"github.com/pgmirror/pgmirror/internal/store"
)

const (
	tempPrefix  = "_put-"
	piece       = 8 << 20 // bytes of an append
	compare     = 1 << 20 // bytes up to which a file is read back to know it again
	renameTries = 6
	afterwards  = 10 * time.Second // for what must be done although the caller has given up
)

// Put writes a file: under a temporary name, then renamed in one step when the
// condition holds.
func (l *lake) Put(ctx context.Context, name string, body []byte, cond store.Cond) (store.Info, error) {
	if err := checkName(name); err != nil {
		return store.Info{}, err
	}
	temp := path.Join(path.Dir(name), tempPrefix+uuid.NewString())
	etag, err := l.upload(ctx, temp, body)
	if err != nil {
		l.tidy(ctx, temp)
		return store.Info{}, fmt.Errorf("put %s: %w", name, stored(err))
	}
	renamed, err := l.move(ctx, temp, name, renameConditions(cond))
	if err != nil {
		// A rename of unknown outcome may still come: then the file that is
		// removed here is the source no more.
		l.tidy(ctx, temp)
		return store.Info{}, fmt.Errorf("put %s: %w", name, putError(err, cond))
	}
	if renamed.etag != "" {
		return store.Info{Name: name, Size: int64(len(body)), ETag: renamed.etag, Modified: renamed.modified}, nil
	}
	i, err := l.recognise(ctx, name, body, etag)
	if renamed.guessed && errors.Is(err, store.ErrNotExist) {
		return store.Info{}, fmt.Errorf("put %s: %w", name, store.ErrUnknown) // the folder may have gone with our file
	}
	return i, nil
}

// upload writes a file that nobody else knows; every request may be repeated.
func (l *lake) upload(ctx context.Context, name string, body []byte) (etag string, err error) {
	ctx = l.at(ctx, name)
	f := l.fs.NewFileClient(placeholder)
	made, err := f.Create(ctx, nil)
	if err != nil {
		return "", err
	}
	if len(body) == 0 {
		return tag(made.ETag), nil
	}
	for off := 0; off < len(body); off += piece {
		part := body[off:min(off+piece, len(body))]
		if _, err := f.AppendData(ctx, int64(off), streaming.NopCloser(bytes.NewReader(part)), nil); err != nil {
			return "", err
		}
	}
	r, err := f.FlushData(ctx, int64(len(body)), nil)
	return tag(r.ETag), err
}

// tidy removes a temporary file as far as it can: a leftover is never listed.
func (l *lake) tidy(ctx context.Context, temp string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	_ = l.Remove(ctx, temp)
}

func renameConditions(c store.Cond) *file.AccessConditions {
	m := &file.ModifiedAccessConditions{}
	if c.Absent {
		every := azcore.ETagAny
		m.IfNoneMatch = &every
	}
	if c.Match != "" {
		quoted := azcore.ETag(`"` + c.Match + `"`)
		m.IfMatch = &quoted
	}
	return &file.AccessConditions{ModifiedAccessConditions: m}
}

// putError tells a condition that did not hold. The service says either 409 or
// 412 of a name that is taken, and 412 or 404 of one that Match doesn't find.
func putError(err error, c store.Cond) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || errors.Is(err, store.ErrUnknown) {
		return err
	}
	gone := e.Code == "PathNotFound" || e.Code == "BlobNotFound"
	switch {
	case c.Match != "" && (e.Status == http.StatusPreconditionFailed || gone):
		return fmt.Errorf("%w: %w", store.ErrChanged, err)
	case c.Absent && e.Status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", store.ErrExist, err)
	}
	return stored(err)
}

// recognise describes a file that we have just put. Should another have
// replaced it already, it is described as it was put: a later Match then fails.
func (l *lake) recognise(ctx context.Context, name string, body []byte, etag string) (store.Info, error) {
	put := store.Info{Name: name, Size: int64(len(body)), ETag: etag}
	i, err := l.Stat(ctx, name)
	if err != nil || i.ETag == etag || i.Size != put.Size {
		put.Modified = i.Modified
		return put, err
	}
	// The rename gave it another ETag, or it is another file of the same size.
	if len(body) > compare {
		return i, nil
	}
	have, i, err := l.Read(ctx, name, 0, -1)
	if err != nil || !bytes.Equal(have, body) {
		return put, err
	}
	return i, nil
}

// Rename moves a file to a name that is not there yet.
func (l *lake) Rename(ctx context.Context, from, to string) error {
	if err := errors.Join(checkName(from), checkName(to)); err != nil {
		return err
	}
	if _, err := l.move(ctx, from, to, renameConditions(store.Cond{Absent: true})); err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, putError(err, store.Cond{Absent: true}))
	}
	return nil
}

// moved is the outcome of a rename that was done.
type moved struct {
	etag     string // "" when the service did not say
	modified time.Time
	guessed  bool // known only from the source being gone
}

// move renames, and finds out what happened when an answer gets lost: the
// source is gone if and only if one of our tries was done. Tries are made here
// and not by the SDK, whose second try would take our own success for another's.
func (l *lake) move(ctx context.Context, from, to string, cond *file.AccessConditions) (moved, error) {
	unsure, parent := false, false
	for try := 1; ; try++ {
		done, err := l.moveOnce(ctx, from, to, cond)
		if err == nil {
			return done, nil
		}
		if Code(err) == "RenameDestinationParentPathNotFound" && !parent {
			parent = true
			if err := l.makeDir(ctx, path.Dir(to)); err != nil {
				return moved{}, err
			}
			continue
		}
		lost := ambiguous(err)
		unsure = unsure || lost
		if !unsure && !IsThrottled(err) {
			return moved{}, err
		}
		if unsure {
			there, looked := l.isThere(ctx, from)
			switch {
			case looked != nil:
				return moved{}, fmt.Errorf("%w: %w", store.ErrUnknown, err)
			case !there:
				return moved{guessed: true}, nil
			case !lost && !IsThrottled(err):
				return moved{}, err // a clear refusal, and no try was done
			}
		}
		if try == renameTries || wait(ctx, pause(err, try)) != nil {
			if unsure { // one that is still under way may be done yet
				err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
			}
			return moved{}, err
		}
	}
}

func (l *lake) moveOnce(ctx context.Context, from, to string, cond *file.AccessConditions) (moved, error) {
	ctx = policy.WithRetryOptions(l.fromTo(ctx, from, to), policy.RetryOptions{MaxRetries: -1})
	r, err := l.fs.NewFileClient(placeholder).Create(ctx, &file.CreateOptions{AccessConditions: cond})
	return moved{etag: tag(r.ETag), modified: val(r.LastModified).UTC()}, err
}

// isThere looks even when the caller has given up: the answer decides whether
// the outcome is known.
func (l *lake) isThere(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	_, err := l.Stat(ctx, name)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (l *lake) makeDir(ctx context.Context, name string) error {
	every := azcore.ETagAny
	_, err := l.fs.NewDirectoryClient(placeholder).Create(l.at(ctx, name), &directory.CreateOptions{
		AccessConditions: &directory.AccessConditions{ModifiedAccessConditions: &directory.ModifiedAccessConditions{IfNoneMatch: &every}},
	})
	if err = stored(err); errors.Is(err, store.ErrExist) {
		return nil
	}
	return err
}

// pause is what the service asks for, up to a minute, else doubles from 100 ms.
func pause(err error, try int) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok && e.RetryAfter > 0 {
		return min(e.RetryAfter, time.Minute)
	}
	return 50 * time.Millisecond << try
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
