package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

type statusOptions struct {
	config configOptions
	json   bool
	watch  bool
	every  time.Duration
}

func newStatusCmd(s streams) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the mirror is doing, a line a table",
		Long: `Shows what each source really gives: the state, the processed rows and the last
sync of every table from Fabric; in open mode also the phase, the files and the
position of every table from the landing zone, and the replication slot, its WAL
and its lag from PostgreSQL. A mirror that is Running proves nothing; verify does.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	f.BoolVar(&o.watch, "watch", false, "show it again and again until Ctrl-C")
	f.DurationVar(&o.every, "every", 5*time.Second, "with --watch: how long to rest between two looks, at least 1s")
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
		if err := showStatus(ctx, o, s, ses); err != nil && (!o.watch || ctx.Err() == nil && errors.As(err, new(*failure))) {
			return err
		} else if err != nil && ctx.Err() == nil {
			s.say("can't look: %v; looking again", err) // watching outlives a restart
		}
		if !o.watch || pause(ctx, max(o.every, time.Second)) != nil {
			return nil // Ctrl-C is how watching ends
		}
	}
}

// showStatus looks once and shows it, on a terminal in place of the last look.
func showStatus(ctx context.Context, o statusOptions, s streams, ses *session) error {
	st, err := ses.status(ctx)
	if err != nil {
		return err
	}
	if o.json {
		return st.writeJSON(s.Out, ses.cfg)
	}
	if out, ok := s.Out.(*os.File); ok && o.watch && isTerminal(out) {
		fmt.Fprint(out, "\x1b[H\x1b[2J")
	}
	return st.write(s.Out, ses.cfg)
}

// mirrorStatus is what Fabric, the landing zone and PostgreSQL say of one
// mirror.
type mirrorStatus struct {
	mirror fabric.MirroringStatus
	tables []fabric.TableStatus
	zone   *mirror.State      // of open mode; nil: no run has begun
	slot   *postgres.SlotInfo // of open mode; nil: there is none
	lag    int64              // bytes of WAL that the slot's reader hasn't confirmed
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
	zone, err := ses.files(m.ID, "Files/LandingZone")
	if err != nil {
		return st, err
	}
	if st.zone, err = mirror.Status(ctx, zone); err != nil && !errors.Is(err, mirror.ErrNoMirror) {
		return st, mirrorFailure(err)
	}
	st.tables = sourceNames(st.tables, st.zone)
	return st, ses.slotStatus(ctx, &st)
}

// fabricName is what Fabric calls a table of an open mirror: its folder's name,
// which escapes what a path or Fabric would take for something else.
func fabricName(schema, table string) (string, string) {
	return landing.TableName(landing.TableDir(schema, table))
}

// sourceNames calls Fabric's tables as PostgreSQL does, as far as the landing zone
// knows them.
func sourceNames(tables []fabric.TableStatus, zone *mirror.State) []fabric.TableStatus {
	if zone == nil {
		return tables
	}
	named := map[[2]string]mirror.TableState{}
	for _, t := range zone.Tables {
		schema, table := fabricName(t.Schema, t.Name)
		named[[2]string{strings.ToLower(schema), strings.ToLower(table)}] = t
	}
	for i, t := range tables {
		if source, ok := named[[2]string{strings.ToLower(t.Schema), strings.ToLower(t.Table)}]; ok {
			tables[i].Schema, tables[i].Table = source.Schema, source.Name
		}
	}
	return tables
}

func (ses *session) slotStatus(ctx context.Context, st *mirrorStatus) error {
	conn, err := ses.clients.Endpoint(&ses.facts).Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, ok, err := postgres.Slot(ctx, conn, ses.cfg.Slot())
	if err != nil || !ok {
		return err
	}
	st.slot = &slot
	return conn.QueryRow(ctx, `SELECT pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
		ELSE pg_catalog.pg_current_wal_lsn() END, $1::text::pg_lsn)::bigint`, slot.ConfirmedFlush.String()).Scan(&st.lag)
}
