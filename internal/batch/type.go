package batch

import (
	"fmt"
	"math/big"
)

// Kind is what a value is, in Parquet's and Delta's terms.
type Kind uint8

// The kinds, each with its Parquet leaf and its Delta name.
const (
	Bool         Kind = iota + 1 // BOOLEAN; boolean
	Int16                        // INT32 INT(16, true); short
	Int32                        // INT32; integer
	Int64                        // INT64; long
	Float32                      // FLOAT; float
	Float64                      // DOUBLE; double
	Decimal                      // INT32 to 9 digits, INT64 to 18, else FIXED_LEN_BYTE_ARRAY, DECIMAL(p, s); decimal(p,s)
	Date                         // INT32 DATE; date
	Timestamp                    // INT64 TIMESTAMP(µs, UTC); timestamp
	TimestampNTZ                 // INT64 TIMESTAMP(µs, local); timestamp_ntz
	String                       // BYTE_ARRAY STRING; string
	Binary                       // BYTE_ARRAY; binary
)

// Type is the type of a column.
type Type struct {
	Kind      Kind
	Precision int // of a Decimal, 1 to 38 digits
	Scale     int // of a Decimal, 0 to Precision
}

// Storage is the slice of a Column that holds its values.
type Storage uint8

// The storages; see Column.
const (
	Store32 Storage = iota + 1
	Store64
	Store128
	StoreFloat32
	StoreFloat64
	StoreBytes
)

// width is how many bytes a value takes, a string's own left out.
func (s Storage) width() int {
	switch s {
	case Store64, StoreFloat64:
		return 8
	case Store128:
		return 16
	}
	return 4
}

// Storage says which slice of a Column holds values of this type.
func (t Type) Storage() Storage {
	switch t.Kind {
	case Bool, Int16, Int32, Date:
		return Store32
	case Int64, Timestamp, TimestampNTZ:
		return Store64
	case Decimal:
		if t.Precision > 18 {
			return Store128
		}
		return Store64
	case Float32:
		return StoreFloat32
	case Float64:
		return StoreFloat64
	case String, Binary:
		return StoreBytes
	}
	panic(fmt.Sprintf("batch: kind %d has no storage", t.Kind))
}

var names = map[Kind]string{Bool: "boolean", Int16: "short", Int32: "integer", Int64: "long", Float32: "float", Float64: "double",
	Date: "date", Timestamp: "timestamp", TimestampNTZ: "timestamp_ntz", String: "string", Binary: "binary"}

// String is the type's name in a Delta schema, as "long" or "decimal(12,2)"
// (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#primitive-types).
func (t Type) String() string {
	if t.Kind == Decimal {
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	}
	return names[t.Kind]
}

// ParseType is the opposite of String.
func ParseType(s string) (Type, error) {
	for k, n := range names {
		if n == s {
			return Type{Kind: k}, nil
		}
	}
	var t = Type{Kind: Decimal}
	if n, err := fmt.Sscanf(s, "decimal(%d,%d)", &t.Precision, &t.Scale); n == 2 && err == nil && t.String() == s &&
		t.Precision >= 1 && t.Precision <= 38 && t.Scale >= 0 && t.Scale <= t.Precision {
		return t, nil
	}
	return Type{}, fmt.Errorf("unknown type %q", s)
}

// Int128 is a signed integer of 128 bits in two's complement.
type Int128 struct {
	Hi int64
	Lo uint64
}

// Big is the value as a big integer.
func (v Int128) Big() *big.Int {
	b := new(big.Int).Lsh(big.NewInt(v.Hi), 64)
	return b.Add(b, new(big.Int).SetUint64(v.Lo))
}

// Int128FromBig converts b and reports whether it fits.
func Int128FromBig(b *big.Int) (Int128, bool) {
	if b.BitLen() > 127 {
		return Int128{}, false
	}
	lo := new(big.Int).And(b, new(big.Int).SetUint64(1<<64-1))
	return Int128{Hi: new(big.Int).Rsh(b, 64).Int64(), Lo: lo.Uint64()}, true
}
