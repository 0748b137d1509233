package mirror

import (
	"fmt"
	"time"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/landing"
	"github.com/pgmirror/pgmirror/internal/postgres"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// changes gathers the changes of one table for one file. A key has one row at
// most that counts: the last one. Rows before it stay in the columns until the
// file is written but are dead.
type changes struct {
	t      *table
	*shape // the table as it was when these changes were made
	rows   *batch.Batch
	dead   []bool // one a row
	alive  int
	index  keyIndex
	last   landing.LSN // the transaction of the last change
	n      int64       // how many changes of the table it had by then
	end    landing.LSN // the end of that transaction's commit record, once it was read
	time   time.Time   // when it committed
	size   int         // bytes of rows when last measured
	key    []byte      // scratch
	oldKey []byte      // scratch
	// mustFile says that a file is needed also without rows: it ends a
	// transaction whose beginning is published already.
	mustFile bool
	ignored  int64 // updates and deletes of a table without a key
	changed  changedValues

	lacking  []uint32         // the transactions of rows that lack values, by their numbers in Begin
	seen     landing.LSN      // behind all that was read from the table for it
	position landing.Position // what the file will say, once it is taken
}

func newChanges(t *table) *changes {
	return &changes{t: t, shape: t.shape, rows: batch.New(t.shape.schema, !t.keyless())}
}

// again empties changes that are published, for the next ones of the table. What
// they hold is kept: it is as much as was needed a moment ago.
func (c *changes) again() *changes {
	c.rows.Truncate(0)
	c.index.reset()
	*c = changes{t: c.t, shape: c.shape, rows: c.rows, dead: c.dead[:0], index: c.index, key: c.key, oldKey: c.oldKey, lacking: c.lacking[:0]}
	return c
}

// capacity is about the memory that the changes hold, used or not.
func (c *changes) capacity() int {
	return c.rows.Capacity() + cap(c.dead) + 8*cap(c.index.slots)
}

// apply takes one Insert, Update or Delete of transaction xid.
//
// A table without a key takes inserts alone, without a marker. They can't double:
// a file and the position that it reaches become durable in one act. What else
// happens to its rows is counted; only building it anew makes it good.
func (c *changes) apply(m *pgoutput.Message, xid uint32) error {
	p := c.part(m.RelationID)
	if p == nil {
		return fmt.Errorf("relation %d is no part of it", m.RelationID)
	}
	if c.t.keyless() {
		return c.add(p.dec, m)
	}
	old := c.old
	old.Truncate(0)
	if m.OldKind != 0 {
		if err := p.dec.AppendTuple(old, m.Old); err != nil {
			return err
		}
		old.EndRow()
	}
	switch m.Kind {
	case pgoutput.Insert:
		return c.insert(p.dec, m.New)
	case pgoutput.Update:
		return c.update(p.dec, m.New, old, m.OldKind == 'O', xid)
	case pgoutput.Delete:
		return c.delete(old)
	}
	return fmt.Errorf("message kind %q is no change of a row", m.Kind)
}

func (c *changes) add(dec *postgres.Decoder, m *pgoutput.Message) error {
	if m.Kind != pgoutput.Insert {
		c.ignored++
		return nil
	}
	if err := dec.AppendTuple(c.rows, m.New); err != nil {
		return err
	}
	c.rows.EndRow()
	c.dead = append(c.dead, false)
	c.alive++
	return nil
}

func (c *changes) insert(dec *postgres.Decoder, t pgoutput.Tuple) error {
	if err := dec.AppendTuple(c.rows, t); err != nil {
		return err
	}
	c.put(batch.Upsert)
	return nil
}

// update replaces the row of the same key. When the old tuple has another key,
// that key is deleted as well. Values that were not sent come from the row as it
// was: from the old tuple if that has them, else from an earlier change that is
// still here; what is left is read from the table before the file is written. whole
// says that the old tuple has all columns, not just the key's.
func (c *changes) update(dec *postgres.Decoder, t pgoutput.Tuple, old *batch.Batch, whole bool, xid uint32) error {
	if err := dec.AppendTuple(c.rows, t); err != nil {
		return err
	}
	r := c.rows.Rows()
	had := old.Rows() == 1
	if had {
		c.fillKey(r, old) // an unchanged TOASTed key column is not sent either
	}
	c.key = c.appendRowKey(c.key[:0], r)
	was := c.key
	moved := false
	if had {
		c.oldKey = old.AppendKey(c.oldKey[:0], 0)
		moved = string(c.oldKey) != string(c.key)
		was = c.oldKey
	}
	if had && whole {
		c.fill(r, old, 0)
	} else if i, ok := c.index.find(was, c); ok && c.rows.Marker[i] == batch.Upsert {
		c.fill(r, c.rows, i)
	}
	if n := len(c.lacking); (n == 0 || c.lacking[n-1] != xid) && c.rows.HasUnchanged(r) {
		c.lacking = append(c.lacking, xid)
	}
	c.put(batch.Upsert)
	if moved {
		c.bury(old)
	}
	return nil
}

func (c *changes) delete(old *batch.Batch) error {
	if old.Rows() == 0 {
		return fmt.Errorf("a delete came without the key of its row: the table has lost its replica identity")
	}
	c.bury(old)
	return nil
}

// bury adds a delete of the key of old's row; its other columns are NULL.
func (c *changes) bury(old *batch.Batch) {
	for i := range c.rows.Cols {
		c.rows.Cols[i].AppendNull()
	}
	r := c.rows.Rows()
	for _, k := range c.schema.Key {
		c.rows.Cols[k].Truncate(r)
		c.rows.Cols[k].AppendFrom(&old.Cols[k], 0)
	}
	c.put(batch.Delete)
}

// put ends the row that was begun; an earlier one of its key dies.
func (c *changes) put(marker int32) {
	r := c.rows.Rows()
	c.rows.EndMarkedRow(marker)
	c.dead = append(c.dead, false)
	c.alive++
	c.key = c.rows.AppendKey(c.key[:0], r)
	if before, ok := c.index.replace(c.key, int32(r), c); ok {
		c.dead[before] = true
		c.alive--
	}
}

// appendRowKey is AppendKey for the row that was begun and not ended.
func (c *changes) appendRowKey(dst []byte, r int) []byte {
	return c.rows.AppendKey(dst, r)
}

// fillKey sets key columns of row r, which is not ended, that were not sent.
func (c *changes) fillKey(r int, old *batch.Batch) {
	for _, k := range c.schema.Key {
		c.set(k, r, &old.Cols[k], 0)
	}
}

// fill sets what was not sent of row r, which is not ended, from row i of src.
func (c *changes) fill(r int, src *batch.Batch, i int) {
	for k := range c.rows.Cols {
		c.set(k, r, &src.Cols[k], i)
	}
}

func (c *changes) set(k, r int, src *batch.Column, i int) {
	col := &c.rows.Cols[k]
	if col.Def[r] != batch.Unchanged || src.Def[i] == batch.Unchanged {
		return
	}
	value := *src // AppendFrom may grow the very column that the value is in
	col.Truncate(r)
	col.AppendFrom(&value, i)
}

// rowKey is the key of row i, for the index to compare.
func (c *changes) rowKey(dst []byte, i int32) []byte { return c.rows.AppendKey(dst, int(i)) }
