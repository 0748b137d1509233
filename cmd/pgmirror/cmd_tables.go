package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/mirror"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/admin"
	"github.com/pgmirror/pgmirror/internal/setup"
	"github.com/pgmirror/pgmirror/internal/store"
)

type tablesOptions struct {
	config configOptions
	json   bool
	dryRun bool
	wait   time.Duration
	names  []string
}

func newTablesCmd(s streams) *cobra.Command {
	var o tablesOptions
	cmd := &cobra.Command{
		Use:   "tables",
		Short: "Show and change which tables an open mirror has",
		Long: `Shows and changes which tables an open mirror has, while it runs or while it
doesn't: what is asked is left in the landing zone. A pgmirror run that is
running does it within ten seconds or so; else the next one that starts does.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTablesList(cmd.Context(), o, s) },
	}
	o.config.flags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "write NDJSON to stdout")
	for _, sub := range tablesCmds(s) {
		cmd.AddCommand(sub)
	}
	return cmd
}

// tablesRunner is what a subcommand does.
type tablesRunner func(context.Context, tablesOptions, streams) error

// tablesCmds are the subcommands, in the order of a table's life.
func tablesCmds(s streams) []*cobra.Command {
	var cmds []*cobra.Command
	for _, c := range []struct {
		use, short, long string
		run              tablesRunner
		flags            string // of -c: also --json, --dry-run, --wait
	}{
		{"list", "Show every table of the database, and what the mirror does with it", "", runTablesList, "json"},
		{"add TABLE...", "Take tables in: they are copied while the others go on",
			`Lets the mirror's role read the tables and puts them into a publication: one that
has a key into that of all changes, one without into that of inserts only, where
PostgreSQL goes on accepting the application's updates. A running mirror then
copies them while the others go on.

A partitioned table is one table: add it, and not its partitions, which come with
it, also those that are made later. Where each of them was mirrored as a table of
its own, they leave the publications; without a primary key it is refused then, since
their updates and deletes would be mirrored no more.`, changesTables(addTables), "dry-run wait"},
		{"remove TABLE...", "Take tables out: Fabric drops them, PostgreSQL keeps them",
			`Takes the tables out of the publication and removes their folders from the landing
zone, upon which Fabric drops its tables. Nothing happens to PostgreSQL's.`, changesTables(removeTables), "dry-run wait"},
		{"resync TABLE...", "Copy tables anew, also parked ones", "", asks(mirror.Resync), "wait"},
		{"pause TABLE...", "Stop mirroring tables; their data stays in Fabric as it is",
			`Stops mirroring the tables. Their data stays in Fabric as it is. The replication
slot doesn't wait for a paused table, so that it holds no WAL for it: a table that
is resumed is copied anew.`, asks(mirror.Pause), "wait"},
		{"resume TABLE...", "Mirror paused tables again: they are copied anew", "", asks(mirror.Resume), "wait"},
	} {
		cmds = append(cmds, tablesCmd(s, c.use, c.short, c.long, c.flags, c.run))
	}
	return cmds
}

func tablesCmd(s streams, use, short, long, flags string, run tablesRunner) *cobra.Command {
	var o tablesOptions
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.MinimumNArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.names = args
		return run(cmd.Context(), o, s)
	}
	o.config.flags(cmd)
	for flag := range strings.FieldsSeq(flags) {
		switch flag {
		case "json":
			cmd.Args = cobra.NoArgs
			cmd.Flags().BoolVar(&o.json, flag, false, "write NDJSON to stdout")
		case "dry-run":
			cmd.Flags().BoolVar(&o.dryRun, flag, false, "show the SQL and change nothing")
		case "wait":
			cmd.Flags().DurationVar(&o.wait, flag, 0, "wait at most this long until a running mirror has done it")
		}
	}
	return cmd
}

// openMirror is an open mirror as the commands work on it that change it.
type openMirror struct {
	*session
	s    streams
	zone store.Store
}

