package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return linkAndRemove(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// etag changes with every replacement of a file, and with every removal and
// making again of a folder, but not with what a folder holds.
func etag(p string, fi fs.FileInfo) string {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_INO|unix.STATX_BTIME|unix.STATX_MTIME, &st); err != nil {
		return fmt.Sprintf("%x-%x", fi.ModTime().UnixNano(), fi.Size())
	}
	if fi.IsDir() {
		return fmt.Sprintf("%x-%x", st.Ino, st.Btime.Sec*1e9+int64(st.Btime.Nsec))
	}
	return fmt.Sprintf("%x-%x-%x", st.Ino, st.Mtime.Sec*1e9+int64(st.Mtime.Nsec), fi.Size())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
