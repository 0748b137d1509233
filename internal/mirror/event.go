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
	SnapshotProgress EventKind = "snapshot-progress" // of all tables: Rows, Bytes, Took, Left
	TableCopied      EventKind = "table-copied"      // Table, Rows
	SnapshotDone     EventKind = "snapshot-done"     // Rows, Took
	Streaming        EventKind = "streaming"         // LSN
	Published        EventKind = "published"         // Table, Number, Rows, LSN, CommitTime
	Confirmed        EventKind = "confirmed"         // LSN
	Parked           EventKind = "parked"            // Table, Reason
	Rebuilding       EventKind = "rebuilding"        // Table, Reason: it is copied anew while the others go on
	Attached         EventKind = "attached"          // Table, Rows, Reason: those of a partition that came to it are published
	Repaired         EventKind = "repaired"          // Table, Rows: they were published as the source has them
	NotRepaired      EventKind = "not-repaired"      // Table, Reason
	NotAnswered      EventKind = "not-answered"      // Reason: why a request was thrown away
	Ignored          EventKind = "ignored"           // Table, Rows, Reason
	Changed          EventKind = "changed"           // Table, Reason: in which columns values that the mirror's types can't hold are changed from now on
	Refused          EventKind = "refused"           // Table, Reason: PostgreSQL refuses its updates because a publication has it
	Waiting          EventKind = "waiting"           // Table, Reason: for what; without a table it is the slot's creation that waits
	SlotHealth       EventKind = "slot-health"       // Slot
	Paced            EventKind = "paced"             // Wait: how long changes wait for others from now on; Took: Fabric's lag
	SpillFull        EventKind = "spill-full"        // Reason: from now on the server keeps large transactions
	NoLook           EventKind = "no-look"           // Reason: Fabric could not be asked how the tables are
	NewTimeline      EventKind = "new-timeline"      // Reason: the source was promoted, and is followed
	Reseeding        EventKind = "reseeding"         // Reason
	Retrying         EventKind = "retrying"          // Reason, Wait
)

// Reasons of Parked after which a resync is not what comes next.
const (
	ReasonPaused      = "paused"                    // as asked
	ReasonUnpublished = "it is no longer published" // it was dropped, renamed or taken out: it comes back when it is published again
	ReasonForgotten   = "it is being forgotten"     // as asked
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
	Left       time.Duration `json:"left,omitempty"` // nanoseconds; of a snapshot, at its rate so far
	Wait       time.Duration `json:"wait,omitempty"` // nanoseconds
	Slot       *Slot         `json:"slot,omitempty"`
}

// Slot is how the slot stands in the server.
type Slot struct {
	WALStatus     string `json:"walStatus"`     // reserved, extended, unreserved or lost
	RetainedBytes int64  `json:"retainedBytes"` // of WAL that the server keeps for it
	SafeWALSize   int64  `json:"safeWalSize"`   // bytes that may be written before it is in danger; -1: no limit is set
}

func (m *mirror) emit(e Event) {
	switch e.Kind {
	case Published, Confirmed, TableCopied, SnapshotProgress:
		m.moved.Store(true)
	}
	if m.cfg.Events == nil {
		return
	}
	e.Time = time.Now()
	m.eventMu.Lock()
	defer m.eventMu.Unlock()
	m.cfg.Events(e)
}
