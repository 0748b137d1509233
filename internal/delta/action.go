package delta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Action is one line of a commit: exactly one field is set
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#actions). Actions
// that don't change what a reader sees here (cdc, domainMetadata) are read as
// the empty Action.
type Action struct {
	CommitInfo *CommitInfo `json:"commitInfo,omitempty"`
	Protocol   *Protocol   `json:"protocol,omitempty"`
	Metadata   *Metadata   `json:"metaData,omitempty"`
	Txn        *Txn        `json:"txn,omitempty"`
	Add        *Add        `json:"add,omitempty"`
	Remove     *Remove     `json:"remove,omitempty"`
}

// CommitInfo says what made a commit. It changes nothing.
type CommitInfo struct {
	Timestamp  int64             `json:"timestamp"` // ms since 1970
	Operation  string            `json:"operation"`
	Parameters map[string]string `json:"operationParameters"`
	Engine     string            `json:"engineInfo"`
	ID         string            `json:"txnId,omitempty"`        // tells this commit from every other; Commit fills it
	User       string            `json:"userMetadata,omitempty"` // free text, which DESCRIBE HISTORY shows
}

// UnmarshalJSON takes what it knows, as far as it has the form that we give it:
// writers are free to put anything here, so that nothing in it makes a table
// unreadable.
func (c *CommitInfo) UnmarshalJSON(data []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	*c = CommitInfo{}
	for name, field := range map[string]any{"timestamp": &c.Timestamp, "operation": &c.Operation, "operationParameters": &c.Parameters,
		"engineInfo": &c.Engine, "txnId": &c.ID, "userMetadata": &c.User} {
		if v, ok := all[name]; ok {
			_ = json.Unmarshal(v, field) // another form is as good as none
		}
	}
	return nil
}

// Metadata is a table's identity, schema and properties.
type Metadata struct {
	ID               string            `json:"id"`
	Name             string            `json:"name,omitempty"`
	Description      string            `json:"description,omitempty"`
	Format           Format            `json:"format"`
	SchemaString     string            `json:"schemaString"`
	PartitionColumns []string          `json:"partitionColumns"`
	Configuration    map[string]string `json:"configuration"`
	CreatedTime      int64             `json:"createdTime,omitempty"` // ms since 1970
}

// Format is how the data files are encoded; only parquet is known.
type Format struct {
	Provider string            `json:"provider"`
	Options  map[string]string `json:"options"`
}

// Txn records how far an application has come: the anchor of exactly once.
type Txn struct {
	AppID       string `json:"appId"`
	Version     int64  `json:"version"`
	LastUpdated int64  `json:"lastUpdated,omitempty"` // ms since 1970
}

// Add makes a data file, less the rows of its deletion vector, part of the table.
type Add struct {
	Path             string            `json:"path"` // percent-encoded, relative to the table
	PartitionValues  map[string]string `json:"partitionValues"`
	Size             int64             `json:"size"`             // bytes
	ModificationTime int64             `json:"modificationTime"` // ms since 1970
	DataChange       bool              `json:"dataChange"`
	Stats            string            `json:"stats,omitempty"` // JSON
	Tags             map[string]string `json:"tags,omitempty"`
	DeletionVector   *DeletionVector   `json:"deletionVector,omitempty"`
}

// Remove takes a data file out of the table. The file stays where it is, for
// readers of older versions.
type Remove struct {
	Path                 string            `json:"path"`
	DeletionTimestamp    int64             `json:"deletionTimestamp,omitempty"` // ms since 1970
	DataChange           bool              `json:"dataChange"`
	ExtendedFileMetadata bool              `json:"extendedFileMetadata"`
	PartitionValues      map[string]string `json:"partitionValues,omitempty"`
	Size                 int64             `json:"size,omitempty"`
	DeletionVector       *DeletionVector   `json:"deletionVector,omitempty"`
}

// Removal is the action that takes f out of the table at a time in ms since
// 1970. It carries the deletion vector that f had: without it, readers would
// take the file without the vector for the one removed.
func (f *File) Removal(at int64) Action {
	return Action{Remove: &Remove{Path: f.Path, DeletionTimestamp: at, DataChange: true, ExtendedFileMetadata: true,
		PartitionValues: map[string]string{}, Size: f.Size, DeletionVector: f.DeletionVector}}
}

// File is a data file of a snapshot.
type File struct {
	Add
	Name string // where it lies below the table's folder
	Rows int64  // rows in the file, those of its deletion vector included; -1 when the log doesn't tell

	since int64 // when it got its deletion vector, or came, in ms since 1970; 0 when the log doesn't tell
}

// Live is the number of rows that are not deleted; -1 when the log doesn't tell.
func (f *File) Live() int64 {
	if f.Rows < 0 || f.DeletionVector == nil {
		return f.Rows
	}
	return f.Rows - f.DeletionVector.Cardinality
}

func newFile(a *Add) (*File, error) {
	name, err := decodePath(a.Path)
	if err != nil {
		return nil, err
	}
	f := &File{Add: *a, Name: name, Rows: -1}
	if a.Stats != "" {
		var s struct {
			NumRecords *int64 `json:"numRecords"`
		}
		if err := json.Unmarshal([]byte(a.Stats), &s); err != nil {
			return nil, fmt.Errorf("statistics of %s: %w", name, err)
		}
		if s.NumRecords != nil {
			f.Rows = *s.NumRecords
		}
	}
	if d := a.DeletionVector; d != nil && (f.Rows < 0 || d.Cardinality < 0 || d.Cardinality > f.Rows) {
		return nil, fmt.Errorf("%s: deletion vector of %d rows on a file of %d", name, d.Cardinality, f.Rows)
	}
	return f, nil
}

// encode writes actions as the lines of a commit.
func encode(actions []Action) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for i := range actions {
		if err := e.Encode(&actions[i]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// decode reads the lines of a commit.
func decode(data []byte) ([]Action, error) {
	var out []Action
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var a Action
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(out)+1, err)
		}
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(out)+1, err)
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, errors.New("holds no action")
	}
	return out, nil
}

// check refuses actions that lack what the protocol requires of them.
func (a *Action) check() error {
	switch {
	case a.Add != nil && a.Add.Path == "", a.Remove != nil && a.Remove.Path == "":
		return errors.New("a file without a path")
	case a.Add != nil && a.Add.Size < 0:
		return fmt.Errorf("file %s has a size of %d bytes", a.Add.Path, a.Add.Size)
	case a.Txn != nil && a.Txn.AppID == "":
		return errors.New("a transaction identifier without an application")
	case a.Protocol != nil && (a.Protocol.MinReader < 1 || a.Protocol.MinWriter < 1):
		return errors.New("a protocol without versions")
	case a.Metadata != nil && (a.Metadata.ID == "" || a.Metadata.SchemaString == ""):
		return errors.New("metadata without an id or a schema")
	}
	return nil
}

// EncodePath is the form of a file's name that the log holds.
func EncodePath(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	// A colon in the first part would make what is before it a scheme.
	return strings.ReplaceAll(strings.Join(parts, "/"), ":", "%3A")
}

func decodePath(p string) (string, error) {
	name, err := url.PathUnescape(p)
	if err != nil {
		return "", fmt.Errorf("path %q: %w", p, err)
	}
	if strings.HasPrefix(p, "/") || strings.Contains(strings.SplitN(p, "/", 2)[0], ":") {
		return "", fmt.Errorf("path %q is absolute (a shallow clone?): %w", p, ErrUnsupported)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("path %q does not name a file below the table: %w", p, ErrUnsupported)
		}
	}
	return name, nil
}
