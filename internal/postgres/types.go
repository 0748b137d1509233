package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmirror/pgmirror/internal/batch"
)

// pgType is a type of the database.
type pgType struct {
	OID    uint32
	Name   string
	Type   byte   // pg_type.typtype: b base, c composite, d domain, e enum, r range, m multirange, p pseudo
	Output string // what the output function is: "array_out", or for an extension's as "hstore.hstore_out"
	Delim  byte   // between the elements of an array of it
	Array  uint32 // the type of arrays of it, or 0
	Equal  string // its operator = in SQL, wherever that lies

	Base       *pgType // of a domain
	BaseTypmod int32
	Elem       *pgType // of an array

	MoneyScale int  // digits after the point of a money, by the session's lc_monetary
	Converted  bool // the server converts text from its own encoding to ours

	base, elem uint32
}

// mirror says what a column of this type becomes in the mirror (DESIGN: types)
// and what is changed or lost on the way.
func (t *pgType) mirror(typmod int32) (batch.Type, string) {
	t, typmod = t.resolve(typmod)
	f := t.family()
	switch f {
	case famNumeric:
		become := batch.Type{Kind: batch.String}
		if p, s, ok := numericTypmod(typmod); ok && p <= 38 && 0 <= s && s <= p {
			become = batch.Type{Kind: batch.Decimal, Precision: p, Scale: s}
		}
		return become, numericLoss(become)
	case famMoney:
		return batch.Type{Kind: batch.Decimal, Precision: 19, Scale: t.MoneyScale}, "the currency sign is dropped"
	}
	return batch.Type{Kind: families[f].kind}, families[f].loss
}

// numericLoss is what a numeric loses as a type of the mirror.
func numericLoss(become batch.Type) string {
	if become.Kind == batch.String {
		return "kept exactly, as text"
	}
	return ""
}

// resolve goes through domains to the type under them.
func (t *pgType) resolve(typmod int32) (*pgType, int32) {
	for t.Base != nil {
		t, typmod = t.Base, t.BaseTypmod
	}
	return t, typmod
}

// numericTypmod splits a numeric's typmod; ok is false for a plain numeric.
func numericTypmod(typmod int32) (precision, scale int, ok bool) {
	if typmod < 4 {
		return 0, 0, false
	}
	v := typmod - 4
	return int(v >> 16 & 0xffff), int(v&0x7ff^1024) - 1024, true // the scale has 11 bits with a sign
}

// family is the types that are read in one way.
type family uint8

const (
	famOther family = iota // anything else: PostgreSQL's own text
	famBool
	famInt2
	famInt4
	famInt8
	famOID
	famFloat4
	famFloat8
	famNumeric
	famMoney
	famDate
	famTimestamp
	famTimestamptz
	famTime
	famTimetz
	famInterval
	famUUID
	famText // text, varchar, char(n), name, citext, enums, json, xml's binary form is not its text
	famChar // "char", one byte
	famJSON
	famJSONB
	famBytea
	famBit
	famLSN
	famMACAddr
	famArray
	famHstore
)

const (
	clampLoss = "infinity and years outside 1 to 9999 become the nearest value that fits"
	isoLoss   = "as text, ISO 8601"
	textLoss  = "as text, in PostgreSQL's own form"
)

// families says what each family becomes; numeric and money depend on more.
var families = [...]struct {
	kind batch.Kind
	loss string
}{
	famOther:       {batch.String, textLoss},
	famBool:        {batch.Bool, ""},
	famInt2:        {batch.Int16, ""},
	famInt4:        {batch.Int32, ""},
	famInt8:        {batch.Int64, ""},
	famOID:         {batch.Int64, ""},
	famFloat4:      {batch.Float32, ""},
	famFloat8:      {batch.Float64, ""},
	famNumeric:     {batch.String, ""},
	famMoney:       {batch.Decimal, ""},
	famDate:        {batch.Date, clampLoss},
	famTimestamp:   {batch.Timestamp, "taken as UTC; " + clampLoss},
	famTimestamptz: {batch.Timestamp, clampLoss},
	famTime:        {batch.String, isoLoss},
	famTimetz:      {batch.String, isoLoss},
	famInterval:    {batch.String, isoLoss},
	famUUID:        {batch.String, "as text"},
	famText:        {batch.String, ""},
	famChar:        {batch.String, ""},
	famJSON:        {batch.String, "as text"},
	famJSONB:       {batch.String, "as text"},
	famBytea:       {batch.Binary, ""},
	famBit:         {batch.String, textLoss},
	famLSN:         {batch.String, textLoss},
	famMACAddr:     {batch.String, textLoss},
	famArray:       {batch.String, "as JSON text; lower bounds are dropped"},
	famHstore:      {batch.String, "as JSON text"},
}

