package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// journalVersion is the format of a journal's records. Others are refused.
const journalVersion = 1

// event is how far a lease has got. Each is durable before the next begins.
type event string

const (
	intended event = "intent"  // about to write the tag
	opening  event = "opening" // about to open the door
	granted  event = "granted" // the door's answer is here: nothing is in flight
	closed   event = "closed"  // proved closed, tag gone
)

// record is one line of a journal.
type record struct {
	Version int       `json:"v"`
	Event   event     `json:"event"`
	At      time.Time `json:"at"`
	Cloud   string    `json:"cloud,omitempty"`
	Lease
}

// journal is a file of records of one run, only ever appended to. Its process
// holds the file's lock as long as it lives: who gets the lock of another's
// journal knows that its process is dead.
type journal struct {
	f       *os.File
	path    string
	pending []record // the last one of each lease that isn't closed, oldest first
}

func journalDir(state string) string { return filepath.Join(state, "leases") }

// makeJournal makes a run's journal and takes its lock. The directory is synced:
// the file is still there after a crash of the machine.
func makeJournal(state, run string) (*journal, error) {
	dir := journalDir(state)
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the journal's directory: %w", err)
	}
	path := filepath.Join(dir, fileName(run)+"-"+newID()+".jsonl")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the journal: %w", err)
	}
	err = lock(f) // somebody who looks for dead journals may have it for a moment
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the journal: %w", err), f.Close())
	}
	return &journal{f: f, path: path}, nil
}

// fileName keeps what is safe in a file's name everywhere.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, s[:min(len(s), 64)])
}

// journals are the paths of all journals in a state directory.
func journals(state string) ([]string, error) {
	names, err := os.ReadDir(journalDir(state))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for journals: %w", err)
	}
	var paths []string
	for _, n := range names {
		if strings.HasSuffix(n.Name(), ".jsonl") {
			paths = append(paths, filepath.Join(journalDir(state), n.Name()))
		}
	}
	return paths, nil
}

// adopt opens the journal of a dead process, to finish what it left. ok is false
// when there is nothing to adopt: its process lives, or the file is gone.
func adopt(path string) (j *journal, ok bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("open journal: %w", err)
	}
	j = &journal{f: f, path: path}
	if ok, err = tryLock(f); err == nil && ok {
		err = j.replay()
	}
	if err != nil || !ok {
		return nil, false, errors.Join(err, f.Close())
	}
	return j, true, nil
}

// peek reads the journal of a process that lives, without its lock.
func peek(path string) ([]record, error) {
	body, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	j := &journal{path: path}
	_, err = j.read(body)
	return j.pending, err
}

// replay reads what is there and cuts a torn tail: its write was never answered,
// so nothing was done on its strength.
func (j *journal) replay() error {
	body, err := io.ReadAll(j.f)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	good, err := j.read(body)
	if err != nil {
		return err
	}
	if good < len(body) {
		if err := j.f.Truncate(int64(good)); err != nil {
			return fmt.Errorf("cut the journal's torn tail: %w", err)
		}
	}
	_, err = j.f.Seek(int64(good), io.SeekStart)
	return err
}

// read takes in all whole lines and returns where they end.
func (j *journal) read(body []byte) (good int, err error) {
	for {
		line, _, whole := bytes.Cut(body[good:], []byte("\n"))
		if !whole {
			return good, nil
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return 0, fmt.Errorf("journal %s at byte %d: %w", j.path, good, err)
		}
		if r.Version != journalVersion {
			return 0, fmt.Errorf("journal %s at byte %d: its version is %d, this program knows %d: use the program that wrote it", j.path, good, r.Version, journalVersion)
		}
		j.take(r)
		good += len(line) + 1
	}
}

func (j *journal) take(r record) {
	i := slices.IndexFunc(j.pending, func(p record) bool { return p.ID == r.ID })
	switch {
	case r.Event == closed && i >= 0:
		j.pending = slices.Delete(j.pending, i, i+1)
	case r.Event == closed:
	case i >= 0:
		j.pending[i] = r
	default:
		j.pending = append(j.pending, r)
	}
}

// append writes one record and waits until the disk has it.
func (j *journal) append(r record) error {
	r.Version = journalVersion
	line, err := json.Marshal(r)
	if err == nil {
		_, err = j.f.Write(append(line, '\n'))
	}
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	j.take(r)
	return nil
}

// old reports whether the journal has records, or has had a day to get some: one
// that has just been made is about to be locked by its process.
func (j *journal) old() bool {
	info, err := j.f.Stat()
	return err == nil && (info.Size() > 0 || time.Since(info.ModTime()) > 24*time.Hour)
}

// close lets go of the file, and deletes it if remove is set and nothing is
// pending; a crash before leaves a file that says just that.
func (j *journal) close(remove bool) error {
	err := j.f.Close()
	if remove && len(j.pending) == 0 {
		_ = os.Remove(j.path) // another process is looking into it: the next one deletes it
	}
	return err
}
