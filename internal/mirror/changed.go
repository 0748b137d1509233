package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// changedValues are values of one file that the mirror's types can't hold, and that
// were changed to what they can, by column.
type changedValues struct {
	of   []postgres.Changes
	news []string // the columns that had none before
}

// publishRead publishes rows that were read from the table itself, of which some values
// were changed.
func (t *table) publishRead(ctx context.Context, b *batch.Batch, meta landing.Meta, note func(*tableState), of []postgres.Changes) error {
	changed := changedValues{of: of}
	err := t.publish(ctx, b, meta, func(s *tableState) {
		note(s)
		changed.note(s)
	})
	if err == nil {
		changed.tell(t)
	}
	return err
}

// note counts them in the table's state.
func (v *changedValues) note(s *tableState) {
	v.news = v.news[:0]
	if len(v.of) == 0 {
		return
	}
	counts := maps.Clone(s.Changed)
	if counts == nil {
		counts = map[string]int64{}
	}
	for _, c := range v.of {
		if counts[c.Column] == 0 {
			v.news = append(v.news, fmt.Sprintf("%q (%s)", c.Column, c.Loss))
		}
		counts[c.Column] += c.Values
	}
	s.Changed = counts
}

// tell says of which columns values were changed for the first time since the table
// was copied; the counts are in its state.
func (v *changedValues) tell(t *table) {
	if len(v.news) > 0 {
		slices.Sort(v.news)
		t.m.emit(Event{Kind: Changed, Table: t.String(), Reason: "values that don't fit are changed in column " + strings.Join(v.news, ", ")})
	}
}
