package landing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pgmirror/pgmirror/internal/store"
)

// Finding is a rule that a landing zone breaks, once.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Path     string   `json:"path"` // of the file or folder, relative to the zone's root; "" for the root
	Detail   string   `json:"detail,omitempty"`
}

// Linted is what Lint looked at.
type Linted struct {
	Tables int   `json:"tables"`
	Files  int   `json:"files"` // whose content was read
	Rows   int64 `json:"rows"`  // in them
}

// Lint looks at a landing zone of any publisher, changes nothing, and calls
// found for what it finds, table by table. It blocks while it reads every data
// file that Fabric has not moved away, one in memory at a time and that decoded in
// small pieces. A file that goes away meanwhile was processed, and a folder that
// does was dropped: neither is a finding. A folder in no schema's folder is of
// defaultSchema. The error is that it could not look.
func Lint(ctx context.Context, s store.Store, defaultSchema string, found func(Finding)) (Linted, error) {
	l := newLinter(s, defaultSchema, found)
	err := l.zone(ctx)
	return l.linted, err
}

// linter is one look at a landing zone. Its limits are fields for tests.
type linter struct {
	s      store.Store
	found  func(Finding)
	linted Linted
	now    time.Time
	today  int64  // bytes that were published within a day
	schema string // the default one

	maxTables int
	maxToday  int64 // bytes
	maxRows   int   // of a file of changes
	maxString int   // bytes
	maxFiles  int   // that may wait in a table's folder, if they are small
}

func newLinter(s store.Store, defaultSchema string, found func(Finding)) *linter {
	return &linter{s: s, found: found, schema: defaultSchema, now: time.Now(), maxTables: 1000, maxToday: 1 << 40, maxRows: 900_000, maxString: 16 << 20, maxFiles: 1000}
}

// report tells a finding; the format may be empty when the rule says all.
func (l *linter) report(code, name, format string, args ...any) {
	l.found(Finding{Code: code, Severity: ruleOf(code).Severity, Path: name, Detail: fmt.Sprintf(format, args...)})
}

