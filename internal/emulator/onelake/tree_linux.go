package onelake

import (
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// identity gives the inode and the birth of an open file. The birth of a file
// system that keeps none is the time of the last change.
func identity(f *os.File, fi fs.FileInfo) (inode uint64, created time.Time) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return 0, fi.ModTime()
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return st.Ino, fi.ModTime()
	}
	return st.Ino, time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}

// renameNew renames to a name that must not be there, in one step.
func (s *Service) renameNew(from, to string) error {
	a, err := s.root.Open(parent(from))
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := s.root.Open(parent(to))
	if err != nil {
		return err
	}
	defer b.Close()
	err = unix.Renameat2(int(a.Fd()), path.Base(from), int(b.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		return s.renameChecked(from, to)
	}
	return err
}
