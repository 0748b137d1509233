package emulator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/store"
)

// NativeSource is what Options.Native mirrors: the tables that native mirroring
// takes, under the connection's own credentials. The publication is there and
// publishes exactly Tables; the slot is not, or was made by an earlier call.
type NativeSource struct {
	Host                     string
	Port                     int
	Database, User, Password string
	CAPEM                    []byte      // signs the server's certificate
	Tables                   []string    // "schema.table", ordered
	Landing                  store.Store // the item's Files/LandingZone
	Slot, Publication        string
}

// tableState is what native mirroring decided about a table.
type tableState struct {
	schema, name string
	code, text   string // "" is mirrored
	wholeRow     bool   // no key: its whole row identifies it
	unique       bool   // no primary key, but a unique index
}

// nativeRecheck is how often a native mirror that can't run looks again.
const nativeRecheck = 5 * time.Second

// maxNativeTables is the older, lower one of two documented limits.
const maxNativeTables = 500

// errNotPermitted says that the service may not mirror (yet): it then says
// Running and moves no data, as the real one does.
var errNotPermitted = errors.New("native mirroring is not permitted")

// errMayNotWrite says that the server's identity may not write into OneLake.
var errMayNotWrite = fmt.Errorf("%w: the server's identity may not write into the workspace", errNotPermitted)

// native feeds the landing zone of a native mirror, as azure_cdc does, whenever
// it may. It looks again after every change that bears on it.
func (m *mirrors) native(ctx context.Context, id string, r *run) {
	pause := retryLeast
	for ctx.Err() == nil {
		edge := m.nextEdge()
		began := time.Now()
		err := m.nativeOnce(ctx, id, r, edge)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > retryMost {
			pause = retryLeast
		}
		wait := nativeRecheck
		if err != nil && !errors.Is(err, errNotPermitted) {
			m.log.Warn("native mirror stopped", "item", id, "error", err)
			wait, pause = pause, min(2*pause, retryMost)
		}
		awaitEdge(ctx, edge, wait)
	}
}

func awaitEdge(ctx context.Context, edge <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-edge:
	case <-timer.C:
	}
}

// nativeOnce mirrors until an edge, an error or the end.
func (m *mirrors) nativeOnce(ctx context.Context, id string, r *run, edge <-chan struct{}) error {
	it := m.copyItem(id)
	l, err := m.permitted(&it, r.isReached())
	if errors.Is(err, errMayNotWrite) {
		m.unwell(ctx, l.db, slotName(&it), "CDC_ERR_SYS_ONELAKE_PERMISSION_DENIED")
	}
	if err != nil {
		r.decide(string(it.Definition), nil)
		return err
	}
	decided, err := m.decide(ctx, &it, l)
	if err != nil {
		return err
	}
	r.decide(string(it.Definition), decided)
	if m.crowded(&it, l.db) {
		m.unwell(ctx, l.db, slotName(&it), "CDC_ERR_SYS_MAX_NUMBER_OF_PUBLICATIONS_REACHED")
		return errNotPermitted
	}
	if m.shutOut() {
		m.unwell(ctx, l.db, slotName(&it), "CDC_ERR_SYS_ONELAKE_PERMISSION_DENIED")
		return errNotPermitted // its tables never reach Replicating
	}
	source, err := m.source(ctx, &it, l, decided)
	if err != nil || len(source.Tables) == 0 {
		return err
	}
	r.reach()
	if m.o.Native == nil {
		return errors.New("this emulator was started without a native mirror")
	}
	return m.feed(ctx, edge, source, func() bool { return m.stillSo(id, l) })
}

// feed runs the native mirror and ends it when what it depends on changed.
func (m *mirrors) feed(ctx context.Context, edge <-chan struct{}, source NativeSource, stillSo func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.o.Native(ctx, source) }()
	for {
		select {
		case err := <-done:
			return err
		case <-edge:
			edge = m.nextEdge()
			if !stillSo() {
				cancel()
				return <-done
			}
		}
	}
}

func (m *mirrors) stillSo(id string, l login) bool {
	it := m.copyItem(id)
	now, err := m.permitted(&it, true)
	return err == nil && now == l && !m.shutOut() && !m.redefined(id, &it)
}

// redefined says whether the tables that are asked for changed since the run's
// last decision.
func (m *mirrors) redefined(id string, it *itemState) bool {
	m.mu.Lock()
	r := m.runs[id]
	m.mu.Unlock()
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.definition != string(it.Definition)
}

// crowded says whether the server mirrors as much as it may already: one mirror
// a database, and azure_cdc.max_fabric_mirrors databases. Who was made first goes
// first.
func (m *mirrors) crowded(it *itemState, db string) (full bool) {
	m.state.look(func(s *state) {
		most, err := strconv.Atoi(firstNonEmpty(s.Server.Running["azure_cdc.max_fabric_mirrors"], "3"))
		before := map[string]bool{}
		for _, o := range s.Items {
			p := o.parsed().Properties.Source
			if o.ID == it.ID {
				break
			}
			if o.Mirroring != running || p.Type != nativeSource {
				continue
			}
			if cn, err := s.connection(strings.ToLower(p.TypeProperties.Connection)); err == nil {
				before[firstNonEmpty(p.TypeProperties.Database, cn.Parameters["database"])] = true
			}
		}
		full = before[db] || err == nil && len(before) >= most
	})
	return full
}

