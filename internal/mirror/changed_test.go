package mirror

import (
	"maps"
	"strings"
	"testing"
)

// Values that the mirror's types can't hold are counted, from the copy and the stream
// alike, and told of once a column.
func TestChangedAreTold(t *testing.T) {
	b := newBench(t, `CREATE TABLE clamped (id int PRIMARY KEY, d date, at timestamptz)`, `INSERT INTO clamped VALUES (1, 'infinity', now()), (2, '0044-03-15 BC', now()), (3, now(), now())`)
	var h heard
	stop := b.hear(b.landing, &h)
	b.caughtUp()
	if e := h.await(t, Changed, 1); e.Table != "public.clamped" || !strings.Contains(e.Reason, `"d"`) || strings.Contains(e.Reason, `"at"`) {
		t.Errorf("got %+v", e)
	}
	b.exec(`INSERT INTO clamped VALUES (4, '-infinity', 'infinity')`, `UPDATE clamped SET at = '-infinity' WHERE id = 3`)
	b.caughtUp()
	if e := h.await(t, Changed, 2); strings.Contains(e.Reason, `"d"`) || !strings.Contains(e.Reason, `"at"`) {
		t.Errorf("got %+v", e)
	}
	stop()
	s, err := Status(t.Context(), b.landing)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Tables[0].Changed, (map[string]int64{"d": 3, "at": 2}); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