// builtin is the families of PostgreSQL's own types; their oids never change
// (src/include/catalog/pg_type.dat).
var builtin = map[uint32]family{
	16: famBool, 17: famBytea, 18: famChar, 19: famText, 20: famInt8, 21: famInt2, 23: famInt4, 25: famText, 26: famOID,
	114: famJSON, 700: famFloat4, 701: famFloat8, 774: famMACAddr, 790: famMoney, 829: famMACAddr,
	1042: famText, 1043: famText, 1082: famDate, 1083: famTime, 1114: famTimestamp, 1184: famTimestamptz, 1186: famInterval,
	1266: famTimetz, 1560: famBit, 1562: famBit, 1700: famNumeric, 2950: famUUID, 3220: famLSN, 3802: famJSONB,
}

// family of a type that is no domain.
func (t *pgType) family() family {
	switch {
	case builtin[t.OID] != famOther:
		return builtin[t.OID]
	case t.Type == 'e':
		return famText
	case t.Elem != nil && t.Output == "array_out":
		return famArray
	case t.Output == "citext.citextout":
		return famText
	case t.Output == "hstore.hstore_out":
		return famHstore
	}
	return famOther
}

// firstUserOID is the first oid that isn't PostgreSQL's own (FirstNormalObjectId).
const firstUserOID = 16384

// anyBytes says whether the type's text may hold bytes that are no UTF-8: one that
// somebody made shows what it likes, and before PostgreSQL 15 a composite or a range
// shows a "char" beyond ASCII as its raw byte.
func (t *pgType) anyBytes() bool {
	t, _ = t.resolve(-1)
	switch t.family() {
	case famArray:
		return t.Elem.anyBytes()
	case famOther:
		return t.OID >= firstUserOID
	}
	return false
}

// typeSQL knows an output function by whose it is: somebody's own may have the name
// of another, and write what it likes. An extension's type has an = of its own, which
// the default B-tree operator class (pg_am 403, strategy 3) names.
const typeSQL = `SELECT t.oid, t.typname, t.typtype::text,
	CASE WHEN e.extname IS NOT NULL THEN e.extname || '.' || p.proname WHEN p.oid = 751 THEN 'array_out' ELSE '' END,
	t.typdelim::text, t.typarray, t.typbasetype, t.typtypmod,
	CASE WHEN p.oid = 751 THEN t.typelem ELSE 0 END::oid,
	pg_catalog.scale(0::pg_catalog.money::pg_catalog.numeric),
	pg_catalog.current_setting('server_encoding') NOT IN ('UTF8', 'SQL_ASCII'),
	coalesce((SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
		FROM pg_catalog.pg_opclass c
		JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype AND a.amopstrategy = 3
		JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
		WHERE c.opcintype = t.oid AND c.opcmethod = 403 AND c.opcdefault), 'OPERATOR(pg_catalog.=)')
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_proc p ON p.oid = t.typoutput
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE t.oid = ANY ($1)`

// loadTypes reads the given types and all that they are made of.
func loadTypes(ctx context.Context, q Querier, oids []uint32) (map[uint32]*pgType, error) {
	known := map[uint32]*pgType{}
	for len(oids) > 0 {
		rows, err := q.Query(ctx, typeSQL, oids)
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, scanType)
		if err != nil {
			return nil, err
		}
		oids = oids[:0:0]
		for _, t := range found {
			known[t.OID] = t
		}
		for _, t := range found {
			for _, part := range []uint32{t.base, t.elem} {
				if part != 0 && known[part] == nil && !slices.Contains(oids, part) {
					oids = append(oids, part)
				}
			}
		}
	}
	for _, t := range known {
		if t.Base, t.Elem = known[t.base], known[t.elem]; t.Base == nil && t.base != 0 || t.Elem == nil && t.elem != 0 {
			return nil, fmt.Errorf("a part of type %q is gone", t.Name)
		}
	}
	return known, nil
}

func scanType(row pgx.CollectableRow) (*pgType, error) {
	var t pgType
	var kind, delim string
	err := row.Scan(&t.OID, &t.Name, &kind, &t.Output, &delim, &t.Array, &t.base, &t.BaseTypmod, &t.elem, &t.MoneyScale, &t.Converted, &t.Equal)
	if err != nil {
		return nil, err
	}
	t.Type, t.Delim = kind[0], delim[0]
	return &t, nil
}