func (l *linter) zone(ctx context.Context) error {
	list, err := l.s.List(ctx, "")
	if err != nil {
		return fmt.Errorf("list the landing zone: %w", err)
	}
	if err := l.partnerEvents(ctx, list); err != nil {
		return err
	}
	tables, err := l.tables(ctx, list)
	if err != nil {
		return err
	}
	if l.linted.Tables = len(tables); len(tables) > l.maxTables {
		l.report(TablesTooMany, "", "%d tables of at most %d", len(tables), l.maxTables)
	}
	l.twice(tables)
	for _, dir := range tables {
		if err := l.table(ctx, dir); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if l.today > l.maxToday {
		l.report(ChangesTooMany, "", "%d bytes since %s, of at most %d", l.today, l.now.Add(-day).UTC().Format(time.RFC3339), l.maxToday)
	}
	return nil
}

const day = 24 * time.Hour

func (l *linter) partnerEvents(ctx context.Context, root []store.Info) error {
	if !slices.ContainsFunc(root, func(i store.Info) bool { return i.Name == PartnerEventsFile && !i.Dir }) {
		l.report(PartnerEventsMissing, PartnerEventsFile, "")
		return nil
	}
	body, _, err := l.s.Read(ctx, PartnerEventsFile, 0, -1)
	switch {
	case errors.Is(err, store.ErrNotExist): // it went away meanwhile
		l.report(PartnerEventsMissing, PartnerEventsFile, "")
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", PartnerEventsFile, err)
	}
	var p struct {
		PartnerName string `json:"partnerName"`
		SourceInfo  *struct {
			SourceType string `json:"sourceType"`
		} `json:"sourceInfo"`
	}
	switch err := json.Unmarshal(body, &p); {
	case err != nil:
		l.report(PartnerEventsInvalid, PartnerEventsFile, "%v", err)
	case p.PartnerName == "":
		l.report(PartnerEventsInvalid, PartnerEventsFile, "it has no partnerName")
	case p.SourceInfo == nil || p.SourceInfo.SourceType == "":
		l.report(PartnerEventsInvalid, PartnerEventsFile, "it has no sourceInfo with a sourceType")
	}
	return nil
}

// tables lists the tables' folders and reports what lies beside them.
func (l *linter) tables(ctx context.Context, root []store.Info) (dirs []string, err error) {
	for _, i := range root {
		switch {
		case ignored(i.Name):
		case !i.Dir:
			l.report(NameStray, i.Name, "a file in the root")
		case !strings.HasSuffix(i.Name, schemaSuffix):
			dirs = append(dirs, i.Name)
		default:
			inside, err := l.s.List(ctx, i.Name)
			if err != nil {
				return nil, err
			}
			for _, t := range inside {
				switch {
				case ignored(path.Base(t.Name)):
				case !t.Dir:
					l.report(NameStray, t.Name, "a file in a schema's folder")
				default:
					dirs = append(dirs, t.Name)
				}
			}
		}
	}
	return dirs, nil
}

// twice reports folders that are one table to Fabric.
func (l *linter) twice(dirs []string) {
	seen := map[string]string{}
	for _, dir := range dirs {
		schema, table, ok := strings.Cut(dir, schemaSuffix+"/")
		if !ok {
			schema, table = l.schema, dir
		}
		name := Folded(schema, table)
		if before, ok := seen[name]; ok {
			l.report(TableTwice, dir, "as is %s", before)
			continue
		}
		seen[name] = dir
	}
}

// tableLint is the look at one table.
type tableLint struct {
	*linter
	dir     string
	meta    lintedMetadata
	toldKey bool // that keyColumns are missing
}

func (l *linter) table(ctx context.Context, dir string) error {
	t := &tableLint{linter: l, dir: dir}
	list, err := l.s.List(ctx, dir)
	if err != nil {
		return err
	}
	if err := t.metadata(ctx, list); err != nil {
		return err
	}
	dirs, err := t.partitions(ctx, []string{dir}, list)
	if err != nil {
		return err
	}
	any := false
	for _, d := range dirs {
		some, err := t.sequence(ctx, d)
		if err != nil {
			return err
		}
		any = any || some
	}
	if !any || t.meta.absent {
		_, err := l.s.Stat(ctx, dir)
		switch {
		case errors.Is(err, store.ErrNotExist): // the table was dropped meanwhile
			l.linted.Tables--
			return nil
		case err != nil:
			return err
		}
	}
	switch {
	case !any:
		l.report(TableEmpty, dir, "")
	case t.meta.absent:
		l.report(MetadataMissing, path.Join(dir, MetadataFile), "")
	}
	return nil
}

// partitions adds to dirs the folders of a list that are partitions, and those in them.
func (t *tableLint) partitions(ctx context.Context, dirs []string, list []store.Info) ([]string, error) {
	for _, i := range list {
		switch name := path.Base(i.Name); {
		case ignored(name) || !i.Dir:
		case t.meta.partitioned && strings.Contains(name, "="):
			inside, err := t.s.List(ctx, i.Name)
			if err != nil {
				return nil, err
			}
			if dirs, err = t.partitions(ctx, append(dirs, i.Name), inside); err != nil {
				return nil, err
			}
		default:
			t.report(NameStray, i.Name, "a folder in a table's folder")
		}
	}
	return dirs, nil
}

// processed lists the folders to which Fabric moves files; known tells whether
// there are any.
func (t *tableLint) processed(ctx context.Context, dir string) (files []store.Info, known bool, err error) {
	for _, d := range []string{ProcessedDir, ReadyToDeleteDir} {
		_, err := t.s.Stat(ctx, path.Join(dir, d))
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		known = true
		list, err := t.s.List(ctx, path.Join(dir, d))
		if err != nil {
			return nil, false, err
		}
		files = append(files, list...)
	}
	return files, known, nil
}

func (t *tableLint) numbers(files []store.Info) map[int64]bool {
	numbers := map[int64]bool{}
	for _, i := range files {
		if n, ok := t.number(path.Base(i.Name)); ok {
			numbers[n] = true
		}
	}
	return numbers
}

// sequence looks at the files of one folder, which are one chain of numbers. It
// tells whether there are or were any.
func (t *tableLint) sequence(ctx context.Context, dir string) (some bool, err error) {
	// Files move away meanwhile: what was moved before the listing and is in it
	// was used twice; what is neither in it nor moved after it is missing.
	before, known, err := t.processed(ctx, dir)
	if err != nil {
		return false, err
	}
	list, err := t.s.List(ctx, dir)
	if err != nil {
		return false, err
	}
	after, now, err := t.processed(ctx, dir)
	if err != nil {
		return false, err
	}
	known = known || now
	var files []store.Info
	for _, i := range list {
		if t.wanted(i) {
			files = append(files, i)
		}
	}
	if t.meta.sequential() {
		t.chain(files, t.numbers(before), t.numbers(after), known)
	} else { // the order in which Fabric reads them
		slices.SortStableFunc(files, func(a, b store.Info) int { return a.Modified.Compare(b.Modified) })
		t.ties(files)
	}
	t.count(files, before, after)
	var sh lintedShape
	rows, read := t.linted.Rows, t.linted.Files
	for _, i := range files {
		if err := t.file(ctx, i, &sh); err != nil {
			return false, fmt.Errorf("%s: %w", path.Base(i.Name), err)
		}
	}
	if rows, read = t.linted.Rows-rows, t.linted.Files-read; read > t.maxFiles && rows < int64(read)*smallRows {
		t.report(FilesSmall, dir, "%d files hold %d rows", read, rows)
	}
	return known || len(files) > 0, nil
}

// count adds up what was published within a day. A file that moves away between
// two listings is in both.
func (t *tableLint) count(lists ...[]store.Info) {
	seen := map[string]bool{}
	for _, i := range slices.Concat(lists...) {
		if name := path.Base(i.Name); !i.Dir && !seen[name] && t.now.Sub(i.Modified) < day {
			seen[name] = true
			t.today += i.Size
		}
	}
}

// smallRows are so few that a file is hardly worth its trouble.
const smallRows = 100

// ties looks at files that are in the order of their times.
func (t *tableLint) ties(files []store.Info) {
	for k := 1; k < len(files); k++ {
		if files[k].Modified.Equal(files[k-1].Modified) {
			t.report(FileTimeTie, files[k].Name, "as was %s", path.Base(files[k-1].Name))
		}
	}
}

// wanted reports whether Fabric reads this as a data file; what it doesn't is
// reported.
func (t *tableLint) wanted(i store.Info) bool {
	name := path.Base(i.Name)
	switch {
	case i.Dir:
		return false
	case strings.HasPrefix(name, "_"):
		if name != MetadataFile && t.now.Sub(i.Modified) > day {
			t.report(UploadLeft, i.Name, "of %s", i.Modified.UTC().Format(time.RFC3339))
		}
		return false
	case !strings.HasSuffix(name, t.meta.extension()):
		t.report(NameStray, i.Name, "it does not end in %s", t.meta.extension())
		return false
	}
	if _, ok := t.number(name); !ok && t.meta.sequential() {
		t.report(FileNameInvalid, i.Name, "")
		return false
	}
	return true
}

// number is FileNumber for the table's extension.
func (t *tableLint) number(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, t.meta.extension())
	if !ok {
		return 0, false
	}
	return FileNumber(digits + ".parquet")
}

// chain looks at the numbers of files, which are in order, and goes on from what
// was processed. Fabric reads in that order: a number below was used again, unless
// the file was only then being moved.
func (t *tableLint) chain(files []store.Info, before, after map[int64]bool, known bool) {
	highest := int64(0)
	for n := range before {
		highest = max(highest, n)
	}
	last := highest
	for k, i := range files {
		n, _ := t.number(path.Base(i.Name))
		switch {
		case before[n] || n < highest && !after[n]:
			t.report(FileNumberReused, i.Name, "number %d was processed", highest)
		case k == 0 && highest == 0:
			if n > 1 && !known {
				t.report(FileFirstMissing, i.Name, "the first number is %d", n)
			}
			last = n
			continue
		}
		for m := last + 1; m < n; m++ {
			if !before[m] && !after[m] {
				t.report(FileGap, path.Join(path.Dir(i.Name), strings.TrimSuffix(FileName(m), ".parquet")+t.meta.extension()), "%s", span(m, n-1))
				break
			}
		}
		last = max(last, n)
	}
}

func span(from, to int64) string {
	if from == to {
		return fmt.Sprintf("number %d is missing", from)
	}
	return fmt.Sprintf("numbers are missing between %d and %d", from, to)
}
