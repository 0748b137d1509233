package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/fabric"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/setup"
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
	ses, err := openSession(ctx, s, cfg, looking{each: true})
	if err != nil {
		return err
	}
	defer ses.close(ctx)
	for _, f := range ses.plan {
		if f.Action == setup.None && f.Code == "TableNotJoined" {
			s.say("warning[%s]: %s\n  next: %s", f.Code, f.Have, s.next(f.Hint))
		}
	}
	for {
		faults, err := showStatus(ctx, o, s, ses)
		switch {
		case err != nil && (!o.watch || ctx.Err() == nil && errors.As(err, new(*failure))):
			return err
		case err != nil && ctx.Err() == nil:
			s.say("can't look: %v; looking again", err)
		case !o.watch && len(faults) > 0:
			return faults[0].failure()
		}
		if !o.watch || pause(ctx, max(o.every, time.Second)) != nil {
			return nil // Ctrl-C is how watching ends
		}
	}
}

// showStatus looks once and shows it, on a terminal in place of the last look. It
// returns who could not be asked.
func showStatus(ctx context.Context, o statusOptions, s streams, ses *session) ([]statusFault, error) {
	st, err := ses.status(ctx)
	if err != nil {
		return nil, err
	}
	if o.json {
		return st.faults, st.writeJSON(s.Out, ses.cfg)
	}
	if out, ok := s.Out.(*os.File); ok && o.watch && isTerminal(out) {
		fmt.Fprint(out, "\x1b[H\x1b[2J")
	}
	return st.faults, st.write(s, ses.cfg)
}

// mirrorStatus is what Fabric, the landing zone and PostgreSQL say of one
// mirror.
type mirrorStatus struct {
	mirror fabric.MirroringStatus
	tables []fabric.TableStatus
	zone   *mirror.State      // of open mode; nil: no run has begun
	slot   *postgres.SlotInfo // of open mode; nil: there is none
	lag    int64              // bytes of WAL that the slot's reader hasn't confirmed
	faults []statusFault      // what of this is not known
}

// Who is asked how the mirror is.
const (
	askedFabric = "Fabric"
	askedZone   = "landing zone"
	askedServer = "PostgreSQL"
)

// statusFault is one of those who can't be asked, and why. The others are.
type statusFault struct {
	source string
	err    *failure
}

// failure is what the command ends with.
func (f statusFault) failure() error {
	return &failure{Exit: f.err.Exit, Code: f.err.Code, Err: fmt.Errorf("%s can't be asked: %w", f.source, f.err.Err), Next: f.err.Next}
}

func (st *mirrorStatus) cannot(source string, err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f, ok = errors.AsType[*failure](setupFailure(err))
	}
	if late := errors.Is(err, context.DeadlineExceeded); !ok || late && f.Code == "Failed" {
		f = &failure{Exit: exitError, Code: "Failed", Err: err, Next: "pgmirror doctor"}
		if late {
			f.Exit, f.Code, f.Err = exitTimeout, "TimedOut", fmt.Errorf("no answer within %s", seconds(eachPatience))
		}
	}
	st.faults = append(st.faults, statusFault{source, f})
}

// unknown says that somebody could not be asked.
func (st *mirrorStatus) unknown(source string) bool {
	return slices.ContainsFunc(st.faults, func(f statusFault) bool { return f.source == source })
}

// status asks each of them, for some time at most, and the server beside the others;
// the error is that there is no mirror to ask about.
func (ses *session) status(ctx context.Context) (mirrorStatus, error) {
	var st mirrorStatus
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- ses.askServer(asking, &st) }()
	err := ses.askOthers(ctx, &st)
	if err != nil {
		cancel()
	}
	fault := <-asked
	if err != nil {
		return st, err
	}
	if fault != nil {
		st.cannot(askedServer, fault)
	}
	return st, ctx.Err()
}

