package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
)

// publish makes b the table's next file. The number and what note adds are
// durable before the file has its name; so a crash at any line leaves either a
// staged file that nobody knows, or a record that the next attempt acts upon.
// A table that somebody else publishes, too, is parked, which is no error; one whose
// folder somebody has removed, as Microsoft has a table reset, is built anew. Of one
// that was given up meanwhile nothing is published.
func (t *table) publish(ctx context.Context, b *batch.Batch, meta landing.Meta, note func(*tableState)) error {
	t.uploading.RLock()
	defer t.uploading.RUnlock()
	if !t.phase().publishes() {
		return nil
	}
	meta.Generation = t.generation
	staged, err := t.w.Upload(ctx, b, meta)
	if err != nil {
		return fmt.Errorf("table %s: %w", t, err)
	}
	lost, err := t.number(ctx, staged, meta, note)
	if lost != "" {
		return t.park(ctx, lost)
	}
	switch {
	case errors.Is(err, landing.ErrFolderGone):
		return t.renew(ctx, err.Error())
	case err != nil:
		return fmt.Errorf("table %s: %w", t, err)
	}
	return nil
}

// number records the staged file's number and gives it. lost says why the table
// can't go on.
func (t *table) number(ctx context.Context, staged landing.Staged, meta landing.Meta, note func(*tableState)) (lost string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.state.value.Phase.publishes() {
		return "", nil // the staged file is nobody's
	}
	if t.state.value.Staged != nil { // the number before is given, and its file could not be
		if lost, err := t.settle(ctx); lost != "" || err != nil {
			return lost, err
		}
		t.state.value.Staged = nil
		if err := t.arm(ctx); err != nil {
			return "", err
		}
	}
	err = t.state.change(ctx, func(s *tableState) {
		s.Number++
		s.Staged, s.Position, s.Fabric = &staged, meta.Position, t.m.watched.rowsOf(t.w.Dir)
		if note != nil {
			note(s)
		}
	})
	if err != nil {
		return "", err
	}
	n := t.state.value.Number
	err = t.w.Publish(ctx, staged, n)
	if errors.Is(err, landing.ErrTaken) {
		return err.Error(), nil
	} else if err != nil {
		return "", err
	}
	t.state.value.Staged = nil // the file says so at its next change; publishing again would do no harm
	t.m.emit(Event{Kind: Published, Table: t.String(), Number: n, Rows: staged.Rows, Bytes: staged.Size, LSN: meta.EndLSN, CommitTime: meta.CommitTime})
	if n == 1 {
		return "", t.arm(ctx)
	}
	return "", nil
}

// arm writes the table's metadata once it has a file; until then Fabric leaves
// the folder alone.
func (t *table) arm(ctx context.Context) error {
	if t.state.value.Number == 0 {
		return nil
	}
	return landing.WriteMetadata(ctx, t.m.cfg.Landing, t.w.Dir, landing.TableMetadata{KeyColumns: t.state.value.Key})
}
