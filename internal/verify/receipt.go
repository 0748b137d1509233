package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ReceiptFormat is the version of Receipt as JSON.
const ReceiptFormat = 3

// State is what a verification says of a table.
type State string

// The states, from good to bad.
const (
	Equal       State = "equal"        // the mirror holds exactly the source's rows
	Lossy       State = "lossy"        // the same, but for losses that are documented and listed
	Moving      State = "moving"       // some rows changed too often to tell; the others are equal
	NotMirrored State = "not-mirrored" // the mirror has no such table
	Unreadable  State = "unreadable"   // the source's table or the mirror's could not be read
	Differs     State = "differs"      // rows differ that nobody changed
)

// ErrReceipt means that a receipt can't be gone on from; possibly wrapped.
var ErrReceipt = errors.New("the receipt can't be used")

// Receipt is what a verification found. Finished is zero in one that is written
// while it goes on.
type Receipt struct {
	Format        int           `json:"format"` // ReceiptFormat
	Source        string        `json:"source"` // user, host and database, never a password
	ServerVersion string        `json:"serverVersion"`
	System        string        `json:"system,omitempty"`   // the server's system identifier; empty when the role may not ask for it
	Timeline      uint32        `json:"timeline,omitempty"` // the server's; 0 when the role may not ask a standby for it
	DatabaseOID   uint32        `json:"databaseOid"`
	Mirror        string        `json:"mirror"` // Config.Mirror
	Native        bool          `json:"native"`
	Started       time.Time     `json:"started"`
	Finished      time.Time     `json:"finished,omitzero"`
	Tables        []TableResult `json:"tables"` // ordered by schema and name; each with its own time
}

