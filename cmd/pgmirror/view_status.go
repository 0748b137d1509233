package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// write shows the status to people.
func (st mirrorStatus) write(s streams, cfg *config.Config) error {
	w := s.Out
	state := st.mirror.Status + prefixed(": ", st.mirror.Error)
	if st.unknown(askedFabric) {
		state = "not known"
	}
	fmt.Fprintf(w, "%s (%s): %s\n", cfg.MirrorName(), cfg.Mode, state)
	for _, f := range st.faults {
		fmt.Fprintf(w, "  %s can't be asked: %s [%s]\n", f.source, f.err.Error(), f.err.Code)
	}
	if cfg.Mode == config.Open && !st.unknown(askedServer) {
		fmt.Fprintln(w, "  "+st.slotLine(cfg.Slot()))
		if st.slotLost() != "" {
			fmt.Fprintln(w, "    next: "+s.next(reseed))
		}
	}
	table := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	if !st.unknown(askedFabric) {
		fmt.Fprintln(table, "  TABLE\tSTATE\tCHANGES\tBYTES\tLAST SYNC\tLATENCY\t")
	}
	for _, t := range st.tables {
		fmt.Fprintf(table, "  %s.%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Schema, t.Table, t.Status,
			count(t.ProcessedRows), bytesText(t.ProcessedBytes), moment(t.LastSync), latency(t.LatencySeconds), t.ErrorMessage)
	}
	if st.zone != nil {
		fmt.Fprintln(table, "\n  LANDED\tPHASE\tFILES\tUP TO\tCOPIED\t")
		for _, t := range st.zone.Tables {
			fmt.Fprintf(table, "  %s.%s\t%s\t%s\t%s\t%s\t%s\n", t.Schema, t.Name, t.Phase, count(t.Files), t.Position.CommitLSN, copied(t), landedNote(t))
		}
	}
	return table.Flush()
}

// copied is how far a table's snapshot is.
func copied(t mirror.TableState) string {
	if t.ChunksDone < t.Chunks {
		return fmt.Sprintf("%s rows, %d of %d chunks", count(t.Rows), t.ChunksDone, t.Chunks)
	}
	return count(t.Rows) + " rows"
}

func landedNote(t mirror.TableState) string {
	if t.Ignored > 0 {
		return plural(t.Ignored, "update or delete") + " ignored: no key"
	}
	return t.Reason
}

// slotLost says that the slot has lost what the mirror needs of it, and how; "" when
// it hasn't, or when nobody knows how far the mirror is.
func (st mirrorStatus) slotLost() string { return slotLost(st.zone, st.slot) }

// slotLost is what a run would refuse as SlotLost. Without a slot the landing zone
// tells a mirror that has lost it from one that hasn't begun.
func slotLost(zone *mirror.State, slot *postgres.SlotInfo) string {
	switch {
	case slot == nil && zone != nil && zone.Acked > 0:
		return "it is gone, and with it the changes that the mirror doesn't have; nobody can bring them back, so that every table has to be copied anew"
	case slot != nil && slot.WALStatus == "lost":
		return "the server has removed WAL that it needed, and with it the changes that the mirror doesn't have, so that every table has to be copied anew"
	}
	return ""
}

func (st mirrorStatus) slotLine(name string) string {
	switch lost := st.slotLost(); {
	case lost != "":
		return "slot " + name + ": lost: " + lost + " [SlotLost]"
	case st.slot == nil && st.unknown(askedZone):
		return "slot " + name + ": not there; whether a run has made it before is for the landing zone to say"
	case st.slot == nil:
		return "slot " + name + ": not there yet; pgmirror run makes it"
	}
	active := "nobody reads it"
	if st.slot.Active {
		active = "in use"
	}
	limit := ""
	if st.slot.SafeWALSize >= 0 {
		limit = ", may hold " + bytesText(st.slot.SafeWALSize) + " more"
	}
	return fmt.Sprintf("slot %s: %s, confirmed %s, %s behind; holds %s of WAL (%s%s)", name, active, st.slot.ConfirmedFlush, bytesText(st.lag),
		bytesText(st.slot.RetainedBytes), st.slot.WALStatus, limit)
}

// statusLine is one line of status --json: who can't be asked, the mirror, its slot, or a table as
// Fabric has it. What the landing zone says of a table is a line of its own.
type statusLine struct {
	Type           string     `json:"type"` // unknown, mirror, slot, table
	Source         string     `json:"source,omitempty"`
	Schema         string     `json:"schema,omitempty"`
	Table          string     `json:"table,omitempty"`
	Slot           string     `json:"slot,omitempty"`
	State          string     `json:"state,omitempty"`
	Active         *bool      `json:"active,omitempty"`
	ConfirmedFlush string     `json:"confirmedFlush,omitempty"`
	LagBytes       *int64     `json:"lagBytes,omitempty"`
	RetainedBytes  *int64     `json:"retainedBytes,omitempty"`
	SafeWALSize    *int64     `json:"safeWalSize,omitempty"` // absent: the server has no limit
	ProcessedRows  *int64     `json:"processedRows,omitempty"`
	ProcessedBytes *int64     `json:"processedBytes,omitempty"`
	LastSync       *time.Time `json:"lastSync,omitempty"`
	LatencySeconds *int       `json:"latencySeconds,omitempty"`
	ErrorCode      string     `json:"errorCode,omitempty"`
	Error          string     `json:"error,omitempty"`
	Next           string     `json:"next,omitempty"`
}

func (st mirrorStatus) writeJSON(w io.Writer, cfg *config.Config) error {
	lines := []any{newHeader("status", cfg)}
	for _, f := range st.faults {
		lines = append(lines, statusLine{Type: "unknown", Source: f.source, ErrorCode: f.err.Code, Error: f.err.Error(), Next: f.err.Next})
	}
	if !st.unknown(askedFabric) {
		lines = append(lines, statusLine{Type: "mirror", State: st.mirror.Status, Error: st.mirror.Error})
	}
	if s, lost := st.slot, st.slotLost(); s == nil && lost != "" {
		lines = append(lines, statusLine{Type: "slot", Slot: cfg.Slot(), State: "lost", ErrorCode: "SlotLost", Error: lost, Next: reseed})
	} else if s != nil {
		line := statusLine{Type: "slot", Slot: s.Name, State: s.WALStatus, Active: &s.Active, ConfirmedFlush: s.ConfirmedFlush.String(),
			LagBytes: &st.lag, RetainedBytes: &s.RetainedBytes}
		if s.SafeWALSize >= 0 {
			line.SafeWALSize = &s.SafeWALSize
		}
		if lost != "" {
			line.ErrorCode, line.Error, line.Next = "SlotLost", lost, reseed
		}
		lines = append(lines, line)
	}
	for _, t := range st.tables {
		line := statusLine{Type: "table", Schema: t.Schema, Table: t.Table, State: t.Status, ProcessedRows: &t.ProcessedRows,
			ProcessedBytes: &t.ProcessedBytes, LatencySeconds: t.LatencySeconds, ErrorCode: t.ErrorCode, Error: t.ErrorMessage}
		if !t.LastSync.IsZero() {
			line.LastSync = &t.LastSync
		}
		lines = append(lines, line)
	}
	if st.zone != nil {
		for _, t := range st.zone.Tables {
			line, err := typed("landed", t)
			if err != nil {
				return err
			}
			lines = append(lines, line)
		}
	}
	return writeLines(w, lines...)
}
