package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// stateVersion is the format of the state files. One that we don't know is
// refused: guessing would be worse than stopping.
const stateVersion = 1

var (
	mirrorFile = path.Join(landing.StateDir, "mirror.json")
	tablesDir  = path.Join(landing.StateDir, "tables")
)

// phase is where a mirror or a table stands. It moves down this list; any table
// can become parked or go back to rebuilding.
type phase string

const (
	phaseSlot      phase = "slot"      // the mirror: the slot is being made, no table has any data
	phaseMirroring phase = "mirroring" // the mirror: the slot is there

	phaseRebuilding  phase = "rebuilding"  // a table: its folder is to be removed, then it is joined
	phaseJoining     phase = "joining"     // a table: waits for the snapshot with which it begins
	phaseSnapshot    phase = "snapshot"    // a table: its rows are being copied, its boundary is known
	phaseReplicating phase = "replicating" // a table: its changes are being published
	phaseParked      phase = "parked"      // a table: given up, with the reason; the others go on
)

// publishes says that a table in this phase has files published.
func (p phase) publishes() bool { return p == phaseSnapshot || p == phaseReplicating }

// mirrorState is `_pgmirror/mirror.json`.
type mirrorState struct {
	Version         int         `json:"version"`
	Run             string      `json:"run"` // the attempt that writes it
	Slot            string      `json:"slot"`
	Phase           phase       `json:"phase,omitempty"`
	SystemID        string      `json:"systemId,omitempty"`
	Timeline        int32       `json:"timeline,omitempty"`
	ConsistentPoint landing.LSN `json:"consistentPoint,omitempty"`
	Acked           landing.LSN `json:"acked,omitempty"` // the slot was never told more than this

	Publications map[string]uint32 `json:"publications,omitempty"` // those that the slot has been read with, and their oids
}

// tableState is `_pgmirror/tables/<schema>.schema/<table>.json`. It says what
// holds once Staged, if there is one, has been given Number: the state is
// written before the file is published, and whoever reads it publishes first.
type tableState struct {
	Version    int              `json:"version"`
	Run        string           `json:"run"`
	Schema     string           `json:"schema"`
	Name       string           `json:"name"`
	OID        uint32           `json:"oid"`
	Leaves     []uint32         `json:"leaves,omitempty"`  // the oids of the partitions
	Late       []lateLeaf       `json:"late,omitempty"`    // those of them that came while the table was followed
	Members    []uint32         `json:"members,omitempty"` // by which it is in the publications
	Generation int64            `json:"generation"`
	Phase      phase            `json:"phase"`
	Reason     string           `json:"reason,omitempty"`
	Absent     bool             `json:"absent,omitempty"` // it is parked because it isn't published: it comes back by itself
	Columns    []columnState    `json:"columns"`
	Gone       []string         `json:"gone,omitempty"` // columns that were dropped and stay in the mirror, by their names there
	Key        []string         `json:"key"`
	Stored     stored           `json:"stored"`
	Number     int64            `json:"number"` // of the last file
	Staged     *landing.Staged  `json:"staged,omitempty"`
	Position   landing.Position `json:"position"`
	Seen       landing.LSN      `json:"seen,omitempty"` // behind all that was read from the table itself: only beyond it its files agree with one moment
	Chunks     chunkState       `json:"chunks"`
	Rows       int64            `json:"rows"`              // published by the snapshot
	Ignored    int64            `json:"ignored,omitempty"` // updates and deletes of a table without a key
	Touched    *int64           `json:"touched,omitempty"` // what the server's statistics said of those when they were looked at last
	Changed    map[string]int64 `json:"changed,omitempty"` // values that were changed to fit, by column
	Fabric     int64            `json:"fabric,omitempty"`  // rows that Fabric had when the last file was published
	Built      time.Time        `json:"built,omitzero"`    // when its copy was complete
}

type columnState struct {
	Name   string `json:"name"`
	Attnum int16  `json:"attnum"`
	Source string `json:"source"` // PostgreSQL's type
	Type   string `json:"type"`   // Delta's
	Field  string `json:"field"`  // its name in the mirror
	Parts  string `json:"parts,omitempty"`
}

// chunkState says which chunks of the snapshot are published.
type chunkState struct {
	Blocks uint32      `json:"blocks"`         // heap blocks a chunk; the last one of a part has no end
	Parts  []partState `json:"parts"`          // in the order in which their chunks are numbered
	Count  int         `json:"count"`          // of chunks
	Next   int         `json:"next"`           // all chunks below it are done
	Done   []int       `json:"done,omitempty"` // and these
}

