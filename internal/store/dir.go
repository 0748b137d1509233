package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Dir is a Store in a directory of this machine. Several Dirs, in one or many
// processes, may use the same directory; only Cond.Match needs its writers to
// be in one process.
type Dir struct {
	root string
	mu   *sync.Mutex // one for all Dirs of this process on the same root
}

var locks sync.Map // root → *sync.Mutex

// tempPrefix begins the names of files that are being written. They are never
// listed, and a crash may leave them; List removes one that nobody has written
// to for leftFor.
const (
	tempPrefix = ".~"
	leftFor    = 24 * time.Hour
)

// OpenDir makes a Store of the directory root, which is made if need be.
func OpenDir(root string) (*Dir, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, err
	}
	mu, _ := locks.LoadOrStore(abs, &sync.Mutex{})
	return &Dir{root: abs, mu: mu.(*sync.Mutex)}, nil
}

// Path is where a file of the store lies on this machine.
func (d *Dir) Path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

func (d *Dir) path(name string) (string, error) {
	if name == "" || !fs.ValidPath(name) || strings.ContainsRune(name, 0) || filepath.Separator != '/' && strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("file name %q: %w", name, fs.ErrInvalid)
	}
	return d.Path(name), nil
}

// Put writes a file: to a temporary name, synced, then linked or renamed to its
// own, and the folder synced, so that a crash leaves the old file or the new one.
func (d *Dir) Put(ctx context.Context, name string, body []byte, cond Cond) (Info, error) {
	p, err := d.path(name)
	if err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if err := makeDirs(filepath.Dir(p)); err != nil {
		return Info{}, err
	}
	temp, err := writeTemp(filepath.Dir(p), body)
	if err != nil {
		return Info{}, err
	}
	defer os.Remove(temp)    // gone after a rename; a link leaves it
	fi, err := os.Stat(temp) // once it has its name somebody may take it away
	if err != nil {
		return Info{}, fmt.Errorf("put %s: %w", name, err)
	}
	made := d.info(name, temp, fi)
	if err := d.place(temp, p, cond); err != nil {
		return Info{}, fmt.Errorf("put %s: %w", name, err)
	}
	if err := syncDir(filepath.Dir(p)); err != nil {
		return Info{}, fmt.Errorf("put %s: %w: %w", name, ErrUnknown, err)
	}
	return made, nil
}

func (d *Dir) place(temp, p string, cond Cond) error {
	if cond.Absent {
		return os.Link(temp, p) // fails when p is there
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if cond.Match != "" {
		fi, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) || err == nil && etag(p, fi) != cond.Match {
			return ErrChanged
		}
		if err != nil {
			return err
		}
	}
	return os.Rename(temp, p)
}

// Read reads a file or a part of it.
func (d *Dir) Read(ctx context.Context, name string, off, n int64) ([]byte, Info, error) {
	p, err := d.path(name)
	if err != nil {
		return nil, Info{}, err
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, Info{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, Info{}, err
	}
	if fi.IsDir() {
		return nil, Info{}, fmt.Errorf("read %s: is a folder", name)
	}
	left := max(fi.Size()-off, 0)
	if n < 0 || n > left {
		n = left
	}
	buf := make([]byte, n)
	k, err := f.ReadAt(buf, off)
	if err != nil && !(errors.Is(err, io.EOF) && int64(k) == n) {
		return nil, Info{}, fmt.Errorf("read %s: %w", name, err)
	}
	return buf, d.info(name, p, fi), nil
}

// Stat describes a file or a folder.
func (d *Dir) Stat(ctx context.Context, name string) (Info, error) {
	p, err := d.path(name)
	if err != nil {
		return Info{}, err
	}
	fi, err := os.Stat(p)
	if err != nil {
		return Info{}, err
	}
	return d.info(name, p, fi), nil
}

// List lists a folder. What a crash left half written there, long ago, it removes.
func (d *Dir) List(ctx context.Context, dir string) ([]Info, error) {
	p := d.root
	if dir != "" {
		var err error
		if p, err = d.path(dir); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []Info
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since ReadDir
		} else if err != nil {
			return nil, err
		}
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if fi.Mode().IsRegular() && time.Since(fi.ModTime()) > leftFor {
				_ = os.Remove(filepath.Join(p, e.Name())) // it only takes space; the next List tries again
			}
			continue
		}
		out = append(out, d.info(path.Join(dir, e.Name()), filepath.Join(p, e.Name()), fi))
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Rename moves a file. On systems that can't rename without replacing it is a
// link and a removal; a crash between them leaves both names, and the next
// Rename of the same pair finishes it.
func (d *Dir) Rename(ctx context.Context, from, to string) error {
	pf, err := d.path(from)
	if err != nil {
		return err
	}
	pt, err := d.path(to)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := os.Stat(pf); err != nil {
		return err
	}
	if err := makeDirs(filepath.Dir(pt)); err != nil {
		return err
	}
	if err := renameNew(pf, pt); err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	if err := errors.Join(syncDir(filepath.Dir(pt)), syncDir(filepath.Dir(pf))); err != nil {
		return fmt.Errorf("rename %s to %s: %w: %w", from, to, ErrUnknown, err)
	}
	return nil
}

func linkAndRemove(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, fs.ErrExist) {
		a, errA := os.Stat(from)
		b, errB := os.Stat(to)
		if errA != nil || errB != nil || !os.SameFile(a, b) {
			return err
		}
	} else if err != nil {
		return err
	}
	return os.Remove(from)
}

// Remove deletes a file or a folder.
func (d *Dir) Remove(ctx context.Context, name string) error {
	p, err := d.path(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.RemoveAll(p); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w: %w", name, ErrUnknown, err)
	}
	return nil
}

func (d *Dir) info(name, p string, fi fs.FileInfo) Info {
	i := Info{Name: name, Dir: fi.IsDir(), Size: fi.Size(), ETag: etag(p, fi), Modified: fi.ModTime()}
	if i.Dir {
		i.Size = 0
	}
	return i
}

func writeTemp(dir string, body []byte) (string, error) {
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name()) // a leftover is never listed
		return "", err
	}
	return f.Name(), nil
}

// makeDirs makes dir and the folders above it, each durable in its parent.
func makeDirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}