// askServer fills in the slot and nothing else.
func (ses *session) askServer(ctx context.Context, st *mirrorStatus) error {
	if ses.cfg.Mode != config.Open {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, eachPatience)
	defer cancel()
	return ses.slotStatus(ctx, st)
}

func (ses *session) askOthers(ctx context.Context, st *mirrorStatus) error {
	timed, cancel := context.WithTimeout(ctx, eachPatience)
	defer cancel()
	m, err := ses.findMirror(timed)
	if err != nil && ses.facts.Mirror.ID == "" && errors.Is(err, errNoMirror) {
		_, err = ses.mirror()
		return err
	}
	if err == nil {
		err = ses.fabricStatus(timed, m.ID, st)
	}
	if err != nil {
		st.cannot(askedFabric, err)
	}
	if ses.cfg.Mode != config.Open {
		return nil
	}
	timed, cancel = context.WithTimeout(ctx, eachPatience)
	defer cancel()
	if err := ses.zoneStatus(timed, m.ID, st); err != nil {
		st.cannot(askedZone, err)
	}
	return nil
}

var errNoMirror = errors.New("there is no mirrored database of this name")

// findMirror is the mirrored database, also when a step before it in the plan could
// not look.
func (ses *session) findMirror(ctx context.Context) (fabric.MirroredDatabase, error) {
	if ses.facts.Mirror.ID != "" {
		return ses.facts.Mirror, nil
	}
	if _, err := ses.clients.FindWorkspace(ctx); err != nil {
		return fabric.MirroredDatabase{}, setupFailure(err)
	}
	if ses.cfg.WorkspaceNamed() {
		return fabric.MirroredDatabase{}, errNoMirror
	}
	all, err := ses.clients.Fabric.MirroredDatabases(ctx, ses.cfg.Workspace)
	if err != nil {
		return fabric.MirroredDatabase{}, setupFailure(err)
	}
	for _, m := range all {
		if m.Name == ses.cfg.MirrorName() {
			return m, nil
		}
	}
	return fabric.MirroredDatabase{}, errNoMirror
}

func (ses *session) fabricStatus(ctx context.Context, item string, st *mirrorStatus) (err error) {
	if st.mirror, err = ses.clients.Fabric.MirroringStatus(ctx, ses.cfg.Workspace, item); err != nil {
		return setupFailure(err)
	}
	if st.tables, err = ses.clients.Fabric.TablesStatus(ctx, ses.cfg.Workspace, item); err != nil {
		return setupFailure(err)
	}
	slices.SortFunc(st.tables, func(a, b fabric.TableStatus) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Table, b.Table))
	})
	return nil
}

func (ses *session) zoneStatus(ctx context.Context, item string, st *mirrorStatus) error {
	if item == "" {
		return fail(exitError, "Failed", "pgmirror doctor", "Fabric has to say first where it is")
	}
	zone, err := ses.files(item, "Files/LandingZone")
	if err != nil {
		return err
	}
	if st.zone, err = mirror.Status(ctx, zone); err != nil && !errors.Is(err, mirror.ErrNoMirror) {
		return mirrorFailure(err)
	}
	st.tables = sourceNames(st.tables, st.zone)
	return nil
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
	named := map[string]mirror.TableState{}
	for _, t := range zone.Tables {
		named[landing.Folded(fabricName(t.Schema, t.Name))] = t
	}
	for i, t := range tables {
		if source, ok := named[landing.Folded(t.Schema, t.Table)]; ok {
			tables[i].Schema, tables[i].Table = source.Schema, source.Name
		}
	}
	return tables
}

func (ses *session) slotStatus(ctx context.Context, st *mirrorStatus) error {
	if err := ses.unseen["role-secret"]; err != nil { // without the password it would be refused
		return setupFailure(err)
	}
	e := ses.clients.Endpoint(&ses.facts)
	conn, err := e.Connect(ctx)
	if err != nil {
		return connectFailure(e, err)
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
