package onelake

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Depths of a path: /workspace/item/Files/…
const (
	workspaceDepth = 1
	itemDepth      = 2
	managedDepth   = 3 // Files, Tables
)

// maxPath bounds a path in bytes, as the service does (1024 characters).
const maxPath = 4096

// target is what a request's path names.
type target struct {
	depth     int
	workspace string // as the client wrote it
	shown     string // the path within the workspace as the client wrote it
	disk      string // below Root, with slashes
	folder    string // the item's folder that it lies in, likewise
}

// managed says that the thing can't be made, changed or removed by a client:
// an item, what lies directly in it, and folders there that are not its own.
func (s *Service) managed(t target) bool {
	if t.depth <= managedDepth {
		return true
	}
	if name := path.Base(t.folder); name == "Files" || name == "Tables" {
		return false
	}
	fi, err := s.root.Lstat(t.folder)
	return err != nil || !fi.IsDir()
}

// target resolves a decoded URL path. Encoded slashes separate like others: the
// Blob SDKs send them. Nothing below Root is reached through a symbolic link.
func (s *Service) target(p string) (target, error) {
	segments, err := split(p)
	if err != nil {
		return target{}, err
	}
	t := target{depth: len(segments)}
	if t.depth < itemDepth {
		if t.depth == workspaceDepth {
			t.workspace = segments[0]
		}
		return t, nil
	}
	t.workspace, t.shown = segments[0], strings.Join(segments[1:], "/")
	dir, ok := s.item(segments[0], segments[1])
	if !ok {
		return target{}, errNoItem
	}
	t.disk = path.Join(dir, path.Join(segments[2:]...))
	if t.depth >= managedDepth {
		t.folder = path.Join(dir, segments[2])
	}
	return t, s.refuseLinks(t.disk)
}

// below is a target within a workspace: of a list's directory or prefix.
func (s *Service) below(workspace, p string) (target, error) {
	return s.target(workspace + "/" + p)
}

// split cuts a path into names and refuses every one that could mean something
// else than itself.
func split(p string) ([]string, error) {
	p = strings.TrimSuffix(strings.TrimPrefix(p, "/"), "/")
	if p == "" {
		return nil, nil
	}
	if len(p) > maxPath || !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }) {
		return nil, errBadPath
	}
	segments := strings.Split(p, "/")
	for _, n := range segments {
		if n == "" || n == "." || n == ".." || len(n) > 255 || n == private {
			return nil, errBadPath
		}
	}
	return segments, nil
}

func (s *Service) item(workspace, item string) (string, bool) {
	dir, ok := workspace+"/"+item, true
	if s.o.Items != nil {
		dir, ok = s.o.Items(workspace, item)
	}
	if !ok {
		return "", false
	}
	// What the caller says is checked like what a client says.
	segments, err := split(dir)
	if err != nil || len(segments) == 0 {
		return "", false
	}
	dir = strings.Join(segments, "/")
	if s.o.Items == nil {
		fi, err := s.root.Lstat(dir)
		return dir, err == nil && fi.IsDir()
	}
	return dir, true
}

// refuseLinks refuses a path that leads over a symbolic link. (os.Root keeps
// others from leading out of Root in between.)
func (s *Service) refuseLinks(p string) error {
	for i := 0; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			continue
		}
		fi, err := s.root.Lstat(p[:i])
		if err != nil {
			return nil // not there, and so no link: the operation says what that means
		}
		if !fi.IsDir() && !fi.Mode().IsRegular() {
			return errBadPath
		}
	}
	return nil
}
