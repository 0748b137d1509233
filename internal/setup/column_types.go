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

// chooseTypes gives columns their chosen types. It tells of those that no column has:
// a name is misspelt, or is a partition's, whose table is mirrored as one, or a
// partitioned table's, whose partitions are mirrored as tables of their own.
func (c *Clients) chooseTypes(f *Facts) []Note {
	choices := Choices(c.Config)
	for i := range f.Tables {
		choices.Apply(&f.Tables[i])
	}
	var notes []Note
	for _, chosen := range c.Config.Run.ColumnTypes() {
		fits := func(t *postgres.Table) bool {
			return slices.ContainsFunc(t.Columns, func(col postgres.Column) bool { return col.Numeric() && chosen.Fits(t.Schema, t.Name, col.Name) })
		}
		used, text := false, "no column of that name is a numeric, and only those may be given another type"
		for i := range f.Tables {
			t := &f.Tables[i]
			leaf := slices.IndexFunc(t.Leaves, func(l postgres.Table) bool { return fits(&l) })
			switch {
			case t.Kind == 'p' && !c.whole(f, t):
				if fits(t) {
					text = "name the partitions, as by a pattern: each is mirrored as a table of its own"
				}
			case fits(t):
				used = true
			case leaf >= 0:
				text = "name " + t.String() + ": its partitions are mirrored as one table"
			}
		}
		if !used {
			notes = append(notes, Note{"ColumnTypeUnused", chosen.String(), text})
		}
	}
	return notes
}
