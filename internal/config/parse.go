package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// setting is a value that the file holds.
type setting struct {
	path string
	line int
}

// parse reads the file strictly: unknown and repeated keys are errors with their
// line and column.
func parse(data []byte) (*Config, []setting, error) {
	c := &Config{}
	err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(c)
	if errors.Is(err, io.EOF) { // an empty file sets nothing
		return c, nil, nil
	}
	if err != nil {
		// Without the lines around it: somebody may have put a password there.
		return nil, nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, nil, err
	}
	var set []setting
	for _, doc := range file.Docs {
		set = append(set, leaves(doc.Body, "")...)
	}
	return c, set, nil
}

// leaves are the paths of all keys whose value is no mapping.
func leaves(n ast.Node, prefix string) []setting {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil
	}
	var set []setting
	for it := m.MapRange(); it.Next(); {
		path := prefix + it.Key().String()
		if _, inner := it.Value().(ast.MapNode); inner {
			set = append(set, leaves(it.Value(), path+".")...)
			continue
		}
		set = append(set, setting{path, it.Key().GetToken().Position.Line})
	}
	return set
}

// UnmarshalYAML takes `connection: manual` beside the mapping.
func (c *Connection) UnmarshalYAML(unmarshal func(any) error) error {
	var word string
	if unmarshal(&word) == nil {
		if word != "manual" {
			return fmt.Errorf("connection: %q: want manual, or id, gateway, name and vault", word)
		}
		c.Manual = true
		return nil
	}
	type plain Connection
	return unmarshal((*plain)(c))
}
