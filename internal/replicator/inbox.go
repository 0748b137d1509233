package replicator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/store"
)

// tableMetadata is `_metadata.json` with the parts that we refuse.
type tableMetadata struct {
	landing.TableMetadata
	delimited
	FileFormat         string `json:"fileFormat"`
	FileExtension      string `json:"fileExtension"`
	IsPartitionEnabled any    `json:"isPartitionEnabled"`
}

// How the files of a folder are found.
const (
	byNumber = "SequentialFileName"
	byTime   = "LastUpdateTimeFileDetection"
)

func (m *tableMetadata) isText() bool { return strings.EqualFold(m.FileFormat, "DelimitedText") }

// extension is what the names of files end in, with its dot.
func (m *tableMetadata) extension() string {
	if m.isText() {
		return "." + strings.TrimPrefix(m.FileExtension, ".")
	}
	return ".parquet"
}

// metadata reads `_metadata.json` of a folder that holds list, once a version of
// it; ErrNotExist when there is none, or one that is still without content: a
// client of the DFS API makes a file before it fills it.
func (t *table) metadata(ctx context.Context, list []store.Info) (tableMetadata, error) {
	i := slices.IndexFunc(list, func(i store.Info) bool { return path.Base(i.Name) == landing.MetadataFile })
	if i < 0 || list[i].Size == 0 {
		return tableMetadata{}, store.ErrNotExist
	}
	if t.meta.etag != list[i].ETag || t.meta.etag == "" {
		b, info, err := t.land.Read(ctx, landing.MetadataFile, 0, -1)
		if err != nil {
			return tableMetadata{}, err
		}
		t.meta.etag = info.ETag
		t.meta.tableMetadata, t.meta.err = parseMetadata(b)
	}
	return t.meta.tableMetadata, t.meta.err
}

// keptMetadata is what was read of a version of `_metadata.json`.
type keptMetadata struct {
	tableMetadata
	etag string
	err  error
}

func parseMetadata(b []byte) (m tableMetadata, err error) {
	if err := json.Unmarshal(b, &m); err != nil {
		return m, &fault{text: fmt.Sprintf("%s: %v", landing.MetadataFile, err), err: err}
	}
	switch strategy := m.FileDetectionStrategy; {
	case m.isText() && m.FileExtension == "":
		err = &fault{text: landing.MetadataFile + ": DelimitedText needs FileExtension"}
	case m.isText() && m.check() != nil:
		err = &fault{text: fmt.Sprintf("%s: %v", landing.MetadataFile, m.check())}
	case strategy != "" && strategy != byNumber && strategy != byTime:
		err = &fault{text: fmt.Sprintf("%s: fileDetectionStrategy %s is neither %s nor %s", landing.MetadataFile, strategy, byNumber, byTime)}
	case !m.isText() && (m.FileFormat != "" && !strings.EqualFold(m.FileFormat, "Parquet") || m.FileExtension != "" && !strings.EqualFold(m.FileExtension, "parquet")):
		err = &fault{text: fmt.Sprintf("%s: FileFormat is neither Parquet nor DelimitedText, or FileExtension is not of its format", landing.MetadataFile)}
	case m.IsPartitionEnabled != nil && fmt.Sprint(m.IsPartitionEnabled) != "false":
		err = &fault{text: fmt.Sprintf("%s: isPartitionEnabled is not supported", landing.MetadataFile)}
	}
	return m, err
}

// inbox moves what is applied out of the way and gives the files to apply next,
// with their numbers.
func (t *table) inbox(ctx context.Context, list []store.Info, m tableMetadata) (pending []landing.File, err error) {
	t.text = nil
	if m.isText() {
		t.text = &m.delimited
	}
	if t.byTime = m.FileDetectionStrategy == byTime; t.byTime {
		return t.inboxByTime(ctx, list, m.extension())
	}
	for _, i := range list { // 20 digits: by name is by number
		base, named := strings.CutSuffix(path.Base(i.Name), m.extension())
		n, ok := landing.FileNumber(base + ".parquet")
		switch next := t.applied() + 1 + int64(len(pending)); {
		case !named || !ok || i.Dir:
		case n < t.applied(): // the last one stays: publishers find by it where to go on
			if err := t.putAway(ctx, i.Name, path.Base(i.Name)); err != nil {
				return nil, err
			}
		case n == next:
			pending = append(pending, landing.File{Info: i, Number: n})
		}
	}
	return pending, nil
}

// inboxByTime gives the files of any name in the order of their times, and of
// their names where those are the same. They get numbers as they are found. The
// last commit tells which it applied, by name and ETag: a crash may have left them.
func (t *table) inboxByTime(ctx context.Context, list []store.Info, extension string) (pending []landing.File, err error) {
	for _, i := range list {
		name := path.Base(i.Name)
		switch {
		case i.Dir || strings.HasPrefix(name, "_") || !strings.EqualFold(path.Ext(name), extension):
		case t.progress.Files[name] == i.ETag:
			err = t.putAway(ctx, i.Name, name)
			if errors.Is(err, store.ErrExist) { // a name that was used before
				err = t.putAway(ctx, i.Name, uuid.NewString()+"-"+name)
			}
			if err != nil {
				return nil, err
			}
		default:
			pending = append(pending, landing.File{Info: i})
		}
	}
	slices.SortFunc(pending, func(a, b landing.File) int {
		return cmp.Or(a.Modified.Compare(b.Modified), cmp.Compare(a.Name, b.Name))
	})
	for i := range pending {
		pending[i].Number = t.applied() + 1 + int64(i)
	}
	return pending, nil
}

// putAway moves a file to the processed ones.
func (t *table) putAway(ctx context.Context, name, as string) error {
	err := t.land.Rename(ctx, name, landing.ProcessedDir+"/"+as)
	if errors.Is(err, store.ErrNotExist) || !t.byTime && errors.Is(err, store.ErrExist) {
		return nil // by somebody else; or published again under its number, which counts for nothing
	}
	if err != nil {
		return fmt.Errorf("move %s away: %w", path.Base(name), err)
	}
	return nil
}