// shutOut says whether the tenant's setting keeps the service out of OneLake.
func (m *mirrors) shutOut() (out bool) {
	m.state.look(func(s *state) { out = s.World.NoExternalApps })
	return out
}

func (r *run) reach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = true
}

func (r *run) isReached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reached
}

// decide keeps what was decided, and by which definition.
func (r *run) decide(definition string, tables []tableState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decided, r.definition = tables, definition
}

// permitted says how the service signs in, or why it mirrors nothing: mirroring
// is off, the database isn't listed, or the server's identity may not write into
// the workspace. Once reached, the source pushes by itself: the server's gates
// for what comes in count no more.
func (m *mirrors) permitted(it *itemState, reached bool) (l login, err error) {
	src := it.source()
	var cn connectionState
	err = m.state.read(func(s *state) error {
		found, err := s.connection(strings.ToLower(src.Connection))
		if err != nil {
			return errNotPermitted
		}
		cn = *found
		w, err := s.workspace(it.Workspace)
		if err != nil {
			return errNotPermitted
		}
		db := firstNonEmpty(src.Database, cn.Parameters["database"])
		on := s.Server.Params["azure.fabric_mirror_enabled"] == "on" && slices.Contains(databaseList(s.Server.Params["azure.mirror_databases"]), db)
		switch {
		case !on:
			return errNotPermitted
		case !w.mayWrite(s.Server.Principal):
			l.db = db
			return errMayNotWrite
		}
		cn.Parameters = map[string]string{"server": cn.Parameters["server"], "database": db}
		return nil
	})
	if err != nil {
		return l, err
	}
	l, e := m.login(&cn, reached)
	if e != nil {
		return l, fmt.Errorf("%w: %w", errNotPermitted, e)
	}
	return l, nil
}

// decide judges every table as azure_cdc does, signed in as the connection does.
func (m *mirrors) decide(ctx context.Context, it *itemState, l login) ([]tableState, error) {
	conn, err := m.db.connect(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("sign in as the connection does: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT s.table_schema, s.table_name, d->>'status', d->>'status_code', d->'details'->>'message'
	  FROM azure_cdc.get_all_tables_mirror_status() s, jsonb_array_elements(s.mirroring_data) d ORDER BY 1, 2, 4`)
	if err != nil {
		return nil, fmt.Errorf("judge the tables: %w", err)
	}
	var all []tableState
	var schema, name, status, code, text string
	_, err = pgx.ForEachRow(rows, []any{&schema, &name, &status, &code, &text}, func() error {
		if n := len(all); n == 0 || all[n-1].schema != schema || all[n-1].name != name {
			all = append(all, tableState{schema: schema, name: name})
		}
		m.judge(&all[len(all)-1], status, code, text)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("judge the tables: %w", err)
	}
	return mounted(all, it.parsed().Properties.MountedTables), nil
}

// judge adds one finding to a table. Without native limits the types and names
// that the service refuses are taken.
func (m *mirrors) judge(t *tableState, status, code, text string) {
	switch {
	case code == "NO_INDEX_FULL_IDENTITY":
		t.wholeRow = true
	case code == "HAS_UNIQUE_INDEX":
		t.unique = true
	case status == "ERROR" && t.code == "" && !(m.o.WithoutNativeLimits && limits[code]):
		t.code, t.text = code, text
	}
}

// limits are the refusals that Options.WithoutNativeLimits lifts.
var limits = map[string]bool{"UNSUPPORTED_DATA_TYPE": true, "FORBIDDEN_CHARS_IN_COLUMN_NAME": true, "FORBIDDEN_CHARS_IN_TABLE_NAME": true}

// mounted leaves what the definition asks for. Without a list that is every table
// that can be mirrored, cut at the limit; a listed one that can't be is shown as
// failed.
func mounted(all []tableState, wanted *[]mountedTable) []tableState {
	if wanted == nil {
		all = slices.DeleteFunc(all, func(t tableState) bool { return t.code != "" })
		return all[:min(len(all), maxNativeTables)]
	}
	out := []tableState{}
	for _, w := range *wanted {
		want := w.Source.TypeProperties
		schemaThere := false
		i := slices.IndexFunc(all, func(t tableState) bool {
			schemaThere = schemaThere || t.schema == want.Schema
			return t.schema == want.Schema && t.name == want.Table
		})
		switch {
		case i >= 0:
			out = append(out, all[i])
		case schemaThere:
			out = append(out, tableState{schema: want.Schema, name: want.Table, code: "TABLE_DOES_NOT_EXIST",
				text: fmt.Sprintf("In schema %s, table %s does not exist.", want.Schema, want.Table)})
		default:
			out = append(out, tableState{schema: want.Schema, name: want.Table, code: "SCHEMA_DOES_NOT_EXIST",
				text: fmt.Sprintf("Schema %s does not exist", want.Schema)})
		}
	}
	return out
}
