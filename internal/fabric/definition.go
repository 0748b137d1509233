package fabric

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Definition is a mirrored database's mirroring.json. What it holds beyond
// these fields is kept and written back.
// Source: learn.microsoft.com, "Mirrored database definition".
type Definition struct {
	Source        Source
	Target        Target
	MountedTables []TableName // nil: all tables, also later ones

	rest map[string]any // the document as it was read
}

// Source says where the rows come from.
type Source struct {
	Type       string // AzurePostgreSql, GenericMirror (open mirroring)
	Connection string // id; "" for GenericMirror
	Database   string // "" for GenericMirror
}

// Target says how the tables are written.
type Target struct {
	DefaultSchema   string // where tables without a schema go; "" flattens all schemas
	Format          string // "" is Delta, the only one
	RetentionInDays *int   // 1–30; nil leaves it to Fabric
}

// TableName names a table of the source.
type TableName struct{ Schema, Table string }

// ParseDefinition reads a mirroring.json.
func ParseDefinition(body []byte) (Definition, error) {
	var d Definition
	if err := d.UnmarshalJSON(body); err != nil {
		return Definition{}, err
	}
	return d, nil
}

// document is the part of mirroring.json that Definition knows.
type document struct {
	Properties struct {
		Source struct {
			Type           string `json:"type"`
			TypeProperties struct {
				Connection string `json:"connection"`
				Database   string `json:"database"`
			} `json:"typeProperties"`
		} `json:"source"`
		Target struct {
			TypeProperties struct {
				DefaultSchema   string `json:"defaultSchema"`
				Format          string `json:"format"`
				RetentionInDays *int   `json:"retentionInDays"`
			} `json:"typeProperties"`
		} `json:"target"`
		MountedTables []struct {
			Source struct {
				TypeProperties struct {
					SchemaName string `json:"schemaName"`
					TableName  string `json:"tableName"`
				} `json:"typeProperties"`
			} `json:"source"`
		} `json:"mountedTables"`
	} `json:"properties"`
}

// UnmarshalJSON reads a mirroring.json, also with a byte order mark.
func (d *Definition) UnmarshalJSON(body []byte) error {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	var doc document
	var rest map[string]any
	if err := json.Unmarshal(body, &rest); err != nil {
		return fmt.Errorf("read %s: %w", definitionPath, err)
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return fmt.Errorf("read %s: %w", definitionPath, err)
	}
	p := doc.Properties
	*d = Definition{
		Source: Source{p.Source.Type, p.Source.TypeProperties.Connection, p.Source.TypeProperties.Database},
		Target: Target{p.Target.TypeProperties.DefaultSchema, p.Target.TypeProperties.Format, p.Target.TypeProperties.RetentionInDays},
		rest:   rest,
	}
	for _, t := range p.MountedTables {
		d.MountedTables = append(d.MountedTables, TableName{t.Source.TypeProperties.SchemaName, t.Source.TypeProperties.TableName})
	}
	return nil
}

// MarshalJSON writes the document that was read, with the fields as they are
// now.
func (d Definition) MarshalJSON() ([]byte, error) {
	doc := map[string]any{}
	if d.rest != nil {
		raw, err := json.Marshal(d.rest)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, err
		}
	}
	properties := object(doc, "properties")
	source := object(properties, "source")
	set(source, "type", d.Source.Type)
	in := object(source, "typeProperties")
	set(in, "connection", d.Source.Connection)
	set(in, "database", d.Source.Database)
	target := object(properties, "target")
	target["type"] = "MountedRelationalDatabase"
	out := object(target, "typeProperties")
	set(out, "defaultSchema", d.Target.DefaultSchema)
	out["format"] = "Delta"
	set(out, "format", d.Target.Format)
	delete(out, "retentionInDays")
	if d.Target.RetentionInDays != nil {
		out["retentionInDays"] = *d.Target.RetentionInDays
	}
	d.setTables(properties)
	return json.Marshal(doc)
}

// setTables keeps what the document says of a table beyond its name.
func (d Definition) setTables(properties map[string]any) {
	old := map[TableName]any{}
	if list, ok := properties["mountedTables"].([]any); ok {
		for _, t := range list {
			old[mountedName(t)] = t
		}
	}
	delete(properties, "mountedTables")
	if d.MountedTables == nil {
		return
	}
	list := make([]any, len(d.MountedTables))
	for i, t := range d.MountedTables {
		list[i] = old[t]
		if list[i] == nil {
			list[i] = map[string]any{"source": map[string]any{"typeProperties": map[string]any{"schemaName": t.Schema, "tableName": t.Table}}}
		}
	}
	properties["mountedTables"] = list
}

// Equal compares as JSON: the order of tables and of fields and the
// formatting, which the service changes, don't count.
func (d Definition) Equal(o Definition) bool {
	return reflect.DeepEqual(d.canonical(), o.canonical())
}

func (d Definition) canonical() any {
	body, err := d.MarshalJSON()
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		return err
	}
	if list, ok := object(doc, "properties")["mountedTables"].([]any); ok {
		slices.SortFunc(list, func(a, b any) int {
			x, y := mountedName(a), mountedName(b)
			return strings.Compare(x.Schema+"\x00"+x.Table, y.Schema+"\x00"+y.Table)
		})
	}
	return doc
}

func mountedName(t any) TableName {
	table, _ := t.(map[string]any)
	source, _ := table["source"].(map[string]any)
	p, _ := source["typeProperties"].(map[string]any)
	schema, _ := p["schemaName"].(string)
	name, _ := p["tableName"].(string)
	return TableName{schema, name}
}

// object gives the object under a key, and puts one there if there is none.
func object(m map[string]any, key string) map[string]any {
	o, ok := m[key].(map[string]any)
	if !ok {
		o = map[string]any{}
		m[key] = o
	}
	return o
}

func set(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	} else if key != "format" {
		delete(m, key)
	}
}
