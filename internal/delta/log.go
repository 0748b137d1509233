package delta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/store"
)

const logDir = "_delta_log"

func commitName(version int64) string { return fmt.Sprintf("%s/%020d.json", logDir, version) }

// state is what a log adds up to
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#action-reconciliation).
type state struct {
	protocol *Protocol
	metadata *Metadata
	info     *CommitInfo
	files    map[string]*File   // by path: a path has at most one vector at a time
	removes  map[string]*Remove // tombstones that the vacuum needs, by path and vector
	txns     map[string]*Txn

	checkpoint int64 // the version from which on commits were replayed; -1 when there was none
}

func newState() *state {
	return &state{files: map[string]*File{}, removes: map[string]*Remove{}, txns: map[string]*Txn{}}
}

// apply replays one commit. The removes of a commit come first, whatever its
// order: a new vector is a remove and an add of one path.
func (st *state) apply(actions []Action) error {
	st.info = nil
	now, added := int64(0), map[string]bool{}
	for _, a := range actions {
		switch {
		case a.CommitInfo != nil:
			st.info, now = a.CommitInfo, a.CommitInfo.Timestamp
		case a.Add != nil:
			added[a.Add.Path] = true
		}
	}
	for _, a := range actions {
		if r := a.Remove; r != nil {
			f := st.files[r.Path]
			if f != nil && f.DeletionVector.id() == r.DeletionVector.id() {
				delete(st.files, r.Path)
				if f.brief(r, added[r.Path]) {
					continue
				}
			}
			st.removes[r.Path+"\x00"+r.DeletionVector.id()] = r
		}
	}
	for _, a := range actions {
		switch {
		case a.Protocol != nil:
			st.protocol = a.Protocol
		case a.Metadata != nil:
			st.metadata = a.Metadata
		case a.Txn != nil:
			st.txns[a.Txn.AppID] = a.Txn
		case a.Add != nil:
			if err := st.add(a.Add, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (st *state) add(a *Add, now int64) error {
	f, err := newFile(a)
	if err != nil {
		return err
	}
	f.since = now
	if old := st.files[a.Path]; old != nil {
		if old.DeletionVector.id() != a.DeletionVector.id() {
			return fmt.Errorf("file %s is added with another deletion vector, and not removed", a.Path)
		}
		f.since = old.since
	}
	st.files[a.Path] = f
	delete(st.removes, a.Path+"\x00"+a.DeletionVector.id())
	return nil
}

// briefly is how short a life leaves no tombstone. A table that changes every
// second would gather millions of them within its retention, and write them into
// every checkpoint, for files that the vacuum leaves alone as they are young: a
// tombstone holds such a file for at most this much longer, which Vacuum adds.
const briefly = time.Minute

// brief reports whether the vacuum needs no tombstone of f, which r removes:
// what f consists of goes on (its path is added again), or is not older than
// briefly.
func (f *File) brief(r *Remove, again bool) bool {
	young := func(since int64) bool {
		return since > 0 && since <= r.DeletionTimestamp && r.DeletionTimestamp-since < briefly.Milliseconds()
	}
	vector := f.DeletionVector == nil || f.DeletionVector.StorageType == "i" || young(f.since)
	return vector && (again || young(f.ModificationTime) && young(f.since))
}

// listing is what a log's folder holds.
type listing struct {
	commits     map[int64]bool
	times       map[int64]time.Time // when each commit was written
	newest      int64               // the newest commit or checkpoint; -1 when there is none
	checkpoints map[int64][]string
}

func list(ctx context.Context, table store.Store) (*listing, error) {
	infos, err := table.List(ctx, logDir)
	if err != nil {
		return nil, fmt.Errorf("list the log: %w", err)
	}
	return readListing(infos), nil
}

// logVersion is the version that a file of the log's folder is about.
func logVersion(i store.Info) (int64, bool) {
	digits, _, _ := strings.Cut(path.Base(i.Name), ".")
	v, err := strconv.ParseInt(digits, 10, 64)
	return v, !i.Dir && len(digits) == 20 && err == nil && v >= 0
}

func readListing(infos []store.Info) *listing {
	l := &listing{commits: map[int64]bool{}, times: map[int64]time.Time{}, newest: -1, checkpoints: map[int64][]string{}}
	parts := map[int64]map[string][]string{} // version → number of parts → names
	for _, i := range infos {
		v, ok := logVersion(i)
		if !ok {
			continue
		}
		_, rest, _ := strings.Cut(path.Base(i.Name), ".")
		switch f := strings.Split(rest, "."); {
		case rest == "json":
			l.commits[v], l.times[v] = true, i.Modified
		case rest == "checkpoint.parquet":
			l.checkpoints[v] = []string{i.Name}
		case len(f) == 4 && f[0] == "checkpoint" && f[3] == "parquet" && len(f[1]) == 10 && len(f[2]) == 10:
			if parts[v] == nil {
				parts[v] = map[string][]string{}
			}
			parts[v][f[2]] = append(parts[v][f[2]], i.Name)
			continue
		default:
			continue
		}
		l.newest = max(l.newest, v)
	}
	l.completeParts(parts)
	return l
}

// completeParts keeps the checkpoints in several files that have all of them.
func (l *listing) completeParts(parts map[int64]map[string][]string) {
	for v, sets := range parts {
		for count, names := range sets {
			if n, err := strconv.Atoi(count); err == nil && n == len(names) && l.checkpoints[v] == nil {
				l.checkpoints[v] = names
				l.newest = max(l.newest, v)
			}
		}
	}
}

// replay reads the newest checkpoint that is not beyond version, and the commits
// from there on.
func replay(ctx context.Context, table store.Store, l *listing, version int64) (*state, error) {
	st, from := newState(), int64(0)
	for v := range l.checkpoints {
		if v <= version {
			from = max(from, v+1)
		}
	}
	st.checkpoint = from - 1
	if !l.commits[0] && from == 0 {
		return nil, fmt.Errorf("the log lacks version %d, which was cleaned away: %w", version, store.ErrNotExist)
	}
	if from > 0 {
		for _, name := range l.checkpoints[from-1] {
			if err := st.load(ctx, table, name); err != nil {
				return nil, fmt.Errorf("checkpoint %s: %w", name, err)
			}
		}
	}
	for v := from; v <= version; v++ {
		if !l.commits[v] {
			return nil, fmt.Errorf("the log lacks %s", commitName(v))
		}
		if err := st.read(ctx, table, v); err != nil {
			return nil, err
		}
	}
	if from > version && l.commits[version] { // a checkpoint holds no commitInfo
		actions, err := readCommit(ctx, table, version)
		if err != nil {
			return nil, err
		}
		for _, a := range actions {
			if a.CommitInfo != nil {
				st.info = a.CommitInfo
			}
		}
	}
	return st, nil
}

func (st *state) read(ctx context.Context, table store.Store, v int64) error {
	actions, err := readCommit(ctx, table, v)
	if err != nil {
		return err
	}
	if err := st.apply(actions); err != nil {
		return fmt.Errorf("%s: %w", commitName(v), err)
	}
	return nil
}

func readCommit(ctx context.Context, table store.Store, v int64) ([]Action, error) {
	data, _, err := table.Read(ctx, commitName(v), 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", commitName(v), err)
	}
	actions, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", commitName(v), err)
	}
	return actions, nil
}

// snapshot makes a Snapshot of a state, and refuses what can't be read rightly.
func (st *state) snapshot(table store.Store, version int64) (*Snapshot, error) {
	if st.protocol == nil || st.metadata == nil {
		return nil, errors.New("the log holds no protocol or no metadata")
	}
	if err := checkReadable(*st.protocol, *st.metadata); err != nil {
		return nil, err
	}
	schema, err := parseSchema(st.metadata.SchemaString)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Version: version, Protocol: *st.protocol, Metadata: *st.metadata, Schema: schema, Txns: map[string]int64{}, Checkpointed: st.checkpoint, table: table, state: st}
	if st.info != nil {
		s.Info = *st.info
	}
	for _, f := range st.files {
		s.Files = append(s.Files, *f)
	}
	slices.SortFunc(s.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for id, t := range st.txns {
		s.Txns[id] = t.Version
	}
	return s, nil
}

// Snapshot is a table at one version. It may be used from several goroutines.
// Once Advance was called it only reads: Scan, ReadFile and Deleted.
type Snapshot struct {
	Version  int64
	Protocol Protocol
	Metadata Metadata
	Schema   *batch.Schema    // no key: a Delta table has none
	Files    []File           // in the order of their paths
	Txns     map[string]int64 // application → how far it has come
	Info     CommitInfo       // of this version's commit; zero when it has none
	// Checkpointed is the version of the checkpoint that Open began with; -1 when
	// it read the log from its beginning.
	Checkpointed int64
	table        store.Store
	state        *state
}

// Open reads a table's log; version -1 is the newest. It fails with
// store.ErrNotExist when the folder holds no log, or not that version, and with
// ErrUnsupported when the table can't be read rightly.
func Open(ctx context.Context, table store.Store, version int64) (*Snapshot, error) {
	l, err := list(ctx, table)
	if err != nil {
		return nil, err
	}
	if l.newest < 0 {
		return nil, fmt.Errorf("no Delta table here: %w", store.ErrNotExist)
	}
	if version < 0 {
		version = l.newest
	}
	if version > l.newest {
		return nil, fmt.Errorf("version %d, the newest is %d: %w", version, l.newest, store.ErrNotExist)
	}
	st, err := replay(ctx, table, l, version)
	if err != nil {
		return nil, err
	}
	return st.snapshot(table, version)
}

// Advance is the snapshot after a commit of these actions made it the given
// version. It takes what the log adds up to from the receiver, which can only
// read from then on.
func (s *Snapshot) Advance(version int64, actions []Action) (*Snapshot, error) {
	if version != s.Version+1 {
		return nil, fmt.Errorf("advance version %d to %d", s.Version, version)
	}
	if err := s.state.apply(actions); err != nil {
		return nil, err
	}
	return s.state.snapshot(s.table, version)
}

// Pin is a copy of the snapshot for Checkpoint, Vacuum and CleanLog on another
// goroutine, while Advance goes on with the receiver.
func (s *Snapshot) Pin() *Snapshot {
	p := *s
	p.state = &state{protocol: s.state.protocol, metadata: s.state.metadata, info: s.state.info,
		removes: maps.Clone(s.state.removes), txns: maps.Clone(s.state.txns), checkpoint: s.state.checkpoint}
	return &p
}

// Forget drops the tombstones that are older than the table's retention before
// now from memory. Vacuum needs none of them.
func (s *Snapshot) Forget(now time.Time) error {
	retention, err := s.FileRetention()
	if err != nil {
		return err
	}
	before := now.Add(-retention).UnixMilli()
	maps.DeleteFunc(s.state.removes, func(_ string, r *Remove) bool { return r.DeletionTimestamp <= before })
	return nil
}

// Info is the commitInfo of a version, zero when it has none. It fails with
// store.ErrNotExist when the log doesn't hold that commit any more.
func Info(ctx context.Context, table store.Store, version int64) (CommitInfo, error) {
	actions, err := readCommit(ctx, table, version)
	if err != nil {
		return CommitInfo{}, err
	}
	for _, a := range actions {
		if a.CommitInfo != nil {
			return *a.CommitInfo, nil
		}
	}
	return CommitInfo{}, nil
}
