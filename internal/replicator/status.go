package replicator

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// State is a table's state, in Fabric's words.
type State string

// The states of a table.
const (
	Initialized  State = "Initialized"  // its folder was seen
	Snapshotting State = "Snapshotting" // its first files are being applied
	Replicating  State = "Replicating"
	Failed       State = "Failed"
)

// TableStatus is what Fabric's table status tells of a table.
type TableStatus struct {
	Schema, Table  string
	State          State
	ProcessedRows  int64 // rows in all files applied since the folder was made
	ProcessedBytes int64 // bytes of those files
	LastSync       time.Time
	LatencySeconds int    // from the source commit (or the file's arrival) to the last commit
	Error          string // why it failed, or why it doesn't go on for now; "" when all is well
	Generation     string // of the folder
	LastFile       int64  // number of the last file applied
	Version        int64  // of the Delta table; -1 when there is none
}

// Status is a copy of what is known of each table, ordered by schema and table.
func (r *Replicator) Status() []TableStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []TableStatus{}
	for _, t := range r.tables {
		out = append(out, t.status)
	}
	slices.SortFunc(out, func(a, b TableStatus) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Table, b.Table))
	})
	return out
}

// fault is what is wrong with a table's files or with the table; only its
// publisher can mend it.
type fault struct {
	text  string
	latch bool // the table stays failed until its folder is made anew
	err   error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.err }

// set changes the status.
func (t *table) set(change func(*TableStatus)) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	change(&t.status)
}

// report puts an error into the status; a fault makes the table Failed, and
// anything else will be tried again.
func (t *table) report(ctx context.Context, err error) {
	var f *fault
	failed := errors.As(err, &f)
	told := false
	t.set(func(s *TableStatus) {
		told = s.Error == err.Error()
		s.Error = err.Error()
		if failed {
			s.State = Failed
		}
	})
	if failed && f.latch {
		t.latched = true
		if kept := t.keepFault(ctx, f); kept != nil {
			err = errors.Join(err, kept) // it latches again when its file is met again
		}
	}
	if !told {
		t.r.Events(Event{Schema: t.schema, Table: t.name, Version: -1, Err: err})
	}
}
