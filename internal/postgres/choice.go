package postgres

import "github.com/pgmirror/pgmirror/internal/batch"

// Choices are the types that a user has chosen where the mirror could have more than
// one. The zero value chooses none.
type Choices struct {
	// NTZ makes a timestamp without time zone a timestamp_ntz instead of a timestamp.
	NTZ bool

	// Numeric is what a numeric column becomes: String, or a Decimal, whose table
	// parks when a value doesn't fit it. ok is false where nothing was chosen; a nil
	// Numeric chooses nothing anywhere.
	Numeric func(schema, table, column string) (typ batch.Type, ok bool)
}

// ntzLoss is what becomes of a timestamp_ntz in Fabric (docs/unproven.md).
const ntzLoss = "Fabric's SQL endpoint leaves out a timestamp_ntz without a word; " + clampLoss

// Apply gives the columns of a table their chosen types, before a decoder is made for
// it. Those of a partitioned table hold for its leaves.
func (ch Choices) Apply(t *Table) {
	for i := range t.Columns {
		ch.apply(t, &t.Columns[i])
	}
}

func (ch Choices) apply(t *Table, c *Column) {
	switch f := c.family(); {
	case f == famTimestamp && ch.NTZ:
		c.Type, c.Loss = batch.Type{Kind: batch.TimestampNTZ}, ntzLoss
	case f == famNumeric && ch.Numeric != nil:
		if chosen, ok := ch.Numeric(t.Schema, t.Name, c.Name); ok {
			if c.Type, c.Loss = chosen, numericLoss(chosen); c.Loss == "" {
				c.Loss = "a value that doesn't fit parks the table"
			}
		}
	}
}

// Numeric says whether the column is a numeric, or a domain over one: its type in
// the mirror can be chosen.
func (c *Column) Numeric() bool { return c.family() == famNumeric }

func (c *Column) family() family {
	typ, _ := c.typ.resolve(c.Typmod)
	return typ.family()
}
