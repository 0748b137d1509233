package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/delta"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/store"
)

// mirrorTable is a table of the mirror at one version.
type mirrorTable interface {
	version() int64
	fields() []batch.Field
	rows() int64 // as the log says; -1 when it doesn't
	told() position
	// files names the data files, each with the rows that are deleted from it:
	// what has the same name in another version has the same rows.
	files() []string
	// read calls fn with the rows of files()[i], perhaps in several parts.
	read(ctx context.Context, i int, columns []string, fn func(b *batch.Batch, live []int32) error) error
}

// position is what our own replicator says of a version: how far it follows the
// source. Other mirrors say nothing.
type position struct {
	table string       // tells it from a table of the same name that was there before
	known bool         // it says something
	end   postgres.LSN // every change of the table before it is in this version; 0: not even the snapshot may be
	at    time.Time    // of the last transaction, by the source's clock
}

type deltaTable struct{ s *delta.Snapshot }

// openDelta opens the newest version. It fails with store.ErrNotExist when there
// is no table.
func openDelta(ctx context.Context, t store.Store) (mirrorTable, error) {
	s, err := delta.Open(ctx, t, -1)
	if err != nil {
		return nil, err
	}
	return deltaTable{s}, nil
}

func (d deltaTable) version() int64 { return d.s.Version }

func (d deltaTable) fields() []batch.Field { return d.s.Schema.Fields }

func (d deltaTable) rows() int64 {
	n := int64(0)
	for i := range d.s.Files {
		live := d.s.Files[i].Live()
		if live < 0 {
			return -1
		}
		n += live
	}
	return n
}

// told reads userMetadata. What is not ours there, or not whole, says nothing.
func (d deltaTable) told() position {
	p := position{table: d.s.Metadata.ID}
	var user struct {
		CommitLSN, EndLSN string
		CommitTime        time.Time
	}
	if json.Unmarshal([]byte(d.s.Info.User), &user) != nil {
		return p
	}
	if _, err := postgres.ParseLSN(user.CommitLSN); err != nil {
		return p
	}
	p.known, p.at = true, user.CommitTime
	if end, err := postgres.ParseLSN(user.EndLSN); err == nil {
		p.end = end
	}
	return p
}

func (d deltaTable) files() []string {
	names := make([]string, len(d.s.Files))
	for i := range d.s.Files {
		f := &d.s.Files[i]
		names[i] = f.Name
		if v := f.DeletionVector; v != nil {
			offset := int32(-1)
			if v.Offset != nil {
				offset = *v.Offset
			}
			names[i] = fmt.Sprintf("%s %s%s@%d", f.Name, v.StorageType, v.PathOrInlineDv, offset)
		}
	}
	return names
}

// read has one row group in memory, beside the file as it is stored.
func (d deltaTable) read(ctx context.Context, i int, columns []string, fn func(b *batch.Batch, live []int32) error) error {
	f := &d.s.Files[i]
	dead, err := d.s.Deleted(ctx, f)
	if err != nil {
		return err
	}
	var live []int32
	return d.s.ReadGroups(ctx, f, columns, func(b *batch.Batch, before int) error {
		live = live[:0]
		for r := range b.Rows() {
			if dead == nil || !dead.Contains(uint64(before+r)) {
				live = append(live, int32(r))
			}
		}
		return fn(b, live)
	})
}
