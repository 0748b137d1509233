package setup

import (
	"slices"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/config"
	"github.com/pgmirror/pgmirror/internal/postgres"
)

// Choices are the types of an open mirror that the configuration chooses.
func Choices(c *config.Config) postgres.Choices {
	chosen := c.Run.ColumnTypes()
	return postgres.Choices{NTZ: c.Run.TimestampNTZ, Numeric: func(schema, table, column string) (batch.Type, bool) {
		i := slices.IndexFunc(chosen, func(t config.ColumnType) bool { return t.Fits(schema, table, column) })
		switch {
		case i < 0:
			return batch.Type{}, false
		case chosen[i].Precision == 0:
			return batch.Type{Kind: batch.String}, true
		}
		return batch.Type{Kind: batch.Decimal, Precision: chosen[i].Precision, Scale: chosen[i].Scale}, true
	}}
}

// chooseTypes gives columns their chosen types. It tells of those that no column has,
// as of a name that is misspelt, or of a partitioned table, whose partitions are
// mirrored as tables of their own.
func (c *Clients) chooseTypes(tables []postgres.Table) []Note {
	choices := Choices(c.Config)
	for i := range tables {
		choices.Apply(&tables[i])
	}
	var notes []Note
	for _, chosen := range c.Config.Run.ColumnTypes() {
		fits := func(t postgres.Table) bool {
			return slices.ContainsFunc(t.Columns, func(col postgres.Column) bool { return col.Numeric() && chosen.Fits(t.Schema, t.Name, col.Name) })
		}
		switch {
		case slices.ContainsFunc(tables, func(t postgres.Table) bool { return t.Kind != 'p' && fits(t) }):
		case slices.ContainsFunc(tables, fits):
			notes = append(notes, Note{"ColumnTypeUnused", chosen.String(), "name the partitions, as by a pattern: each is mirrored as a table of its own"})
		default:
			notes = append(notes, Note{"ColumnTypeUnused", chosen.String(), "no column of that name is a numeric, and only those may be given another type"})
		}
	}
	return notes
}
