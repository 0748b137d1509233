package verify

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ReceiptFormat is the version of Receipt as JSON.
const ReceiptFormat = 1

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
	Native        bool          `json:"native"`
	Started       time.Time     `json:"started"`
	Finished      time.Time     `json:"finished,omitzero"`
	Tables        []TableResult `json:"tables"` // ordered by schema and name
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

// done is what the run that is resumed has proved already. A receipt that is
// finished leaves nothing to resume: everything is compared anew.
func (cfg Config) done(now *Receipt) (map[string]TableResult, error) {
	r := cfg.Resume
	switch {
	case r == nil || !r.Finished.IsZero():
		return nil, nil
	case r.Format != ReceiptFormat:
		return nil, fmt.Errorf("%w: it has format %d, not %d", ErrReceipt, r.Format, ReceiptFormat)
	case r.Source != now.Source || r.Native != now.Native:
		return nil, fmt.Errorf("%w: it is of %s, not of %s", ErrReceipt, r.Source, now.Source)
	}
	done := map[string]TableResult{}
	for _, t := range r.Tables {
		if t.State == Equal || t.State == Lossy {
			done[t.Schema+"."+t.Name] = t
		}
	}
	now.Started = r.Started
	return done, nil
}

// keep takes over what the run that is resumed found of tables that nobody asks for
// now.
func (cfg Config) keep(r *Receipt, asked []pair) {
	if len(cfg.Only) == 0 {
		return // a table that is no more has no result
	}
	for _, t := range cfg.Resume.Tables {
		if !slices.ContainsFunc(asked, func(p pair) bool { return p.schema == t.Schema && p.name == t.Name }) {
			r.Replace(t)
		}
	}
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
	DeltaVersion   int64     `json:"deltaVersion"`       // -1: none was read
	Checksum       string    `json:"checksum,omitempty"` // of the source's rows: the sum of their 128-bit hashes, in hex
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
