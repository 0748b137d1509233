package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ColumnType is what the columns of a pattern become in an open mirror. It is
// written as schema.table.column=text, or with =decimal(PRECISION,SCALE); schema,
// table and column may have * and ?. The schema ends at the first point, the column
// begins behind the last one: ? stands for another.
type ColumnType struct {
	Schema, Table, Column string

	// Precision and Scale are a decimal's; both are 0 for text.
	Precision, Scale int
}

var errColumnType = errors.New("want schema.table.column=text, or =decimal(PRECISION,SCALE)")

func parseColumnType(text string) (ColumnType, error) {
	var c ColumnType
	i := strings.LastIndexByte(text, '=')
	if i < 0 {
		return c, errColumnType
	}
	name, typ := strings.TrimSpace(text[:i]), strings.TrimSpace(text[i+1:])
	first, last := strings.IndexByte(name, '.'), strings.LastIndexByte(name, '.')
	if first == last {
		return c, errColumnType
	}
	c.Schema, c.Table, c.Column = name[:first], name[first+1:last], name[last+1:]
	if c.Schema == "" || c.Table == "" || c.Column == "" {
		return c, errColumnType
	}
	return c, c.setType(typ)
}

func (c *ColumnType) setType(typ string) error {
	if typ == "text" {
		return nil
	}
	inner, isDecimal := strings.CutPrefix(typ, "decimal(")
	inner, closed := strings.CutSuffix(inner, ")")
	p, s, both := strings.Cut(inner, ",")
	precision, err := strconv.Atoi(strings.TrimSpace(p))
	scale, err2 := strconv.Atoi(strings.TrimSpace(s))
	switch {
	case !isDecimal || !closed || !both || err != nil || err2 != nil:
		return errColumnType
	case precision < 1 || precision > 38 || scale < 0 || scale > precision:
		return fmt.Errorf("a decimal has 1 to 38 digits, and none to all of them behind the point")
	}
	c.Precision, c.Scale = precision, scale
	return nil
}

// String is the column's pattern and its type.
func (c ColumnType) String() string {
	typ := "text"
	if c.Precision > 0 {
		typ = fmt.Sprintf("decimal(%d,%d)", c.Precision, c.Scale)
	}
	return c.Schema + "." + c.Table + "." + c.Column + "=" + typ
}

// Fits says whether the pattern is a column's.
func (c ColumnType) Fits(schema, table, column string) bool {
	return fits(c.Schema, schema) && fits(c.Table, table) && fits(c.Column, column)
}

// ColumnTypes are the chosen types, of which the first that fits a column is its.
func (r Run) ColumnTypes() []ColumnType {
	var out []ColumnType
	for _, text := range r.Types {
		if c, err := parseColumnType(text); err == nil { // Validate refused the others
			out = append(out, c)
		}
	}
	return out
}
