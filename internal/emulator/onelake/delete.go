package onelake

import (
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"

	"github.com/google/uuid"
)

// delete answers Path - Delete and Delete Blob.
func (s *Service) delete(w http.ResponseWriter, r *http.Request, d dialect, t target, q params) error {
	if s.managed(t) {
		return errManaged
	}
	if d == blob && (q.get("comp") != "" || q.get("snapshot") != "" || q.get("versionid") != "") {
		return notEmulated("A delete of a part of a blob")
	}
	recursive := q.get("recursive")
	if recursive != "" && recursive != "true" && recursive != "false" {
		return errInvalidQuery
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
	if err := c.forWrite(&e); err != nil {
		return err
	}
	more, err := s.remove(t.disk, e, d == dfs && recursive == "true")
	if err != nil {
		return err
	}
	if more {
		w.Header().Set("x-ms-continuation", base64.StdEncoding.EncodeToString([]byte(t.shown)))
	}
	w.Header().Set("x-ms-delete-type-permanent", "true")
	w.WriteHeader(map[dialect]int{dfs: http.StatusOK, blob: http.StatusAccepted}[d])
	return nil
}

// remove deletes a file, or a folder: at once when it has few entries, else a
// page of them, and says that there is more.
func (s *Service) remove(p string, e entry, recursive bool) (more bool, err error) {
	if !e.dir {
		s.forget(p)
		return false, s.root.Remove(p)
	}
	list, err := fs.ReadDir(s.root.FS(), p)
	if err != nil {
		return false, err
	}
	if len(list) > 0 && !recursive {
		return false, errNotEmpty
	}
	all, err := s.countUpTo(p, s.o.PageSize)
	if err != nil {
		return false, err
	}
	s.forget(p)
	s.removed = s.now()
	if all < s.o.PageSize {
		trash := private + "/" + uuid.NewString()
		if err := s.root.Rename(p, trash); err != nil {
			return false, err
		}
		return false, s.root.RemoveAll(trash)
	}
	left := s.o.PageSize
	return true, s.prune(p, &left)
}

// countUpTo counts the entries below a folder, and stops at a limit.
func (s *Service) countUpTo(p string, limit int) (int, error) {
	n := 0
	err := fs.WalkDir(s.root.FS(), p, func(_ string, _ fs.DirEntry, err error) error {
		if n++; err == nil && n >= limit {
			return fs.SkipAll
		}
		return err
	})
	return n, err
}

// prune removes up to *left entries of a folder, deepest first.
func (s *Service) prune(p string, left *int) error {
	list, err := fs.ReadDir(s.root.FS(), p)
	if err != nil {
		return err
	}
	for _, d := range list {
		if *left <= 0 {
			return nil
		}
		child := path.Join(p, d.Name())
		if d.IsDir() {
			if err := s.prune(child, left); err != nil {
				return err
			}
			if *left <= 0 {
				return nil
			}
		}
		if err := s.root.Remove(child); err != nil {
			return err
		}
		*left--
	}
	return nil
}
