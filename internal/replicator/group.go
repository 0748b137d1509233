package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/parquet"
	"github.com/pgmirror/pgmirror/internal/store"
)

// group is the files that one commit applies.
type group struct {
	files    []input
	shape    shape // of the table once they are applied
	rows     int64
	progress progress
}

// input is a file to apply. Its bytes are kept while they are few; those of a
// transaction split over many files are read again.
type input struct {
	landing.File
	data []byte
	rows int64
	meta landing.Meta
	told bool // meta is there
}

func (g *group) last() input { return g.files[len(g.files)-1] }

// groupBytes is how many bytes of files a commit applies, unless a split
// transaction needs more.
const groupBytes = 32 << 20

// gather takes files until they are enough for a commit. The group ends where no
// transaction is cut in two: a file that says that it is not complete comes with
// those that complete it, or not yet. A file that can't be applied ends the group
// before it, and is a fault when it is the first.
func (t *table) gather(ctx context.Context, pending []landing.File) (*group, error) {
	g, read := &group{}, int64(0)
	var whole group // up to the last file after which a commit may stand
	for _, f := range pending {
		in, next, err := t.look(ctx, f, g)
		if err != nil {
			if len(whole.files) > 0 {
				return t.finish(&whole), nil // the fault shows itself again when its file is the first
			}
			return nil, err
		}
		if read += f.Size; read > groupBytes && len(g.files) > 0 {
			in.data = nil
		}
		g.files, g.shape, g.rows = append(g.files, in), next, g.rows+in.rows
		if !in.told || in.meta.Position.Complete {
			whole = group{files: g.files[:len(g.files):len(g.files)], shape: g.shape, rows: g.rows}
			if read >= groupBytes {
				break
			}
		}
	}
	return t.finish(&whole), nil
}

// look opens a file and checks that it may follow the group so far.
func (t *table) look(ctx context.Context, f landing.File, g *group) (in input, next shape, err error) {
	in = input{File: f}
	if in.data, err = t.bytes(ctx, in); err != nil {
		return in, next, err
	}
	pf, err := parquet.Open(in.data)
	if err != nil {
		return in, next, &fault{text: fmt.Sprintf("%s: %v", path.Base(f.Name), err), err: err}
	}
	in.rows = int64(pf.Rows)
	if in.meta, in.told, err = landing.ParseMeta(pf.Metadata); err != nil {
		return in, next, &fault{text: fmt.Sprintf("%s: %v", path.Base(f.Name), err), err: err}
	}
	for i, l := range pf.Leaves {
		if l.Name == parquet.MarkerColumn && i != len(pf.Leaves)-1 {
			return in, next, &fault{text: fmt.Sprintf("%s: %s is not the last column", path.Base(f.Name), l.Name), latch: true}
		}
	}
	switch {
	case len(g.files) > 0:
		next, err = g.shape.merge(pf.Leaves)
	case t.snap != nil:
		if next, err = shapeOf(t.snap); err == nil {
			next, err = next.merge(pf.Leaves)
		}
	default:
		next, err = firstShape(pf.Leaves)
	}
	return in, next, err
}

// bytes reads a file, and latches the table when it is empty: that is a
// publisher who wrote under a final name, and nobody knows what was to be there.
func (t *table) bytes(ctx context.Context, in input) ([]byte, error) {
	if in.data != nil {
		return in.data, nil
	}
	if in.Size == 0 {
		return nil, &fault{text: fmt.Sprintf("Invalid: Parquet file size is 0 bytes (%s)", path.Base(in.Name)), latch: true}
	}
	data, _, err := t.land.Read(ctx, in.Name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path.Base(in.Name), err)
	}
	if t.text != nil {
		if data, err = t.text.parquet(data); err != nil {
			return nil, &fault{text: fmt.Sprintf("%s: %v", path.Base(in.Name), err), err: err}
		}
	}
	return data, nil
}

// finish fills in what the commit will tell.
func (t *table) finish(g *group) *group {
	if len(g.files) == 0 {
		return g
	}
	g.progress = t.progress
	g.progress.Files = nil
	g.progress.FirstFile, g.progress.LastFile = g.files[0].Number, g.last().Number
	g.progress.ProcessedRows += g.rows
	for _, f := range g.files {
		g.progress.ProcessedBytes += f.Size
		if t.byTime {
			if g.progress.Files == nil {
				g.progress.Files = map[string]string{}
			}
			g.progress.Files[path.Base(f.Name)] = f.ETag
		}
		if f.told {
			g.progress.CommitLSN, g.progress.CommitTime, g.progress.EndLSN = f.meta.Position.CommitLSN.String(), f.meta.CommitTime, ""
			if f.meta.EndLSN != 0 {
				g.progress.EndLSN = f.meta.EndLSN.String()
			}
		}
	}
	return g
}

// progress is what a commit tells of the files that it covers, as JSON in
// userMetadata.
type progress struct {
	FirstFile      int64     `json:"firstFile"`
	LastFile       int64     `json:"lastFile"`
	ProcessedRows  int64     `json:"processedRows"`  // since the folder was made
	ProcessedBytes int64     `json:"processedBytes"` // likewise
	CommitLSN      string    `json:"commitLsn,omitempty"`
	EndLSN         string    `json:"endLsn,omitempty"`
	CommitTime     time.Time `json:"commitTime,omitzero"` // at the source

	Files map[string]string `json:"files,omitempty"` // that the commit applied, where they have no numbers: ETags by name
}

func (p progress) info(operation string, now time.Time) *delta.CommitInfo {
	text, _ := json.Marshal(p) // numbers, strings and a time can't fail
	return &delta.CommitInfo{Operation: operation, User: string(text), Timestamp: now.UnixMilli()}
}

// recall finds what the newest commit of ours told: others may have committed
// since, who optimize the table.
func (t *table) recall(ctx context.Context, s *delta.Snapshot) (p progress, err error) {
	info := s.Info
	for v := s.Version; ; v-- {
		if info.Engine == delta.Engine && info.User != "" {
			if err := json.Unmarshal([]byte(info.User), &p); err != nil {
				return p, fmt.Errorf("commit %d: %w", v, err)
			}
			return p, nil
		}
		if v == 0 {
			return progress{}, nil
		}
		if info, err = delta.Info(ctx, t.lake, v-1); errors.Is(err, store.ErrNotExist) {
			return progress{}, nil // cleaned away: the counters begin anew
		} else if err != nil {
			return p, err
		}
	}
}
