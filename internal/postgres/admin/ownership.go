package admin

import (
	"context"
	"fmt"
	"strings"
)

// formerOwner marks, in a table's comment, whose it was: the move can be undone
// from it, by anybody, also without us.
const formerOwner = "pgmirror: former owner "

// TakeOver moves a table to a new owner. The former owner keeps what an
// application needs, SELECT, INSERT, UPDATE and DELETE, also on the sequences
// that move along, and is recorded in the table's comment. TRUNCATE isn't given
// back: native mirroring can't follow it.
func (s *Session) TakeOver(ctx context.Context, schema, table, from, to string) ([]Statement, error) {
	name := ident(schema, table)
	comment, err := one[string](ctx, s, `SELECT coalesce(pg_catalog.obj_description(`+relation+`, 'pg_class'), '')`, schema, table)
	if err != nil {
		return nil, fmt.Errorf("read the comment of %s.%s: %w", schema, table, err)
	}
	st := []Statement{
		{"change the owner of " + schema + "." + table, "ALTER TABLE " + name + " OWNER TO " + ident(to)},
		{"grant DML on " + schema + "." + table + " to " + from, "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE " + name + " TO " + ident(from)},
	}
	sequences, err := s.sequences(ctx, schema, table)
	if err != nil {
		return nil, err
	}
	for _, q := range sequences {
		st = append(st, Statement{"grant the use of sequence " + q + " to " + from, "GRANT USAGE, SELECT, UPDATE ON SEQUENCE " + q + " TO " + ident(from)})
	}
	st = append(st, Statement{"record the former owner of " + schema + "." + table, "COMMENT ON TABLE " + name + " IS " + literal(withOwner(comment, from))})
	return s.as(ctx, st, from, to)
}

// sequences are those that a table owns, quoted: they change their owner with
// it, and an INSERT that draws from one needs rights of its own.
func (s *Session) sequences(ctx context.Context, schema, table string) ([]string, error) {
	list, err := many[string](ctx, s, `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
		FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = `+relation+`
		AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') AND c.relkind = 'S' ORDER BY 1`, schema, table)
	return list, wrap("read the sequences of "+schema+"."+table, err)
}

// withOwner adds the record to a comment, in place of an earlier one.
func withOwner(comment, owner string) string {
	user, _ := OwnerRecord(comment)
	return strings.TrimSpace(user + "\n" + formerOwner + ident(owner))
}

// OwnerRecord takes a table's comment apart: what users wrote, and the former
// owner as TakeOver recorded it, "" when it never did.
func OwnerRecord(comment string) (users, owner string) {
	i := strings.LastIndex(comment, formerOwner)
	if i < 0 {
		return comment, ""
	}
	quoted := strings.TrimSpace(comment[i+len(formerOwner):])
	return strings.TrimSpace(comment[:i]), strings.ReplaceAll(strings.Trim(quoted, `"`), `""`, `"`)
}
