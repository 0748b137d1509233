package lease

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Windows keeps others from reading a locked range, so what is locked is one
// byte far beyond any file's end.
var lockedRange = windows.Overlapped{OffsetHigh: 0x7fffffff}

// tryLock takes the file's lock, or reports that another process has it. The
// kernel drops it when its holder dies.
func tryLock(f *os.File) (bool, error) {
	at := lockedRange
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

// lock waits for the file's lock.
func lock(f *os.File) error {
	at := lockedRange
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &at)
}

func unlock(f *os.File) error {
	at := lockedRange
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &at)
}

// syncDir has nothing to do: a directory can't be synced here, NTFS journals
// names by itself.
func syncDir(string) error { return nil }
