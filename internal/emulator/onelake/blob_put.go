package onelake

import (
	"io"
	"net/http"
	"net/url"

	"github.com/google/uuid"
)

// putBlob answers Put Blob, Put Block, Put Block List and Copy Blob.
func (s *Service) putBlob(w http.ResponseWriter, r *http.Request, t target, q params) error {
	if s.managed(t) {
		return errManaged
	}
	switch comp := q.get("comp"); {
	case comp == "block" && r.Header.Get("x-ms-copy-source") != "":
		return notEmulated("Put Block From URL")
	case comp == "block":
		return s.putBlock(w, r, t, q)
	case comp == "blocklist":
		return s.putBlockList(w, r, t)
	case comp != "":
		return notEmulated("comp=" + comp)
	case r.Header.Get("x-ms-copy-source") != "":
		return s.copyBlob(w, r, t)
	case r.Header.Get("x-ms-blob-type") != "BlockBlob":
		return notEmulated("A blob of a type other than BlockBlob")
	}
	return s.replace(w, r, t, http.StatusCreated, func(dst io.Writer) error {
		_, err := io.Copy(dst, r.Body)
		if err != nil {
			return errInterrupted
		}
		return nil
	})
}

// replace stages a content and puts it in place, whole, when the conditions
// hold.
func (s *Service) replace(w http.ResponseWriter, r *http.Request, t target, status int, fill func(io.Writer) error) error {
	c, err := conditionsOf(r.Header, "")
	if err != nil {
		return err
	}
	f, staged, err := s.stage()
	if err != nil {
		return err
	}
	defer s.discard(f, staged)
	if err := fill(f); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.find(t.disk)
	if err != nil {
		return err
	}
	if err := c.forWrite(have); err != nil {
		return err
	}
	if have != nil && have.dir {
		return errWrongType
	}
	if err := s.mkdirs(parent(t.disk)); err != nil {
		return err
	}
	if err := s.place(staged, t.disk); err != nil {
		return err
	}
	s.forget(t.disk)
	w.Header().Set("x-ms-request-server-encrypted", "true")
	return s.created(w, t.disk, status)
}

// copyBlob answers Copy Blob and Put Blob From URL, at once. The source is a
// URL of this service, whatever its host.
func (s *Service) copyBlob(w http.ResponseWriter, r *http.Request, t target) error {
	source, err := url.Parse(r.Header.Get("x-ms-copy-source"))
	if err != nil || !source.IsAbs() {
		return errInvalidValue
	}
	from, err := s.target(source.Path)
	if err != nil {
		return err
	}
	e, err := s.stat(from.disk)
	if err != nil || e.dir {
		return refuse(http.StatusNotFound, "CannotVerifyCopySource", "The specified blob does not exist.")
	}
	status := http.StatusAccepted
	if r.Header.Get("x-ms-blob-type") != "" {
		status = http.StatusCreated
	}
	w.Header().Set("x-ms-copy-id", uuid.NewString())
	w.Header().Set("x-ms-copy-status", "success")
	return s.replace(w, r, t, status, func(dst io.Writer) error { return s.copyTo(dst, from.disk, 0, e.size) })
}
