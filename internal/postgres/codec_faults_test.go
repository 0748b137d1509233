package postgres

import (
	"errors"
	"testing"

	"github.com/pgmirror/pgmirror/internal/batch"
	"github.com/pgmirror/pgmirror/internal/postgres/pgoutput"
)

// What a text becomes, of types whose text depends on the server's version, its
// encoding or its locale.
func TestOddTexts(t *testing.T) {
	const money, char = 790, 18
	for _, c := range []struct {
		oid     uint32
		in, out string // out "": a ValueError
	}{
		{money, "-$1.50", "-150e-2"}, {money, "($1.50)", "-150e-2"}, {money, "1 234,50 kr", "123450e-2"}, {money, "\u22121.234,50 kr", "-123450e-2"}, {money, "kr", ""},
	} {
		tab := one(&pgType{OID: c.oid, MoneyScale: 2}, -1)
		d, err := NewDecoder(tab)
		if err != nil {
			t.Fatal(err)
		}
		b := batch.New(tab.MirrorSchema(), false)
		err = d.columns[0].append(&b.Cols[0], pgoutput.Text, []byte(c.in))
		if _, isValue := errors.AsType[*ValueError](err); isValue != (c.out == "") {
			t.Errorf("%q: got %v", c.in, err)
		}
		if err == nil {
			if got := string(appendSQLText(nil, famOther, &b.Cols[0], 0)); got != c.out {
				t.Errorf("%q: got %q, want %q", c.in, got, c.out)
			}
		}
	}
}
