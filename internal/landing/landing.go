// Package landing writes and reads an open-mirroring landing zone.
//
// The format is Fabric's
// (https://learn.microsoft.com/fabric/mirroring/open-mirroring-landing-zone-format):
// a folder a table, in it `_metadata.json` and Parquet files numbered from 1
// without a gap. A file is final once it has its number. Names that begin with
// an underscore are ignored by Fabric, which leaves room for files that are
// being uploaded and for our own state.
package landing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/pgmirror/pgmirror/internal/store"
)

// Names in a landing zone.
const (
	StateDir          = "_pgmirror"           // at the root: our own state, outside the table folders
	MetadataFile      = "_metadata.json"      // in a table's folder
	PartnerEventsFile = "_partnerEvents.json" // at the root
	ProcessedDir      = "_ProcessedFiles"     // in a table's folder: Fabric moves there what it has read
	ReadyToDeleteDir  = "_FilesReadyToDelete" // likewise
	schemaSuffix      = ".schema"
)

// TableDir is the folder of a table, as "public.schema/orders". Characters that
// a path or Fabric would take for something else are written as ~ and their hex
// code.
func TableDir(schema, table string) string {
	return escape(schema) + schemaSuffix + "/" + escape(table)
}

// TableName is what Fabric calls the table of a folder that TableDir named.
func TableName(dir string) (schema, table string) {
	schema, table, _ = strings.Cut(dir, schemaSuffix+"/")
	return schema, table
}

// Folded is a table's name as Fabric tells tables apart: without regard to case.
func Folded(schema, table string) string { return strings.ToLower(schema + "/" + table) }

// escape keeps letters, digits and what is harmless in a folder's name.
func escape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		r := []rune(name[i:min(len(name), i+4)])[0]
		n := len(string(r))
		safe := r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r) ||
			strings.ContainsRune("-$", r) || r == '_' && i > 0 || strings.ContainsRune(" .", r) && i > 0 && i+1 < len(name))
		if safe {
			b.WriteString(name[i : i+n])
			i += n
			continue
		}
		fmt.Fprintf(&b, "~%02X", name[i])
		i++
	}
	return b.String()
}

// FileName is the name of a table's n-th file, n ≥ 1.
func FileName(n int64) string { return fmt.Sprintf("%020d.parquet", n) }

// FileNumber is the opposite of FileName.
func FileNumber(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, ".parquet")
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil && n > 0 && FileName(n) == name
}

// TableMetadata is `_metadata.json`. KeyColumns may be added later but never
// changed.
type TableMetadata struct {
	KeyColumns               []string `json:"keyColumns,omitempty"`
	FileDetectionStrategy    string   `json:"fileDetectionStrategy,omitempty"`
	IsUpsertDefaultRowMarker bool     `json:"isUpsertDefaultRowMarker,omitempty"`
}

// ReadMetadata reads a table folder's `_metadata.json`; ErrNotExist when it has
// none.
func ReadMetadata(ctx context.Context, s store.Store, dir string) (TableMetadata, error) {
	var m TableMetadata
	b, _, err := s.Read(ctx, path.Join(dir, MetadataFile), 0, -1)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", path.Join(dir, MetadataFile), err)
	}
	return m, nil
}

// WriteMetadata writes `_metadata.json`, which makes Fabric read the folder, so
// it is written after the first data file. One that says the same is left alone.
func WriteMetadata(ctx context.Context, s store.Store, dir string, m TableMetadata) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return putOnce(ctx, s, path.Join(dir, MetadataFile), b)
}

// WritePartnerEvents writes `_partnerEvents.json`, by which Fabric knows who
// publishes.
func WritePartnerEvents(ctx context.Context, s store.Store, sourceVersion string) error {
	b, err := json.Marshal(map[string]any{
		"partnerName": "pgmirror",
		"sourceInfo":  map[string]any{"sourceType": "PostgreSQL", "sourceVersion": sourceVersion, "additionalInformation": map[string]string{}},
	})
	if err != nil {
		return err
	}
	return putOnce(ctx, s, PartnerEventsFile, b)
}

func putOnce(ctx context.Context, s store.Store, name string, body []byte) error {
	old, _, err := s.Read(ctx, name, 0, -1)
	if err == nil && string(old) == string(body) {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	_, err = s.Put(ctx, name, body, store.Cond{})
	return err
}

// File is a numbered file of a table.
type File struct {
	store.Info
	Number int64
}

// Files lists the numbered files of a table's folder in order. What is not
// there may have been processed: nothing follows from an absent file.
func Files(ctx context.Context, s store.Store, dir string) ([]File, error) {
	list, err := s.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []File
	for _, i := range list { // 20 digits: by name is by number
		if n, ok := FileNumber(path.Base(i.Name)); ok && !i.Dir {
			out = append(out, File{i, n})
		}
	}
	return out, nil
}

// Folder is a table's folder.
type Folder struct {
	Dir           string // relative to the root
	Schema, Table string // as Fabric names them; Schema is the default one for a folder at the root
	ETag          string // changes when the folder was removed and made again
}

// Folders lists the table folders of a landing zone.
func Folders(ctx context.Context, s store.Store, defaultSchema string) ([]Folder, error) {
	list, err := s.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []Folder
	for _, i := range list {
		if !i.Dir || ignored(i.Name) {
			continue
		}
		schema, isSchema := strings.CutSuffix(i.Name, schemaSuffix)
		if !isSchema {
			out = append(out, Folder{i.Name, defaultSchema, i.Name, i.ETag})
			continue
		}
		tables, err := s.List(ctx, i.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range tables {
			if name := path.Base(t.Name); t.Dir && !ignored(name) {
				out = append(out, Folder{t.Name, schema, name, t.ETag})
			}
		}
	}
	return out, nil
}

func ignored(name string) bool { return strings.HasPrefix(name, "_") }
