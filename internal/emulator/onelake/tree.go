package onelake

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// entry is a file or folder as it is now.
type entry struct {
	dir      bool
	size     int64
	etag     string // without quotes
	modified time.Time
	created  time.Time
}

// stat describes what lies at a path.
func (s *Service) stat(p string) (entry, error) {
	fi, err := s.root.Lstat(p)
	if errors.Is(err, syscall.ENOTDIR) {
		return entry{}, errNotFound // below a file
	}
	if err != nil {
		return entry{}, err
	}
	if !fi.IsDir() && !fi.Mode().IsRegular() {
		return entry{}, errBadPath
	}
	f, err := s.root.Open(p)
	if err != nil {
		return entry{}, err
	}
	defer f.Close()
	return describe(f)
}

// describe tells of an open file. Its ETag changes with every replacement, also
// by a file of the same size within one tick of the clock (place sees to that),
// and stays over a rename; a folder's changes when it is made again.
func describe(f *os.File) (entry, error) {
	fi, err := f.Stat()
	if err != nil {
		return entry{}, err
	}
	e := entry{dir: fi.IsDir(), size: fi.Size(), modified: fi.ModTime()}
	inode, created := identity(f, fi)
	e.created = created
	h := fnv.New64a()
	if e.dir {
		e.size = 0
		fmt.Fprint(h, inode, created.UnixNano())
	} else {
		fmt.Fprint(h, inode, e.modified.UnixNano(), e.size)
	}
	e.etag = fmt.Sprintf("0x%016X", h.Sum64())
	return e, nil
}

// stage opens a new file outside the served tree.
func (s *Service) stage() (*os.File, string, error) {
	name := private + "/" + uuid.NewString()
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	return f, name, err
}

// place moves a staged file to its path in one step, replacing what is there.
// Its time is new to this service, so that its ETag is.
func (s *Service) place(staged, p string) error {
	now := s.now()
	if err := s.root.Chtimes(staged, now, now); err != nil {
		return err
	}
	return s.root.Rename(staged, p)
}

// now never gives the same time twice.
func (s *Service) now() time.Time {
	for {
		last := s.clock.Load()
		t := max(time.Now().UnixNano(), last+1)
		if s.clock.CompareAndSwap(last, t) {
			return time.Unix(0, t)
		}
	}
}

// tick is longer than the step in which file systems count times.
const tick = 12 * time.Millisecond

// mkdirs makes a folder and those above it. A folder that is made again within
// the same tick could not be told from the one before: that is waited out.
func (s *Service) mkdirs(p string) error {
	if fi, err := s.root.Lstat(p); err == nil {
		if !fi.IsDir() {
			return errWrongType
		}
		return nil
	}
	if d := tick - time.Since(s.removed); d > 0 {
		time.Sleep(d)
	}
	return s.root.MkdirAll(p, 0o755)
}

// conditions are those of a request's headers.
type conditions struct {
	match, noneMatch          string // with quotes, "*", or ""
	modifiedSince, unmodified time.Time
}

// conditionsOf reads the headers with a prefix ("" or "x-ms-source-").
func conditionsOf(h http.Header, prefix string) (conditions, error) {
	c := conditions{match: h.Get(prefix + "If-Match"), noneMatch: h.Get(prefix + "If-None-Match")}
	for _, tag := range []string{c.match, c.noneMatch} {
		if tag != "" && tag != "*" && (len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"') {
			return c, errInvalidValue
		}
	}
	for name, t := range map[string]*time.Time{"If-Modified-Since": &c.modifiedSince, "If-Unmodified-Since": &c.unmodified} {
		v := h.Get(prefix + name)
		if v == "" {
			continue
		}
		var err error
		if *t, err = http.ParseTime(v); err != nil {
			return c, errInvalidValue
		}
	}
	return c, nil
}

// forWrite judges the conditions of a write to what is there (nil: nothing).
func (c conditions) forWrite(have *entry) error {
	switch {
	case have == nil && c.match != "":
		return errCondition
	case have == nil:
		return nil
	case c.noneMatch == "*":
		return errExists
	case c.noneMatch != "" && c.noneMatch == quote(have.etag):
		return errCondition
	}
	return c.common(*have)
}

// forRead judges the conditions of a read.
func (c conditions) forRead(have entry) error {
	if c.noneMatch == "*" || c.noneMatch != "" && c.noneMatch == quote(have.etag) {
		return errNotModified
	}
	return c.common(have)
}

func (c conditions) common(have entry) error {
	modified := have.modified.Truncate(time.Second)
	if c.match != "" && c.match != "*" && c.match != quote(have.etag) ||
		!c.modifiedSince.IsZero() && !modified.After(c.modifiedSince) ||
		!c.unmodified.IsZero() && modified.After(c.unmodified) {
		return errCondition
	}
	return nil
}

func quote(etag string) string { return `"` + etag + `"` }

// setEntry writes the headers that name a version.
func setEntry(h http.Header, e entry) {
	h.Set("ETag", quote(e.etag))
	h.Set("Last-Modified", e.modified.UTC().Format(http.TimeFormat))
}

// find is stat with nil for nothing.
func (s *Service) find(p string) (*entry, error) {
	e, err := s.stat(p)
	if err == errNotFound || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// copyTo appends a part of a served file to a staged one.
func (s *Service) copyTo(dst io.Writer, p string, off, n int64) error {
	f, err := s.root.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	k, err := io.Copy(dst, io.NewSectionReader(f, off, n))
	if err == nil && k != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (s *Service) discard(f *os.File, staged string) {
	f.Close()
	s.root.Remove(staged) // New empties the folder in any case
}

func isBelow(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

func parent(p string) string { return path.Dir(p) }

func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}

// renameChecked is renameNew where the system can't: atomic among this
// service's own requests (s.mu is held), not against others on the directory.
func (s *Service) renameChecked(from, to string) error {
	if _, err := s.root.Lstat(to); err == nil {
		return errExists
	}
	return s.root.Rename(from, to)
}
