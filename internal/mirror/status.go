package mirror

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// State is what a landing zone's own state files say of its mirror.
type State struct {
	Slot   string       `json:"slot"`
	Acked  landing.LSN  `json:"acked"` // the slot was told that all before it is durable
	Tables []TableState `json:"tables"`
}

// TableState is what they say of a table.
type TableState struct {
	Schema     string           `json:"schema"`
	Name       string           `json:"name"`
	Phase      string           `json:"phase"` // rebuilding, joining, snapshot, replicating or parked
	Reason     string           `json:"reason,omitempty"`
	Generation int64            `json:"generation"`
	Files      int64            `json:"files"` // published so far
	Position   landing.Position `json:"position"`
	Chunks     int              `json:"chunks"` // of the snapshot
	ChunksDone int              `json:"chunksDone"`
	Rows       int64            `json:"rows"`              // published by the snapshot
	Changed    map[string]int64 `json:"changed,omitempty"` // values that the mirror's types can't hold and that were changed, by column
	Ignored    int64            `json:"ignored,omitempty"` // updates and deletes of a table without a key: a rebuild makes them good
}

// ErrNoMirror means that the landing zone has no mirror of ours; possibly
// wrapped.
var ErrNoMirror = errors.New("no mirror has been started in this landing zone")

// Status reads the state files; a running mirror is not disturbed.
func Status(ctx context.Context, s store.Store) (*State, error) {
	m, err := load[mirrorState](ctx, s, mirrorFile)
	if err != nil {
		return nil, err
	}
	if m.etag == "" {
		return nil, ErrNoMirror
	}
	out := &State{Slot: m.value.Slot, Acked: m.value.Acked}
	files, err := tableFiles(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		f, err := load[tableState](ctx, s, name)
		if err != nil {
			return nil, err
		}
		v := f.value
		out.Tables = append(out.Tables, TableState{Schema: v.Schema, Name: v.Name, Phase: string(v.Phase), Reason: v.Reason, Generation: v.Generation,
			Files: v.Number, Position: v.Position, Chunks: v.Chunks.Count, ChunksDone: v.Chunks.Next + len(v.Chunks.Done), Rows: v.Rows, Changed: v.Changed, Ignored: v.Ignored})
	}
	slices.SortFunc(out.Tables, func(a, b TableState) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}
