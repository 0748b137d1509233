package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

type statusOptions struct {
	config configOptions
	json   bool
	watch  bool
}

func newStatusCmd(s streams) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the mirror is doing, a line a table",
		Long: `Shows what each source really gives: the state, the processed rows and the last
sync of every table from Fabric, and in open mode the replication slot and its
WAL from PostgreSQL. A mirror that is Running proves nothing; verify does.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	cmd.Flags().BoolVar(&o.watch, "watch", false, "show it again every few seconds until Ctrl-C")
	return cmd
}

func runStatus(ctx context.Context, o statusOptions, s streams) error {
	cfg, err := o.config.load(ctx, s)
	if err != nil {
		return err
	}
	ses, err := openSession(ctx, s, cfg)
	if err != nil {
		return err
	}
	defer ses.close(ctx)
	for {
		st, err := ses.status(ctx)
		if err != nil {
			return err
		}
		if o.json {
			err = st.writeJSON(s.Out, cfg)
		} else {
			err = st.write(s.Out, cfg)
		}
		if err != nil || !o.watch {
			return err
		}
		if pause(ctx, 3*time.Second) != nil {
			return nil // Ctrl-C is how watching ends
		}
	}
}

// mirrorStatus is what Fabric and PostgreSQL say of one mirror.
type mirrorStatus struct {
	mirror fabric.MirroringStatus
	tables []fabric.TableStatus
	slot   *postgres.SlotInfo // of open mode; nil: there is none
}

func (ses *session) status(ctx context.Context) (mirrorStatus, error) {
	var st mirrorStatus
	m, err := ses.mirror()
	if err != nil {
		return st, err
	}
	if st.mirror, err = ses.clients.Fabric.MirroringStatus(ctx, ses.cfg.Workspace, m.ID); err != nil {
		return st, setupFailure(err)
	}
	if st.tables, err = ses.clients.Fabric.TablesStatus(ctx, ses.cfg.Workspace, m.ID); err != nil {
		return st, setupFailure(err)
	}
	slices.SortFunc(st.tables, func(a, b fabric.TableStatus) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Table, b.Table))
	})
	if ses.cfg.Mode != config.Open {
		return st, nil
	}
	conn, err := ses.clients.Endpoint(&ses.facts).Connect(ctx)
	if err != nil {
		return st, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, ok, err := postgres.Slot(ctx, conn, ses.cfg.Slot())
	if ok {
		st.slot = &slot
	}
	return st, err
}

// write shows the status to people.
func (st mirrorStatus) write(w io.Writer, cfg *config.Config) error {
	fmt.Fprintf(w, "%s (%s): %s%s\n", cfg.MirrorName(), cfg.Mode, st.mirror.Status, prefixed(": ", st.mirror.Error))
	if cfg.Mode == config.Open {
		fmt.Fprintln(w, "  "+st.slotLine(cfg.Slot()))
	}
	table := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  TABLE\tSTATE\tCHANGES\tBYTES\tLAST SYNC\tLATENCY\t")
	for _, t := range st.tables {
		fmt.Fprintf(table, "  %s.%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Schema, t.Table, t.Status,
			count(t.ProcessedRows), bytesText(t.ProcessedBytes), clockTime(t.LastSync), latency(t.LatencySeconds), t.ErrorMessage)
	}
	return table.Flush()
}

func (st mirrorStatus) slotLine(name string) string {
	if st.slot == nil {
		return "slot " + name + ": not there yet; pgmirror run makes it"
	}
	active := "nobody reads it"
	if st.slot.Active {
		active = "in use"
	}
	return fmt.Sprintf("slot %s: %s, confirmed %s, holds %s of WAL (%s)", name, active, st.slot.ConfirmedFlush, bytesText(st.slot.RetainedBytes), st.slot.WALStatus)
}

// statusLine is one line of status --json: the mirror, its slot, or a table.
type statusLine struct {
	Type           string     `json:"type"` // mirror, slot, table
	Schema         string     `json:"schema,omitempty"`
	Table          string     `json:"table,omitempty"`
	Slot           string     `json:"slot,omitempty"`
	State          string     `json:"state,omitempty"`
	Active         *bool      `json:"active,omitempty"`
	ConfirmedFlush string     `json:"confirmedFlush,omitempty"`
	RetainedBytes  *int64     `json:"retainedBytes,omitempty"`
	ProcessedRows  *int64     `json:"processedRows,omitempty"`
	ProcessedBytes *int64     `json:"processedBytes,omitempty"`
	LastSync       *time.Time `json:"lastSync,omitempty"`
	LatencySeconds *int       `json:"latencySeconds,omitempty"`
	ErrorCode      string     `json:"errorCode,omitempty"`
	Error          string     `json:"error,omitempty"`
}

func (st mirrorStatus) writeJSON(w io.Writer, cfg *config.Config) error {
	lines := []any{newHeader("status", cfg), statusLine{Type: "mirror", State: st.mirror.Status, Error: st.mirror.Error}}
	if s := st.slot; s != nil {
		lines = append(lines, statusLine{Type: "slot", Slot: s.Name, State: s.WALStatus, Active: &s.Active, ConfirmedFlush: s.ConfirmedFlush.String(), RetainedBytes: &s.RetainedBytes})
	}
	for _, t := range st.tables {
		line := statusLine{Type: "table", Schema: t.Schema, Table: t.Table, State: t.Status, ProcessedRows: &t.ProcessedRows,
			ProcessedBytes: &t.ProcessedBytes, LatencySeconds: t.LatencySeconds, ErrorCode: t.ErrorCode, Error: t.ErrorMessage}
		if !t.LastSync.IsZero() {
			line.LastSync = &t.LastSync
		}
		lines = append(lines, line)
	}
	return writeLines(w, lines...)
}
