package setup

import (
	"fmt"
	"testing"

	"github.com/pgmirror/pgmirror/internal/postgres"
)

// The plan says what becomes of each column that doesn't come as it is.
func TestJudgeOpen(t *testing.T) {
	table := &postgres.Table{Schema: "public", Name: "t", Columns: []postgres.Column{{Name: "id", Field: "id"}, {Name: "a b", Field: "a_b", Loss: "as text"},
		{Name: "g", Field: "g", Generated: true, Loss: "as text"}, {Name: "s", Field: "s", Generated: true, Streamed: true}}}
	mirrored, notes := judgeOpen(table)
	var got []string
	for _, n := range notes {
		got = append(got, n.Code+" "+n.Subject)
	}
	if want := "[ColumnRenamed public.t.a b ColumnLoss public.t.a b ColumnLeftOut public.t.g]"; !mirrored || fmt.Sprint(got) != want {
		t.Errorf("got %t %v, want %s", mirrored, got, want)
	}
}
