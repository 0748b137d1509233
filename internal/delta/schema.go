package delta

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pgmirror/pgmirror/internal/batch"
)

type schemaJSON struct {
	Type   string      `json:"type"`
	Fields []fieldJSON `json:"fields"`
}

type fieldJSON struct {
	Name     string          `json:"name"`
	Type     json.RawMessage `json:"type"` // a name, or an object for what is nested
	Nullable bool            `json:"nullable"`
	Metadata json.RawMessage `json:"metadata"`
}

// SchemaString is a schema as a Metadata holds it, every column nullable
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#schema-serialization-format).
func SchemaString(s *batch.Schema) string {
	out := schemaJSON{Type: "struct", Fields: []fieldJSON{}}
	for _, f := range s.Fields {
		t, _ := json.Marshal(f.Type.String()) // a string can't fail
		out.Fields = append(out.Fields, fieldJSON{Name: f.Name, Type: t, Nullable: true, Metadata: json.RawMessage("{}")})
	}
	b, _ := json.Marshal(out) // nor can this
	return string(b)
}

// parseSchema reads a schema of flat columns; nested ones are refused.
func parseSchema(text string) (*batch.Schema, error) {
	var in schemaJSON
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if in.Type != "struct" {
		return nil, fmt.Errorf("schema: is a %q, want a struct", in.Type)
	}
	s, seen := &batch.Schema{}, map[string]bool{}
	for _, f := range in.Fields {
		var name string
		if err := json.Unmarshal(f.Type, &name); err != nil {
			return nil, fmt.Errorf("column %q: nested type: %w", f.Name, ErrUnsupported)
		}
		t, err := batch.ParseType(name)
		if err != nil {
			return nil, fmt.Errorf("column %q: type %s: %w", f.Name, name, ErrUnsupported)
		}
		if low := strings.ToLower(f.Name); f.Name == "" || seen[low] {
			return nil, fmt.Errorf("column %q: empty, or there twice", f.Name)
		} else {
			seen[low] = true
		}
		s.Fields = append(s.Fields, batch.Field{Name: f.Name, Type: t})
	}
	return s, nil
}
