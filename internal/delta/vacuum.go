package delta

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/store"
)

// unknownFor is how long a file that the log doesn't name is left alone, however
// short the retention: somebody may be about to commit it.
const unknownFor = time.Hour

// Vacuum deletes the data files and deletion vectors that no version needs that
// was current within the table's retention before now, and tells how many. The
// receiver must be the newest version, or Pin of it. Files of other names, and
// what lies in folders, are left alone: others may keep things there. A crash in
// between, or an error, leaves some for the next time.
func (s *Snapshot) Vacuum(ctx context.Context, now time.Time) (deleted int, err error) {
	retention, err := s.FileRetention()
	if err != nil {
		return 0, err
	}
	list, err := s.table.List(ctx, "")
	if err != nil {
		return 0, fmt.Errorf("list the table: %w", err)
	}
	held, err := s.held(now.Add(-retention))
	if err != nil {
		return 0, err
	}
	before := now.Add(-max(retention+2*briefly, unknownFor)) // twice: clocks differ
	for _, i := range list {
		name := path.Base(i.Name)
		if i.Dir || held[name] || !i.Modified.Before(before) || !vacuumed(name) {
			continue
		}
		if err := s.table.Remove(ctx, name); err != nil {
			return deleted, fmt.Errorf("delete %s: %w", name, err)
		}
		deleted++
	}
	return deleted, nil
}

func vacuumed(name string) bool {
	return strings.HasSuffix(name, ".parquet") || strings.HasPrefix(name, "deletion_vector_") && strings.HasSuffix(name, ".bin")
}

// held names the files of this version, and those removed since a time.
func (s *Snapshot) held(since time.Time) (map[string]bool, error) {
	held := map[string]bool{}
	hold := func(path string, d *DeletionVector) error {
		name, err := decodePath(path)
		if err != nil {
			return err
		}
		held[name] = true
		if d == nil || d.StorageType != "u" {
			return nil
		}
		if name, err = vectorName(d.PathOrInlineDv); err != nil {
			return err
		}
		held[name] = true
		return nil
	}
	for i := range s.Files {
		if err := hold(s.Files[i].Path, s.Files[i].DeletionVector); err != nil {
			return nil, err
		}
	}
	for _, r := range s.state.removes {
		if r.DeletionTimestamp <= since.UnixMilli() {
			continue
		}
		if err := hold(r.Path, r.DeletionVector); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// CleanLog deletes the commits and checkpoints before the newest checkpoint that
// is older than the table's log retention before now, the oldest first, and
// tells how many. From that checkpoint on every version stays readable; the
// commit of the checkpoint's own version stays.
func (s *Snapshot) CleanLog(ctx context.Context, now time.Time) (deleted int, err error) {
	retention, err := s.LogRetention()
	if err != nil {
		return 0, err
	}
	infos, err := s.table.List(ctx, logDir)
	if err != nil {
		return 0, fmt.Errorf("list the log: %w", err)
	}
	l := readListing(infos)
	first := int64(-1)
	for _, i := range infos {
		v, ok := logVersion(i)
		if ok && len(l.checkpoints[v]) > 0 && l.commits[v] && l.times[v].Before(now.Add(-retention)) {
			first = max(first, v)
		}
	}
	for _, i := range infos { // in the order of their names: by version
		if v, ok := logVersion(i); !ok || v >= first {
			continue
		}
		if err := s.table.Remove(ctx, i.Name); err != nil && !errors.Is(err, store.ErrNotExist) {
			return deleted, fmt.Errorf("delete %s: %w", i.Name, err)
		}
		deleted++
	}
	return deleted, nil
}
