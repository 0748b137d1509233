package onelake

import (
	"net/http"
	"net/url"
	"strings"
)

// create answers Path - Create: a file, a folder, or a rename.
func (s *Service) create(w http.ResponseWriter, r *http.Request, t target, q params) error {
	if source := r.Header.Get("x-ms-rename-source"); source != "" {
		return s.rename(w, r, t, source)
	}
	kind := q.get("resource")
	if kind != "file" && kind != "directory" {
		return refuse(http.StatusBadRequest, "MissingRequiredQueryParameter", "A query parameter that's mandatory for this request is not specified: resource.")
	}
	if s.managed(t) {
		return errManaged
	}
	c, err := conditionsOf(r.Header, "")
	if err != nil {
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
	if have != nil && have.dir != (kind == "directory") {
		return errWrongType
	}
	if kind == "directory" {
		err = s.mkdirs(t.disk)
	} else {
		err = s.createEmpty(t.disk)
	}
	if err != nil {
		return err
	}
	return s.created(w, t.disk, http.StatusCreated)
}

// createEmpty makes a file of 0 bytes at once visible, or empties one: so does
// the service, and a reader that comes before the flush sees it.
func (s *Service) createEmpty(p string) error {
	if err := s.mkdirs(parent(p)); err != nil {
		return err
	}
	f, staged, err := s.stage()
	if err != nil {
		return err
	}
	if err := s.place(staged, p); err != nil {
		s.discard(f, staged)
		return err
	}
	s.dropUpload(p)
	return f.Close()
}

// created answers with the version that is there now.
func (s *Service) created(w http.ResponseWriter, p string, status int) error {
	e, err := s.stat(p)
	if err != nil {
		return err
	}
	setEntry(w.Header(), e)
	w.WriteHeader(status)
	return nil
}

// rename answers Path - Create with a source. Without a condition it replaces
// what is there. The answer has no ETag; the file keeps the one it had.
func (s *Service) rename(w http.ResponseWriter, r *http.Request, to target, source string) error {
	from, err := s.renameSource(source)
	if err != nil {
		return err
	}
	if s.managed(from) || s.managed(to) {
		return errManaged
	}
	if from.workspace != to.workspace {
		return notEmulated("A rename from one workspace into another")
	}
	c, err := conditionsOf(r.Header, "")
	if err != nil {
		return err
	}
	cs, err := conditionsOf(r.Header, "x-ms-source-")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.renameLocked(from.disk, to.disk, cs, c); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Service) renameLocked(from, to string, ofSource, ofTarget conditions) error {
	src, err := s.find(from)
	if err != nil {
		return err
	}
	if src == nil {
		return refuse(http.StatusNotFound, "SourcePathNotFound", "The source path for a rename operation does not exist.")
	}
	if ofSource.forWrite(src) != nil {
		return refuse(http.StatusPreconditionFailed, "SourceConditionNotMet", "The source condition specified using HTTP conditional header(s) is not met.")
	}
	if up, err := s.find(parent(to)); err != nil || up == nil || !up.dir {
		return refuse(http.StatusNotFound, "RenameDestinationParentPathNotFound", "The parent directory of the destination path does not exist.")
	}
	dst, err := s.find(to)
	if err != nil {
		return err
	}
	if err := ofTarget.forWrite(dst); err != nil {
		return err
	}
	switch {
	case isBelow(to, from) && (src.dir || to != from):
		return refuse(http.StatusConflict, "InvalidRenameSourcePath", "The source directory cannot be the same as the destination directory, nor can the destination be a subdirectory of the source directory.")
	case dst != nil && dst.dir != src.dir:
		return refuse(http.StatusConflict, "InvalidSourceOrDestinationResourceType", "The source and destination resource type must be identical.")
	case dst == nil:
		err = s.renameNew(from, to)
	default:
		err = s.root.Rename(from, to)
	}
	if err == nil && to != from {
		s.forget(from)
		s.forget(to)
	}
	return err
}

// renameSource reads /filesystem/path, percent-encoded, or a whole URL as the
// Python open-mirroring SDK sends it.
func (s *Service) renameSource(v string) (target, error) {
	bad := refuse(http.StatusBadRequest, "InvalidSourceUri", "The source URI is invalid.")
	p, _, _ := strings.Cut(v, "?")
	if scheme, rest, ok := strings.Cut(p, "://"); ok && (scheme == "https" || scheme == "http") {
		_, p, _ = strings.Cut(rest, "/")
	}
	p, err := url.PathUnescape(p)
	if err != nil {
		return target{}, bad
	}
	t, err := s.target(p)
	if err == errBadPath || err == nil && t.depth < itemDepth {
		return target{}, bad
	}
	return t, err
}
