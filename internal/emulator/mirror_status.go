package emulator

import (
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/replicator"
)

// status is the public status of a mirror's tables: what the replicator says,
// and, for a native mirror, the tables that it takes but has not landed, and
// those that it was asked for and refuses.
func (m *mirrors) status(id string) []tableStatus {
	m.mu.Lock()
	r := m.runs[id]
	m.mu.Unlock()
	if r == nil {
		it := m.copyItem(id)
		return slices.Clone(it.Tables)
	}
	return r.status(r.over() || r.ending())
}

// keepStatus writes down how the tables of a mirror were when it ended: it is
// told also after a restart.
func (m *mirrors) keepStatus(id string, r *run) {
	tables := r.status(true)
	err := m.state.change(func(s *state) error {
		if it := s.item(id); it != nil {
			it.Tables = tables
		}
		return nil
	})
	if err != nil {
		m.log.Warn("cannot keep the status of the tables", "item", id, "error", err)
	}
}

func (r *run) status(halted bool) []tableStatus {
	out := []tableStatus{}
	seen := map[string]bool{}
	for _, t := range r.repl.Status() {
		out = append(out, shownStatus(t, halted))
		seen[t.Schema+"."+t.Table] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.decided {
		if !seen[t.schema+"."+t.name] {
			out = append(out, t.status(halted))
		}
	}
	return out
}

func shownStatus(t replicator.TableStatus, halted bool) tableStatus {
	s := tableStatus{Kind: "Table", Schema: t.Schema, Table: t.Table, Status: string(t.State),
		Metrics: tableMetrics{Rows: t.ProcessedRows, Bytes: t.ProcessedBytes, Last: never}}
	if !t.LastSync.IsZero() {
		s.Metrics.Last, s.Metrics.Latency = stamp(t.LastSync), &t.LatencySeconds
	}
	if t.Error != "" {
		s.Error = &detail{ErrorCode: errorCode(t.Error), Message: t.Error}
	}
	if halted && t.State != replicator.Failed {
		s.Status = stopped
	}
	return s
}

// errorCode is the known code in a table's error text, or the one that the
// service uses for what a publisher did wrong.
func errorCode(text string) string {
	if strings.Contains(text, "SchemaMergeFailure") {
		return "SchemaMergeFailure"
	}
	return "InputValidationError"
}

func (t tableState) status(halted bool) tableStatus {
	s := tableStatus{Kind: "Table", Schema: t.schema, Table: t.name, Status: string(replicator.Initialized), Metrics: tableMetrics{Last: never}}
	switch {
	case t.code != "":
		s.Status, s.Error = string(replicator.Failed), &detail{ErrorCode: t.code, Message: t.text}
	case halted:
		s.Status = stopped
	}
	return s
}
