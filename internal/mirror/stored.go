package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// stored is how a table's rows are stored and shown, where that can change without
// a change of a row in the stream and without another name or type.
type stored struct {
	Files   map[uint32]uint32 `json:"relfilenodes"`      // of the parts, by oid
	Named   []uint32          `json:"named,omitempty"`   // the parts that publications name
	Last    int16             `json:"last,omitempty"`    // the attnum that was given last when the stream came to the columns
	Key     uint32            `json:"key,omitempty"`     // under FULL: what makes the key unique, by its oid
	Moved   uint32            `json:"moved,omitempty"`   // of a table that is published with its schema: the transaction that moved it last
	Defined map[int16]uint32  `json:"defined"`           // by attnum: the transaction that defined the column last
	Labels  map[uint32]string `json:"labels,omitempty"`  // of enums, by their oids
	Links   map[uint32]string `json:"links,omitempty"`   // of partitions: how they were attached
	LeftOut []int16           `json:"leftOut,omitempty"` // attnums of columns that aren't mirrored
}

func storedOf(src postgres.Table) stored {
	s := stored{Files: map[uint32]uint32{}, Defined: map[int16]uint32{}, Labels: map[uint32]string{}, Links: map[uint32]string{}, Last: src.Attnums}
	for _, p := range partsOf(&src) {
		s.Files[p.OID] = p.Relfilenode
		if p.Named {
			s.Named = append(s.Named, p.OID)
		}
		if p.ReplicaIdentity == 'f' {
			s.Key = src.KeyOID
		}
		if src.Kind == 'p' {
			s.Links[p.OID] = p.Links
		}
	}
	if !src.Named && len(src.Members) > 0 {
		s.Moved = src.Moved
	}
	for _, c := range src.Columns {
		if c.Mirrored() {
			s.Defined[c.Attnum] = c.Defined
			maps.Copy(s.Labels, c.Labels)
		} else {
			s.LeftOut = append(s.LeftOut, c.Attnum)
		}
	}
	return s
}

// changed says why rows that were mirrored are shown otherwise now, or "".
// ALTER COLUMN … TYPE … USING writes all rows anew and defines the column anew, even
// if its type stays; VACUUM FULL and CLUSTER do the one, SET NOT NULL and its like
// the other. A table that a publication names can't be UNLOGGED, while nothing of it
// is streamed, and LOGGED again; of any other a new file may mean just that. Under
// FULL PostgreSQL allows every change while what makes the key unique is away.
func (s stored) changed(now stored) string {
	for oid, label := range now.Labels {
		if before, known := s.Labels[oid]; known && before != label {
			return fmt.Sprintf("the label %q of an enum was renamed to %q", before, label)
		}
	}
	if differ(s.Links, now.Links) {
		return "a partition was detached and attached again"
	}
	if differ(s.Files, now.Files) && differ(s.Defined, now.Defined) {
		return "a column was defined anew and the table was rewritten"
	}
	for oid, file := range s.Files {
		if f, both := now.Files[oid]; both && f != file && !(slices.Contains(s.Named, oid) && slices.Contains(now.Named, oid)) {
			return "it was rewritten, and may have been unlogged meanwhile: no publication names it itself"
		}
	}
	if s.Key != 0 && now.Key != 0 && s.Key != now.Key {
		return "its key was dropped and made again"
	}
	if s.Moved != 0 && now.Moved != 0 && s.Moved != now.Moved {
		return "it may have been in another schema, which isn't published"
	}
	return ""
}

// differ says that something that is in both isn't the same.
func differ[K, V comparable](a, b map[K]V) bool {
	for k, v := range a {
		if w, both := b[k]; both && v != w {
			return true
		}
	}
	return false
}

// next is how src is stored now. A column that has come and gone since is still to come
// in the stream, whatever the catalog says.
func (s stored) next(src postgres.Table) stored {
	now := storedOf(src)
	now.Last = s.Last
	return now
}

func (s stored) equal(now stored) bool {
	return maps.Equal(s.Files, now.Files) && maps.Equal(s.Defined, now.Defined) && maps.Equal(s.Labels, now.Labels) &&
		maps.Equal(s.Links, now.Links) && slices.Equal(s.LeftOut, now.LeftOut) && slices.Equal(s.Named, now.Named) && s.Last == now.Last && s.Key == now.Key && s.Moved == now.Moved
}

// noteStored notes how the rows of a table that is followed are stored now, so that
// two harmless changes with time between them don't look like the one that isn't. It
// reports whether the table has to be opened anew.
func (t *table) noteStored(ctx context.Context, src postgres.Table) (again bool, err error) {
	s := t.snapshot()
	now := s.Stored.next(src)
	switch {
	case s.Phase != phaseReplicating || src.OID != s.OID || src.Obstacle != "" || t.join != nil && !t.stopped() || s.Stored.equal(now):
		return false, nil
	case s.Stored.changed(now) != "":
		return true, nil
	case !slices.Equal(columnsOf(src), s.Columns):
		return false, nil // it is noted once the stream has come to the new ones
	}
	return false, t.change(ctx, func(s *tableState) { s.Stored = now })
}
