package landing

import (
	"fmt"
	"strconv"
	"time"
)

// LSN is a position in PostgreSQL's write-ahead log, written as "16/B374D848".
type LSN uint64

func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// MarshalText and UnmarshalText write an LSN as PostgreSQL does.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (l *LSN) UnmarshalText(b []byte) error {
	var hi, lo uint32
	if n, err := fmt.Sscanf(string(b), "%X/%X", &hi, &lo); n != 2 || err != nil {
		return fmt.Errorf("LSN %q: want two hex numbers with a slash between", b)
	}
	*l = LSN(hi)<<32 | LSN(lo)
	return nil
}

// Position says how far a table's files follow the source: up to the N-th
// change of this table in the transaction whose commit record is at CommitLSN,
// and to the end of that transaction if Complete. CommitLSN is Begin.final_lsn
// of pgoutput and never the end of the commit record, which can be where the
// next one starts.
type Position struct {
	CommitLSN LSN   `json:"commitLsn"`
	N         int64 `json:"n"`
	Complete  bool  `json:"complete"`
}

// Skip is how many of the table's changes in the transaction that commits at
// lsn are already published; all says that every one is.
func (p Position) Skip(lsn LSN) (n int64, all bool) {
	switch {
	case lsn < p.CommitLSN || lsn == p.CommitLSN && p.Complete:
		return 0, true
	case lsn == p.CommitLSN:
		return p.N, false
	}
	return 0, false
}

// Meta is what a file says about itself in its Parquet footer. Fabric doesn't
// need it; a file without it is a file like any other.
type Meta struct {
	Generation int64 // of the table: it grows when the table is built anew
	Position   Position
	EndLSN     LSN       // end of the last transaction's commit record; 0 in a snapshot file
	CommitTime time.Time // of the last transaction; of the snapshot in a snapshot file
	Filled     int64     // rows with values that the stream had left out and that were read from the table, later
}

// The footer's keys.
const (
	metaGeneration = "pgmirror.generation"
	metaCommitLSN  = "pgmirror.commit_lsn"
	metaN          = "pgmirror.n"
	metaComplete   = "pgmirror.complete"
	metaEndLSN     = "pgmirror.end_lsn"
	metaCommitTime = "pgmirror.commit_time"
	metaFilled     = "pgmirror.filled"
)

// Footer is the meta as key-value pairs.
func (m Meta) Footer() map[string]string {
	return map[string]string{
		metaGeneration: strconv.FormatInt(m.Generation, 10),
		metaCommitLSN:  m.Position.CommitLSN.String(),
		metaN:          strconv.FormatInt(m.Position.N, 10),
		metaComplete:   strconv.FormatBool(m.Position.Complete),
		metaEndLSN:     m.EndLSN.String(),
		metaCommitTime: m.CommitTime.UTC().Format(time.RFC3339Nano),
		metaFilled:     strconv.FormatInt(m.Filled, 10),
	}
}

// ParseMeta reads the meta from a footer; false when it has none.
func ParseMeta(footer map[string]string) (Meta, bool, error) {
	var m Meta
	if _, ok := footer[metaCommitLSN]; !ok {
		return m, false, nil
	}
	var err error
	read := func(key string, parse func(string) error) {
		if e := parse(footer[key]); e != nil && err == nil {
			err = fmt.Errorf("footer %s: %w", key, e)
		}
	}
	number := func(to *int64) func(string) error {
		return func(s string) (err error) { *to, err = strconv.ParseInt(s, 10, 64); return err }
	}
	read(metaGeneration, number(&m.Generation))
	read(metaCommitLSN, func(s string) error { return m.Position.CommitLSN.UnmarshalText([]byte(s)) })
	read(metaN, number(&m.Position.N))
	read(metaComplete, func(s string) (err error) { m.Position.Complete, err = strconv.ParseBool(s); return err })
	read(metaEndLSN, func(s string) error { return m.EndLSN.UnmarshalText([]byte(s)) })
	read(metaCommitTime, func(s string) (err error) { m.CommitTime, err = time.Parse(time.RFC3339Nano, s); return err })
	read(metaFilled, number(&m.Filled))
	return m, true, err
}
