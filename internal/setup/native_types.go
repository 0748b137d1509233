package setup

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// nativeTypes are the types that Microsoft documents as supported by native
// mirroring (azure-database-postgresql-mirroring-limitations, of 2026-02-27).
// What is in neither of its lists (arrays, enums, ranges, domains, composites)
// is taken as refused. The server's own function outranks this table.
var nativeTypes = map[string]bool{
	"bigint": true, "boolean": true, "bytea": true, "character": true, "character varying": true, "date": true,
	"double precision": true, "integer": true, "numeric": true, "real": true, "oid": true, "money": true, "smallint": true,
	"text": true, "time without time zone": true, "time with time zone": true,
	"timestamp without time zone": true, "timestamp with time zone": true, "uuid": true,
}

var (
	typmod       = regexp.MustCompile(`\([^)]*\)`)
	forbidden    = " ,;{}()\n\t="
	nativeTables = 500 // the older of two documented limits
)

// judge says why native mirroring refuses a table, and what it loses of it.
func judge(t *postgres.Table) (refused, lost []Note) {
	name := t.String()
	if t.Kind != 'r' || t.Parent != 0 || t.Obstacle != "" {
		refused = append(refused, Note{"NotRegularTable", name, "native mirroring takes ordinary, logged tables only, no partitions"})
	}
	if strings.ContainsAny(t.Schema+t.Name, forbidden) {
		refused = append(refused, Note{"ForbiddenName", name, "its name has a character that Fabric forbids"})
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		column := name + "." + c.Name
		base := typmod.ReplaceAllString(c.TypeName, "")
		if strings.ContainsAny(c.Name, forbidden) {
			refused = append(refused, Note{"ForbiddenName", column, "its name has a character that Fabric forbids"})
		}
		if !nativeTypes[base] {
			refused = append(refused, Note{"TypeRefused", column, "native mirroring doesn't take type " + c.TypeName})
		}
		if base == "numeric" {
			lost = append(lost, numericLoss(column, c.Typmod)...)
		}
	}
	for _, k := range t.Key {
		if c := t.Columns[k]; strings.HasSuffix(c.TypeName, "with time zone") && strings.HasPrefix(c.TypeName, "time(") || c.TypeName == "time with time zone" {
			refused = append(refused, Note{"KeyTypeRefused", name + "." + c.Name, "native mirroring doesn't take time with time zone in a key"})
		}
	}
	return refused, lost
}

// numericLoss reads a numeric's type modifier: precision and scale, or none.
func numericLoss(column string, typmod int32) []Note {
	if typmod < 4 {
		return []Note{{"NumericLosesFraction", column, "numeric without precision is mirrored as Decimal(38,0): fractions are lost"}}
	}
	if p := (typmod - 4) >> 16 & 0xffff; p > 38 {
		return []Note{{"NumericBecomesNull", column, fmt.Sprintf("numeric of %d digits: values of more than 38 digits become NULL", p)}}
	}
	return nil
}
