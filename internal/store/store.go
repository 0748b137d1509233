// Package store is a flat namespace of files: put-if-absent, replace-if-match,
// conditional rename, ranged read, list.
package store

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// Errors of a Store, possibly wrapped.
var (
	ErrNotExist = fs.ErrNotExist                                       // there is no such file
	ErrExist    = fs.ErrExist                                          // the file is there already; nothing was written
	ErrChanged  = errors.New("the file was changed by another writer") // Match did not hold; nothing was written
	ErrUnknown  = errors.New("the outcome of the write is not known")  // it may or may not have happened: look
)

// Info describes a file or a folder.
type Info struct {
	Name     string // relative to the store's root, with slashes, no leading or trailing one
	Dir      bool
	Size     int64 // bytes; 0 for a folder
	ETag     string
	Modified time.Time
}

// Cond is what must hold for a Put to write. The zero Cond always holds.
type Cond struct {
	Absent bool   // the file is not there, else ErrExist
	Match  string // the file has this ETag, else ErrChanged (also when it is gone)
}

// Store is a tree of files, local or remote. Names are relative, separated by
// slashes. A file appears whole or not at all, and once a method returned nil
// its effect survives a crash of this process and, for Dir, of the machine.
// Every method blocks and may be called from several goroutines. A failed write
// says ErrUnknown when it may have taken effect.
type Store interface {
	// Put writes a whole file, making folders as needed.
	Put(ctx context.Context, name string, body []byte, cond Cond) (Info, error)
	// Read returns n bytes from off on, fewer at the end of the file; n < 0
	// reads to the end. Info describes the file that was read.
	Read(ctx context.Context, name string, off, n int64) ([]byte, Info, error)
	// Stat describes a file or a folder, or fails with ErrNotExist.
	Stat(ctx context.Context, name string) (Info, error)
	// List returns what lies directly in a folder, ordered by name; "" is the
	// root. A folder that is not there is empty.
	List(ctx context.Context, dir string) ([]Info, error)
	// Rename moves a file to a name that is not there yet, else ErrExist. It
	// fails with ErrNotExist when from is not there.
	Rename(ctx context.Context, from, to string) error
	// Remove deletes a file, or a folder with all that is in it. Nothing there
	// is no error.
	Remove(ctx context.Context, name string) error
}
