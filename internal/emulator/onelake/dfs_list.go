package onelake

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// foreign begins the names of files that others on the directory are still
// writing (store.Dir does): the service would not show them.
const foreign = ".~"

// listPaths answers Path - List. Booleans and numbers are strings (recorded).
func (s *Service) listPaths(w http.ResponseWriter, t target, q params) error {
	dir, err := s.below(t.workspace, q.get("directory"))
	if err != nil {
		return err
	}
	if dir.depth < itemDepth {
		return errManaged
	}
	recursive := q.get("recursive")
	if recursive != "true" && recursive != "false" {
		return refuse(http.StatusBadRequest, "MissingRequiredQueryParameter", "A query parameter that's mandatory for this request is not specified: recursive.")
	}
	limit, err := s.pageSize(q.get("maxResults"))
	if err != nil {
		return err
	}
	after, err := base64.StdEncoding.DecodeString(q.get("continuation"))
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidContinuationToken", "The continuation token is invalid.")
	}
	names, err := s.names(dir.disk, recursive == "true")
	if err != nil {
		return err
	}
	paths := []map[string]string{}
	for _, n := range names {
		if string(after) >= n {
			continue
		}
		if len(paths) == limit {
			last := strings.TrimPrefix(paths[limit-1]["name"], dir.shown+"/")
			w.Header().Set("x-ms-continuation", base64.StdEncoding.EncodeToString([]byte(last)))
			break
		}
		if e, err := s.stat(path.Join(dir.disk, n)); err == nil { // else it went meanwhile
			paths = append(paths, pathItem(dir.shown+"/"+n, e))
		}
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	return json.NewEncoder(w).Encode(map[string]any{"paths": paths, "ContinuationToken": nil})
}

func pathItem(name string, e entry) map[string]string {
	return map[string]string{
		"name": name, "isDirectory": strconv.FormatBool(e.dir), "contentLength": strconv.FormatInt(e.size, 10), "etag": e.etag,
		"lastModified": e.modified.UTC().Format(http.TimeFormat), "creationTime": fileTime(e.created),
		"owner": "$superuser", "group": "$superuser", "permissions": "---------", "expiryTime": "0",
	}
}

// fileTime counts steps of 100 ns since 1601.
func fileTime(t time.Time) string {
	const toUnix = 11644473600
	return strconv.FormatInt((t.Unix()+toUnix)*1e7+int64(t.Nanosecond()/100), 10)
}

// names gives what is in a folder, relative to it and in order. It is nil for a
// folder that is empty and an error for one that isn't there.
func (s *Service) names(dir string, recursive bool) ([]string, error) {
	fi, err := s.root.Lstat(dir)
	if err != nil {
		return nil, errNotFound
	}
	if !fi.IsDir() {
		return nil, errNotFound
	}
	var out []string
	err = fs.WalkDir(s.root.FS(), dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && p != dir:
			return nil // it went meanwhile
		case err != nil || p == dir:
			return err
		case strings.HasPrefix(d.Name(), foreign), !d.IsDir() && !d.Type().IsRegular():
			return nil
		}
		out = append(out, p[len(dir)+1:])
		if d.IsDir() && !recursive {
			return fs.SkipDir
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

func (s *Service) pageSize(v string) (int, error) {
	if v == "" {
		return s.o.PageSize, nil
	}
	n, ok := number(v)
	if !ok || n == 0 {
		return 0, errInvalidQuery
	}
	return int(min(n, int64(s.o.PageSize))), nil
}