// openTables opens an open mirror that is made already. It needn't be as
// wanted: a table that waits to be taken in is what these commands are for.
func openTables(ctx context.Context, o configOptions, s streams) (*openMirror, error) {
	cfg, err := o.load(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := wantsOpen(cfg); err != nil {
		return nil, err
	}
	ses, err := openSession(ctx, s, cfg)
	if err != nil {
		return nil, err
	}
	m, err := ses.mirror()
	if err == nil && !ses.facts.Admin { // without a database there are no tables to speak of
		err = setupFailure(setup.Refuse(ses.plan))
	}
	if err != nil {
		ses.close(ctx)
		return nil, err
	}
	zone, err := ses.files(m.ID, "Files/LandingZone")
	if err != nil {
		ses.close(ctx)
		return nil, err
	}
	return &openMirror{ses, s, zone}, nil
}

// table finds a table of the database by its name, with or without its schema, and
// refuses a partition whose table is asked for as one, or which nobody asks for by itself.
func (m *openMirror) table(name string) (*postgres.Table, error) {
	schema, table := qualified(m.cfg, name)
	whole := m.facts.Within[schema+"."+table]
	for i := range m.facts.Tables {
		t := &m.facts.Tables[i]
		if t.Schema != schema || t.Name != table || whole != "" {
			continue
		}
		above := m.facts.Above(t)
		if wanted, _ := m.cfg.Mirror.Wants(schema, table); wanted || len(above) == 0 {
			return t, nil
		}
		whole = above[len(above)-1].String()
	}
	for i := range m.facts.Tables {
		if t := &m.facts.Tables[i]; t.String() == whole && m.facts.Within[schema+"."+table] != "" && t.Obstacle != "" {
			return nil, fail(exitPrecondition, "TableInAnother", "pgmirror explain TableInAnother", "%s.%s is a partition of %s, which is asked for as one table and can't be mirrored: %s", schema, table, whole, t.Obstacle)
		}
	}
	if whole != "" {
		return nil, fail(exitPrecondition, "TableInAnother", setup.ShellLine("pgmirror", "tables", "add", whole), "%s.%s is a partition of %s, which is taken as one table", schema, table, whole)
	}
	return nil, fail(exitError, "TableNotFound", "pgmirror tables list", "the database has no table %s.%s", schema, table)
}

// qualified splits schema.table; without a schema it is the default one.
func qualified(cfg *config.Config, name string) (schema, table string) {
	if schema, table, ok := strings.Cut(name, "."); ok {
		return schema, table
	}
	return cfg.Mirror.DefaultSchema, name
}

// asks is a command that only leaves requests.
func asks(kind mirror.RequestKind) tablesRunner {
	return func(ctx context.Context, o tablesOptions, s streams) error {
		m, err := openTables(ctx, o.config, s)
		if err != nil {
			return err
		}
		defer m.close(ctx)
		before, err := m.states(ctx)
		if err != nil {
			return err
		}
		for _, name := range o.names {
			if err := m.refuse(kind, before, name); err != nil {
				return err
			}
		}
		for _, name := range o.names {
			schema, table := qualified(m.cfg, name)
			if err := m.ask(ctx, mirror.Request{Kind: kind, Schema: schema, Table: table}); err != nil {
				return err
			}
			s.say("asked: %s %s.%s", kind, schema, table)
		}
		return m.wait(ctx, o.wait, kind, o.names, before)
	}
}

// changesTables is a command that changes the publications.
func changesTables(change func(context.Context, *openMirror, *admin.Session, tablesOptions) error) tablesRunner {
	return func(ctx context.Context, o tablesOptions, s streams) error {
		m, err := openTables(ctx, o.config, s)
		if err != nil {
			return err
		}
		defer m.close(ctx)
		a, done, err := m.asAdmin(ctx, "pgmirror tables")
		if err != nil {
			return err
		}
		defer done()
		return change(ctx, m, a, o)
	}
}

// states are what the landing zone says of its tables, by name.
func (m *openMirror) states(ctx context.Context) (map[string]mirror.TableState, error) {
	st, err := mirror.Status(ctx, m.zone)
	if errors.Is(err, mirror.ErrNoMirror) {
		return nil, nil
	} else if err != nil {
		return nil, mirrorFailure(err)
	}
	out := map[string]mirror.TableState{}
	for _, t := range st.Tables {
		out[t.Schema+"."+t.Name] = t
	}
	return out, nil
}

// refuse says why a request makes no sense, before any is left.
func (m *openMirror) refuse(kind mirror.RequestKind, states map[string]mirror.TableState, name string) error {
	schema, table := qualified(m.cfg, name)
	name = schema + "." + table
	t, ok := states[name]
	switch {
	case !ok:
		return fail(exitPrecondition, "TableNotMirrored", setup.ShellLine("pgmirror", "tables", "add", name), "the mirror doesn't have table %s", name)
	case kind == mirror.Resume && t.Phase != "parked":
		return fail(exitPrecondition, "TableNotPaused", resync(name), "table %s is not paused; it is %s", name, t.Phase)
	}
	return nil
}

// ask leaves a request, and notes it in the audit log.
func (m *openMirror) ask(ctx context.Context, r mirror.Request) error {
	what, table := "ask to "+string(r.Kind), r.Schema+"."+r.Table
	err := m.s.doors.audited(inDatabase(m.cfg, what, table), func() error { return mirror.Ask(ctx, m.zone, r) })
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, table, err)
	}
	return nil
}

