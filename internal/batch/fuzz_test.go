package batch

import "testing"

// FuzzParseType: what is taken for a type is written as it was.
func FuzzParseType(f *testing.F) {
	for _, s := range []string{"long", "decimal(38,10)", "decimal(0,0)", "decimal(+5,2)", "decimal(39,1)", "timestamp_ntz", "array"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if typ, err := ParseType(s); err == nil && typ.String() != s {
			t.Errorf("%q is read as %s", s, typ)
		}
	})
}