// ReadReceipt reads a receipt, and refuses one of a format that it doesn't know.
func ReadReceipt(body []byte) (*Receipt, error) {
	var format struct{ Format int }
	if err := json.Unmarshal(body, &format); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if format.Format != ReceiptFormat {
		return nil, fmt.Errorf("%w: it has format %d, this version of pgmirror knows %d", ErrReceipt, format.Format, ReceiptFormat)
	}
	r := &Receipt{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return r, nil
}

// Replace puts a table's result in its place, and that of an earlier look at the
// same table out of it.
func (r *Receipt) Replace(t TableResult) {
	at, there := slices.BinarySearchFunc(r.Tables, t, func(a, b TableResult) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	if there {
		r.Tables[at] = t
		return
	}
	r.Tables = slices.Insert(r.Tables, at, t)
}

// resumable refuses a receipt of something else. One that is finished leaves nothing
// to resume: everything is compared anew.
func (cfg Config) resumable(now *Receipt) (*Receipt, error) {
	r := cfg.Resume
	switch {
	case r == nil || !r.Finished.IsZero():
		return nil, nil
	case r.Format != ReceiptFormat:
		return nil, fmt.Errorf("%w: it has format %d, not %d", ErrReceipt, r.Format, ReceiptFormat)
	case r.Source != now.Source || r.Native != now.Native:
		return nil, fmt.Errorf("%w: it is of %s, not of %s", ErrReceipt, r.Source, now.Source)
	case r.System != now.System && r.System != "" && now.System != "":
		return nil, fmt.Errorf("%w: it is of the server %s, not of %s, which has its name now", ErrReceipt, r.System, now.System)
	case r.Timeline != now.Timeline && r.Timeline > 0 && now.Timeline > 0:
		return nil, fmt.Errorf("%w: it is of the server's timeline %d, not of %d, on which it is after a failover or a restore", ErrReceipt, r.Timeline, now.Timeline)
	case r.DatabaseOID != now.DatabaseOID:
		return nil, fmt.Errorf("%w: it is of the database with the oid %d, not of %d, which has its name now", ErrReceipt, r.DatabaseOID, now.DatabaseOID)
	case r.Mirror != now.Mirror:
		return nil, fmt.Errorf("%w: it is of the mirror %s, not of %s", ErrReceipt, r.Mirror, now.Mirror)
	}
	now.Started = r.Started
	return r, nil
}

// of is what the receipt says of a table, if both its sides are still the same tables:
// not made anew, not another one under the name.
func (r *Receipt) of(ctx context.Context, cfg Config, p pair) (TableResult, bool) {
	i := slices.IndexFunc(r.Tables, func(t TableResult) bool { return t.Schema == p.schema && t.Name == p.name })
	if i < 0 {
		return TableResult{}, false
	}
	t := r.Tables[i]
	switch {
	case t.SourceOID != p.oid():
		return t, false
	case t.DeltaVersion < 0: // it says nothing of what is in the mirror's
		return t, true
	case p.mirror == nil:
		return t, false
	}
	m, err := cfg.open(ctx, p.mirror)
	return t, err == nil && m.told().table == t.DeltaID && m.version() >= t.DeltaVersion // unreadable: looked at anew, which says why
}

// Mismatch reports whether any table differs.
func (r *Receipt) Mismatch() bool { return r.Count(Differs) > 0 }

// Count is the number of tables in a state.
func (r *Receipt) Count(s State) int {
	n := 0
	for i := range r.Tables {
		if r.Tables[i].State == s {
			n++
		}
	}
	return n
}

// TableResult is what a verification found in one table. Rows, version and
// checksums are of the one snapshot that was compared whole.
type TableResult struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // of not-mirrored and unreadable; of differs when the source has no such table

	Started        time.Time `json:"started"`
	Seconds        float64   `json:"seconds"`
	Rows           int64     `json:"rows"` // of the source
	MirrorRows     int64     `json:"mirrorRows"`
	SourceOID      uint32    `json:"sourceOid,omitempty"` // 0: the source has no such table
	DeltaID        string    `json:"deltaId,omitempty"`   // the Delta table's own
	DeltaVersion   int64     `json:"deltaVersion"`        // -1: none was read
	Checksum       string    `json:"checksum,omitempty"`  // of the source's rows: the sum of their 128-bit hashes, in hex
	MirrorChecksum string    `json:"mirrorChecksum,omitempty"`
	Key            []string  `json:"key,omitempty"` // columns; none: rows are told apart by all their values

	Differing   int             `json:"differing"`             // rows that differ
	Moving      int             `json:"moving"`                // rows that changed whenever they were looked at
	InFlight    int             `json:"inFlight"`              // rows that differed at first and were equal at a later look
	Differences []RowDifference `json:"differences,omitempty"` // by key, at most 1000
	Truncated   bool            `json:"truncated,omitempty"`   // more rows differed at first than could be looked at again

	Lossy      []Loss   `json:"lossy,omitempty"`
	LeftOut    []Loss   `json:"leftOut,omitempty"`    // columns that the mirror does not have, as documented
	OnlyMirror []string `json:"onlyMirror,omitempty"` // columns that the source does not have (any more); not compared
}

// Loss is a documented loss in a column.
type Loss struct {
	Column string `json:"column"`
	Rows   int64  `json:"rows,omitempty"` // whose value was changed
	Why    string `json:"why"`
}

// DifferenceKind is how a row differs.
type DifferenceKind string

// The kinds.
const (
	Changed DifferenceKind = "changed" // other values
	Missing DifferenceKind = "missing" // the mirror lacks the row
	Extra   DifferenceKind = "extra"   // the mirror has a row, or one more of it, that the source lacks
)

// RowDifference is a row that differs.
type RowDifference struct {
	Key     string         `json:"key"` // as "id=7, at=2024-02-29"; without a key all values, shortened
	Kind    DifferenceKind `json:"kind"`
	Columns []string       `json:"columns,omitempty"` // that differ, of a changed row
	Values  []string       `json:"values,omitempty"`  // of the key's columns, whole, as PostgreSQL reads them; none when it can't be written so
}
