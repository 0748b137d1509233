package delta

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// ErrUnsupported means that a table uses what this package doesn't know, so that
// it can't be read (or written) rightly; possibly wrapped, with the word for it.
var ErrUnsupported = errors.New("not supported")

// Features that this package knows, by their names in the protocol.
const (
	FeatureDeletionVectors = "deletionVectors"
	FeatureTimestampNTZ    = "timestampNtz"
)

// Protocol is what a reader and a writer of a table must know
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#protocol-evolution).
type Protocol struct {
	MinReader      int      `json:"minReaderVersion"`
	MinWriter      int      `json:"minWriterVersion"`
	ReaderFeatures []string `json:"readerFeatures,omitempty"`
	WriterFeatures []string `json:"writerFeatures,omitempty"`
}

// ProtocolFor is the least protocol for a table of that schema, with or without
// deletion vectors. Reader 1 and writer 2 are what every engine knows.
func ProtocolFor(s *batch.Schema, deletionVectors bool) Protocol {
	var features []string
	if deletionVectors {
		features = append(features, FeatureDeletionVectors)
	}
	if slices.ContainsFunc(s.Fields, func(f batch.Field) bool { return f.Type.Kind == batch.TimestampNTZ }) {
		features = append(features, FeatureTimestampNTZ)
	}
	if features == nil {
		return Protocol{MinReader: 1, MinWriter: 2}
	}
	return Protocol{MinReader: 3, MinWriter: 7, ReaderFeatures: features, WriterFeatures: features}
}

// Covers reports whether p allows all that q asks for.
func (p Protocol) Covers(q Protocol) bool {
	in := func(l []string) func(string) bool { return func(f string) bool { return !slices.Contains(l, f) } }
	return p.MinReader >= q.MinReader && p.MinWriter >= q.MinWriter &&
		!slices.ContainsFunc(q.ReaderFeatures, in(p.ReaderFeatures)) && !slices.ContainsFunc(q.WriterFeatures, in(p.WriterFeatures))
}

// With is p with all that q asks for besides. A table of writer version 2 that
// gets features keeps what that version implied.
func (p Protocol) With(q Protocol) Protocol {
	if q.MinWriter == 7 && p.MinWriter == 2 {
		p.WriterFeatures = []string{"appendOnly", "invariants"}
	}
	union := func(a, b []string) []string {
		out := append(slices.Clone(a), b...)
		slices.Sort(out)
		return slices.Compact(out)
	}
	return Protocol{MinReader: max(p.MinReader, q.MinReader), MinWriter: max(p.MinWriter, q.MinWriter),
		ReaderFeatures: union(p.ReaderFeatures, q.ReaderFeatures), WriterFeatures: union(p.WriterFeatures, q.WriterFeatures)}
}

// Features that don't change how rows are read: vacuumProtocolCheck concerns
// deletion of files only, columnMapping is looked for in the metadata.
var readable = []string{FeatureDeletionVectors, FeatureTimestampNTZ, "vacuumProtocolCheck", "columnMapping"}

// checkReadable refuses a table that can't be read rightly.
func checkReadable(p Protocol, m Metadata) error {
	if p.MinReader > 3 {
		return fmt.Errorf("reader version %d: %w", p.MinReader, ErrUnsupported)
	}
	for _, f := range p.ReaderFeatures {
		if !slices.Contains(readable, f) {
			return fmt.Errorf("table feature %s: %w", f, ErrUnsupported)
		}
	}
	if m.Format.Provider != "parquet" {
		return fmt.Errorf("data format %q: %w", m.Format.Provider, ErrUnsupported)
	}
	if len(m.PartitionColumns) > 0 {
		return fmt.Errorf("partition columns (%s): %w", strings.Join(m.PartitionColumns, ", "), ErrUnsupported)
	}
	if mode := m.Configuration["delta.columnMapping.mode"]; mode != "" && mode != "none" {
		return fmt.Errorf("column mapping by %s: %w", mode, ErrUnsupported)
	}
	return nil
}

var writable = []string{FeatureDeletionVectors, FeatureTimestampNTZ, "appendOnly", "invariants"}

// CheckWritable refuses a table whose rules for writers this package doesn't keep.
func (s *Snapshot) CheckWritable() error {
	p := s.Protocol
	if p.MinWriter > 2 && p.MinWriter != 7 || p.MinWriter == 7 && slices.ContainsFunc(p.WriterFeatures, func(f string) bool { return !slices.Contains(writable, f) }) {
		return fmt.Errorf("writer version %d %v: %w", p.MinWriter, p.WriterFeatures, ErrUnsupported)
	}
	if strings.EqualFold(s.Metadata.Configuration["delta.appendOnly"], "true") {
		return fmt.Errorf("delta.appendOnly: %w", ErrUnsupported)
	}
	if strings.Contains(s.Metadata.SchemaString, "delta.invariants") {
		return fmt.Errorf("column invariants: %w", ErrUnsupported)
	}
	return nil
}
