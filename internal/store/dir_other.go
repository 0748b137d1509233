//go:build !linux

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

func renameNew(from, to string) error { return linkAndRemove(from, to) }

// etag of a folder is constant here: that it was made again can't be told from
// its times, which change with what it holds.
func etag(p string, fi fs.FileInfo) string {
	if fi.IsDir() {
		return "folder"
	}
	return fmt.Sprintf("%x-%x", fi.ModTime().UnixNano(), fi.Size())
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder can't be synced there
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