// change has statements run in the source, as one change in the audit log; in a
// dry run it shows them instead.
func (m *openMirror) change(ctx context.Context, o tablesOptions, what string, a *admin.Session, todo []admin.Statement) error {
	if o.dryRun {
		for _, st := range todo {
			fmt.Fprintf(m.s.Out, "%s;\n", st.SQL)
		}
		return nil
	}
	if len(todo) == 0 {
		return nil
	}
	return setupFailure(m.s.doors.audited(inDatabase(m.cfg, what, strings.Join(o.names, " ")), func() error { return a.Run(ctx, todo...) }))
}

// meaning is what follows from a request, for people.
var meaning = map[mirror.RequestKind]string{
	mirror.Resync: "the table is copied anew while the others go on",
	mirror.Pause:  "its data stays in Fabric as it is; tables resume copies it anew",
	mirror.Resume: "the table is copied anew: the slot did not wait for it",
	mirror.Forget: "its folder goes, and Fabric drops its table",
	joined:        "the table is copied while the others go on",
}

// joined is what adding a table asks for; the publication is the request.
const joined mirror.RequestKind = "add"

// wait says who will do what was asked, and waits for it when that is wanted.
func (m *openMirror) wait(ctx context.Context, limit time.Duration, kind mirror.RequestKind, names []string, before map[string]mirror.TableState) error {
	slot, there, err := m.slot(ctx)
	if err != nil {
		return err
	}
	if there && slot.Active {
		m.s.say("A running pgmirror run does it within ten seconds or so: %s.", meaning[kind])
	} else {
		m.s.say("No pgmirror run is running; the next one that starts does it: %s.", meaning[kind])
	}
	if limit <= 0 {
		return nil
	}
	begun := time.Now()
	err = await(ctx, "the mirror does what was asked", limit, func(ctx context.Context) (bool, error) {
		if err := pause(ctx, 300*time.Millisecond); err != nil { // each look reads every table's state file
			return false, err
		}
		return m.answered(ctx, kind, names, before)
	})
	if err == nil {
		m.s.say("done after %s", seconds(time.Since(begun)))
	}
	if late, ok := errors.AsType[*failure](err); ok && late.Code == "TimedOut" {
		late.Next = "pgmirror tables list"
		if !there || !slot.Active {
			late.Next = "pgmirror run"
		}
	}
	return err
}

// answered says that all requests are answered and what they began is over. Tables
// that were parked instead of copied are its error, once the others are done.
func (m *openMirror) answered(ctx context.Context, kind mirror.RequestKind, names []string, before map[string]mirror.TableState) (bool, error) {
	asked := map[string]bool{} // looked up first: a state is written before its request goes
	for _, name := range names {
		schema, table := qualified(m.cfg, name)
		waits, err := mirror.Asked(ctx, m.zone, schema, table)
		if err != nil {
			return false, err
		}
		asked[schema+"."+table] = waits
	}
	states, err := m.states(ctx)
	if err != nil {
		return false, err
	}
	var parked []string
	for name, waits := range asked {
		switch now := states[name]; {
		case done(kind, before[name], now):
		case !waits && parkedInstead(kind, before[name], now):
			parked = append(parked, name+" ("+now.Reason+")")
		default:
			return false, nil
		}
	}
	if len(parked) > 0 {
		slices.Sort(parked)
		return false, fail(exitPrecondition, "TableParked", "pgmirror tables list", "parked, and not copied: %s", strings.Join(parked, ", "))
	}
	return true, nil
}

// parkedInstead says that a table which was to be copied was parked after it had
// been asked for.
func parkedInstead(kind mirror.RequestKind, before, now mirror.TableState) bool {
	switch {
	case now.Phase != "parked":
		return false
	case kind == joined: // no request tells when it was taken in
		return before.Phase != "parked" || before.Generation != now.Generation || before.Reason != now.Reason
	}
	return kind == mirror.Resync || kind == mirror.Resume
}

// done says that a request has been answered, and what it began is over.
func done(kind mirror.RequestKind, before, now mirror.TableState) bool {
	switch kind {
	case mirror.Forget:
		return now.Name == ""
	case mirror.Pause:
		return now.Phase == "parked"
	case mirror.Resync, mirror.Resume:
		return now.Phase == "replicating" && now.Generation > before.Generation
	}
	return now.Phase == "replicating"
}

func (m *openMirror) slot(ctx context.Context) (postgres.SlotInfo, bool, error) {
	e := m.clients.Endpoint(&m.facts)
	conn, err := e.Connect(ctx)
	if err != nil {
		return postgres.SlotInfo{}, false, connectFailure(e, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return postgres.Slot(ctx, conn, m.cfg.Slot())
}
