package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// RequestKind is what is asked of a mirror about one of its tables.
type RequestKind string

// The kinds of request.
const (
	Resync RequestKind = "resync" // build it anew, also when it is parked
	Pause  RequestKind = "pause"  // park it
	Resume RequestKind = "resume" // build a paused one anew: the slot did not wait for it
	Repair RequestKind = "repair" // publish some rows as the source has them now
	Forget RequestKind = "forget" // remove its folder and its state; take it out of the publication first, or it is joined again
)

// Request asks something of the mirror that runs now, or that runs next. It is a
// file in the landing zone, which every machine that may ask can reach; a socket
// would bind those who ask to the machine that runs.
type Request struct {
	Version int         `json:"version"`
	Kind    RequestKind `json:"kind"`
	Schema  string      `json:"schema"`
	Table   string      `json:"table"`
	Key     []string    `json:"key,omitempty"`  // of Repair: the source's names of the key's columns
	Rows    [][]string  `json:"rows,omitempty"` // of Repair: the keys' values as PostgreSQL reads them
}

// ErrNoTable means that the mirror doesn't have the table; possibly wrapped.
var ErrNoTable = errors.New("the mirror has no such table")

var requestsDir = path.Join(landing.StateDir, "requests")

// A request that waits has the first ending, one that is being answered the other.
const (
	waiting   = ".json"
	answering = ".taken"
)

// requestFile is the name of a request, without its ending.
func requestFile(schema, table string) string {
	return path.Join(requestsDir, landing.TableDir(schema, table))
}

// Ask leaves a request; one about the same table that isn't answered yet is
// replaced. It doesn't wait for the answer, which Status shows.
func Ask(ctx context.Context, s store.Store, r Request) error {
	if _, err := s.Stat(ctx, tableFile(r.Schema, r.Table)); errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("table %s.%s: %w", r.Schema, r.Table, ErrNoTable)
	} else if err != nil {
		return err
	}
	r.Version = stateVersion
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = s.Put(ctx, requestFile(r.Schema, r.Table)+waiting, body, store.Cond{})
	return err
}

// Asked reports whether a request about a table waits for its answer.
func Asked(ctx context.Context, s store.Store, schema, table string) (bool, error) {
	for _, ending := range []string{waiting, answering} { // in the order in which it has them
		if _, err := s.Stat(ctx, requestFile(schema, table)+ending); !errors.Is(err, store.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// answer does what is asked, and then removes the request: one that is done
// twice does no harm. It reports whether anything was that changes the tables. What
// needs the flusher, which is there once the slot is followed, waits until then.
func (m *mirror) answer(ctx context.Context) (bool, error) {
	schemas, err := m.cfg.Landing.List(ctx, requestsDir)
	if err != nil {
		return false, err
	}
	any := false
	for _, dir := range schemas {
		files, err := m.cfg.Landing.List(ctx, dir.Name)
		if err != nil {
			return any, err
		}
		for _, f := range files {
			ending := path.Ext(f.Name)
			if f.Dir || ending != waiting && ending != answering {
				continue
			}
			changed, err := m.answerOne(ctx, strings.TrimSuffix(f.Name, ending))
			if err != nil {
				return any, fmt.Errorf("%s: %w", f.Name, err)
			}
			any = any || changed
		}
	}
	return any, nil
}

// takeRequest gives a request another name, under which no later one about the
// same table can be: what is removed then is what was answered. A later one takes
// the place of one that was taken and isn't answered yet.
func (m *mirror) takeRequest(ctx context.Context, name string) ([]byte, error) {
	_, err := m.cfg.Landing.Stat(ctx, name+waiting)
	if err == nil {
		if err := m.cfg.Landing.Remove(ctx, name+answering); err != nil {
			return nil, err
		}
		err = m.cfg.Landing.Rename(ctx, name+waiting, name+answering)
	}
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return nil, err
	}
	body, _, err := m.cfg.Landing.Read(ctx, name+answering, 0, -1)
	return body, err
}

func (m *mirror) answerOne(ctx context.Context, name string) (changed bool, err error) {
	body, err := m.takeRequest(ctx, name)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	var r Request
	why := ""
	switch err := json.Unmarshal(body, &r); {
	case err != nil:
		why = err.Error()
	case r.Version != stateVersion:
		why = fmt.Sprintf("it has format %d, and this pgmirror knows %d", r.Version, stateVersion)
	case !slices.Contains([]RequestKind{Resync, Pause, Resume, Forget, Repair}, r.Kind):
		why = fmt.Sprintf("%q is nothing that could be asked for", r.Kind)
	}
	if why != "" {
		m.emit(Event{Kind: NotAnswered, Reason: "request " + name + ": " + why})
		return false, m.cfg.Landing.Remove(ctx, name+answering)
	}
	if r.Kind == Repair {
		if m.repairs == nil {
			return false, nil
		}
		if over, err := m.passToFlusher(ctx, r); err != nil || !over {
			return false, err
		}
		return false, m.cfg.Landing.Remove(ctx, name+answering)
	}
	if t := m.requested(r); t != nil {
		if err := t.grant(ctx, r.Kind); err != nil {
			return false, err
		}
	}
	return true, m.cfg.Landing.Remove(ctx, name+answering)
}

func (t *table) grant(ctx context.Context, kind RequestKind) error {
	t.letGo()
	switch kind {
	case Resync, Resume:
		return t.buildAnew(ctx, "it was asked for", func(phase) bool { return true })
	case Pause:
		return t.pause(ctx)
	}
	return t.forget(ctx)
}

// pause parks the table until it is asked for, also one that would come back by itself.
func (t *table) pause(ctx context.Context) error {
	if s := t.snapshot(); s.Phase == phaseParked && s.Absent {
		return t.change(ctx, func(s *tableState) { s.Reason, s.Absent = ReasonPaused, false })
	}
	return t.park(ctx, ReasonPaused)
}

// forget parks the table before its folder and its state go, so that a crash in
// between leaves nothing that is written again. The round that forgets it ends at
// once; until then its changes come to nothing.
func (t *table) forget(ctx context.Context) error {
	if err := t.park(ctx, ReasonForgotten); err != nil {
		return err
	}
	t.uploading.Lock() // what is on its way would make the folder again
	t.mu.Lock()
	t.forgotten = true
	t.mu.Unlock()
	t.uploading.Unlock()
	if err := t.m.cfg.Landing.Remove(ctx, t.w.Dir); err != nil {
		return err
	}
	return t.m.cfg.Landing.Remove(ctx, t.state.name)
}