// partState is a relation as it was when its chunks were cut.
type partState struct {
	OID      uint32 `json:"oid"`
	Filenode uint32 `json:"relfilenode"` // its rows are in this file, or the chunks mean nothing
	Count    int    `json:"count"`       // of chunks
}

// done reports whether chunk n is published.
func (c *chunkState) done(n int) bool {
	if n < c.Next {
		return true
	}
	for _, d := range c.Done {
		if d == n {
			return true
		}
	}
	return false
}

// finish notes that chunk n is published.
func (c *chunkState) finish(n int) {
	if !c.done(n) {
		c.Done = append(append([]int(nil), c.Done...), n) // the old slice is another state's
	}
	for len(c.Done) > 0 && c.done(c.Next) {
		c.Next++
		var rest []int
		for _, d := range c.Done {
			if d >= c.Next {
				rest = append(rest, d)
			}
		}
		c.Done = rest
	}
}

// versioned is a state that says its format.
type versioned interface {
	mirrorState | tableState
}

// file is a state file that is only replaced when it is still as we left it.
type file[T versioned] struct {
	store store.Store
	name  string
	etag  string // "" when it isn't there
	value T
}

// load reads a state file; one that isn't there has a zero value.
func load[T versioned](ctx context.Context, s store.Store, name string) (*file[T], error) {
	f := &file[T]{store: s, name: name}
	body, info, err := s.Read(ctx, name, 0, -1)
	if errors.Is(err, store.ErrNotExist) {
		return f, nil
	} else if err != nil {
		return nil, err
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if v.Version != stateVersion {
		return nil, &Fault{Code: "StateVersion", Err: fmt.Errorf("%s has format %d; this pgmirror knows %d: run the one that wrote it, or a newer one", name, v.Version, stateVersion), Next: "pgmirror version"}
	}
	if err := json.Unmarshal(body, &f.value); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f.etag = info.ETag
	return f, nil
}

// fenced is the code of the Fault that another writer was there.
const fenced = "Fenced"

// writePatience bounds a write that goes on although nobody waits for it.
const writePatience = time.Minute

// change replaces the file with a changed value. When another writer was there
// first it fails with a Fault and f.value is as before. It blocks until the new
// value is durable. Once begun it doesn't end with ctx: whoever goes on with the
// file has to know what is in it.
func (f *file[T]) change(ctx context.Context, edit func(*T)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writePatience)
	defer cancel()
	next := f.value
	edit(&next)
	setVersion(&next)
	body, err := json.Marshal(next)
	if err != nil {
		return err
	}
	etag, err := f.replace(ctx, body)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	f.value, f.etag = next, etag
	return nil
}

func takenOver() *Fault {
	return &Fault{Code: fenced, Err: errors.New("another pgmirror has taken over this landing zone, and goes on from the same state: let one run at a time write it"), Next: "pgmirror status"}
}

func setVersion(v any) {
	switch s := v.(type) {
	case *mirrorState:
		s.Version = stateVersion
	case *tableState:
		s.Version = stateVersion
	}
}

// replace writes body if the file is still ours. An answer that says neither yes
// nor no is settled by looking: the body tells whose the file is.
func (f *file[T]) replace(ctx context.Context, body []byte) (etag string, err error) {
	cond := store.Cond{Match: f.etag, Absent: f.etag == ""}
	for range 5 {
		var info store.Info
		info, err = f.store.Put(ctx, f.name, body, cond)
		if err == nil {
			return info.ETag, nil
		}
		lost := errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrExist)
		if !lost && !errors.Is(err, store.ErrUnknown) {
			return "", err
		}
		now, info, rerr := f.store.Read(ctx, f.name, 0, -1)
		switch {
		case rerr == nil && bytes.Equal(now, body):
			return info.ETag, nil
		case rerr == nil && info.ETag != f.etag || lost:
			return "", takenOver()
		case rerr != nil && !errors.Is(rerr, store.ErrNotExist):
			return "", rerr
		}
	}
	return "", err
}

func tableFile(schema, name string) string {
	return path.Join(tablesDir, landing.TableDir(schema, name)+".json")
}

// tableFiles lists the state files of all tables.
func tableFiles(ctx context.Context, s store.Store) ([]string, error) {
	schemas, err := s.List(ctx, tablesDir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, dir := range schemas {
		files, err := s.List(ctx, dir.Name)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if !f.Dir && path.Ext(f.Name) == ".json" {
				out = append(out, f.Name)
			}
		}
	}
	return out, nil
}

func newRunID() string {
	var id [8]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
