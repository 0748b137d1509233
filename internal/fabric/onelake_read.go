package fabric

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"

	"github.com/pgmirror/pgmirror/internal/store"
)

// Read reads a file or a part of it.
func (l *lake) Read(ctx context.Context, name string, off, n int64) ([]byte, store.Info, error) {
	if err := checkName(name); err != nil {
		return nil, store.Info{}, err
	}
	if off < 0 {
		return nil, store.Info{}, fmt.Errorf("read %s: negative offset", name)
	}
	if n == 0 {
		return l.readNothing(ctx, name)
	}
	o := &file.DownloadStreamOptions{}
	if off > 0 || n > 0 {
		o.Range = &file.HTTPRange{Offset: off, Count: max(n, 0)} // a count of 0 is to the end
	}
	for try := 1; ; try++ {
		b, i, broken, err := l.readOnce(ctx, name, o)
		if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusRequestedRangeNotSatisfiable {
			return l.readNothing(ctx, name) // it begins at the end, or beyond
		}
		if broken && try < readTries && wait(ctx, pause(err, try)) == nil {
			continue
		}
		if err != nil {
			return nil, store.Info{}, fmt.Errorf("read %s: %w", name, stored(err))
		}
		return b, i, nil
	}
}

const readTries = 4

// readOnce reads, and says whether it failed in the middle of the body, which
// the SDK doesn't retry.
func (l *lake) readOnce(ctx context.Context, name string, o *file.DownloadStreamOptions) (b []byte, i store.Info, broken bool, err error) {
	r, err := l.fs.NewFileClient(placeholder).DownloadStream(l.at(ctx, name), o)
	if err != nil {
		return nil, store.Info{}, false, err
	}
	defer r.Body.Close()
	if isFolder(r.Metadata) {
		return nil, store.Info{}, false, errors.New("is a folder")
	}
	b, err = io.ReadAll(r.Body)
	if err == nil && int64(len(b)) != val(r.ContentLength) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, store.Info{}, true, err
	}
	i = store.Info{Name: name, Size: int64(len(b)), ETag: tag(r.ETag), Modified: val(r.LastModified).UTC()}
	if size, ok := totalSize(val(r.ContentRange)); ok {
		i.Size = size
	}
	return b, i, false, nil
}

func (l *lake) readNothing(ctx context.Context, name string) ([]byte, store.Info, error) {
	i, err := l.Stat(ctx, name)
	if err == nil && i.Dir {
		err = fmt.Errorf("read %s: is a folder", name)
	}
	if err != nil {
		return nil, store.Info{}, err
	}
	return []byte{}, i, nil
}

// totalSize reads the size of the whole from "bytes 0-9/100".
func totalSize(contentRange string) (int64, bool) {
	_, size, ok := strings.Cut(contentRange, "/")
	n, err := strconv.ParseInt(size, 10, 64)
	return n, ok && err == nil
}
