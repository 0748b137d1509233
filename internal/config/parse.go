package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// setting is a value that the file holds.
type setting struct {
	path  string
	line  int
	value ast.Node
}

// parse reads the file strictly: unknown and repeated keys are errors with their
// line and column.
func parse(data []byte) (*Config, []setting, error) {
	c := &Config{}
	err := decode(data, c)
	if errors.Is(err, io.EOF) { // an empty file sets nothing
		return c, nil, nil
	}
	if err != nil {
		if wrong := misfit(data); wrong != nil {
			return nil, nil, wrong
		}
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

// decode has the library's panics be errors: a tag without a value is one.
func decode(data []byte, c *Config) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it can't be read as YAML: %v", p)
		}
	}()
	return yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(c)
}

// misfit finds the first value that isn't of its key's kind, and says what is wanted in
// its place: the decoder tells the kinds as Go calls them, some without the key. nil:
// something else is wrong.
func misfit(data []byte) error {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil
	}
	for _, doc := range file.Docs {
		for _, s := range leaves(doc.Body, "") {
			v, ok := at(&Config{}, s.path)
			if !ok || s.path == "connection" {
				continue
			}
			if want := wanted(v, s.value); want != "" {
				p := s.value.GetToken().Position
				return fmt.Errorf("[%d:%d] %s: %s", p.Line, p.Column, s.path, want)
			}
		}
	}
	return nil
}

// wanted is what a key wants of which n is no value; "" when it is one. What n is isn't
// told: somebody may have put a password there.
func wanted(v reflect.Value, n ast.Node) string {
	if k := n.Type(); k == ast.NullType || k == ast.AnchorType || k == ast.AliasType || k == ast.TagType {
		return ""
	}
	_, scalar := n.(ast.ScalarNode)
	text := n.GetToken().Value
	switch v.Interface().(type) {
	case time.Duration:
		if _, err := readDuration(text); err != nil || n.Type() != ast.StringType {
			return wantDuration
		}
	case Bytes:
		if new(Bytes).UnmarshalText([]byte(text)) != nil {
			return wantBytes
		}
	case bool:
		if n.Type() != ast.BoolType {
			return "want true or false"
		}
	case int:
		if n.Type() != ast.IntegerType {
			return "want a number"
		}
	case []string:
		if scalar {
			return "want a list, like [one, two], or one a line with - before it"
		}
	default:
		if scalar && v.Kind() == reflect.Struct {
			return "want its own settings under it"
		}
		if !scalar && v.Kind() == reflect.String {
			return "want one value, and no list"
		}
	}
	return ""
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
		set = append(set, setting{path, it.Key().GetToken().Position.Line, it.Value()})
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
