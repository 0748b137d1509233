package mirror

import (
	"time"

	"github.com/pgmirror/pgmirror/internal/landing"
)

// EventKind names what happened; the words are part of the JSON contract.
type EventKind string

// The kinds of event.
const (
	SnapshotStarted  EventKind = "snapshot-started"  // Tables, Bytes
	SnapshotProgress EventKind = "snapshot-progress" // of all tables: Rows, Bytes
	TableCopied      EventKind = "table-copied"      // Table, Rows
	SnapshotDone     EventKind = "snapshot-done"     // Rows, Took
	Streaming        EventKind = "streaming"         // LSN
	Published        EventKind = "published"         // Table, Number, Rows, LSN, CommitTime
	Confirmed        EventKind = "confirmed"         // LSN
	Parked           EventKind = "parked"            // Table, Reason
	Rebuilding       EventKind = "rebuilding"        // Table, Reason: it is copied anew while the others go on
	Retrying         EventKind = "retrying"          // Reason, Wait
)

// Event is something that happened; which fields are set depends on its Kind.
type Event struct {
	Time       time.Time     `json:"time"`
	Kind       EventKind     `json:"kind"`
	Table      string        `json:"table,omitempty"`
	Tables     int           `json:"tables,omitempty"`
	Reason     string        `json:"reason,omitempty"`
	Number     int64         `json:"number,omitempty"` // of the file
	Rows       int64         `json:"rows,omitempty"`
	Bytes      int64         `json:"bytes,omitempty"`
	LSN        landing.LSN   `json:"lsn,omitempty"`
	CommitTime time.Time     `json:"commitTime,omitzero"`
	Took       time.Duration `json:"took,omitempty"` // nanoseconds
	Wait       time.Duration `json:"wait,omitempty"` // nanoseconds
}

func (m *mirror) emit(e Event) {
	if m.cfg.Events == nil {
		return
	}
	e.Time = time.Now()
	m.eventMu.Lock()
	defer m.eventMu.Unlock()
	m.cfg.Events(e)
}
