package onelake

import (
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"sync"
)

// upload is what was appended to a file and not flushed yet. It starts with a
// copy of what is committed, so that a flush is one rename.
type upload struct {
	f         *os.File
	staged    string
	etag      string // of the committed file that it continues
	committed int64

	mu    sync.Mutex
	parts []span // what was appended, in order, without overlaps
}

type span struct{ from, to int64 }

// add notes that the bytes from..to are there.
func (u *upload) add(n span) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts = append(u.parts, n)
	slices.SortFunc(u.parts, func(a, b span) int { return int(min(1, max(-1, a.from-b.from))) })
	out := u.parts[:1]
	for _, p := range u.parts[1:] {
		if last := &out[len(out)-1]; p.from <= last.to {
			last.to = max(last.to, p.to)
		} else {
			out = append(out, p)
		}
	}
	u.parts = out
}

// end is how far the file reaches without a gap.
func (u *upload) end() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.parts) > 0 && u.parts[0].from <= u.committed {
		return max(u.committed, u.parts[0].to)
	}
	return u.committed
}

const maxFile = int64(5) << 40 // bytes; the service's limit of a file

var (
	errFlushPosition = refuse(http.StatusBadRequest, "InvalidFlushPosition", "The uploaded data is not contiguous or the position query parameter value is not equal to the length of the file after appending the uploaded data.")
	errInterrupted   = refuse(http.StatusConflict, "PathConflict", "The file was replaced while data was appended to it.")
)

// update answers Path - Update: append and flush.
func (s *Service) update(w http.ResponseWriter, r *http.Request, t target, q params) error {
	if s.managed(t) {
		return errManaged
	}
	switch action := q.get("action"); action {
	case "append":
		return s.append(w, r, t, q)
	case "flush":
		return s.flush(w, r, t, q)
	case "setAccessControl", "setAccessControlRecursive":
		return refuse(http.StatusBadRequest, "OperationNotAllowedOnThePath", "OneLake permissions are not set through this API.")
	case "setProperties":
		return notEmulated("The action setProperties")
	}
	return errInvalidQuery
}

func (s *Service) append(w http.ResponseWriter, r *http.Request, t target, q params) error {
	position, ok := number(q.get("position"))
	if !ok || position > maxFile {
		return errInvalidQuery
	}
	if r.ContentLength < 0 {
		return refuse(http.StatusLengthRequired, "MissingContentLengthHeader", "Content-Length HTTP header is not specified.")
	}
	if r.ContentLength == 0 {
		return refuse(http.StatusBadRequest, "InvalidHeaderValue", "An append needs data.")
	}
	u, err := s.upload(t.disk)
	if err != nil {
		return err
	}
	if position < u.committed {
		return errFlushPosition
	}
	n, err := io.Copy(io.NewOffsetWriter(u.f, position), io.LimitReader(r.Body, math.MaxInt64-position))
	if err != nil {
		return errInterrupted // by the client, or by another that replaced the file
	}
	u.add(span{position, position + n})
	w.Header().Set("x-ms-request-server-encrypted", "true")
	if q.get("flush") == "true" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.commit(t.disk, position+n); err != nil {
			return err
		}
		return s.created(w, t.disk, http.StatusAccepted)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// upload gives what is being appended to a file, and begins it if need be.
func (s *Service) upload(p string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.stat(p)
	if err != nil {
		return nil, err
	}
	if e.dir {
		return nil, errWrongType
	}
	if u := s.uploads[p]; u != nil && u.etag == e.etag {
		return u, nil
	}
	s.dropUpload(p)
	f, staged, err := s.stage()
	if err != nil {
		return nil, err
	}
	if err := s.copyTo(f, p, 0, e.size); err != nil {
		s.discard(f, staged)
		return nil, err
	}
	u := &upload{f: f, staged: staged, etag: e.etag, committed: e.size}
	s.uploads[p] = u
	return u, nil
}

func (s *Service) flush(w http.ResponseWriter, r *http.Request, t target, q params) error {
	position, ok := number(q.get("position"))
	if !ok {
		return errInvalidQuery
	}
	if r.ContentLength > 0 {
		return refuse(http.StatusBadRequest, "ContentLengthMustBeZero", "The Content-Length request header must be zero.")
	}
	if q.get("retainUncommittedData") == "true" {
		return notEmulated("retainUncommittedData")
	}
	c, err := conditionsOf(r.Header, "")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.stat(t.disk)
	if err != nil {
		return err
	}
	if e.dir {
		return errWrongType
	}
	if err := c.forWrite(&e); err != nil {
		return err
	}
	if err := s.commit(t.disk, position); err != nil {
		return err
	}
	return s.created(w, t.disk, http.StatusOK)
}

// commit makes the first position bytes the file's content; what was appended
// beyond is dropped. A second flush of the same position changes nothing.
func (s *Service) commit(p string, position int64) error {
	e, err := s.stat(p)
	if err != nil {
		return err
	}
	u := s.uploads[p]
	if u == nil || u.etag != e.etag {
		if position != e.size {
			return errFlushPosition
		}
		return nil
	}
	if position < u.committed || position > u.end() {
		return errFlushPosition
	}
	if position == u.committed {
		s.dropUpload(p)
		return nil
	}
	if err := u.f.Truncate(position); err != nil {
		return err
	}
	if err := s.place(u.staged, p); err != nil {
		return err
	}
	s.dropUpload(p)
	return nil
}

func (s *Service) dropUpload(p string) {
	if u := s.uploads[p]; u != nil {
		delete(s.uploads, p)
		s.discard(u.f, u.staged)
	}
}

// forget drops what is uncommitted at and below a path.
func (s *Service) forget(p string) {
	for q := range s.uploads {
		if isBelow(q, p) {
			s.dropUpload(q)
		}
	}
	for q := range s.blocks {
		if isBelow(q, p) {
			s.dropBlocks(q)
		}
	}
}
